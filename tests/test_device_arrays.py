"""The core's own arrays on a CUDA device: views by NumPy's rules, copies in and out."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import cuda_arrays
import gdcore as gd

pytestmark = pytest.mark.cuda

DeviceArray = gd._core.DeviceArray
CUBE = np.arange(60.0).reshape(3, 4, 5)
INDICES: list[Any] = [
    0, -1, np.int64(2), slice(None), slice(None, None, -1), slice(5, 1), slice(-1, None, -2), None,
    ..., (), (..., 1), (1, ...), (None, 1, ..., None, slice(1, 4, 2)), (2, -3, 2), (0, ..., 1, 2),
    np.array(1), (slice(3, 3), 0), (slice(1, 2), ..., slice(None, None, 4)), (..., None),
    (0, 1, 2, ...),
]  # fmt: skip


def same(there: Any, here: Any) -> None:
    np.testing.assert_array_equal(there.numpy(), np.asarray(here), strict=True)


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indices(index: Any) -> None:
    same(DeviceArray.from_host(CUBE)[index], CUBE[index])
    turned = CUBE.T[1:4, :, ::-1]
    there = DeviceArray.from_host(CUBE).T[1:4, :, ::-1]
    same(there[index], turned[index])


@pytest.mark.parametrize(
    "index", [3, -4, (0, 4), (0, 0, 0, 0), (..., ...), 1.0, True, [0], np.array([0]), "a"], ids=str
)
def test_refused_indices(index: Any) -> None:
    with pytest.raises(IndexError):
        DeviceArray.from_host(CUBE)[index]
    with pytest.raises(ValueError, match="zero"):
        DeviceArray.from_host(CUBE)[::0]


def test_broadcasts() -> None:
    row, one = DeviceArray.from_host(CUBE[0, :1]), DeviceArray.from_host(np.array(2.0))
    for shape in (1, 5), (4, 5), (2, 0, 5), (3, 1, 5):
        same(row.broadcast_to(shape), np.broadcast_to(CUBE[0, :1], shape))
    same(one.broadcast_to(()), 2.0)
    same(one.broadcast_to((3, 2)), np.full((3, 2), 2.0))
    for shape in (5,), (4, 4), (4, 1), (-1, 5), ():
        with pytest.raises(ValueError, match="does not broadcast to"):
            row.broadcast_to(shape)


@pytest.mark.parametrize("shape", [(40, 30), (700, 600)], ids=["small", "staged"])
def test_copies_of_strided_arrays(shape: tuple[int, int]) -> None:
    """Rows that lie apart, on the host and on the device, of few bytes and of many."""
    whole = np.random.default_rng(0).standard_normal(shape)
    there = DeviceArray.from_host(whole)
    for view in (np.s_[:, 3:29], np.s_[::-2, :7], np.s_[:, ::3], np.s_[:, 2], np.s_[4:4], np.s_[:]):
        same(DeviceArray.from_host(whole[view]), whole[view])
        same(there[view], whole[view])
        same(DeviceArray.joined([there[view], there[view]]), np.concatenate([whole[view]] * 2))


@pytest.mark.skipif(cuda_arrays.driver() is None, reason="only the emulated driver copies late")
@pytest.mark.parametrize("size", [100, 100_000])
def test_sources_in_pinned_memory_may_change(size: int) -> None:
    """The driver reads pinned memory when the stream comes to it, and not before."""
    library, at, context = cuda_arrays.driver(), ctypes.c_void_p(), ctypes.c_void_p()
    DeviceArray.from_host(CUBE)  # opens the driver
    assert library.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert library.cuCtxPushCurrent_v2(context) == 0
    assert library.cuMemHostAlloc(ctypes.byref(at), ctypes.c_size_t(8 * size), 0) == 0
    source = np.frombuffer((ctypes.c_double * size).from_address(at.value or 0))
    source[:] = 1
    there = DeviceArray.from_host(source)
    source[:] = 2
    same(there, np.ones(size))
    assert library.cuMemFreeHost(at) == 0
    assert library.cuCtxPopCurrent_v2(ctypes.byref(context)) == 0
