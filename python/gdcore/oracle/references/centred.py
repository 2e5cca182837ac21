"""Mean and variance of rows, and how far any usual way to compute them may be off.

docs/numerics.md derives the bounds, line by line.
"""

from __future__ import annotations

from functools import cached_property
from math import log, log2, sqrt

import numpy as np

from gdcore.oracle.numbers.double_double import Floats, add, exact, negative, times
from gdcore.oracle.numbers.elementary import divide, sum_along
from gdcore.oracle.references.axes import Roundings, root_mean_square


class Centred:
    """Rows (R, n), their mean, their deviations from it, and their variance (divided by n)."""

    def __init__(self, x: Floats) -> None:
        self.x, self.n = x, x.shape[-1]
        self.total = sum_along(exact(x), -1)
        self.mean = divide(self.total, exact(float(self.n)))
        self.d = add(exact(x), negative(self.mean.map(lambda part: part[:, None])))
        self.squares = sum_along(times(self.d, self.d), -1)
        self.variance = divide(self.squares, exact(float(self.n)))

    @cached_property
    def absolute(self) -> Floats:
        """Mean of the magnitudes (R,)."""
        mean: Floats = np.abs(self.x).mean(-1)
        return mean

    @cached_property
    def quadratic(self) -> Floats:
        """Root of the mean of the squares (R,)."""
        return root_mean_square(self.x)

    def mean_error(self, g: Roundings) -> Floats:
        """Return how far the mean is off before it is stored: sums, Welford's or Chan's updates.

        Sums have n + 2 roundings in a row at most; Welford's updates n + 2 (1 + log n).
        """
        more = 6 + 2 * log(self.n) + (self.n > 2**g.arithmetic.sums.bits)
        off: Floats = g.sum(self.x, self.total.hi, more) / self.n + self.n * g.tiny
        return off + g.converted(self.absolute)

    def stored_mean_error(self, g: Roundings) -> Floats:
        """Return how far the mean is off once it is stored."""
        off = self.mean_error(g)
        stored: Floats = off + g.stored(self.mean.size + off)
        return stored

    def variance_error(self, g: Roundings) -> Floats:
        """Return how far the variance (divided by n) is off, two-pass, Welford's or Chan's."""
        v, n = self.variance.size, self.n
        shift = g(n + 4) * self.quadratic + n * g.tiny + g.converted(self.quadratic)
        if g.typical:
            shift = shift / sqrt(n)
        whole = g(n + 4 + 6 * sqrt(1 + log2(n)), 5)
        moved = 2 * np.sqrt(v) * shift + shift**2 + self.stored_mean_error(g) ** 2
        off: Floats = whole * v + (1 + whole) * moved + (n + 4) * g.tiny
        return off

    def one_pass_error(self, g: Roundings) -> Floats:
        """Return how far the mean of the squares less the square of the mean is off."""
        whole = g(2 * self.n + 8, 5)
        off: Floats = 2 * whole * self.quadratic**2 + g.tiny * self.n
        return off

    def deviation_error(self, g: Roundings) -> Floats:
        """Return how far the deviations (R, n) are off, each rounded once."""
        off = self.stored_mean_error(g)[:, None]
        computed: Floats = off + g(1, 1) * (self.d.size + off) + g.converted(np.abs(self.x))
        return computed

    def largest(self, g: Roundings) -> Floats:
        """Return the largest partial sum on the way to the variance (R,)."""
        v = self.variance.size + self.variance_error(g)
        size: Floats = self.n * np.maximum(v * (1 + g(self.n + 8)), self.absolute)
        return size
