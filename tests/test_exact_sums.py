"""Second moments without rounding errors: equal to sums of fractions, in any order of the rows."""

from __future__ import annotations

import pickle
from fractions import Fraction
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pytest

import gdcore as gd
import problems
from gdcore.data.exact_sums import ROWS, ExactSums
from gdcore.data.problem import make_problem
from loops import each
from problems import Array


def sums(X: Any, y: Any, offset: Any = None, weight: Any = None) -> ExactSums:
    return ExactSums.of(make_problem(X, y, offset, weight, True, "mean", part=True))


def content(found: ExactSums) -> Any:
    statistics = found.statistics()
    sizes = statistics.columns, statistics.n, statistics.filled.tolist()
    return sizes, statistics.hi.tobytes(), statistics.lo.tobytes()


def values(found: ExactSums) -> list[Fraction]:
    """Return the upper triangle of the products, as fractions."""
    i, j = np.triu_indices(found.columns.width)
    units = (found.units[i] + found.units[j]).tolist()
    pairs = zip(found.products.tolist(), units, strict=True)
    return [Fraction(product) * Fraction(2) ** unit for product, unit in pairs]


def exact(X: Array, y: Array) -> list[Fraction]:
    table = np.column_stack([X, np.ones(len(X)), y]).astype(float)
    columns = [[Fraction(x) for x in column] for column in table.T.tolist()]
    width = len(columns)
    return [
        sum((a * b for a, b in zip(columns[i], columns[j], strict=True)), Fraction())
        for i in range(width)
        for j in range(i, width)
    ]


def wild(rng: Any, n: int, d: int, spread: int, dtype: Any) -> Array:
    """Draw numbers whose exponents differ by up to twice the spread."""
    size = rng.integers(-spread, spread, (n, d), endpoint=True)
    return np.ldexp(rng.standard_normal((n, d)).astype(dtype), size).astype(dtype)


@each("spread", [0, 10, 60])
@each("n", [0, 1, 7, 100])
def test_equal_to_fractions(rng: Any, dtype: Any, spread: int, n: int) -> None:
    table = wild(rng, n, 4, spread, dtype)
    assert values(sums(table[:, :3], table[:, 3])) == exact(table[:, :3], table[:, 3])


def test_equal_to_fractions_where_numbers_end(rng: Any) -> None:
    """Subnormal numbers, the largest whose squares are finite, zeros."""
    X = np.array([[5e-324, 1e154], [-3e-310, 1e-300], [0.0, -7.5], [2e-308, 5e-324]])
    y = np.array([1e150, 5e-324, 0.0, -1.0])
    assert values(sums(X, y)) == exact(X, y)


def test_rounded_to_the_nearest_pair(rng: Any, dtype: Any) -> None:
    table = wild(rng, 50, 3, 10, dtype)
    X, y = table[:, :2], table[:, 2]
    statistics = sums(X, y).statistics()
    wanted = dict(zip(zip(*np.triu_indices(4), strict=True), exact(X, y), strict=True))
    places = {(i, j): 4 * i + j for i in range(3) for j in range(i, 4)} | {(3, 3): 12}
    assert len(statistics.hi) == 13
    for cell, place in places.items():
        hi = float(wanted[cell])
        assert statistics.hi[place] == hi
        assert statistics.lo[place] == float(wanted[cell] - Fraction(hi))


@each("t", [None, 2])
@each("parts", ["b", "bo", "bs", "bos"])
def test_no_bit_depends_on_the_cuts_or_the_order(rng: Any, dtype: Any, t: Any, parts: str) -> None:
    n = 2 * ROWS + 50
    p = problems.linear(rng, n, 3, t, parts=parts, dtype=dtype)

    def some(rows: Any) -> ExactSums:
        given = (p.X, p.y, p.offset, p.sample_weight)
        return sums(*(None if a is None else a[rows] for a in given))

    whole = some(slice(None))
    for pieces in (1, 2, 7, 60):
        shuffled = rng.permutation(n)
        drawn = [some(rows) for rows in np.array_split(shuffled, pieces)]
        drawn.insert(int(rng.integers(pieces)), some(slice(0)))
        assert content(reduce(add, drawn)) == content(whole)
        assert content(reduce(add, drawn[::-1])) == content(whole)
    assert content(pickle.loads(pickle.dumps(whole))) == content(whole)


@each("parts", ["b", "bos"])
def test_near_to_moments(rng: Any, dtype: Any, parts: str) -> None:
    """Both sum the same products; those of `Moments` have rounding errors."""
    p = problems.linear(rng, 700, 3, parts=parts, dtype=dtype)
    moments = gd.Moments(3, None, dtype)
    moments.update(p.X, p.y, offset=p.offset, sample_weight=p.sample_weight)
    statistics = sums(p.X, p.y, p.offset, p.sample_weight).statistics()
    error = np.abs((statistics.hi - moments.hi) + (statistics.lo - moments.lo))
    table = statistics.hi[:20].reshape(4, 5)
    scale = np.sqrt(np.append(table.diagonal(), statistics.hi[20]))
    bound = np.append(np.outer(scale[:4], scale).ravel(), scale[4] ** 2)
    unit = 512 * 2.0**-53
    assert (error <= bound * (unit if dtype == np.float32 else unit**2 + 2.0**-98)).all()
    assert statistics.filled.tolist() == moments._statistics.filled.tolist()


def test_refused(rng: Any) -> None:
    X, y = rng.standard_normal((5, 2)), rng.standard_normal(5)
    with pytest.raises(ValueError, match=r"X holds nan at row 1, column 0"):
        sums(np.where(np.arange(10).reshape(5, 2) == 2, np.nan, X), y)
    with pytest.raises(ValueError, match="squares of the data overflow"):
        sums(X * 1e200, y).statistics()
    with pytest.raises(ValueError, match="squares of the data overflow"):
        sums(np.full((5, 2), 1e300), y, None, np.full(5, 1e140))
    for other in (sums(X[:, :1], y), sums(X.astype("f4"), y.astype("f4")), sums(X, X)):
        with pytest.raises(ValueError, match="give all the same columns"):
            sums(X, y) + other
