"""Arrays that map a file, which may shrink while it is read.

The operating system answers a read behind the end of a mapped file with SIGBUS, which ends a
process. The core turns it into zeros and a count (csrc/bindings/lost_pages.cpp); here the count
becomes a DataLostError.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.errors import DataLostError


class _Mapped:
    """An array's memory, and the length that the file must have, where NumPy knows it."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.pages = _core.LostPages(array)
        self._file, self._end = _owner(array), 0  # a tensor, for example, or a mapped file
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

        The rest of a file's last page reads as zeros. A file of length 0 is a device, or has no
        page at all.
        """
        if self.pages.count:
            return True
        if not isinstance(self._file, mmap):
            return False
        try:
            return 0 < self._file.size() < self._end
        except (OSError, ValueError):  # closed meanwhile
            return False


def _address(array: npt.NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


_Guard = dict[str, _Mapped]
_guards: ContextVar[tuple[_Guard, ...]] = ContextVar("_guards", default=())


def guard(**arrays: Any) -> AbstractContextManager[None]:
    """Raise DataLostError where a read of lost memory would end the process."""
    mapped = {
        name: _Mapped(array)
        for name, array in arrays.items()
        if isinstance(array, np.ndarray) and _is_borrowed(array)
    }
    return _guard(mapped) if mapped else nullcontext()


@contextmanager
def _guard(mapped: _Guard) -> Iterator[None]:
    token = _guards.set((*_guards.get(), mapped))
    try:
        yield
        raise_if_lost()
    except DataLostError:
        raise
    except Exception as error:  # which zeros in the place of rows may have caused
        lost = _error_of(mapped)
        if lost is None:
            raise
        raise lost from error
    finally:
        _guards.reset(token)
        for each in mapped.values():
            each.pages.close()


def is_guarded() -> bool:
    """Whether rows may get lost."""
    return bool(_guards.get())


def raise_if_lost() -> None:
    """Raise DataLostError if a guarded array lost any of its memory."""
    error = lost_error()
    if error is not None:
        raise error


def lost_error() -> DataLostError | None:
    """Return the error of the guarded arrays, if one lost any of its memory."""
    return next((e for e in map(_error_of, _guards.get()) if e is not None), None)


def _error_of(mapped: _Guard) -> DataLostError | None:
    names = [name for name, each in mapped.items() if each.lost]
    if not names:
        return None
    return DataLostError(
        f"{' and '.join(names)} could not be read to the end: the mapped file was truncated while "
        "it was read, or the disk failed. Write the file again, map it again, and continue from "
        "the checkpoint if there is one."
    )


def _is_borrowed(array: npt.NDArray[Any]) -> bool:
    """Whether an array's memory belongs to something that is no array: Arrow maps files too."""
    return array.base is not None and _owner(array) is not None


def maps_a_file(array: Any) -> bool:
    """Whether an array's memory is that of `numpy.memmap` or `mmap.mmap`."""
    return isinstance(_owner(array), mmap)


def _owner(array: Any) -> Any:
    """Return the object whose memory an array uses; None if the memory is its own."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array
