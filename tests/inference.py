"""Covariances for the tests: the bits of an inference, and the exact numbers in fractions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

import gdcore as gd
from problems import Array, canonical

KINDS: tuple[Any, ...] = ("ols", "hc0", "hc1", "hc2", "hc3")
Row = list[Fraction]


def of(fit: gd.Fit) -> Any:
    """Return the inference of a fit that has one."""
    assert fit.inference is not None
    return fit.inference


def bits(fit: gd.Fit, i: Any = ...) -> list[Any]:
    """Return the bits of an inference, or of the one of problem i."""
    found = of(fit)
    numbers = [np.asarray(one)[i] for one in (found.covariance, found.sigma2, found.r2)]
    counts = np.asarray(found.df_resid)[i], np.asarray(found.reason, object)[i]
    return [*canonical(*numbers), int(counts[0]), str(counts[1])]


@dataclass(frozen=True)
class Exact:
    """What an inference is to be, each number rounded once."""

    covariance: Array
    sigma2: float
    r2: float
    df_resid: int


def exact(X: Array, y: Array, weight: Array | None, kind: str, intercept: bool) -> Exact:
    """Return the inference of one target, in fractions."""
    n = len(X)
    rows = [[Fraction(float(x)) for x in row] + [Fraction(1)] * intercept for row in X]
    given = [Fraction(1)] * n if weight is None else [Fraction(float(w)) for w in weight]
    rows, target, given = _counting(rows, [Fraction(float(v)) for v in y], given)
    n, p = len(rows), len(rows[0])
    inverse = _inverse(_products(rows, given))
    right = [sum((w * r[j] * v for r, v, w in zip(rows, target, given, strict=True)), Fraction(0))
             for j in range(p)]  # fmt: skip
    params = _times(inverse, right)
    errors = [v - _dot(r, params) for r, v in zip(rows, target, strict=True)]
    squares = _dot(given, [e * e for e in errors])
    mean = _dot(given, target) / sum(given) if intercept else Fraction(0)
    total = _dot(given, [(v - mean) ** 2 for v in target])
    if kind == "ols":
        factor = squares / (n - p)
        covariance = [[factor * entry for entry in row] for row in inverse]
    else:
        leverage = [w * _dot(r, _times(inverse, r)) for r, w in zip(rows, given, strict=True)]
        power = {"hc2": 1, "hc3": 2}.get(kind, 0)
        meat = [w * w * e * e / (1 - h) ** power
                for w, e, h in zip(given, errors, leverage, strict=True)]  # fmt: skip
        covariance = _product(_product(inverse, _products(rows, meat)), inverse)
        if kind == "hc1":
            covariance = [[entry * n / (n - p) for entry in row] for row in covariance]
    return Exact(
        np.array(covariance, float), float(squares / (n - p)), float(1 - squares / total), n - p
    )


def _counting(rows: list[Row], y: Row, weight: Row) -> tuple[list[Row], Row, Row]:
    counts = [i for i, w in enumerate(weight) if w]
    return [rows[i] for i in counts], [y[i] for i in counts], [weight[i] for i in counts]


def _dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def _times(matrix: list[Row], x: Row) -> Row:
    return [_dot(row, x) for row in matrix]


def _product(a: list[Row], b: list[Row]) -> list[Row]:
    return [[_dot(row, column) for column in zip(*b, strict=True)] for row in a]


def _products(rows: list[Row], factor: Row) -> list[Row]:
    """Return the sum over rows of factor x x^T."""
    p = len(rows[0])
    return [
        [
            sum((f * r[i] * r[j] for r, f in zip(rows, factor, strict=True)), Fraction(0))
            for j in range(p)
        ]
        for i in range(p)
    ]


def _inverse(matrix: list[Row]) -> list[Row]:
    p = len(matrix)
    rows = [[*row, *(Fraction(i == j) for j in range(p))] for i, row in enumerate(matrix)]
    for k in range(p):
        rows[k] = [value / rows[k][k] for value in rows[k]]
        for i in range(p):
            if i != k:
                rows[i] = [a - rows[i][k] * b for a, b in zip(rows[i], rows[k], strict=True)]
    return [row[p:] for row in rows]
