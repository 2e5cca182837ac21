"""Arrays that map a file, which may shrink while it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.solvers.progress import tick
from gdcore.status import DataLostError


class _Mapped:
    """An array's memory, and how long the file must be that it maps, where NumPy knows."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.pages = _core.LostPages(array)
        self._file, self._end = _owner(array), 0
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        if isinstance(root, np.memmap) and array.size:
            strides = zip(array.shape, array.strides, strict=True)
            last = sum((size - 1) * max(stride, 0) for size, stride in strides)
            self._end = root.offset + _address(array) - _address(root) + last + array.itemsize

    @property
    def lost(self) -> bool:
        """Whether memory could not be read, or came as zeros from behind the end of the file.

        The rest of a file's last page does. One of length 0 is a device, or has no page at all.
        """
        try:
            return bool(self.pages.count) or 0 < self._file.size() < self._end
        except (AttributeError, OSError, ValueError):  # no file, or closed meanwhile
            return False


def _address(array: npt.NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


_Watch = dict[str, _Mapped]
_watches: ContextVar[tuple[_Watch, ...]] = ContextVar("_watches", default=())


@contextmanager
def watched(**arrays: Any) -> Iterator[None]:
    """Turn memory that can no longer be read into DataLostError, where the process would die."""
    watch = {
        name: _Mapped(array)
        for name, array in arrays.items()
        if isinstance(array, np.ndarray) and _owner(array) is not None  # Arrow maps files too
    }
    if not watch:
        yield
        return
    token = _watches.set((*_watches.get(), watch))
    try:
        yield
        if (gone := lost()) is not None:
            raise gone
    except DataLostError:
        raise
    except Exception as error:  # what zeros in the place of rows led to
        gone = _loss(watch)
        if gone is None:
            raise
        raise gone from error
    finally:
        _watches.reset(token)
        for each in watch.values():
            each.pages.close()


def watching() -> bool:
    """Whether rows may get lost."""
    return bool(_watches.get())


def check() -> None:
    """Do what is due between two slices of work: tell the progress, look for lost memory.

    Raises DataLostError if what is watched here lost any of its memory.
    """
    tick()
    gone = lost()
    if gone is not None:
        raise gone


def lost() -> DataLostError | None:
    """Return the error of what is watched here, if it lost any of its memory."""
    return next((e for e in map(_loss, _watches.get()) if e is not None), None)


def _loss(watch: _Watch) -> DataLostError | None:
    names = [name for name, each in watch.items() if each.lost]
    if not names:
        return None
    return DataLostError(
        f"{' and '.join(names)} could not be read to the end: the file in the place of which it "
        "stands was truncated while it was read, or the disk failed. Write the file again, map it "
        "anew, and go on from the checkpoint if there is one."
    )


def maps_a_file(array: Any) -> bool:
    """Whether an array's memory is that of `numpy.memmap` or `mmap.mmap`."""
    return isinstance(_owner(array), mmap)


def _owner(array: Any) -> Any:
    """Return what an array has its memory from; None if it is its own."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array
