"""The bounds themselves: true of naive code in any order, against fractions, and not idle."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import bounds
import problems
from loops import each
from problems import REDUCTIONS, WIDE, Array, Linear, normal


def naive_dot(x: Array, y: Array, order: Any) -> Any:
    total = x.dtype.type(0)
    for i in order:
        total += x[i] * y[i]
    return total


def naive_linear(p: Linear, order: Any) -> tuple[Any, Array, Any]:
    """Return loss and gradients, one rounded operation after the other, the rows in some order."""
    kind = p.X.dtype.type
    value, gradient = (kind(x) for x in problems.scales(p.reduction, kind(len(p.y))))
    features = range(p.X.shape[1])
    r = np.array([naive_dot(row, p.weights, features) for row in p.X]) + p.intercept - p.y
    columns = [gradient * naive_dot(column, r, order) for column in p.X.T]
    ones = np.ones_like(r)
    return value * naive_dot(r, r, order), np.array(columns), gradient * naive_dot(r, ones, order)


@each("order", [range(50), range(49, -1, -1), [*range(0, 50, 2), *range(1, 50, 2)]])
@each("reduction", REDUCTIONS)
def test_naive_code_keeps_the_bounds(rng: Any, dtype: Any, reduction: Any, order: Any) -> None:
    p = problems.linear(rng, 50, 6, dtype=dtype, reduction=reduction, parts="b")
    allowed = bounds.against(bounds.linear, p, dtype=dtype, other=WIDE)
    for got, want, limit in zip(naive_linear(p, order), p.exact(), allowed, strict=True):
        bounds.check(got, want, limit)


def test_the_wide_formulas_agree_with_fractions(rng: Any, dtype: Any) -> None:
    p = problems.linear(rng, 9, 3, dtype=dtype, reduction="sum", parts="bos")
    arrays: Any = (p.X, p.y, p.weights, p.offset, p.sample_weight)
    X, y, w, o, s = ([Fraction(float(v)) for v in np.ravel(x)] for x in arrays)
    b = Fraction(float(np.asarray(p.intercept)))
    rows = [X[3 * i : 3 * i + 3] for i in range(9)]
    r = [sum(map(Fraction.__mul__, row, w)) + b + o[i] - y[i] for i, row in enumerate(rows)]
    loss = sum(s[i] * r[i] ** 2 for i in range(9))
    columns = [sum(2 * s[i] * r[i] * rows[i][j] for i in range(9)) for j in range(3)]
    exact = loss, columns, sum(2 * s[i] * r[i] for i in range(9))
    outputs: Any = zip(p.exact(), exact, bounds.linear(p, WIDE), strict=True)
    for got, want, limit in outputs:
        for value, true, most in zip(*(np.ravel(x) for x in (got, want, limit)), strict=True):
            assert abs(Fraction(*value.as_integer_ratio()) - true) <= Fraction(float(most))


def test_the_bounds_are_not_idle(rng: Any, dtype: Any) -> None:
    """Where nothing cancels a bound is the count of roundings times the result.

    That is K + 2 (d + 3) for K as in `bounds.linear`, and a hundredth for the terms in u^2 and eta.
    """
    p = problems.linear(rng, 50, 6, dtype=dtype, parts="bos").map(np.abs)
    p = replace(p, y=-p.y)
    for want, limit in zip(p.exact(), bounds.linear(p, dtype), strict=True):
        assert np.all(limit <= 1.01 * bounds.gamma(53 + 53 + 2 * 9, dtype) * want)


@each("wrong", [np.nan, 1.1, np.inf])
def test_check_fails_beyond_the_bound(wrong: float) -> None:
    bounds.check([1.0], [1.05], 0.1)
    with pytest.raises(AssertionError, match="1 of 2 outside the bound"):
        bounds.check([1.0, wrong], [1.0, 1.0], 0.05)
    with pytest.raises(AssertionError):
        bounds.check([1.0], 1.0, 0.1)


def test_the_path_bound_is_the_recursion(rng: Any) -> None:
    """For a positive matrix the bound is the recursion's own solution."""
    matrix, steps = np.abs(normal(rng, (4, 4), float)) / 4, np.abs(normal(rng, (9, 2, 2), float))
    error, path = np.zeros(4), bounds.sgd_path(matrix, list(steps))
    for step, bound in zip(steps, path, strict=True):
        error = matrix @ error + step.ravel()
        assert (bound >= error * (1 - 1e-14)).all()
        assert (bound <= error * (1 + 1e-12)).all()
