"""Arguments of a kernel as arrays of its library, all in one memory, and results copied to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from gdcore.oracle.trials.operand import Operand
from gdcore.oracle.trials.runner import POISON

Descriptions = Sequence[Sequence[dict[str, Any]]]  # with offset and span

_LISTED = 1000  # calls of a library
_POISONED = 1 << 26  # bytes for each call of `poison`
_CACHE = 1 << 28  # bytes, more than any card's second cache


class Library(Protocol):
    """Makes arguments and copies results."""

    def views(self, memory: Any, calls: Descriptions) -> list[list[Any]]:
        """Return the arguments that lie in some memory, at the same addresses each time."""

    def copy(self, array: Any, memory: Any, offset: int) -> None:
        """Copy the numbers of a plain array or tensor to some memory, one after the other."""

    def poison(self, sizes: Sequence[int]) -> None:
        """Fill and free blocks of some sizes, so that memory not written to shows."""

    def wait(self) -> None:
        """Return when all that was started is done."""

    def give_back(self, memory: Any) -> None:
        """Copy arguments that lie elsewhere back to the memory."""

    def take_again(self, memory: Any) -> None:
        """Copy what lies in the memory now to arguments that lie elsewhere."""


def library(arrays: str, device: str) -> Library:
    """Return the one with a name; ModuleNotFoundError if it is not installed."""
    if arrays == "numpy":
        return _NumPy()
    if arrays == "jax":
        return _Jax()
    if arrays != "torch":
        raise ValueError(f"arrays are torch, numpy or jax, not {arrays!r}")
    return _Torch() if device == "cpu" else _Card(device)


class _NumPy:
    """Arrays of NumPy; bfloat16 takes the package ml_dtypes."""

    def views(self, memory: Any, calls: Descriptions) -> list[list[Any]]:
        return [[self._view(memory, about) for about in arguments] for arguments in calls]

    def _view(self, memory: Any, about: dict[str, Any]) -> Any:
        dtype = _numpy_dtype(about["dtype"])
        if not about["span"]:
            return np.empty(about["shape"], dtype)
        flat = np.frombuffer(memory, dtype, about["span"], about["offset"])
        steps = [stride * dtype.itemsize for stride in about["strides"]]
        return np.lib.stride_tricks.as_strided(flat, about["shape"], steps)

    def copy(self, array: Any, memory: Any, offset: int) -> None:
        if isinstance(array, np.ndarray):  # a kernel for torch may return one
            there = np.frombuffer(memory, array.dtype.newbyteorder("="), array.size, offset)
            there.reshape(array.shape)[...] = array
        elif array.numel():
            flat = _flat(memory, array.dtype, array.numel(), offset)
            flat.view(array.shape).copy_(array)

    def poison(self, sizes: Sequence[int]) -> None:
        blocks = [np.empty(size, np.uint8) for size in _repeated(sizes)]
        for block in blocks:
            block.fill(POISON)

    def wait(self) -> None:
        pass

    def give_back(self, memory: Any) -> None:
        pass

    def take_again(self, memory: Any) -> None:
        pass


class _Jax(_NumPy):
    """Arrays of JAX, which are copies: it has no others."""

    def _view(self, memory: Any, about: dict[str, Any]) -> Any:
        import jax

        wide = about["dtype"] == "float64" or bool(jax.config.jax_enable_x64)
        with jax.enable_x64(wide):
            return jax.numpy.array(super()._view(memory, about), copy=True)


class _Torch(_NumPy):
    """Tensors on the CPU."""

    def __init__(self) -> None:
        import torch

        self.torch: Any = torch

    def _view(self, memory: Any, about: dict[str, Any]) -> Any:
        dtype = getattr(self.torch, about["dtype"])
        if not about["span"]:
            return self.torch.empty(about["shape"], dtype=dtype)
        flat = _flat(memory, dtype, about["span"], about["offset"])
        return flat.as_strided(about["shape"], about["strides"])

    def poison(self, sizes: Sequence[int]) -> None:
        super().poison(sizes)
        blocks = [self.torch.empty(size, dtype=self.torch.uint8) for size in _repeated(sizes)]
        for block in blocks:
            block.fill_(POISON)


class _Card(_Torch):
    """Tensors on a card: each argument has a place there that it keeps."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.places: dict[tuple[int, str, int], Any] = {}
        self.used: list[tuple[Any, Any]] = []  # (on the card, in the memory)

    def views(self, memory: Any, calls: Descriptions) -> list[list[Any]]:
        self.used = []
        made = super().views(memory, calls)
        self.wait()
        return made

    def _view(self, memory: Any, about: dict[str, Any]) -> Any:
        dtype = getattr(self.torch, about["dtype"])
        if not about["span"]:
            return self.torch.empty(about["shape"], dtype=dtype, device=self.device)
        here = _flat(memory, dtype, about["span"], about["offset"])
        key = (about["offset"], about["dtype"], about["span"])
        if key not in self.places:
            self.places[key] = self.torch.empty(about["span"], dtype=dtype, device=self.device)
        there = self.places[key]
        there.copy_(here)
        self.used.append((there, here))
        return there.as_strided(about["shape"], about["strides"])

    def poison(self, sizes: Sequence[int]) -> None:
        """Fill blocks of the caching allocator, then more than the second cache holds."""
        for device, asked in (("cpu", sizes), (self.device, [*_repeated(sizes), _CACHE])):
            blocks = [
                self.torch.empty(size, dtype=self.torch.uint8, device=device) for size in asked
            ]
            for block in blocks:
                block.fill_(POISON)
        self.wait()

    def wait(self) -> None:
        self.torch.cuda.synchronize()  # all streams of the device

    def copy(self, array: Any, memory: Any, offset: int) -> None:
        super().copy(array, memory, offset)
        self.wait()

    def give_back(self, memory: Any) -> None:
        for there, here in self.used:
            here.copy_(there)
        self.wait()

    def take_again(self, memory: Any) -> None:
        for there, here in self.used:
            there.copy_(here)
        self.wait()


