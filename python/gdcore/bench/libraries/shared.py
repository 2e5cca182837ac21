r"""A peer that is a shared library with a C interface, ``libgdcore_peer_NAME.so``.

::

    // c = a @ b for a batch of C-contiguous matrices of 4 or 8 byte floats, `repeats` times.
    // Returns 0, or anything else if this peer does not do this size.
    int gdcore_peer_matmul(int bytes, int64_t batch, int64_t m, int64_t n, int64_t k,
                           const void *a, const void *b, void *c, int threads, int64_t repeats);
    const char *gdcore_peer_version(void);

The repeats run inside, so that no call from Python is timed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run, Unsupported
from gdcore.bench.suites.matmul import Matmul

_ARGUMENTS: Sequence[Any] = (
    *(ctypes.c_int, *[ctypes.c_int64] * 4, *[ctypes.c_void_p] * 3),
    *(ctypes.c_int, ctypes.c_int64),
)


class Shared:
    """The functions of one shared library."""

    def __init__(self, path: Path, threads: int) -> None:
        library = ctypes.CDLL(str(path.resolve()))
        self.path, self.threads = path, threads
        self.product = library.gdcore_peer_matmul
        self.product.restype = ctypes.c_int
        self.product.argtypes = _ARGUMENTS
        self.version = library.gdcore_peer_version
        self.version.restype = ctypes.c_char_p

    def describe(self) -> dict[str, Any]:
        """Return the version and the file."""
        return {"version": self.version().decode(errors="replace"), "file": self.path.name}

    def matmul(self, case: Matmul, a: Array, b: Array) -> Run:
        """Call ``gdcore_peer_matmul``."""
        out = np.empty((*a.shape[:-1], case.n), a.dtype)
        sizes = (a.itemsize, case.batch, case.m, case.n, case.k)

        def run(repeats: int) -> Array:
            if self.product(
                *sizes, a.ctypes.data, b.ctypes.data, out.ctypes.data, self.threads, repeats
            ):
                raise Unsupported("this size is not supported")
            return out

        return run
