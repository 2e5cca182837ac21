"""Numbers in twice the precision of float64, each with a bound of its own error.

A `DoubleDouble` is hi + lo, off by at most `error`. The core sums products (Dot2; Ogita, Rump and
Oishi 2005, "Accurate sum and dot product"); all else is done here, number by number (Dekker 1971).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import gdcore._core as _core
from gdcore.oracle.numbers.operands import finite

Floats = NDArray[np.float64]
U = 2.0**-53
TINY = 2.0**-1074
_SPLIT = 2.0**27 + 1
_BLOCK = 1 << 14  # numbers worked on at a time: they stay in a cache


class DoubleDouble(NamedTuple):
    """hi + lo, off by at most `error`; arrays that broadcast to one shape."""

    hi: Floats
    lo: Floats
    error: Floats

    def map(self, change: Any) -> DoubleDouble:
        """Return each of the three changed in shape."""
        shape = self.hi.shape
        parts = (part if part.shape == shape else np.broadcast_to(part, shape) for part in self)
        return DoubleDouble(*map(change, parts))

    @property
    def size(self) -> Floats:
        """At least the magnitude."""
        size: Floats = (np.abs(self.hi) + np.abs(self.lo)) * (1 + 4 * U) + self.error
        return size


class Product(NamedTuple):
    """A sum of products, and the sum of their magnitudes."""

    value: DoubleDouble
    size: Floats


def exact(x: Any) -> DoubleDouble:
    """Return numbers as they are."""
    zero = np.zeros(())
    return DoubleDouble(np.asarray(x, np.float64), zero, zero)


def up(bound: Any, roundings: float) -> Floats:
    """Round up the result of a float64 evaluation with this many roundings in a row."""
    raised: Floats = np.asarray(np.asarray(bound) * (1 + (roundings + 16) * 2.0**-52))
    return raised


def product(a: Any, b: Any) -> Product:
    """Return ``a @ b`` and ``|a| @ |b|`` (…,m,n), for a (…,m,k) and b (…,k,n).

    float32 operands are summed in float64, where their products are exact: k roundings. Others
    are summed as pairs: 2 k roundings of numbers that are themselves rounding errors, k of them.
    """
    k = a.shape[-1]
    if b.shape[-1] < a.shape[-2]:  # vectors run along the longer side; the sums are the same
        parts = _core.accurate_matmul(np.swapaxes(b, -1, -2), np.swapaxes(a, -1, -2))
        parts = np.swapaxes(parts, -1, -2)
    else:
        parts = _core.accurate_matmul(a, b)
    hi, size = parts[0], up(parts[1], k)
    if len(parts) == 2:
        return Product(DoubleDouble(hi, np.zeros(()), up(_growth(k) * size, 2)), size)
    lo = parts[2]
    error = up(_growth(2 * k + 2) ** 2 * size + 4 * k * TINY, 4)
    return Product(_mended(hi, lo, error), size)


def add(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Return a + b."""
    hi = a.hi + b.hi
    z = hi - a.hi
    lost = (a.hi - (hi - z)) + (b.hi - z)
    rest = a.lo + b.lo
    lo = lost + rest
    return _mended(hi, lo, a.error + b.error + 4 * U * (np.abs(lost) + np.abs(rest)))


def sum_up(x: Floats) -> Floats:
    """Return sums over the last two axes, of no negative numbers, rounded up."""
    flat = x.reshape((*x.shape[:-2], 1, -1) if x.size else (*x.shape[:-2], 1, 0))
    sums: Floats = product(flat, np.ones((flat.shape[-1], 1))).size[..., 0, 0]
    return sums


def dot(a: Any, b: Any) -> tuple[DoubleDouble, Floats]:
    """Return the product of two matrices of which one is wide, and the sum of its magnitudes.

    An infinite hi has no rest: times the other's, which may be 0, it would be NaN.
    """
    if isinstance(a, DoubleDouble) and isinstance(b, DoubleDouble):
        left = np.concatenate([a.hi, finite(a.hi), a.lo], axis=-1)
        right = np.concatenate([b.hi, b.lo, finite(b.hi)], axis=-2)
        value, size = product(left, right)
        missing = product(a.size, b.error).size + product(a.error, b.size).size
        missing = missing + product(np.abs(a.lo), np.abs(b.lo)).size
    elif isinstance(b, DoubleDouble):
        value, size = product(a, b.hi)
        rest, more = product(finite(a), b.lo)
        value, size = add(value, rest), size + more
        missing = product(a, b.error).size
    else:
        value, size = dot(np.swapaxes(b, -1, -2), a.map(lambda x: np.swapaxes(x, -1, -2)))
        return value.map(lambda x: np.swapaxes(x, -1, -2)), np.swapaxes(size, -1, -2)
    return value._replace(error=up(value.error + missing, 4)), up(size + missing, 4)


def negative(a: DoubleDouble) -> DoubleDouble:
    """Return -a."""
    return DoubleDouble(-a.hi, -a.lo, a.error)


def times(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Return a b, number by number, a block of them at a time."""
    shape = np.broadcast_shapes(a.hi.shape, b.hi.shape)
    out = DoubleDouble(*(np.empty(shape) for _ in range(3)))
    flat = [np.broadcast_to(part, shape).reshape(-1) for part in (*a, *b)]
    whole = [part.reshape(-1) for part in out]
    for start in range(0, flat[0].size, _BLOCK):
        piece = [part[start : start + _BLOCK] for part in flat]
        parts = _times(DoubleDouble(*piece[:3]), DoubleDouble(*piece[3:]))
        for to, part in zip(whole, parts, strict=True):
            to[start : start + _BLOCK] = part
    return out


def _times(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    hi = a.hi * b.hi
    (a1, a2), (b1, b2) = _halves(a.hi), _halves(b.hi)
    lost = a2 * b2 - (((hi - a1 * b1) - a2 * b1) - a1 * b2)
    cross = a.hi * b.lo + a.lo * b.hi
    lo = lost + cross
    error = a.error * b.size + b.error * np.abs(a.hi) + np.abs(a.lo) * (np.abs(b.lo) + b.error)
    error = error + 8 * U * (np.abs(lost) + np.abs(a.hi * b.lo) + np.abs(a.lo * b.hi)) + 8 * TINY
    return _mended(hi, lo, error)


def quotient(a: float, b: DoubleDouble) -> DoubleDouble:
    """Return a / b, for a number a of few bits."""
    hi = a / b.hi
    back = times(DoubleDouble(np.asarray(hi), np.zeros(()), np.zeros(())), b)
    rest = (a - back.hi) - back.lo  # the first difference is exact: the two nearly cancel
    lo = rest / b.hi
    error = (back.error / np.abs(b.hi) + 8 * U * np.abs(lo) + 8 * U * U * np.abs(hi)) * (1 + 8 * U)
    return _mended(np.asarray(hi), np.asarray(lo), np.asarray(error))


def _halves(x: Floats) -> tuple[Floats, Floats]:
    """Return x as a sum of two numbers of 26 bits."""
    scaled = _SPLIT * x
    high = scaled - (scaled - x)
    return high, x - high


def _mended(hi: Floats, lo: Floats, error: Floats) -> DoubleDouble:
    """Return hi + lo; hi alone where numbers were too large for their errors to be known."""
    known = np.isfinite(lo)
    if known.all():
        return DoubleDouble(hi, lo, error)
    return DoubleDouble(hi, np.where(known, lo, 0.0), np.where(known, error, np.inf))


def _growth(roundings: int) -> float:
    return float(np.expm1(roundings * np.log1p(U)))
