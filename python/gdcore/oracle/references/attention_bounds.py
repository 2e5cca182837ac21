"""How far roundings may take attention and its derivatives, whatever the kernel.

docs/numerics.md, "Attention", derives each bound, under the names used here.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from gdcore.oracle.numbers.arithmetic import Format
from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.references.attention_problem import Array, Attention
from gdcore.oracle.references.exponentials import EXP_LOG

SCALING = 6  # roundings of the scale, of its root, of log2(e), and where they are applied
_FAR = 60.0  # scores so far below 0 that weights without a shift vanish count as wrong


class Bounds:
    """Bounds for one problem, each computed when it is first asked for."""

    def __init__(self, problem: Attention) -> None:
        self.problem, a = problem, problem.arithmetic
        self.u, self.store_u, self.final = a.sum_unit, a.store.unit, a.final
        self.operand_u, self.converted = a.operand_unit, a.converted
        self.sigma = float(problem.scale.size)
        self.count = problem.count
        with np.errstate(all="ignore"):
            self.least = least_of(a.sums) * np.exp(np.clip(-problem.largest, 0.0, _FAR))
            self.least = self.least + self.final * least_of(a.store)

    def growth(self, sums: Any, stores: float = 0.0, operands: float = 0.0) -> Any:
        """Return how far roundings in a row can move a number of 1; see `Arithmetic.growth`."""
        path = np.asarray(sums) * np.log1p(self.u) + operands * np.log1p(self.operand_u)
        return np.expm1(path + stores * np.log1p(self.store_u)) * (1 + 2.0**-40)

    @cached_property
    def scores(self) -> Floats:
        """Bound D of the error of a score (N,L,S)."""
        p, a = self.problem, self.problem.arithmetic
        features = p.q.shape[-1]
        growth = self.growth(features + SCALING, 3 * self.final + 2 * self.converted, 2)
        most = max(1.0, self.sigma)
        lost = features * least_of(a.sums) + 3 * least_of(a.store)
        lengths = np.abs(p.q).sum(-1, dtype=np.float64)[:, :, None]
        lengths = lengths + np.abs(p.k).sum(-1, dtype=np.float64)[:, None, :]
        off = growth * self.sigma * p.products.size + most * (lost + least_of(a.store) * lengths)
        if p.added is not None:
            given = self.growth(2, max(self.mask_rounded, self.converted))
            masked = off + given * np.abs(p.added)
            off = masked + self.growth(2, self.final) * (np.abs(p.scores.hi) + masked)
        return np.where(p.part, off, 0.0)

    @cached_property
    def mask_rounded(self) -> float:
        """How often an additive mask may be rounded on its way into the dtype."""
        return 1.0 if self.problem.arithmetic.store.bits < 53 else 0.0

    @cached_property
    def shift(self) -> Floats:
        """Bound of the error of the largest score (N,L,1)."""
        p = self.problem
        up, down = (
            np.max(
                p.below.hi + sign * self.scores,
                axis=-1,
                keepdims=True,
                initial=-np.inf,
                where=p.part,
            )
            for sign in (1, -1)
        )
        shift: Floats = np.where(p.alive, np.maximum(up, -down), 0.0)
        return shift

    @cached_property
    def above(self) -> Floats:
        """How many keys may have a larger score than each one (N,L,S)."""
        p = self.problem
        most = np.where(p.part, p.scores.hi + self.scores, -np.inf)
        least = np.where(p.part, p.scores.hi - self.scores, np.inf)
        order = np.argsort(np.concatenate([most, least], axis=-1), axis=-1, kind="stable")
        keys = most.shape[-1]
        seen = np.empty(order.shape)
        np.put_along_axis(seen, order, np.cumsum(order < keys, axis=-1, dtype=np.float64), -1)
        above: Floats = np.where(p.part, keys - seen[..., keys:], 0.0)
        return above

    @cached_property
    def steps(self) -> Floats:
        """Bound of |log| of a weight over that of the computed score (N,L,S)."""
        p = self.problem
        gap = np.maximum(-p.below.hi, 0.0) + self.scores + self.shift
        steps = self.growth(4, self.final) * (gap + np.log(np.maximum(self.count, 1)))
        steps = steps + self.growth(2) * (np.abs(p.largest) + self.shift)
        once = -np.log1p(-EXP_LOG * self.u)
        steps = steps + (1 + self.above) * once + self.final * np.log1p(self.store_u)
        return np.where(p.part, steps, 0.0)

    @cached_property
    def path(self) -> Floats:
        """Bound of |log| of a weight over the exact one, but for a factor of all (N,L,S)."""
        return self.scores + self.steps

    @cached_property
    def vanished(self) -> Array:
        """Where a score may be beyond the numbers of the dtype: -inf, whose weight is 0."""
        p = self.problem
        return p.part & (p.scores.hi - self.scores < -p.arithmetic.store.largest)

    @cached_property
    def moved(self) -> Floats:
        """Bound p f of the error of a probability before it is divided (N,L,S)."""
        p = self.problem
        most = np.exp(np.minimum(p.below.hi + self.path, 0.0)) / p.total.hi
        moved = np.where(self.path < 1, p.p * np.expm1(np.minimum(self.path, 1.0)), most)
        moved = np.where(self.vanished, np.maximum(moved, p.p), moved)
        return np.where(p.part, moved, 0.0)

    @cached_property
    def moved_in_all(self) -> Floats:
        """F, the sum of that (N,L,1)."""
        total: Floats = self.moved.sum(axis=-1, keepdims=True)
        return total

    @cached_property
    def of_sum(self) -> Floats:
        """H, of the roundings of the sum of the weights (N,L,1)."""
        each = self.growth(self.count + self.above + 4, self.final)
        total: Floats = ((self.problem.p + self.moved) * each).sum(axis=-1, keepdims=True)
        return total

    @cached_property
    def divisor(self) -> Floats:
        """What the sum of the weights is at least, as a share of the exact one (N,L,1)."""
        return 1 - self.moved_in_all - self.of_sum

    @cached_property
    def by_logarithm(self) -> Floats:
        """What the way through the logarithm of the sum adds, relatively (N,L,1).

        The logarithm rounds; and the weights of the sum differ by 2 `steps` from those that it
        divides.
        """
        p = self.problem
        size = np.abs(p.largest) + self.shift + 2 * np.log(np.maximum(self.count, 1))
        size = self.growth(8, 2 * self.final) * size - np.log1p(-EXP_LOG * self.u)
        possible = p.part & (p.p + self.moved > 0)
        twice = np.where(possible, 2 * self.steps, 0.0)
        mean = ((p.p + self.moved) * np.expm1(twice)).sum(axis=-1, keepdims=True)
        mean = np.where(self.moved_in_all < 1, mean / (1 - self.moved_in_all), np.inf)
        most = twice.max(axis=-1, keepdims=True, initial=0.0)
        by_logarithm: Floats = np.expm1(np.minimum(size + np.fmin(mean, most), 700.0))
        return by_logarithm

    @cached_property
    def own(self) -> Floats:
        """g, of the roundings of a weight and of what it is multiplied with (N,L,S)."""
        own: Floats = self.growth(self.count + self.above + 6, 2 * self.final + self.converted, 2)
        return own

    @cached_property
    def result(self) -> Floats:
        """Bound of the error of the result (N,L,C)."""
        p, a = self.problem, self.problem.arithmetic
        v, o = p.v.astype(np.float64), np.abs(p.result.hi)
        size = np.abs(v)
        spread = self._spread(v, p.result.hi)
        carried = self.moved @ size + o * self.moved_in_all
        weighted = ((p.p + self.moved) * self.own) @ size
        changed = np.fmin(carried, spread) + weighted + o * self.of_sum
        changed = np.where(self.divisor > 0, changed / self.divisor, np.inf)
        off = np.fmin(changed, self._within(v, p.result.hi))
        off = off + self.by_logarithm * (o + off)
        sums = size.sum(axis=1, keepdims=True)
        lost = 2 * self.least * (sums + self.count * o) + 4 * self.count * least_of(a.sums)
        off = off + lost + 2 * least_of(a.store)
        off = off + self.growth(2, 2 * self.final) * (o + off)
        return np.where(self.undecided, np.inf, np.where(p.alive, off, np.inf))

    def _spread(self, v: Floats, o: Floats) -> Floats:
        """Return the root of sum(p f²) sum(p (v - o)²), at least sum(p f |v - o|) (N,L,C)."""
        p = self.problem
        squares = np.where(self.path < 1, self.moved * np.expm1(np.minimum(self.path, 1)), np.inf)
        squares = np.where((self.moved > 0) & ~self.vanished, squares, 0.0)
        squares = np.where(self.vanished & (p.p > 0), np.inf, squares)
        second = p.p @ (v * v)
        rest = (self.count + 8) * 2.0**-51 * second
        variance = np.maximum(second - o * o, 0.0) + rest
        spread: Floats = np.sqrt(squares.sum(axis=-1, keepdims=True) * variance) * (1 + 2.0**-40)
        return np.where(np.isnan(spread), np.inf, spread)

    def _within(self, v: Floats, o: Floats) -> Floats:
        """Return how far any weighted mean may be (N,L,C), whatever its weights."""
        most, least = v.max(axis=1, initial=-np.inf), v.min(axis=1, initial=np.inf)
        size = np.abs(v).max(axis=1, initial=0.0)[:, None]
        reach = np.maximum(most[:, None] - o, o - least[:, None])
        once = self.growth(2 * self.count + 6, 2 * self.final + self.converted, 2)
        share = 2 * once / (1 - once)
        within: Floats = np.where(once < 1, reach + share * size, np.inf)
        return within

    @cached_property
    def undecided(self) -> Array:
        """Whether scores of a query may overflow (N,L,1)."""
        p, a = self.problem, self.problem.arithmetic
        largest = a.store.largest
        size = p.products.size * max(1.0, self.sigma) * (1 + self.growth(4, 4 * self.final))
        over = (size > largest).any(axis=-1, keepdims=True)
        top = np.abs(p.largest) + self.shift
        undecided: Array = over | (top > largest) | ~np.isfinite(self.shift)
        return undecided

    @cached_property
    def size(self) -> Floats:
        """At least the magnitude of an accumulator of weights times values (N,L,C)."""
        p = self.problem
        size: Floats = (p.total.hi * (p.p + self.moved)) @ np.abs(p.v.astype(np.float64))
        return np.where(self.undecided, 0.0, size)

    # probabilities and derivatives

    @cached_property
    def probabilities(self) -> Floats:
        """Bound B of the error of a probability (N,L,S)."""
        p = self.problem
        own = self.growth(self.count + self.above + 8, 2 * self.final)
        off = self.moved * (1 + own) + p.p * (own + self.moved_in_all + self.of_sum)
        off = np.where(self.divisor > 0, off / self.divisor, np.inf)
        once = self.growth(2 * self.count + 8, 2 * self.final)
        whole = np.where(once < 1, (1 + once) / (1 - once), np.inf)
        off = np.fmin(off, np.maximum(p.p, whole - p.p))
        off = off + self.by_logarithm * (p.p + off)
        return np.where(p.part, off + 2 * self.least, 0.0)

    def of_slopes(self, grad_out: Floats) -> Floats:
        """Return the bound of the error of g v, for each query and key (N,L,S)."""
        p, a = self.problem, self.problem.arithmetic
        size = np.abs(grad_out) @ np.abs(np.swapaxes(p.v, -1, -2).astype(np.float64))
        width = p.v.shape[-1]
        growth = self.growth(width + 2, 2 * self.final + 2 * self.converted, 2)
        off: Floats = growth * size + width * least_of(a.sums) + least_of(a.store)
        return off

    def of_means(self, grad_out: Floats, slopes: Floats, off: Floats) -> Floats:
        """Return the bound of the error of sum(p g v) (N,L,1), by keys or by the result."""
        p, a = self.problem, self.problem.arithmetic
        size = p.p + self.probabilities
        most = size * (np.abs(slopes) + off)
        keys = self.probabilities * np.abs(slopes) + size * off
        growth = self.growth(self.count + 2, 2 * self.final)
        by_keys = (keys + growth * most).sum(axis=-1, keepdims=True)
        g, width = np.abs(grad_out), p.v.shape[-1]
        growth = self.growth(width + 4, 4 * self.final + self.converted)
        reach = np.abs(p.result.hi) + self.result
        by_result = (g * (self.result + growth * reach)).sum(axis=-1, keepdims=True)
        lost = (self.count + width + 2) * (least_of(a.sums) + self.final * least_of(a.store))
        means: Floats = np.where(g.any(axis=-1, keepdims=True), np.maximum(by_keys, by_result), 0.0)
        means += lost
        return means

    def through_largest(self, slopes: Floats, off: Floats) -> Floats:
        """Return what the derivative of the largest score adds to the bound `off` (N,L,S).

        Of x - max(x) the derivative of max(x) is the sum of all, 0 but for rounding.
        """
        p = self.problem
        top = p.part & (p.below.hi + self.scores + self.shift >= 0)
        growth = self.growth(self.count + 1, self.final)
        total = (off + growth * (np.abs(slopes) + off)).sum(axis=-1, keepdims=True)
        through: Floats = np.where(top, total, 0.0)
        return through

    def lost(self, terms: int, size: Floats) -> Floats:
        """Return what underflows of a sum of products take, `size` being its other factors'."""
        a = self.problem.arithmetic
        each = least_of(a.sums) + self.final * least_of(a.store)
        lost: Floats = each * (terms + 2 + size * max(1.0, self.sigma)) + 2 * least_of(a.store)
        return lost


def least_of(store: Format) -> float:
    """Return what may be lost of a number near 0, an exponential in float16 included."""
    return EXP_LOG * store.vanishing if store.most == 16 else store.vanishing
