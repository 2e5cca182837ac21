"""Constants in more than float64, from 80 decimal digits."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from math import factorial, floor

from gdcore.oracle.numbers.pairs import Pair

_DIGITS = 80
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
TRAPEZOID = 11 / 32  # width h of the strips in which erfc is integrated


def pair(x: Fraction | Decimal) -> Pair:
    """Return a number as a pair."""
    whole = Fraction(x)
    hi = float(whole)
    return Pair(hi, float(whole - Fraction(hi)))


@cache
def log_2() -> tuple[float, float, float]:
    """Return log 2 in three parts, the first two of 42 bits: times an integer of 11 is exact."""
    with localcontext(prec=_DIGITS):
        rest = Fraction(Decimal(2).ln())
    first = Fraction(floor(rest * 2**42), 2**42)
    second = Fraction(floor((rest - first) * 2**84), 2**84)
    return float(first), float(second), float(rest - first - second)


@cache
def pi() -> Pair:
    """Return pi."""
    return pair(_PI)


@cache
def inverse_factorials() -> list[Pair]:
    """Return 1/n! for n = 0, 1, …, 9."""
    return [pair(Fraction(1, factorial(n))) for n in range(10)]


@cache
def erf_series() -> list[Pair]:
    """Return the coefficients of x, x³, x⁵, … of erf: 2/sqrt(pi) (-1)^n / (n! (2n + 1))."""
    with localcontext(prec=_DIGITS):
        factor = Fraction(2 / _PI.sqrt())
    return [pair(factor * Fraction((-1) ** n, factorial(n) * (2 * n + 1))) for n in range(22)]


@cache
def erfc_weights() -> list[tuple[float, Pair]]:
    """Return (k h)² and the weight h/pi e^(-(k h)²), for k = 0, and twice that for k = 1, …, 26."""
    found = []
    with localcontext(prec=_DIGITS):
        for k in range(27):
            square = Decimal((k * TRAPEZOID) ** 2)  # exact
            weight = Decimal(TRAPEZOID) / _PI * (-square).exp()
            found.append((float(square), pair(weight * (2 if k else 1))))
    return found
