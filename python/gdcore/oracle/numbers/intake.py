"""Arrays of any library, as NumPy arrays: none of those libraries is imported here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_CPU = (1, 3)  # as DLPack numbers devices: memory of the CPU, and such as CUDA has pinned


def to_numpy(name: str, value: Any) -> Array:
    """Return an array of real numbers, of whatever library, on whatever device.

    Parameters
    ----------
    name : str
        What the array is called in messages.
    value : array_like
        NumPy, torch, JAX, CuPy, anything with ``__dlpack__`` or ``__array__``, nested lists.

    Returns
    -------
    ndarray
        Of dtype float16, float32 or float64; bfloat16 comes as float32, integers as float64.

    Raises
    ------
    TypeError
        If it is not an array of real numbers, or its description is wrong.

    Examples
    --------
    >>> to_numpy("x", [1, 2])
    array([1., 2.])
    """
    array = value if type(value) is np.ndarray else _foreign(name, value)
    kind, bits = array.dtype.kind, 8 * array.dtype.itemsize
    if kind == "f" and bits in (16, 32, 64):
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    if kind in "iu" and array.size and max(int(array.max()), -int(array.min())) > 2**53:
        raise TypeError(f"{name} holds integers beyond 2**53; float64 does not hold them.")
    if kind not in "fiub" or bits > 64:
        raise TypeError(
            f"{name} has dtype {array.dtype}; the oracle checks real numbers of at most 64 bits: "
            "convert it first."
        )
    return array.astype(np.float64)


def dtype_name(value: Any) -> str:
    """Return the name of an array's dtype as its own library has it, without the library's."""
    return str(getattr(value, "dtype", "")).rpartition(".")[2]


def _foreign(name: str, value: Any) -> Array:
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost; fill it first.")
    claimed = None
    try:
        array = _read(_on_cpu(value))
        if hasattr(value, "shape"):
            claimed = tuple(int(size) for size in value.shape)
    except (
        Exception,
        SystemExit,
    ) as error:  # it is someone else's object that failed, in whatever way
        raise TypeError(
            f"{name} ({type(value).__name__}) cannot be read as an array: "
            f"{type(error).__name__}: {error}"
        ) from error
    if claimed is not None and claimed != array.shape:
        raise TypeError(
            f"{name} ({type(value).__name__}) says that its shape is {claimed}, but its data have "
            f"shape {array.shape}."
        )
    return array


def _on_cpu(value: Any) -> Any:
    """Return the same numbers apart from gradients, in memory that NumPy reads."""
    if hasattr(value, "detach"):
        value = value.detach()
    if dtype_name(value) == "bfloat16" and hasattr(value, "float"):
        value = value.float()  # NumPy has no such type
    if hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] not in _CPU:
        for move in ("cpu", "get"):  # torch; CuPy
            if callable(getattr(value, move, None)):
                return getattr(value, move)()
    return value


def _read(value: Any) -> Array:
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    return np.asarray(value)
