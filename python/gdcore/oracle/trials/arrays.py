"""Operands as arrays of NumPy, torch or JAX, and the results of a function as operands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.trials.operand import FLOATS, OTHERS, SIZES, Operand
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
    name = array.dtype.name
    if name == "bfloat16":
        array = array.view(np.uint16)
    if name not in (*FLOATS, *OTHERS):
        raise TypeError(f"An array of dtype {name} cannot be tried; use one of {FLOATS + OTHERS}.")
    return _of_array(array, name)


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
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in (*FLOATS, *OTHERS):
        raise TypeError(f"A tensor of dtype {name} cannot be tried; use one of {FLOATS + OTHERS}.")
    shape, strides = tuple(tensor.shape), tuple(tensor.stride())
    if not tensor.numel():
        return Operand(b"", name, shape, strides)
    tensor = tensor.resolve_conj().resolve_neg().cpu()
    span = 1 + sum((n - 1) * step for n, step in zip(shape, tensor.stride(), strict=True))
    flat = tensor.as_strided((span,), (1,)).contiguous()
    return Operand(flat.view(torch.uint8).numpy().tobytes(), name, shape, tuple(tensor.stride()))


def array_in(memory: Array, operand: Operand, library: str) -> Any:
    """Return an array of a library whose numbers lie in memory, already filled.

    Parameters
    ----------
    memory : ndarray of uint8
        The operand's storage.
    operand : Operand
        Dtype, shape and strides.
    library : str
        One of `LIBRARIES`. JAX has arrays of its own, so there it is a copy.
    """
    if library == "torch":
        return _tensor_in(memory, operand)
    name = operand.dtype
    if name == "bfloat16":
        if library != "jax":
            raise TypeError("NumPy has no bfloat16; give tensors of torch or arrays of JAX.")
        import ml_dtypes

        stored = memory.view(ml_dtypes.bfloat16)
    else:
        stored = memory.view(name)
    steps = tuple(step * stored.itemsize for step in operand.strides)
    array = np.lib.stride_tricks.as_strided(stored, operand.shape, steps)
    if library == "jax":
        import jax

        with jax.enable_x64(operand.dtype == "float64" or bool(jax.config.jax_enable_x64)):
            return jax.numpy.array(array, copy=True)
    return array


def _tensor_in(memory: Array, operand: Operand) -> Any:
    import torch

    dtype = getattr(torch, operand.dtype)
    if not operand.span:
        return torch.empty(operand.shape, dtype=dtype)
    flat = torch.frombuffer(memory, dtype=dtype, count=operand.span)
    return flat.as_strided(operand.shape, operand.strides)


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


def returned(result: Any) -> Returned:
    """Return the result of a call as operands, or what is wrong with it."""
    operands = []
    for value in parts(result):
        fault = _fault(value)
        if fault:
            return Returned(fault=fault)
        try:
            operands.append(operand_of(value))
        except TypeError as error:
            return Returned(fault=str(error))
    return Returned(tuple(operands))


def _fault(value: Any) -> str:
    kind = type(value)
    torch = sys.modules.get("torch")
    plain = kind is np.ndarray or isinstance(value, (np.generic, float, int))
    if torch is not None and kind in (torch.Tensor, torch.nn.Parameter):
        if value.layout is not torch.strided:
            return f"It returned a tensor of layout {value.layout}, not a dense one."
        plain = True
    if plain or library_of(value) == "jax":
        return ""
    return f"It returned {kind.__module__}.{kind.__qualname__}, not a plain array or tensor."


def address(value: Any) -> int:
    """Return where the numbers of an array of NumPy or torch begin, -1 of anything else."""
    library = library_of(value)
    if library == "torch":
        return int(value.data_ptr()) if value.layout is sys.modules["torch"].strided else -1
    return int(value.ctypes.data) if isinstance(value, np.ndarray) else -1


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


def nbytes(operands: tuple[Operand, ...]) -> list[int]:
    """Return the bytes that the numbers of operands take when they are contiguous."""
    return [operand.size * SIZES[operand.dtype] for operand in operands]
