"""Second moments of whole segments, one in each lane of a vector, have the bits of the plain loops.

So have those of all rows that lanes do not sum: the rest, and rows with strides, weights, offsets,
several targets or many features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gdcore as gd
from conftest import ISAS
from problems import SEGMENT, Array, canonical

FEATURES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 16, 23, 24, 25, 32, 33, 64, 65]


def sums(X: Array, y: Array, offset: Any = None, weight: Any = None) -> Any:
    """Return the parts of the moments of the rows."""
    work = gd._core.MomentsPass(gd._core.Problem(X, y, offset, weight, True, "mean"))
    while not work.advance(1.0, 0):
        pass
    return canonical(work.moments().hi, work.moments().lo)


def same_everywhere(*given: Any, threads: Any = (1,)) -> None:
    gd._core.set_isa("reference")
    expected = sums(*given)
    for isa in ISAS:
        gd._core.set_isa(isa)
        for count in threads:
            gd.set_num_threads(count)
            assert sums(*given) == expected, (isa, count)


def rows(rng: Any, n: int, d: int, dtype: Any) -> tuple[Array, Array]:
    """Return numbers of such sizes that almost every sum is rounded."""
    X = rng.standard_normal((n, d)) * 2.0 ** rng.integers(-12, 12, (n, d))
    return X.astype(dtype), (
        rng.standard_normal((n, 1)) * 2.0 ** rng.integers(-9, 9, (n, 1))
    ).astype(dtype)


@pytest.mark.parametrize("features", FEATURES)
def test_every_number_of_features(rng: Any, dtype: Any, features: int) -> None:
    length = SEGMENT[np.dtype(dtype).name]
    for n in (
        (8 * length, 9 * length + 7) if features > 8 else (length, 2 * length, 17 * length - 1)
    ):
        same_everywhere(*rows(rng, n, features, dtype))


def test_threads_and_pieces(rng: Any, dtype: Any) -> None:
    """More segments than are added at a time, and than a level of sums holds."""
    length = SEGMENT[np.dtype(dtype).name]
    same_everywhere(*rows(rng, 531 * length + 100, 2, dtype), threads=(1, 2, 3, 7))


def test_what_lanes_do_not_sum(rng: Any, dtype: Any) -> None:
    n, d = 8 * SEGMENT[np.dtype(dtype).name] + 9, 5
    X, y = rows(rng, n, d, dtype)
    weight, offset = rng.random(n).astype(dtype), rows(rng, n, 1, dtype)[0]
    same_everywhere(X, y, offset, None)
    same_everywhere(X, y, None, weight)
    same_everywhere(X, np.hstack([y, offset]))
    same_everywhere(np.asfortranarray(X), y)
    same_everywhere(np.hstack([X, offset])[:, :d], y)
    same_everywhere(X, np.hstack([y, offset])[:, :1])
    same_everywhere(X[::-1], y[::-1])


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, "largest"])
def test_special_values(rng: Any, dtype: Any, value: Any) -> None:
    """Also where a sum overflows, in the last row of a segment and before."""
    length = SEGMENT[np.dtype(dtype).name]
    for row in (length - 1, 3 * length + 5):
        X, y = rows(rng, 8 * length, 3, dtype)
        X[row, 1] = np.finfo(dtype).max if value == "largest" else value
        X[row - 1, 2] = -0.0
        same_everywhere(X, y)