def array_in(memory: Any, operand: Operand, arrays: str) -> Any:
    """Return an array whose numbers lie in some memory, already filled; in JAX it is a copy.

    Parameters
    ----------
    memory : ndarray of uint8
        The operand's storage.
    operand : Operand
        Dtype, shape and strides.
    arrays : {"numpy", "torch", "jax"}
    """
    about = operand.description() | {"offset": 0, "span": operand.span}
    return library(arrays, "cpu").views(memory, [[about]])[0][0]


@contextmanager
def listing(names: list[str]) -> Iterator[None]:
    """Add the names of torch's operations that are called meanwhile, if torch is imported."""
    if "torch" not in sys.modules:
        yield
        return
    from torch.utils._python_dispatch import TorchDispatchMode

    class Listing(TorchDispatchMode):  # type: ignore[misc]
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # else the compiler is imported, which takes longer than most kernels

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
            if len(names) < _LISTED:
                names.append(func._schema.name)
            return func(*args, **(kwargs or {}))

    with Listing():
        yield


def _numpy_dtype(name: str) -> np.dtype[Any]:
    if name != "bfloat16":
        return np.dtype(name)
    import ml_dtypes

    made: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return made


def _flat(memory: Any, dtype: Any, count: int, offset: int) -> Any:
    return sys.modules["torch"].frombuffer(memory, dtype=dtype, count=count, offset=offset)


def _repeated(sizes: Sequence[int]) -> list[int]:
    """Return the sizes of the blocks to fill: more small ones, since their free lists are long."""
    blocks, total = [], 0
    for size in sorted({size for size in sizes if size}):
        for _ in range(16 if size <= 1 << 20 else 3):
            if total + size <= _POISONED:
                blocks.append(size)
                total += size
    return blocks
