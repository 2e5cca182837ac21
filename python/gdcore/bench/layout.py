"""Where data lie in memory: drawn again for each round, so that no contestant has luck.

The address of a result, of a temporary or of an input can make the same code 1.25 times as fast: a
vector that straddles a cache line, two arrays 4096 bytes apart, freed memory that goes back to the
system in every call. An allocator gives the same addresses again and again, so that a contestant
keeps its luck for a whole process, and rounds that share it tell nothing of it.
"""

from __future__ import annotations

import copy
import ctypes
import zlib
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from gdcore.bench.case import Array

LARGEST = 2**28  # bytes of inputs; more of them stay where they are, as a copy would take too long
_ALIGNMENT = 64  # bytes; what is aligned to fewer stays so
_SLACK = 2**14  # bytes: a few pages, and every set of an L1 cache
_SMALL = range(4, 1025, 4)  # bytes; NumPy and the C library keep freed blocks of these sizes apart
_HELD = 8  # blocks of each size: more than are kept
_MEDIUM = 256  # blocks of up to 64 KB; larger ones change how the C library allocates from then on
_SHARE = 6  # one in six changes places


class Heap:
    """Blocks of memory between which the next results and temporaries have to find their place."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        drawn = [*list(_SMALL) * _HELD, *(2 ** rng.uniform(10, 16, _MEDIUM))]
        self.blocks = [np.empty(int(size), np.uint8) for size in rng.permutation(drawn)]

    def shake(self) -> None:
        """Allocate some blocks, and free as many in random order: what is freed is used again."""
        places = self.rng.integers(len(self.blocks), size=len(self.blocks) // _SHARE).tolist()
        fresh = [np.empty(self.blocks[i].size, np.uint8) for i in places]
        for i, block in zip(places, fresh, strict=True):
            self.blocks[i] = block


class Inputs:
    """The arguments of a call: each time copies at other addresses, and whether they are changed.

    Parameters
    ----------
    lends : bool
        Whether to hand out the arguments themselves if they are more than `LARGEST` bytes, which
        are copied once otherwise.
    """

    def __init__(
        self, arguments: tuple[Any, ...], rng: np.random.Generator, lends: bool = False
    ) -> None:
        self.arguments, self.rng = arguments, rng
        self.before = trace(arguments)
        self.stays = size_of(arguments) > LARGEST
        self.lends = lends and self.stays
        self.given: tuple[Any, ...] | None = None

    def place(self) -> tuple[Any, ...]:
        """Return copies that nobody has changed; of many bytes, always the same ones."""
        if self.lends:
            self.given = self.arguments
        elif self.given is None or not self.stays:
            self.given = None  # its memory is free for the next
            self.given = scattered(self.arguments, self.rng)
        return self.given

    def are_changed(self) -> bool:
        """Return whether what was handed out was written to; the next copies are right again."""
        if not changed(self.before, trace(self.given)):
            return False
        self.given = None
        return True

    def are_touched(self) -> bool:
        """Return whether the arguments themselves were written to, which are put back if possible.

        Where they are not, whoever comes later is not blamed for it.
        """
        if not changed(self.before, trace(self.arguments)):
            return False
        for argument, right in zip(self.arguments, self.given or (), strict=False):
            if isinstance(argument, np.ndarray) and argument.flags.writeable:
                argument[...] = right
        self.before = trace(self.arguments)
        return True


def scattered(arguments: tuple[Any, ...], rng: np.random.Generator) -> tuple[Any, ...]:
    """Return copies of arguments, their arrays at other addresses.

    Strides, overlaps, alignment and read-only flags are kept. What cannot be copied is returned as
    it is.
    """
    arrays = {id(each): each for each in _arrays(arguments)}
    memo: dict[int, Any] = dict(_moved(arrays.values(), rng))
    return tuple(_copied(each, memo) for each in arguments)


def as_array(value: Any) -> Array | None:
    """Return the numbers of an array or a tensor of any library, None of anything else."""
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if not hasattr(value, "__array__"):
        return None
    try:
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except Exception:  # its own attributes may still show a change
        return None


def copied(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return copies of arguments; what cannot be copied is returned as it is."""
    return tuple(_copied(each, {}) for each in arguments)


