"""Arrays that describe themselves by DLPack alone, field by field, as a test wants them."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np

CPU, CUDA, CUDA_HOST, METAL, MANAGED = 1, 2, 3, 8, 13
INT, UINT, FLOAT, BFLOAT = 0, 1, 2, 4
READ_ONLY = 1


class Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class Managed(ctypes.Structure):
    _fields_ = (("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    )


new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class Producer:
    """An array on NumPy's memory. `fields` replace those of the tensor; `how` records the calls."""

    def __init__(
        self, array: Any, *, version: int | None = 1, flags: int = 0, library: Any = None,
        **fields: Any,
    ) -> None:  # fmt: skip
        self.array, self.version, self.flags, self.fields = array, version, flags, fields
        self.how: list[dict[str, Any]] = []
        self.deleted = 0
        if library is not None:
            self.__array_namespace__ = lambda: library

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.fields.get("device_type", CPU), self.fields.get("device_id", 0)

    def __dlpack__(self, **how: Any) -> Any:
        self.how.append(how)
        if self.version is None and "max_version" in how:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        a = self.array
        numbers = ctypes.c_int64 * max(a.ndim, 1)
        self.shape = numbers(*a.shape)
        self.strides = numbers(*(s // a.itemsize for s in a.strides))
        tensor = Tensor(
            a.ctypes.data, *self.__dlpack_device__(), a.ndim, FLOAT, 8 * a.itemsize, 1,
            self.shape, self.strides, 0,
        )  # fmt: skip
        for name, value in self.fields.items():
            setattr(tensor, name, value)

        def deleted(_: Any) -> None:
            self.deleted += 1

        self.deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(deleted)
        address = ctypes.cast(self.deleter, ctypes.c_void_p).value
        if self.version is None:
            self.managed: Any = Managed(tensor, None, address)
            return new_capsule(ctypes.addressof(self.managed), b"dltensor", None)
        self.managed = Versioned(self.version, 0, None, address, self.flags, tensor)
        return new_capsule(ctypes.addressof(self.managed), b"dltensor_versioned", None)


class Made:
    """A result in the library of `LIBRARY`."""

    def __init__(self, given: Any) -> None:
        self.numbers = np.from_dlpack(given)


LIBRARY = SimpleNamespace(from_dlpack=Made)
