"""Arrays of NumPy, torch and JAX that were given or returned, as operands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.trials.operand import SIZES, Operand
from gdcore.oracle.trials.runner import Returned

Array = NDArray[Any]
LIBRARIES = ("numpy", "torch", "jax")


def library_of(value: Any) -> str:
    """Return the library an array belongs to: one of `LIBRARIES`, "" if it is not an array.

    Examples
    --------
    >>> library_of(np.ones(2)), library_of([1.0])
    ('numpy', '')
    """
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and isinstance(value, torch.Tensor):
        return "torch"
    if jax is not None and isinstance(value, jax.Array):
        return "jax"
    return "numpy" if isinstance(value, (np.ndarray, np.generic)) else ""


def operand_of(value: Any) -> Operand:
    """Return an array or tensor as an operand, with its strides if they are not negative.

    Raises
    ------
    TypeError
        If it is of no dtype that an operand can have.
    """
    if library_of(value) == "torch":
        return _of_tensor(value.detach())
    array = np.asarray(value)
    name = dtype_of(array)
    return _of_array(array.view(np.uint16) if name == "bfloat16" else array, name)


def dtype_of(array: Any) -> str:
    """Return the name of the dtype of an array or tensor; TypeError if operands have none such."""
    name = str(getattr(array.dtype, "name", array.dtype)).removeprefix("torch.")
    if name not in SIZES:
        raise TypeError(f"An array of dtype {name} cannot be tried; use one of {', '.join(SIZES)}.")
    return name


def _of_array(array: Array, name: str) -> Operand:
    item = array.itemsize
    regular = all(step >= 0 and step % item == 0 for step in array.strides)
    if not array.size or not regular or not array.dtype.isnative:
        array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))
    strides = tuple(step // item for step in array.strides)
    span = 1 + sum((n - 1) * step for n, step in zip(array.shape, strides, strict=True))
    if not array.size:
        return Operand(b"", name, array.shape, strides)
    flat = np.lib.stride_tricks.as_strided(array, (span,), (item,))
    return Operand(flat.tobytes(), name, array.shape, strides)


def _of_tensor(tensor: Any) -> Operand:
    torch = sys.modules["torch"]
    name = dtype_of(tensor)
    shape, strides = tuple(tensor.shape), tuple(tensor.stride())
    if not tensor.numel():
        return Operand(b"", name, shape, strides)
    tensor = tensor.resolve_conj().resolve_neg().cpu()
    span = 1 + sum((n - 1) * step for n, step in zip(shape, tensor.stride(), strict=True))
    flat = tensor.as_strided((span,), (1,)).contiguous()
    return Operand(flat.view(torch.uint8).numpy().tobytes(), name, shape, tuple(tensor.stride()))


def parts(result: Any) -> Iterator[Any]:
    """Yield the arrays of a tuple, list or dict of results, and whatever else is in it.

    Examples
    --------
    >>> list(parts({"a": 1, "b": (2, [3])}))
    [1, 2, 3]
    """
    if isinstance(result, dict):
        for value in result.values():
            yield from parts(value)
    elif isinstance(result, (tuple, list)):
        for value in result:
            yield from parts(value)
    else:
        yield result


def plain(value: Any) -> Any:
    """Return a part of a result as an array of NumPy or a dense tensor, without gradients.

    Raises
    ------
    TypeError
        If it is anything else, such as a subclass that may compute its numbers when they are read.
    """
    kind = type(value)
    torch, jax = sys.modules.get("torch"), sys.modules.get("jaxlib._jax")
    if torch is not None and kind in (torch.Tensor, torch.nn.Parameter):
        return _dense(value)
    if kind is np.ndarray:
        return value
    if (jax is not None and kind is jax.ArrayImpl) or isinstance(value, (np.generic, float, int)):
        return np.asarray(value)  # waits for JAX
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    raise TypeError(f"It returned {name}, not a plain array or tensor.")


def _dense(tensor: Any) -> Any:
    layout, device = str(tensor.layout).removeprefix("torch."), tensor.device.type
    if layout != "strided" or device not in ("cpu", "cuda"):
        raise TypeError(f"It returned a tensor of layout {layout} on {device}, not a dense one.")
    dense = tensor.detach()
    if dense.numel() and not dense.data_ptr():
        raise TypeError("It returned a tensor without storage.")
    return dense


def returned(result: Any) -> Returned:
    """Return the result of a call as operands, or what is wrong with it."""
    try:
        return Returned(tuple(operand_of(plain(value)) for value in parts(result)))
    except TypeError as error:
        return Returned(fault=str(error))


def ready(result: Any) -> None:
    """Wait until a library that computes later has done so."""
    if "jax" in sys.modules:
        for value in parts(result):
            if library_of(value) == "jax":
                value.block_until_ready()


def copying(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose results never share memory with its arguments.

    For golden and eager functions, whose arguments are overwritten before results are read.
    """

    def copied(value: Any) -> Any:
        if library_of(value) == "torch":
            return value.detach().clone()
        return np.array(value) if library_of(value) == "numpy" else value

    def call(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return [copied(value) for value in parts(function(*arguments))]

    return call


def in_double(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of JAX that keeps float64, which JAX else makes float32."""

    def call(*arguments: Any) -> Any:
        import jax

        with jax.enable_x64(True):
            return function(*arguments)

    return call
