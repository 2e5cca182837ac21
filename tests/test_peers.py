"""The C++ peers of the benchmarks multiply right; skipped unless $GDCORE_BENCH_PEERS has them."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = os.environ.get("GDCORE_BENCH_PEERS")
if not FOLDER:
    pytest.skip("GDCORE_BENCH_PEERS names no folder of built peers", allow_module_level=True)
LIBRARIES = sorted(Path(FOLDER).glob("libgdcore_peer_*.so"))

SHAPES = [  # batch, m, n, k
    (1, 1, 1, 1),
    (7, 2, 2, 2),
    (5, 3, 5, 7),
    (4, 8, 8, 8),
    (3, 16, 16, 16),
    (3, 1, 8, 64),
    (3, 64, 1, 8),
    (2, 33, 65, 31),
    (1, 130, 70, 600),
]


@pytest.fixture(params=LIBRARIES, ids=lambda path: path.stem.removeprefix("libgdcore_peer_"))
def peer(request: pytest.FixtureRequest) -> ctypes.CDLL:
    library = ctypes.CDLL(str(request.param))
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.gdcore_peer_matmul.argtypes = [
        *(ctypes.c_int, size, size, size, size),
        *(pointer, pointer, pointer, ctypes.c_int, size),
    ]
    library.gdcore_peer_version.restype = ctypes.c_char_p
    return library


def test_gdcore_is_among_them() -> None:
    assert "libgdcore_peer_gdcore" in {path.stem for path in LIBRARIES}


def test_version_has_a_name_and_a_number(peer: ctypes.CDLL) -> None:
    name, version = peer.gdcore_peer_version().decode().split(" ", 1)
    assert name
    assert version[0].isdigit()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_numbers_are_numpys(
    peer: ctypes.CDLL,
    shape: tuple[int, ...],
    n_threads: int,
    dtype: Any,
    rng: np.random.Generator,
) -> None:
    batch, m, n, k = shape
    a, b = rng.random((batch, m, k)).astype(dtype), rng.random((batch, k, n)).astype(dtype)
    c = np.full((batch, m, n), np.nan, dtype)
    unsupported = peer.gdcore_peer_matmul(
        dtype.itemsize, *shape, a.ctypes.data, b.ctypes.data, c.ctypes.data, n_threads, 2
    )
    if unsupported:
        assert np.isnan(c).all()
        pytest.skip("this peer does not multiply this shape")
    error = np.abs(c - np.matmul(a.astype(np.float64), b.astype(np.float64)))
    bound = (k + 2) * np.finfo(dtype).eps * k  # every product of a and b is at most 1
    assert (error <= bound).all()


def test_an_unknown_dtype_is_not_supported(peer: ctypes.CDLL) -> None:
    assert peer.gdcore_peer_matmul(2, 1, 1, 1, 1, None, None, None, 1, 1) != 0
