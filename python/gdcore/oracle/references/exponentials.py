"""Exponentials along rows, their sum, shares and logarithms, and how far roundings may take them.

docs/numerics.md, "Softmax and cross-entropy", derives each bound, under the names used here.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from gdcore.oracle.numbers.arithmetic import FUNCTION, Arithmetic, Format
from gdcore.oracle.numbers.double_double import DoubleDouble, Floats, add, exact, negative
from gdcore.oracle.numbers.elementary import divide, exp, log, sum_along, where

EXP_LOG = FUNCTION  # half ulps that exp, exp2, log, log1p and log2 may be off by,
EXP_LOG_16 = 2.0  # and in 16 bits, where they are results of float32, rounded
_SPARE = 2.0**-10  # share of a rounding that flushed exponentials may add without a shift
_NAN = DoubleDouble(np.asarray(np.nan), np.zeros(()), np.zeros(()))


class Exponentials:
    """Rows x (R,n), in float64, the exact numbers of their softmax, and bounds of its roundings.

    Rows of which the largest element is not finite have none: `known` (R,1) is False there.
    """

    def __init__(self, arithmetic: Arithmetic, x: Floats) -> None:
        self.arithmetic, self.unit = arithmetic, arithmetic.store.unit
        self.sum_unit = arithmetic.sums.unit  # TF32 concerns products alone
        self.off = _off(arithmetic.store)  # c
        self.final = arithmetic.final
        self.count = x.shape[1]
        with np.errstate(all="ignore"):
            self.largest = np.max(x, axis=1, keepdims=True, initial=-np.inf)
            self.known = np.isfinite(self.largest)
            self.x = np.where(self.known, x, 0.0)
            self.shift = np.where(self.known, self.largest, 0.0)
            self.gap = _settled(add(exact(self.x), negative(exact(self.shift))))
            self.vanish = self.gap.hi == -np.inf
            self.e = exp(self.gap)
            self.total = sum_along(self.e, 1).map(lambda part: part[:, None])
            self.log_total = log(self.total)

    # exact numbers

    @cached_property
    def p(self) -> DoubleDouble:
        """Softmax (R,n)."""
        return where(self.known, divide(self.e, self.total), _NAN)

    @cached_property
    def lse(self) -> DoubleDouble:
        """Logarithm of the sum of the exponentials (R,1)."""
        return where(self.known, add(exact(self.shift), self.log_total), exact(self.largest))

    @cached_property
    def z(self) -> DoubleDouble:
        """Logarithm of softmax (R,n)."""
        return where(self.known, _settled(add(self.gap, negative(self.log_total))), _NAN)

    # bounds of roundings

    def roundings(self, k: float, stores: float = 0) -> float:
        """Return how far k roundings, and more of what is stored, move a number of 1."""
        return self.arithmetic.growth(0, k + stores * self.final)

    @cached_property
    def size(self) -> Floats:
        """|x| + |m|, 0 where the exponential vanishes (R,n)."""
        return np.where(self.vanish, 0.0, np.abs(self.x) + np.abs(self.shift))

    @cached_property
    def distance(self) -> Floats:
        """Distance m - x, 0 where the exponential vanishes (R,n)."""
        return np.where(self.vanish, 0.0, -self.gap.hi)

    @cached_property
    def exponent(self) -> Floats:
        """Bound d of the error of an exponent, however it is formed (R,n)."""
        u, converted = self.unit, self.arithmetic.converted
        given = converted * u * self.size if converted else np.zeros(())
        d: Floats = self.roundings(3) * (self.distance + given) + given
        return d + u * (1 + u) ** 3 * self.size

    @cached_property
    def rescalings(self) -> Floats:
        """Number of different elements of the row above each one (R,n)."""
        order = np.argsort(-self.x, axis=1, kind="stable")
        falling = np.take_along_axis(self.x, order, 1)
        steps = np.zeros(self.x.shape)
        steps[:, 1:] = np.cumsum(falling[:, 1:] < falling[:, :-1], axis=1)
        ranks = np.empty(self.x.shape)
        np.put_along_axis(ranks, order, steps, 1)
        return ranks

    @cached_property
    def function(self) -> float:
        """Largest |log(1 + e)| for an exponential or logarithm that is off by e."""
        return _path(self.off * self.unit)

    @cached_property
    def flush(self) -> Floats:
        """What may be lost of an exponential that is not a normal number, as e^(x - m) (R,1).

        An unshifted one loses e^-m times that; such rows count as right while that is little.
        """
        lost = self.least
        unshifted = lost * np.exp(np.minimum(-self.shift, 700.0))
        return np.where(unshifted <= _SPARE * self.unit, np.maximum(lost, unshifted), lost)

    @property
    def least(self) -> float:
        """What may be lost of a number near 0, an exponential in float16 included."""
        store = self.arithmetic.store
        return self.off * store.vanishing if store.most == 16 else store.vanishing

    @cached_property
    def of_total(self) -> Floats:
        """Bound of |log| of the computed sum over the exact one (R,1)."""
        u, v, n = self.unit, self.sum_unit, self.count
        once = _path(_off(self.arithmetic.sums) * v) + _path(v)
        added = max(n - 1, 0) * _path(v) + 2 * self.final * _path(u)
        path = self.exponent + self.function + self.rescalings * once + added
        share = np.where(self.vanish, 0.0, self.spread(path)).sum(axis=1, keepdims=True)
        steps = self.rescalings.max(axis=1, keepdims=True, initial=0.0)
        lost = 2 * n * self.flush / self.total.hi * np.exp(added + steps * once)
        log_share = np.log1p(share)
        lost = lost * np.exp(log_share)
        of_total: Floats = log_share - np.log1p(-np.where(lost < 1, lost, np.nan))
        return of_total

    def spread(self, path: Floats) -> Floats:
        """Return p (e^path - 1), rounded up where that is large (R,n).

        A probability computed as more than a quarter of the largest number counts as wrong.
        """
        most = np.log(self.arithmetic.store.largest) - 2
        p, z = self.p.hi, self.z.hi
        spread: Floats = np.where(path < 1, p * np.expm1(path), np.exp(np.minimum(z + path, most)))
        return spread

    @cached_property
    def of_log_total(self) -> Floats:
        """Bound of the error of log(sum), but for its own last rounding (R,1)."""
        log_total = self.log_total.hi
        own = self.off * self.unit * (log_total + self.of_total)
        return self.of_total + own + self.roundings(2) * log_total

    @cached_property
    def of_lse(self) -> Floats:
        """Bound of the error of the logarithm of the sum (R,1)."""
        given = self.of_log_total + self.roundings(2) * np.abs(self.shift)
        own = self.roundings(self.off + 2, 1) * np.abs(self.lse.hi)
        return (1 + self.roundings(3)) * given + own + self.least

    @cached_property
    def of_z(self) -> Floats:
        """Bound of the error of the logarithm of softmax (R,n)."""
        of_lse = self.roundings(self.off + 2, 1) * np.abs(self.lse.hi)
        given = self.exponent + self.of_log_total + of_lse
        own = self.roundings(4, 2) * np.where(self.vanish, 0.0, np.abs(self.z.hi))
        return (1 + self.roundings(4)) * given + own + self.least

    @cached_property
    def of_p(self) -> Floats:
        """Bound of the error of softmax (R,n)."""
        u = self.unit
        once = self.function + _path(u)
        divided = self.exponent + self.function + np.minimum(self.rescalings, 1) * once
        divided = divided + 3 * _path(u) + self.of_total
        path = np.maximum(divided, self.of_z + self.function) + self.final * _path(u)
        lost = 2 * self.flush / self.total.hi * np.exp(self.of_total + 8 * _path(u)) + self.least
        return np.where(self.vanish, 0.0, self.spread(path) + lost)

    # usual errors

    @cached_property
    def usual_total(self) -> Floats:
        """Usual relative error of the sum, its largest element subtracted first (R,1)."""
        spread = np.where(self.vanish, 0.0, self.p.hi * self.distance**2)
        steps = self.unit * np.sqrt(spread.sum(axis=1, keepdims=True))
        usual: Floats = steps + self.sum_unit * np.sqrt(self.count / 3 + 1)
        return usual

    @cached_property
    def usual_lse(self) -> Floats:
        """Usual error of the logarithm of the sum (R,1)."""
        logs = np.abs(self.lse.hi) + self.log_total.hi
        converted = self._converted(np.abs(self.shift))
        usual: Floats = self.usual_total + self.unit * logs + converted
        return usual

    @cached_property
    def usual_z(self) -> Floats:
        """Usual error of the logarithm of softmax (R,n)."""
        z = np.where(self.vanish, 0.0, np.abs(self.z.hi))
        logs = z + self.distance + self.log_total.hi
        usual: Floats = self.usual_total + self.unit * logs + self._converted(self.size)
        return usual

    @cached_property
    def usual_p(self) -> Floats:
        """Usual error of softmax (R,n)."""
        own = self.unit * (2 + self.distance) + self._converted(self.size)
        usual: Floats = self.p.hi * (self.usual_total + own)
        return usual

    def _converted(self, size: Floats) -> Any:
        """Return what operands that are rounded first add to a usual error."""
        converted = self.arithmetic.converted
        return converted * self.unit * size if converted else 0.0


def _off(store: Format) -> float:
    """Return how many half ulps a library's exponentials and logarithms may be off by."""
    return EXP_LOG_16 if store.bits <= 11 else EXP_LOG


def _path(unit: float) -> float:
    """Return the largest |log(1 + e)|, |e| <= unit."""
    return float(-np.log1p(-unit))


def _settled(x: DoubleDouble) -> DoubleDouble:
    """Return numbers whose -inf is exact."""
    lowest = x.hi == -np.inf
    return DoubleDouble(x.hi, np.where(lowest, 0.0, x.lo), np.where(lowest, 0.0, x.error))