def size_of(arguments: tuple[Any, ...]) -> int:
    """Return the bytes that the arrays among arguments take."""
    return sum(each.nbytes for each in {id(each): each for each in _arrays(arguments)}.values())


def trace(value: Any) -> Any:
    """Return what differs after a change of a value: its parts, and checksums of its arrays.

    Attributes that an object gets later, such as cached results, are not a change: see `changed`.
    """
    return _trace(value, set())


def changed(before: Any, after: Any) -> bool:
    """Return whether two traces show a change."""
    if isinstance(before, dict) and isinstance(after, dict):
        return any(name not in after or changed(before[name], after[name]) for name in before)
    if isinstance(before, tuple) and isinstance(after, tuple):
        pairs = zip(before, after, strict=False)
        return len(before) != len(after) or any(changed(*pair) for pair in pairs)
    return bool(before != after)


def _trace(value: Any, seen: set[int]) -> Any:
    if isinstance(value, str | bytes | int | float | complex | type(None)):
        return repr(value)  # in which NaN equals NaN, and -0.0 differs from 0.0
    if id(value) in seen:
        return None
    seen = seen | {id(value)}
    if isinstance(value, Mapping):
        return tuple((_trace(key, seen), _trace(each, seen)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return tuple(_trace(each, seen) for each in value)
    if isinstance(value, Set):
        return tuple(sorted(repr(_trace(each, seen)) for each in value))
    if isinstance(value, bytearray | memoryview):
        return zlib.crc32(value)
    if (array := as_array(value)) is not None:
        if array.dtype.hasobject:
            return (array.shape, _trace(array.tolist(), seen))
        if array.dtype.kind in "mM":  # has no buffer
            array = array.view(np.int64)
        return (array.shape, array.dtype.str, zlib.crc32(np.ascontiguousarray(array).data))
    return {name: _trace(each, seen) for name, each in getattr(value, "__dict__", {}).items()}


def _arrays(value: Any) -> Iterator[Array]:
    """Yield the arrays that can be moved byte by byte."""
    if isinstance(value, np.ndarray):
        if not value.dtype.hasobject and type(value) in (np.ndarray, np.memmap):
            yield value
    elif isinstance(value, Mapping):
        yield from _arrays(list(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _arrays(each)


def _moved(arrays: Iterable[Array], rng: np.random.Generator) -> Iterator[tuple[int, Array]]:
    """Yield the id of each array and its copy; those that share memory share that of the copies."""
    sharing: list[tuple[int, int, list[Array]]] = []
    for array in sorted(arrays, key=lambda each: byte_bounds(each)[0]):
        low, high = byte_bounds(array)
        if sharing and low < sharing[-1][1]:
            first, last, members = sharing.pop()
            sharing.append((first, max(last, high), [*members, array]))
        else:
            sharing.append((low, high, [array]))
    for low, high, members in sharing:
        memory = np.empty(high - low + _SLACK + _ALIGNMENT, np.uint8)
        offset = _offset(memory.ctypes.data, low, rng)
        ctypes.memmove(memory.ctypes.data + offset, low, high - low)
        for array in members:
            start = offset + array.ctypes.data - low
            yield id(array), _view(memory, start, array)


def _offset(address: int, old: int, rng: np.random.Generator) -> int:
    """Return a random offset from an address, as well aligned as the old address was."""
    step = min(old & -old, _ALIGNMENT)
    return -address % step + step * int(rng.integers(_SLACK // step))


def _view(memory: Array, start: int, like: Array) -> Array:
    view = np.ndarray(like.shape, like.dtype, memory, start, like.strides)
    view.flags.writeable = like.flags.writeable
    return view


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # a generator, a lock, a tensor within a graph
        return value
