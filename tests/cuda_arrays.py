"""A small library of arrays on CUDA devices, as CuPy is one: its arrays are the core's inside.

With it tests see results in the caller's library on the caller's device without a GPU.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from gdcore import _core

CUDA = 2  # DLPack's number


class Array:
    """An array on a device. Of dtypes that the core has not, the numbers are NumPy's."""

    def __init__(self, inner: Any, ordinal: int) -> None:
        self.inner, self.device = inner, ordinal
        self.shape, self.ndim, self.dtype = inner.shape, inner.ndim, np.dtype(inner.dtype)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: Any) -> Array:
        return Array(self.inner[index], self.device)

    @property
    def T(self) -> Array:
        return Array(self.inner.T, self.device)

    def __add__(self, other: Array) -> Array:
        return asarray(self.get() + other.get(), device=self.device)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TypeError("copy an array on a device with .get()")

    def get(self) -> Any:
        """Return the numbers as NumPy's."""
        return self.inner if isinstance(self.inner, np.ndarray) else self.inner.numpy()

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return sys.modules[__name__]

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.device

    def __dlpack__(self, **how: Any) -> Any:
        return self.inner.__dlpack__(**how)


def asarray(given: Any, *, device: int = 0) -> Array:
    """Copy numbers to a device."""
    array = np.asarray(given)
    if array.dtype.kind == "f":
        return Array(_core.DeviceArray.from_host(array, device), device)
    return Array(array, device)


def from_dlpack(given: Any) -> Array:
    """Take an array over, without a copy."""
    return given if isinstance(given, Array) else Array(given, given.__dlpack_device__()[1])


def asnumpy(given: Any) -> Any:
    """Return NumPy's array of one of any library."""
    if isinstance(given, _core.DeviceArray):
        return given.numpy()
    return given.get() if isinstance(given, Array) else np.asarray(given)


@cache
def driver() -> Any:
    """Return the emulated driver; None on a real one."""
    path = os.environ.get("GDCORE_CUDA_DRIVER")
    if not path:
        return None
    library = ctypes.CDLL(path)
    if not hasattr(library, "emulation_set"):
        return None
    library.emulation_bytes_in_use.restype = ctypes.c_size_t
    library.emulation_set.argtypes = [ctypes.c_char_p, ctypes.c_longlong]
    return library


@contextmanager
def emulating(**options: int) -> Iterator[None]:
    """Set options of the emulated driver, and set them back: to one device, and 0 of all else."""
    for name, value in options.items():
        assert driver().emulation_set(name.encode(), value) == 0
    try:
        yield
    finally:
        for name in options:
            driver().emulation_set(name.encode(), int(name == "devices"))


def bytes_in_use() -> int:
    """Return the bytes that the emulated devices have given out."""
    return int(driver().emulation_bytes_in_use())
