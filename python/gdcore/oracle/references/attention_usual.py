"""What rounding errors of attention usually come to, from a random model: no proof."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.numbers.operands import root_of_squares
from gdcore.oracle.references.attention_bounds import least_of
from gdcore.oracle.references.attention_problem import Array, Attention


class Usual:
    """Usual errors of one problem, each computed when it is first asked for."""

    def __init__(self, problem: Attention) -> None:
        a = problem.arithmetic
        self.problem, self.u = problem, max(a.sum_unit, a.sums.unit)
        self.operand_u = a.operand_unit
        self.store_u = a.store.unit if a.final else self.u
        self.converted = a.converted * a.store.unit
        self.tiny = least_of(a.store)

    @staticmethod
    def wandering(errors: Floats, factors: Array) -> Floats:
        """Return the root of the sums of the squares of errors (N,a,b) times factors (N,b,c).

        Where squares vanish it is the mean of the magnitudes, which is at most that.
        """
        factors = np.abs(factors)
        mean = errors @ factors / max(errors.shape[-1], 1) ** 0.5
        wandering: Floats = np.maximum(np.sqrt(errors**2 @ factors**2), mean)
        return wandering

    def summed(self, left: Array, right: Array, terms: float, total: Floats) -> Floats:
        """Return the usual error of the sums `total` of so many products, left @ right."""
        size = root_of_squares(left, right)
        own = (self.operand_u**2 + 2 * self.converted**2) ** 0.5
        error = np.hypot(
            self.u * np.hypot(terms**0.5 * size, (terms / 3) ** 0.5 * total), own * size
        )
        usual: Floats = np.hypot(error, self.store_u * total)
        return usual

    @cached_property
    def weights(self) -> Floats:
        """Usual relative error of a weight (N,L,S)."""
        p = self.problem
        raw = p.products.value.hi
        scores = self.summed(p.q, np.swapaxes(p.k, -1, -2), p.q.shape[-1], raw)
        scores = scores * np.abs(p.scale.hi)
        gap = np.maximum(-p.below.hi, 0.0)
        steps = 2 * self.store_u * np.abs(p.scores.hi) + self.u * (gap + np.abs(p.largest) + 2)
        return np.where(p.part, np.hypot(scores, steps), 0.0)

    @cached_property
    def probabilities(self) -> Floats:
        """Usual error of a probability (N,L,S)."""
        p = self.problem
        common = np.sum((p.p * self.weights) ** 2, axis=-1, keepdims=True)
        own = self.u**2 * (p.count / 3 + 1) + 2 * self.store_u**2 + self.operand_u**2
        probabilities: Floats = p.p * np.sqrt(self.weights**2 + common + own)
        return probabilities + self.tiny

    @cached_property
    def result(self) -> Floats:
        """Usual error of the result (N,L,C)."""
        p = self.problem
        v, o = p.v.astype(np.float64), p.result.hi
        squares = (p.p * self.weights) ** 2
        total = squares.sum(axis=-1, keepdims=True)
        moved = np.maximum(squares @ v**2 - 2 * o * (squares @ v) + o**2 * total, 0.0)
        sums = self.summed(p.p, v, 1.0, o)
        drift = self.u**2 * (p.count + 2) * (o**2 + p.p**2 @ v**2)
        own = (2 * self.store_u**2) * ((p.p**2) @ v**2 + o**2)
        usual: Floats = np.sqrt(moved + sums**2 + drift + own) + self.tiny
        return usual

    def inner(self, grad_out: Floats, slopes: Floats, means: Floats) -> Floats:
        """Usual error of the derivative with respect to a score (N,L,S)."""
        p = self.problem
        v = np.swapaxes(p.v, -1, -2).astype(np.float64)
        of_slopes = self.summed(grad_out, v, v.shape[-2], slopes)
        rest = np.abs(slopes - means)
        of_means = (p.p * of_slopes) ** 2 + (self.probabilities * rest) ** 2
        of_means = of_means + (self.u**2 * p.count + 2 * self.store_u**2) * (p.p * slopes) ** 2
        total = of_means.sum(axis=-1, keepdims=True)
        total = total + np.sum((grad_out * self.result) ** 2, axis=-1, keepdims=True)
        own = np.hypot(self.probabilities * rest, 2 * self.store_u * p.p * rest)
        inner: Floats = np.hypot(own, p.p * np.sqrt(of_slopes**2 + total)) + self.tiny
        through = np.sqrt(np.sum(inner**2, axis=-1, keepdims=True) + total)
        inner = inner + np.where(p.part & (p.below.hi >= 0), through, 0.0)
        return inner
