"""Arithmetic of pairs hi + lo, |lo| at most half an ulp of hi, that loses a few u² a step.

u is 2^-53, and a bound is relative to the result, where nothing over- or underflows: 3 u² for a
sum, 5 u² for a product, 15 u² for a quotient (Joldes, Muller and Popescu 2017, "Tight and rigorous
error bounds for basic building blocks of double-word arithmetic", algorithms 6, 10 and 17).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_SPLIT = 2.0**27 + 1


class Pair(NamedTuple):
    """hi + lo: arrays that broadcast to one shape, or numbers."""

    hi: Any
    lo: Any


def exact_sum(a: Any, b: Any) -> Pair:
    """Return a + b, nothing lost (Knuth)."""
    hi = a + b
    z = hi - a
    return Pair(hi, (a - (hi - z)) + (b - z))


def quick_sum(a: Any, b: Any) -> Pair:
    """Return a + b, nothing lost, for |a| at least |b| (Dekker)."""
    hi = a + b
    return Pair(hi, b - (hi - a))


def exact_product(a: Any, b: Any) -> Pair:
    """Return a b, nothing lost, for numbers below 2^996 (Dekker)."""
    hi = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return Pair(hi, a2 * b2 - (((hi - a1 * b1) - a2 * b1) - a1 * b2))


def plus(a: Pair, b: Pair) -> Pair:
    """Return a + b."""
    high, low = exact_sum(a.hi, b.hi), exact_sum(a.lo, b.lo)
    near = quick_sum(high.hi, high.lo + low.hi)
    return quick_sum(near.hi, low.lo + near.lo)


def by(a: Pair, b: Pair) -> Pair:
    """Return a b."""
    high = exact_product(a.hi, b.hi)
    return quick_sum(high.hi, high.lo + (a.hi * b.lo + a.lo * b.hi))


def over(a: Pair, b: Pair) -> Pair:
    """Return a / b."""
    hi = a.hi / b.hi
    near = exact_product(hi, b.hi)
    back = quick_sum(near.hi, near.lo + hi * b.lo)
    return quick_sum(hi, ((a.hi - back.hi) + (a.lo - back.lo)) / b.hi)


def root(a: Pair) -> Pair:
    """Return the root, off by at most 4 u² of it.

    With y the root of hi, correctly rounded, r = a - y² is at most 3 u a: what r / 2y leaves out
    is r² / 8y³, 9/8 u² of the root, and rounding it loses 3/2 u · 2 u.
    """
    hi = np.sqrt(a.hi)
    square = exact_product(hi, hi)
    return quick_sum(hi, ((a.hi - square.hi) + (a.lo - square.lo)) / (2 * hi))


def minus(a: Pair) -> Pair:
    """Return -a."""
    return Pair(-a.hi, -a.lo)


def shifted(a: Pair, exponent: Any) -> Pair:
    """Return a 2^exponent."""
    return Pair(np.ldexp(a.hi, exponent), np.ldexp(a.lo, exponent))


def chosen(where: Any, a: Pair, b: Pair) -> Pair:
    """Return a where a condition holds, b elsewhere."""
    return Pair(np.where(where, a.hi, b.hi), np.where(where, a.lo, b.lo))


def _halves(x: Any) -> tuple[Any, Any]:
    """Return x as a sum of two numbers of 26 bits."""
    scaled = _SPLIT * x
    high = scaled - (scaled - x)
    return high, x - high
