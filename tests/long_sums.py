"""Rules 2 to 4 of docs/numerics.md, written a second time: plain loops over NumPy arrays.

Inputs have so few bits that their products are exact: a fused multiply-add is then a product and a
sum, which NumPy has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from problems import SEGMENT, Array

FAN_IN = 512


def chain(terms: list[Any]) -> Any:
    """Add the terms one after the other, from the first on."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def long_sum(partials: list[Any]) -> Any:
    """Add partials by rule 2: each 512 of them, then their sums in the same way."""
    while len(partials) > FAN_IN:
        pieces = range(0, len(partials), FAN_IN)
        partials = [chain(partials[i : i + FAN_IN]) for i in pieces]
    return chain(partials)


def segments(terms: Array) -> Array:
    """Cut (n, ...) terms into segments (count, 512, ...), the last filled with zeros.

    A zero changes no sum that begins with +0.
    """
    length = SEGMENT[terms.dtype.name]
    count = -(-len(terms) // length)
    out = np.zeros((count * length, *terms.shape[1:]), terms.dtype)
    out[: len(terms)] = terms
    return out.reshape(count, length, *terms.shape[1:])


def in_lanes(terms: Array, lanes: int) -> Array:
    """Sum each segment (count, 512, ...) in lanes by rule 3, or one chain if there is one lane."""
    count, length, *rest = terms.shape
    steps = terms.reshape(count, length // lanes, lanes, *rest)
    total = np.zeros((count, lanes, *rest), terms.dtype)
    for step in range(length // lanes):
        total += steps[:, step]
    while lanes > 1:
        lanes //= 2
        total = total[:, :lanes] + total[:, lanes:]
    return total[:, 0]


def in_wide(partials: Array) -> Any:
    """Add the partials of segments in float64."""
    return long_sum(list(partials.astype(np.float64)))


def dot(x: Array, y: Array) -> Any:
    """Return x . y for more than 8 terms, as of a matrix and one column."""
    return long_sum(list(in_lanes(segments(x * y), 16)))


def element(x: Array, y: Array) -> Any:
    """Return x . y as an element of a product of several columns."""
    return long_sum(list(in_lanes(segments(x * y), 1)))


def squares(residuals: Array) -> float:
    """Return the sum of the squares of all residuals, in C order."""
    flat = residuals.ravel()
    return float(in_wide(in_lanes(segments(flat * flat), 16)))


def gradient(X: Array, residuals: Array) -> tuple[Array, Array]:
    """Return X^T r and 1^T r in float64, r being (n, t)."""
    d, t = X.shape[1], residuals.shape[1]
    chains = 1 if t > 1 or d > 16 else 2 if d > 4 else 16
    weights = np.empty((d, t))
    for j in range(d):
        for u in range(t):
            weights[j, u] = in_wide(in_lanes(segments(X[:, j] * residuals[:, u]), chains))
    ones = [in_wide(in_lanes(segments(r), 16 if t == 1 else 1)) for r in residuals.T]
    return weights, np.array(ones)


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """Return the rounded sum and what rounding took."""
    total = a + b
    z = total - a
    return total, (a - (total - z)) + (b - z)


class Pair:
    """Arrays hi + lo; the sum of two is rule 8's."""

    def __init__(self, hi: Array, lo: Array) -> None:
        self.hi, self.lo = hi, lo

    def __add__(self, other: Pair) -> Pair:
        hi, error = two_sum(self.hi, other.hi)
        return Pair(hi, error + (self.lo + other.lo))


def moments(X: Array, y: Array) -> Pair:
    """Return the sums of products of the columns [X 1 y], (columns, columns), by rule 8."""
    wide = np.column_stack([X, np.ones(len(X)), y]).astype(np.float64)
    products = segments((wide[:, :, None] * wide[:, None, :]).astype(np.float64))
    hi, lo = np.zeros((2, len(products), *products.shape[2:]))
    for step in range(products.shape[1]):
        hi, error = two_sum(hi, products[:, step])
        if X.dtype == np.float64:
            lo += error
    return long_sum([Pair(*parts) for parts in zip(hi, lo, strict=True)])


def exact(rng: Any, shape: Any, dtype: DTypeLike) -> Array:
    """Draw numbers of 11 or 26 bits and of many sizes: their products are exact, their sums not."""
    bits = 11 if np.dtype(dtype) == np.float32 else 26
    values = rng.integers(-(2**bits) + 1, 2**bits, shape)
    return np.asarray(np.ldexp(values, rng.integers(-8, 8, shape))).astype(dtype)
