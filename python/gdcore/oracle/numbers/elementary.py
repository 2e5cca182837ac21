"""Elementary functions in twice the precision of float64, each with a bound of its own error.

Each function takes and returns `DoubleDouble` numbers. Its own error is at most 2^-98 of the
result (256 u², u = 2^-53), or 2^-1072 where results are subnormal; what the arguments are off by
is carried to the result by the steepest slope within that error. An infinite
`error` says that nothing is known: beyond a pole, an overflow, an argument of unknown error.
NaN and infinities that are exact come with an error of 0. Nothing warns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers import constants
from gdcore.oracle.numbers.double_double import TINY, DoubleDouble, up
from gdcore.oracle.numbers.pairs import (
    Pair,
    by,
    chosen,
    exact_product,
    exact_sum,
    minus,
    over,
    plus,
    quick_sum,
    root,
    shifted,
)

OWN = 2.0**-98  # error of a function, relative to its result
_SUM = 4 * 2.0**-106
_BLOCK = 1 << 13  # numbers worked on at a time: they stay in a cache
_SMALL = 2.0**-110  # x, so that x² and what follows of a series is below the precision of a pair
_HALVINGS = 9
_ONE = Pair(1.0, 0.0)
_ROUGH = 1 + 2.0**-40  # more than a float64 function of any library is off by
Kernel = Callable[..., tuple[Pair, Any]]


def exp(x: DoubleDouble) -> DoubleDouble:
    """Return e^x."""
    return _by_blocks(_exp, x)


def expm1(x: DoubleDouble) -> DoubleDouble:
    """Return e^x - 1, near 0 too."""
    return _by_blocks(_expm1, x)


def log(x: DoubleDouble) -> DoubleDouble:
    """Return the natural logarithm, near 1 too; NaN below 0."""
    return _by_blocks(_log, x)


def log1p(x: DoubleDouble) -> DoubleDouble:
    """Return log(1 + x), near 0 too; NaN below -1."""
    return _by_blocks(_log1p, x)


def sqrt(x: DoubleDouble) -> DoubleDouble:
    """Return the root; NaN below 0, where the exact argument is taken not to be."""
    return _by_blocks(_sqrt, x)


def reciprocal_sqrt(x: DoubleDouble) -> DoubleDouble:
    """Return 1 / sqrt(x)."""
    return _by_blocks(_reciprocal_sqrt, x)


def divide(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Return a / b, number by number."""
    return _by_blocks(_divide, a, b)


def erfc(x: DoubleDouble) -> DoubleDouble:
    """Return 1 - erf(x), to the same relative error where it nearly vanishes."""
    return _by_blocks(_erfc, x)


def tanh(x: DoubleDouble) -> DoubleDouble:
    """Return the hyperbolic tangent, near 0 too."""
    return _by_blocks(_tanh, x)


