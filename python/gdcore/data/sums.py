"""Second moments of rows: the sums that the squared error depends on.

They are ``[X 1]^T S [X 1 y]``, a table of d + 1 rows, and the squares of y, S being the sample
weights; each is a pair of float64 numbers, ``hi + lo``. Packed into one dimension they are the rows
of the table, of which the lower triangle is 0, then the squares of y.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data import slices
from gdcore.typing import Floats


def moments_of(
    problem: _core.Problem, n_threads: int, start: _core.Moments | None = None
) -> _core.Moments:
    """Sum the second moments of the rows, on top of others, interruptibly."""
    rows = _core.MomentsPass(problem, start)
    slices.run(lambda seconds: rows.advance(seconds, n_threads))
    return rows.moments()


def in_range(moments: _core.Moments, dtype: np.dtype[np.generic]) -> bool:
    """Whether the squares are sums that float32 holds, or whose rounding errors float64 does."""
    return moments.in_range(dtype == np.float32)


def out_of_range(dtype: npt.DTypeLike) -> str:
    """Return what to say of data whose squares leave the range, without a full stop."""
    wider = ", or compute in float64" if np.dtype(dtype) == np.float32 else ""
    return (
        f"the squares of the data overflow or underflow {np.dtype(dtype)}; scale the columns of X "
        f"and y by powers of ten{wider}"
    )


def table_of(sums: Floats, d: int) -> Floats:
    """Return the table of packed sums."""
    t = round((sums.size - (d + 1) ** 2) / (d + 2))
    return sums[: sums.size - t].reshape(d + 1, d + 1 + t)


def squares_of(sums: Floats, d: int) -> Floats:
    """Return the sums of the squares of the columns of [X 1 y]."""
    table = table_of(sums, d)
    return np.concatenate([table.diagonal(), sums[table.size :]])


def two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return the rounded sum and its error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
