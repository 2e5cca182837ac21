"""A norm of rows and how far its results may be off; docs/numerics.md derives the bounds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import FUNCTION, Arithmetic
from gdcore.oracle.numbers.double_double import DoubleDouble, Floats, add, exact, negative, times
from gdcore.oracle.numbers.elementary import divide, reciprocal_sqrt, sum_along
from gdcore.oracle.references import norm_mistakes
from gdcore.oracle.references.axes import Roundings, Rows
from gdcore.oracle.references.centred import Centred
from gdcore.oracle.references.mistakes import Mistakes
from gdcore.oracle.references.reference import Reference, all_finite
from gdcore.oracle.references.reference import make_reference as make

Array = NDArray[Any]
Bound = Callable[[Roundings], Floats]
_ROUNDINGS = 128  # of float64, on the way to a bound, beside those of sums


class Scaled(NamedTuple):
    """Rows x (R, n), what they are multiplied by and added to (n,), and grad_out (R, n)."""

    x: Floats
    w: Floats | None
    b: Floats | None
    g: Floats | None


class Off(NamedTuple):
    """How far numbers on the way may be off.

    Attributes
    ----------
    root : ndarray (R, 1)
        The reciprocal root, relative to itself.
    normed : ndarray (R, n)
        The normalised rows.
    size : ndarray (R, n)
        What they are at most made of, ``(|x| + |mean|) / root``: roundings of sums are
        relative to it where x and mean are scaled apart.
    """

    root: Floats
    normed: Floats
    size: Floats


class NormRows:
    """The normalised rows, and the references made of them."""

    def __init__(
        self,
        centred: bool,
        arithmetic: Arithmetic,
        rows: Rows,
        given: Array,
        eps: float,
        of: Scaled,
    ) -> None:
        self.centred, self.arithmetic, self.rows = centred, arithmetic, rows
        self.eps, self.of = eps, of
        self.given = given
        self.stats = Centred(of.x)
        squares = None if centred else sum_along(times(exact(of.x), exact(of.x)), -1)
        self.d = self.stats.d if centred else exact(of.x)
        self.v = self.stats.variance if squares is None else divide(squares, exact(float(rows.n)))
        self.h = add(self.v, exact(np.full(rows.count, eps)))
        self.r = reciprocal_sqrt(self.h).map(lambda part: part[:, None])
        self.normed = times(self.d, self.r)
        self.finite = all_finite(of.x, of.w, of.b, of.g)
        self.g, self.usual = Roundings(arithmetic), Roundings(arithmetic, typical=True)
        self.weight = np.ones(()) if of.w is None else of.w

    def variance_error(self, g: Roundings) -> Floats:
        """Return how far the variance, or the mean of the squares, is off."""
        if self.centred:
            return self.stats.variance_error(g)
        n, v = self.rows.n, self.v.size
        growth = g(n + 4, 5)
        if g.typical:
            growth = g(n / 3 + 4, 5)
        lost = 2 * g.converted(v)
        off: Floats = growth * v + (1 + growth) * (lost + lost**2) + (n + 4) * g.tiny
        return off

    def off(self, g: Roundings, variance_error: Floats | None = None) -> Off:
        """Return how far root, rows and the like are off."""
        dv = self.variance_error(g) if variance_error is None else variance_error
        h, eps = self.h.hi, self.eps
        dh = dv * (1 + g(2, 2)) + g(2, 2) * h + 2 * g.tiny
        least = np.maximum(h - dh, eps * (1 - g(3, 3)) - 2 * g.tiny)
        wide = np.where(least > 0, np.sqrt(h / np.where(least > 0, least, 1.0)), np.inf)
        root = ((wide - 1) + wide * g.function(3, 2))[:, None]
        mean = self.stats.stored_mean_error(g)[:, None] if self.centred else np.zeros((1, 1))
        x, d, r = np.abs(self.of.x), self.d.size, self.r.size
        made_of = x + np.abs(self.stats.mean.size)[:, None] + mean if self.centred else x
        stores = g(0, 6)
        moved = (mean + g(6) * made_of + g.converted(x)) * (1 + root) * (1 + stores)
        scaled = np.where(d == 0, 0.0, d * (root + stores * (1 + root)))
        normed = r * (moved + scaled) + (2 + made_of) * g.tiny
        return Off(root, normed, r * (1 + root) * made_of)

    def value(self, grad: Any) -> Reference:
        """Return the reference of the result."""
        value, b = self.normed, self.of.b
        if self.of.w is not None:
            value = times(value, exact(self.of.w))
        if b is not None:
            value = add(value, exact(b))
        size = self.normed.size * np.abs(self.weight) + (0.0 if b is None else np.abs(b))

        def bound(g: Roundings) -> Floats:
            normed = self.off(g).normed
            wide = np.abs(self.weight) * (normed + g.converted(self.normed.size + normed))
            if b is not None:
                wide = wide + (g(3, 2) + g(1, 1)) * np.abs(b) + g.converted(np.abs(b))
            off: Floats = wide + (2 + np.abs(self.weight)) * g.tiny
            return off

        return self._make(
            "layer norm" if self.centred else "RMS norm",
            value,
            bound,
            norm_mistakes.of_value(self._plain(), self._lost if self.centred else None),
            size,
            grad=grad,
        )

    def gradient_of_x(self) -> Reference:
        """Return the reference of r (g w - mean(g w) - y mean(g w y)), y the normalised rows."""
        assert self.of.g is not None
        n, y = self.rows.n, self.normed
        gw = exact(self.of.g)
        if self.of.w is not None:
            gw = times(gw, exact(self.of.w))
        sums = sum_along(times(gw, y), -1)
        along = divide(sums, exact(float(n))).map(lambda part: part[:, None])
        inner = add(gw, negative(times(y, along)))
        mean = np.zeros((self.rows.count, 1))
        if self.centred:
            middle = divide(sum_along(gw, -1), exact(float(n))).map(lambda part: part[:, None])
            inner, mean = add(inner, negative(middle)), middle.size
        value = times(inner, self.r)
        size = self.r.size * (gw.size + mean + y.size * along.size)
        bound = partial(self._off_of_x, gw.size, mean, along.size, inner.size)
        return self._make(
            "gradient of x", value, bound, norm_mistakes.of_gradient(self._plain()), size
        )

    def _off_of_x(
        self, gw: Floats, mean: Floats, along: Floats, inner: Floats, g: Roundings
    ) -> Floats:
        """Return how far the gradient of x is off."""
        n, y, off = self.rows.n, self.normed.size, self.off(g)
        share = 1 / sqrt(n) if g.typical else 1.0
        many, sums = share * g(n + 6, 3), share * g(n + 6)

        def average(x: Any) -> Floats:
            mean: Floats = np.mean(x, axis=-1, keepdims=True)
            return mean

        products = average(gw * (y + off.normed))
        off_along = (1 + many) * average(gw * off.normed) + many * products
        off_along = off_along + sums * average(gw * off.size)
        off_along = off_along + 2 * g.converted(products) + n * g.tiny
        most = along + off_along
        off_mean: Any = 0.0
        if self.centred:
            off_mean = many * average(gw) + 2 * g.converted(average(gw)) + n * g.tiny
            passed = average(off.normed) + many * average(y + off.normed)
            off_mean = off_mean + 2 * passed * most
        terms = gw + mean + off_mean + (y + off.normed) * most
        lost = g(8 + 3 * FUNCTION) * (terms + off.size * most) + g(0, 8) * terms
        lost = (
            lost + off_mean + off.normed * most + y * off_along + 2 * g.converted(gw) + 4 * g.tiny
        )
        wide: Floats = self.r.size * ((1 + off.root) * lost + off.root * inner)
        whole: Floats = wide + (2 + terms) * g.tiny
        return whole

    def gradient_of_weight(self) -> Reference:
        """Return the reference of the sum of g y over rows, y the normalised rows."""
        assert self.of.g is not None
        value = sum_along(times(exact(self.of.g), self.normed), 0)
        size = np.abs(self.of.g)
        count, y = self.rows.count, self.normed.size

        def bound(g: Roundings) -> Floats:
            off = self.off(g)
            many, lost = g(count + 3, 3), size * off.normed
            if g.typical:
                lost = np.sqrt((lost**2).sum(0))
                rest = np.sqrt(((size * (y + off.size)) ** 2).sum(0))
                usual: Floats = lost + many * rest + g.stored(np.abs(value.hi))
                return usual
            whole = (1 + many) * (size * off.normed).sum(0) + many * (size * y).sum(0)
            whole = whole + g(count + 3) * (size * off.size).sum(0) + (count + 2) * g.tiny
            off_all: Floats = whole + (1 + many) * g.converted((size * (y + off.normed)).sum(0))
            return off_all

        at_most = (size * (y + self.off(self.g).size)).sum(0)
        mistakes = norm_mistakes.of_weight_gradient(self._plain())
        return self._make("gradient of the weight", value, bound, mistakes, at_most, inner=True)

    def gradient_of_bias(self) -> Reference:
        """Return the reference of the sum of g over rows."""
        assert self.of.g is not None
        columns = np.ascontiguousarray(self.of.g.T)
        value = sum_along(exact(columns), -1)
        size = np.abs(columns).sum(-1)

        def bound(g: Roundings) -> Floats:
            stores = 0.0 if g.typical else g(0, 2)
            lost = g.sum(columns, value.hi) + stores * size + g.converted(size)
            off: Floats = lost * (1 + stores) + g.stored(np.abs(value.hi) if g.typical else 0.0)
            return off

        mistakes = norm_mistakes.of_bias_gradient(self._plain())
        return self._make("gradient of the bias", value, bound, mistakes, size, inner=True)

    def _make(
        self, name: str, value: DoubleDouble, bound: Bound, mistakes: Mistakes, size: Any,
        inner: bool = False, grad: Any = None,
    ) -> Reference:  # fmt: skip
        """Return a reference in the shape of x, or of the weight."""

        def placed(part: Any) -> Array:
            whole: Array = np.broadcast_to(part, value.hi.shape)
            return whole.reshape(self.rows.inner) if inner else self.rows.back(whole)

        if not inner:
            most = np.maximum(np.broadcast_to(size, value.hi.shape), self._largest())
        else:
            most = np.maximum(size, np.max(self._largest(), axis=0, initial=0.0))
        return make(
            name,
            value.map(placed),
            placed(bound(self.g)),
            2 * (self.rows.n + self.rows.count) + _ROUNDINGS,
            self.arithmetic,
            mistakes,
            size=placed(most),
            stored=False,
            finite_inputs=self.finite,
            typical=lambda: placed(bound(self.usual)),
            grad=grad,
        )

    def _largest(self) -> Floats:
        """Return the largest partial sum on the way to the variance (R, 1)."""
        if self.centred:
            return self.stats.largest(self.g)[:, None]
        size: Floats = self.rows.n * self.v.size * (1 + self.g(self.rows.n + 4))
        return size[:, None]

    def _lost(self) -> Array:
        """Return how far the result may be off with a variance of one pass."""
        g = self.g
        off = self.off(g, self.stats.one_pass_error(g)).normed * np.abs(self.weight)
        if self.of.b is not None:
            off = off + g(4, 3) * np.abs(self.of.b)
        return self.rows.back(off)

    def _plain(self) -> norm_mistakes.Plain:
        of = self.of
        return norm_mistakes.Plain(
            self.rows, self.given, of.x, of.w, of.b, of.g, self.eps, self.centred
        )