def where(condition: Any, a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Return a where a condition holds, b elsewhere."""
    return DoubleDouble(*(np.where(condition, p, q) for p, q in zip(a, b, strict=True)))


def sum_along(a: DoubleDouble, axis: int) -> DoubleDouble:
    """Return the sum along an axis, which goes: halves are added until one number is left."""
    parts = [np.moveaxis(np.broadcast_to(part, a.hi.shape), axis, 0) for part in a]
    if not parts[0].shape[0]:
        return DoubleDouble(*(np.zeros(parts[0].shape[1:]) for _ in range(3)))
    with np.errstate(all="ignore"):
        total, error = exact_sum(parts[0], parts[1]), parts[2]
        total = Pair(total.hi, np.where(np.isfinite(total.hi), total.lo, 0.0))
        while len(total.hi) > 1:
            half, odd = divmod(len(total.hi), 2)
            left, right = slice(0, half), slice(half, 2 * half)
            both = plus(Pair(*(p[left] for p in total)), Pair(*(p[right] for p in total)))
            plain = total.hi[left] + total.hi[right]
            settled = ~np.isfinite(plain)
            both = chosen(settled, Pair(plain, 0.0), both)
            exactly = ~np.isfinite(total.hi[left]) | ~np.isfinite(total.hi[right])
            lost = np.where(settled, np.where(exactly, 0.0, np.inf), _SUM * np.abs(both.hi))
            sums = up(error[left] + error[right] + lost, 4)
            if odd:
                both = Pair(
                    *(np.concatenate([b, p[-1:]]) for b, p in zip(both, total, strict=True))
                )
                sums = np.concatenate([sums, error[-1:]])
            total, error = both, sums
    return DoubleDouble(total.hi[0], total.lo[0], error[0])


def _by_blocks(kernel: Kernel, *operands: DoubleDouble) -> DoubleDouble:
    """Return a function of each number; a kernel gets a pair and an error for each operand."""
    shape = np.broadcast_shapes(*(part.shape for x in operands for part in x))
    flat = [np.broadcast_to(part, shape).reshape(-1) for x in operands for part in x]
    out = DoubleDouble(*(np.empty(flat[0].size) for _ in range(3)))
    with np.errstate(all="ignore"):
        for start in range(0, flat[0].size, _BLOCK):
            piece = slice(start, start + _BLOCK)
            given: list[Any] = []
            for hi, lo, error in zip(*(iter(part[piece] for part in flat),) * 3, strict=True):
                whole = exact_sum(hi, lo)
                rest = np.where(np.isfinite(whole.hi), whole.lo, 0.0)
                given += [Pair(whole.hi, rest), error]
            value, error = kernel(*given)
            for to, part in zip(out, (*value, error), strict=True):
                to[piece] = part
    return out.map(lambda part: part.reshape(shape))


def _closed(
    value: Pair, propagated: Any, special: Any, plain: Any, inexact: Any, own: float = OWN
) -> tuple[Pair, Any]:
    """Return a result and its error; `plain` where an argument is special.

    A special result is exact unless an argument is not. Elsewhere a result that is not finite has
    overflowed, and nothing is known of it.
    """
    value = exact_sum(value.hi, value.lo)
    finite = np.isfinite(value.hi) & np.isfinite(value.lo)
    error = up(propagated + own * np.abs(value.hi) + 4 * TINY, 6)
    error = np.where(finite & ~np.isnan(error), error, np.inf)
    error = np.where(special, np.where(inexact, np.inf, 0.0), error)
    hi = np.where(special, plain, value.hi)
    return Pair(hi, np.where(special | ~finite, 0.0, value.lo)), error


def _grown(x: Pair) -> Pair:
    """Return e^x - 1 for |x| up to 0.36, off by at most 62 u² of it.

    Of x / 512 it is the series, 8 u² off with what is left out; then, 9 times, of twice the
    number: 2 e + e², each 5 u² and 3 u² more, which the slope of the rest raises by up to 1.2.
    """
    t = Pair(x.hi / 2**_HALVINGS, x.lo / 2**_HALVINGS)
    factors = constants.inverse_factorials()
    rest = np.zeros_like(t.hi)
    for n in (9, 8, 7, 6):
        rest = rest * t.hi + factors[n].hi
    total = Pair(rest, 0.0)
    for n in (5, 4, 3, 2):
        total = plus(by(total, t), factors[n])
    e = plus(t, by(by(t, t), total))
    for _ in range(_HALVINGS):
        e = plus(Pair(2 * e.hi, 2 * e.lo), by(e, e))
    return e


def _reduced(x: Pair, more: Any = 0.0) -> tuple[Pair, NDArray[np.int64]]:
    """Return r and an integer k with x + more = k log 2 + r, r being off by at most 8 u².

    k times each of the first two parts of log 2 is exact, and so is their difference from x.
    """
    first, second, third = constants.log_2()
    k = np.rint(x.hi / first)
    r = exact_sum(x.hi, -k * first)
    r = plus(r, exact_sum(x.lo, -k * second))
    r = plus(r, exact_sum(more, -k * third))
    return r, k.astype(np.int64)


def _power(x: Pair, more: Any = 0.0) -> tuple[Pair, NDArray[np.int64]]:
    """Return a pair p near 1 and an integer k with e^(x + more) = p 2^k, off by 64 u² of it."""
    r, k = _reduced(x, more)
    return plus(_grown(r), _ONE), k


def _within(x: Pair, least: float, most: float) -> Pair:
    """Return x, or the limit that is nearest."""
    hi = np.clip(x.hi, least, most)
    return Pair(hi, np.where(hi == x.hi, x.lo, 0.0))


def _exp(x: Pair, error: Any) -> tuple[Pair, Any]:
    special = ~np.isfinite(x.hi)
    p, k = _power(_within(chosen(special, _ONE, x), -800.0, 800.0))
    value = shifted(p, k)
    return _closed(value, _slope_of_exp(x, error), special, np.exp(x.hi), error > 0)


def _slope_of_exp(x: Pair, error: Any) -> Any:
    """Return how far e^x may be off: e^(x + error) (1 - e^-error)."""
    off = np.exp(x.hi + error) * -np.expm1(-error) * _ROUGH
    return np.where(error > 0, off + 2 * TINY, 0.0)


def _expm1_of(x: Pair) -> Pair:
    """Return e^x - 1 for finite numbers of at most 800."""
    p, k = _power(x)
    far = plus(shifted(p, k), Pair(-1.0, 0.0))
    near = chosen(np.abs(x.hi) < _SMALL, x, _grown(_within(x, -0.36, 0.36)))
    return chosen(np.abs(x.hi) < 0.35, near, far)


def _expm1(x: Pair, error: Any) -> tuple[Pair, Any]:
    special = ~np.isfinite(x.hi)
    safe = _within(chosen(special, _ONE, x), -800.0, 800.0)
    value = _expm1_of(safe)
    return _closed(value, _slope_of_exp(x, error), special, np.expm1(x.hi), error > 0)


def _log1p_near(x: Pair) -> tuple[Pair, Any]:
    """Return log(1 + x) for x from -0.3 to 0.42, and what it leaves out.

    With any y near it, log(1 + x) = y + log(1 + d), d = x + e^-y - 1 + x (e^-y - 1); the series of
    the last logarithm leaves out less than |d|³.
    """
    guess = Pair(np.log1p(x.hi), 0.0)
    back = _grown(minus(guess))
    d = plus(plus(x, back), by(x, back))
    value = plus(plus(guess, d), Pair(-d.hi * d.hi / 2, 0.0))
    tiny = np.abs(x.hi) < _SMALL
    return chosen(tiny, x, value), np.where(tiny, 0.0, np.abs(d.hi) ** 3)


def _log_of(x: Pair) -> tuple[Pair, Any]:
    """Return log x for finite x > 0, and what it leaves out."""
    mantissa, k = np.frexp(x.hi)
    low = mantissa < np.sqrt(0.5)
    k = k - low
    m = shifted(x, -k)
    near, left_out = _log1p_near(plus(m, Pair(-1.0, 0.0)))
    first, second, third = constants.log_2()
    k = k.astype(np.float64)
    whole = plus(exact_sum(k * first, k * second), Pair(k * third, 0.0))
    return plus(whole, near), left_out


def _slope_of_log(error: Any, x: Any) -> Any:
    """Return how far log x may be off for an x that is off by at most `error`."""
    share = error / np.abs(x) * _ROUGH
    return np.where(share < 1, -np.log1p(-share) * _ROUGH, np.inf)


def _log(x: Pair, error: Any) -> tuple[Pair, Any]:
    special = ~((x.hi > 0) & (x.hi < np.inf))
    safe = chosen(special, _ONE, x)
    value, left_out = _log_of(safe)
    propagated = left_out + _slope_of_log(error, safe.hi)
    return _closed(value, propagated, special, np.log(x.hi), error > 0)


def _log1p(x: Pair, error: Any) -> tuple[Pair, Any]:
    whole = plus(chosen(np.isfinite(x.hi), x, _ONE), _ONE)
    plain = np.where(whole.hi < 0, np.nan, np.log1p(x.hi))
    special = ~(np.isfinite(x.hi) & (whole.hi > 0))
    whole = chosen(special, _ONE, whole)
    far, far_out = _log_of(whole)
    close = np.abs(x.hi) < 0.29
    near, near_out = _log1p_near(chosen(close, x, Pair(0.0, 0.0)))
    value = chosen(close, near, far)
    propagated = np.where(close, near_out, far_out) + _slope_of_log(error, whole.hi)
    return _closed(value, propagated, special, plain, error > 0)


def _root_of(x: Pair) -> tuple[Pair, NDArray[np.int64]]:
    """Return a pair p and an integer k with p 2^k the root, for finite x > 0."""
    _, k = np.frexp(x.hi)
    half = np.asarray(k // 2, np.int64)
    return root(shifted(x, -2 * half)), half


def _sqrt(x: Pair, error: Any) -> tuple[Pair, Any]:
    special = ~((x.hi > 0) & (x.hi < np.inf))
    value = shifted(*_root_of(chosen(special, _ONE, x)))
    share = error / np.sqrt(np.abs(x.hi))
    propagated = np.where(error <= x.hi, share, np.sqrt(np.abs(x.hi) + error)) * _ROUGH
    propagated = np.where(error > 0, propagated, 0.0)
    result, total = _closed(value, propagated, special, np.sqrt(x.hi), error > 0)
    return result, np.where(x.hi == 0, up(np.sqrt(error), 4), total)


def _reciprocal_sqrt(x: Pair, error: Any) -> tuple[Pair, Any]:
    special = ~((x.hi > 0) & (x.hi < np.inf))
    safe = chosen(special, _ONE, x)
    p, k = _root_of(safe)
    value = shifted(over(_ONE, p), -k)
    slope = np.expm1(_slope_of_log(error, safe.hi) / 2) * _ROUGH
    propagated = np.where(error > 0, np.abs(value.hi) * slope, 0.0)
    return _closed(value, propagated, special, 1 / np.sqrt(x.hi), error > 0)


def _divide(a: Pair, a_error: Any, b: Pair, b_error: Any) -> tuple[Pair, Any]:
    special = ~(np.isfinite(a.hi) & np.isfinite(b.hi) & (b.hi != 0))
    a_safe, b_safe = chosen(special, _ONE, a), chosen(special, _ONE, b)
    _, m = np.frexp(a_safe.hi)
    _, n = np.frexp(b_safe.hi)
    value = over(shifted(a_safe, -m), shifted(b_safe, -n))
    value = shifted(value, m.astype(np.int64) - n)
    room = np.abs(b_safe.hi) * (1 - 2.0**-50) - b_error
    size = np.abs(value.hi) * _ROUGH + 2 * TINY
    off = (a_error / room + TINY + size * (b_error / room + TINY)) * _ROUGH
    propagated = np.where(room > 0, off, np.inf)
    propagated = np.where((a_error > 0) | (b_error > 0), propagated, 0.0)
    return _closed(value, propagated, special, a.hi / b.hi, (a_error > 0) | (b_error > 0))


def _erf_near(x: Pair) -> Pair:
    """Return erf x for |x| below 0.5, by its series."""
    square = by(x, x)
    total = Pair(np.zeros_like(x.hi), 0.0)
    for coefficient in reversed(constants.erf_series()):
        total = plus(by(total, square), coefficient)
    return by(x, total)


def _erfc_far(x: Pair) -> Pair:
    """Return erfc x for 0.5 <= x <= 28, off by 180 u² of it.

    erfc x = e^(-x²) x/pi times the integral of e^(-t²) / (t² + x²) over all t, here by the
    trapezoidal rule with strips of width h; 2 / (1 - e^(2 pi x / h)) is what the poles at ±ix add
    to it (Chiarella and Reichel 1968, "On the evaluation of integrals related to the error
    function"). Along a line at height a = pi/h ± 1, on the side of the pole that x is not, the
    rest of its error is below 2 e^(1 - (pi/h)²) (x² + 1/2) / |x² - a²| < 2^-115 of the integral;
    terms beyond k h = 8.9 are less.
    """
    square = exact_product(x.hi, x.hi)
    cross, rounding = exact_product(2 * x.hi, x.lo)
    near = exact_sum(square.lo, cross)
    head = exact_sum(square.hi, near.hi)
    tail = near.lo + rounding + x.lo * x.lo
    p, k = _power(minus(head), -tail)
    whole = quick_sum(head.hi, head.lo + tail)
    total = Pair(np.zeros_like(x.hi), 0.0)
    for at, weight in reversed(constants.erfc_weights()):
        total = plus(total, over(weight, plus(whole, Pair(at, 0.0))))
    value = shifted(by(by(p, x), total), k)
    turns = by(constants.pi(), Pair(2 * x.hi, 2 * x.lo))
    turns = over(turns, Pair(constants.TRAPEZOID, 0.0))
    pole = over(Pair(2.0, 0.0), _expm1_of(_within(turns, 1.0, 700.0)))
    below = x.hi < np.pi / constants.TRAPEZOID
    return plus(value, chosen(below, minus(pole), Pair(0.0, 0.0)))


def _erfc(x: Pair, error: Any) -> tuple[Pair, Any]:
    special = ~np.isfinite(x.hi)
    safe = chosen(special, _ONE, x)
    size = chosen(safe.hi < 0, minus(safe), safe)
    near = plus(_ONE, minus(_erf_near(_within(safe, -0.5, 0.5))))
    far = _erfc_far(_within(size, 0.5, 28.0))
    far = chosen(safe.hi < 0, plus(Pair(2.0, 0.0), minus(far)), far)
    value = chosen(size.hi < 0.5, near, far)
    least = np.maximum(size.hi * (1 - 2.0**-50) - error, 0.0)
    slope = 2 / np.sqrt(np.pi) * np.exp(-least * least) * _ROUGH + TINY
    propagated = np.where(error > 0, np.minimum(error, 1e300) * slope, 0.0)
    plain = np.where(np.isnan(x.hi), np.nan, np.where(x.hi > 0, 0.0, 2.0))
    return _closed(value, propagated, special, plain, error > 0)


def _tanh(x: Pair, error: Any) -> tuple[Pair, Any]:
    """Return -t / (2 + t) with t = e^(-2 |x|) - 1, and the sign of x."""
    special = ~np.isfinite(x.hi)
    safe = chosen(special, _ONE, x)
    double = Pair(-2 * np.abs(safe.hi), np.where(safe.hi < 0, 2 * safe.lo, -2 * safe.lo))
    t = _expm1_of(_within(double, -800.0, 0.0))
    value = over(minus(t), plus(t, Pair(2.0, 0.0)))
    value = chosen(safe.hi < 0, minus(value), value)
    value = chosen(np.abs(safe.hi) < _SMALL, safe, value)
    least = np.maximum(np.abs(safe.hi) * (1 - 2.0**-50) - error, 0.0)
    slope = np.minimum(4 * np.exp(-2 * np.minimum(least, 400.0)), 1.0) * _ROUGH
    propagated = np.where(error > 0, error * slope, 0.0)
    return _closed(value, propagated, special, np.tanh(x.hi), error > 0)
