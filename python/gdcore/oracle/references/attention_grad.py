"""References of the vector-Jacobian products of attention.

With p the probabilities and g what comes from above: of v, p.T @ g; with r = g @ v.T and
t = p (r - sum(p r)) the derivative with respect to a score: of q, scale t @ k; of k, scale t.T @ q.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from gdcore.oracle.numbers.double_double import (
    DoubleDouble,
    Floats,
    add,
    dot,
    exact,
    negative,
    product,
    times,
)
from gdcore.oracle.numbers.elementary import sum_along, where
from gdcore.oracle.numbers.operands import finite
from gdcore.oracle.references.attention_bounds import SCALING, Bounds
from gdcore.oracle.references.attention_mistakes import of_derivative
from gdcore.oracle.references.attention_problem import Array, Attention
from gdcore.oracle.references.attention_usual import Usual
from gdcore.oracle.references.reference import Reference, make_reference


def roundings(problem: Attention) -> int:
    """Return at least the roundings in a row that a bound is evaluated with."""
    sizes: int = sum(problem.q.shape[1:]) + sum(problem.v.shape[1:])
    return 2 * sizes + 64


def without_verdict(reference: Reference, open_: Array) -> Reference:
    """Return a reference whose elements are right whatever they are, where none can be told."""
    return replace(
        reference,
        bound=np.where(open_, np.inf, reference.bound),
        slack=np.where(open_, np.inf, reference.slack),
        _least_typical=0.0,
    )


class AttentionGrad:
    """References of the derivatives, each computed when it is first asked for.

    There is no verdict for a problem of a stack with an operand that is not finite, nor, but for
    other rows of the derivative of q, beside a query without a key or whose scores may overflow.
    """

    def __init__(self, bounds: Bounds, usual: Usual, grad_out: Array) -> None:
        self._bounds, self._usual, p = bounds, usual, bounds.problem
        self._problem = p
        flat = grad_out.reshape(*p.q.shape[:2], p.v.shape[2])
        sound: Any = np.ones((flat.shape[0], 1, 1), bool)
        for part in (flat, *p.odd.values()):
            hidden = part == -np.inf if part is p.odd.get("added") else False
            sound = sound & (np.isfinite(part) | hidden).all(axis=(1, 2), keepdims=True)
        self._open_rows = ~sound | ~p.alive | bounds.undecided
        self._g = finite(flat).astype(np.float64)

    @cached_property
    def q(self) -> Reference:
        """With respect to q (…,L,E)."""
        return self._of("q", lambda: self._scaled("q", False, self._problem.k))

    @cached_property
    def k(self) -> Reference:
        """With respect to k (…,S,E)."""
        return self._of("k", lambda: self._scaled("k", True, self._problem.q))

    @cached_property
    def v(self) -> Reference:
        """With respect to v (…,S,C)."""

        def made() -> Reference:
            p, b = self._problem, self._bounds
            growth = b.growth(self._terms("v"), 2 * b.final + b.converted, 2)
            off, usual = self._closed(b.probabilities), self._closed(self._usual.probabilities)
            return self._summed("v", p.probabilities, off, usual, self._g, True, growth)

        return self._of("v", made)

    def _of(self, name: str, made: Callable[[], Reference]) -> Reference:
        with np.errstate(all="ignore"):
            reference = made()
            open_ = self._open_rows
            if name != "q":
                open_ = open_.any(axis=1, keepdims=True)
            shape = (*self._problem.batch, *open_.shape[1:])
            axes = self._axes(name)
            gathered = open_.reshape(shape).any(axis=axes, keepdims=True)
            target = self._problem.shapes[name]
            gathered = gathered.reshape(gathered.shape[len(shape) - len(target) :])
            return without_verdict(reference, np.broadcast_to(gathered, target))

    def _closed(self, x: Any) -> Floats:
        """Return numbers, 0 in rows without a verdict."""
        return np.where(self._open_rows, 0.0, x)

    @cached_property
    def _slopes(self) -> DoubleDouble:
        """Return r (N,L,S)."""
        p = self._problem
        return product(self._g, np.swapaxes(p.v, -1, -2).astype(np.float64)).value

    @cached_property
    def _means(self) -> DoubleDouble:
        """Return the sum of p r (N,L,1)."""
        parts = times(self._problem.probabilities, self._slopes)
        return sum_along(parts, -1).map(lambda part: part[..., None])

    @cached_property
    def _rest(self) -> DoubleDouble:
        """Return r less its mean (N,L,S)."""
        return add(self._slopes, negative(self._means))

    @cached_property
    def _inner(self) -> DoubleDouble:
        """Return t (N,L,S)."""
        inner = times(self._problem.probabilities, self._rest)
        return where(self._open_rows, exact(0.0), inner)

    @cached_property
    def _of_inner(self) -> Floats:
        """Bound of the error of t (N,L,S)."""
        p, b = self._problem, self._bounds
        of_p = b.probabilities
        of_slopes = b.of_slopes(self._g)
        slopes, means = np.abs(self._slopes.hi), np.abs(self._means.hi)
        of_means = b.of_means(self._g, slopes, of_slopes)
        most = p.p + of_p
        off = of_p * np.abs(self._rest.hi) + most * (of_slopes + of_means)
        at_most = most * (slopes + of_slopes + means + of_means)
        off = off + b.growth(3, 3 * b.final) * at_most + b.lost(0, slopes + means)
        off = np.where(p.part, off, 0.0)
        return self._closed(off + b.through_largest(self._inner.hi, off))

    def _scaled(self, name: str, turned: bool, other: Array) -> Reference:
        b = self._bounds
        growth = b.growth(self._terms(name) + SCALING, 3 * b.final + 2 * b.converted, 2)
        usual = self._usual.inner(self._g, self._slopes.hi, self._means.hi)
        other = other.astype(np.float64)
        off, usual = self._of_inner, self._closed(usual)
        return self._summed(name, self._inner, off, usual, other, turned, growth, b.sigma)

    def _axes(self, name: str) -> tuple[int, ...]:
        """Return the batch dimensions that a derivative is summed over."""
        batch, own = self._problem.batch, self._problem.shapes[name][:-2]
        own = (1,) * (len(batch) - len(own)) + own
        return tuple(i for i, size in enumerate(batch) if own[i] != size)

    def _terms(self, name: str) -> int:
        """Return how many terms an element of a derivative is the sum of."""
        p = self._problem
        each: int = p.k.shape[1] if name == "q" else p.q.shape[1]
        return each * math.prod(p.batch[i] for i in self._axes(name))

    def _summed(
        self,
        name: str,
        left: DoubleDouble,
        off: Floats,
        usual: Floats,
        right: Floats,
        turned: bool,
        growth: Any,
        sigma: float | None = None,
    ) -> Reference:
        """Return the reference of scale left @ right, or left.T @ right, over the batch summed.

        left is off by at most `off`, and usually by `usual`.
        """
        p, b = self._problem, self._bounds
        left = where(self._open_rows, exact(0.0), left)
        if turned:
            left = left.map(lambda part: np.swapaxes(part, -1, -2))
            off, usual = np.swapaxes(off, -1, -2), np.swapaxes(usual, -1, -2)
        value, scale = dot(left, right)[0], 1.0 if sigma is None else sigma
        if sigma is not None:
            value = times(value, p.scale)
        size = (np.abs(left.hi) + off) @ np.abs(right)
        lengths = np.abs(right).sum(axis=1, keepdims=True)
        bound = scale * (off @ np.abs(right)) + b.lost(right.shape[1], lengths)
        axes, shape = self._axes(name), (*p.batch, *value.hi.shape[-2:])
        count = math.prod(p.batch[i] for i in axes)
        stored = b.growth(count, b.final * count) if axes else 0.0
        bound = bound + (growth + stored + growth * stored) * scale * size
        target = p.shapes[name]

        def gathered(x: Floats) -> Floats:
            whole: Floats = x.reshape(shape).sum(axis=axes, keepdims=True)
            return whole.reshape(target)

        def typical() -> Floats:
            own = self._usual.summed(left.hi, right, self._terms(name), value.hi / scale)
            errors = np.hypot(self._usual.wandering(usual, right), own)
            size = np.max(errors, initial=0.0) or 1.0
            usually: Floats = scale * size * np.sqrt(gathered((errors / size) ** 2))
            usually = np.maximum(usually, scale * gathered(errors) / count) + self._usual.tiny
            return usually

        total = value.map(lambda part: part.reshape(shape))
        for axis in axes:
            total = sum_along(total, axis).map(partial(np.expand_dims, axis=axis))
        return make_reference(
            f"gradient of {name}",
            total.map(lambda part: part.reshape(target)),
            gathered(bound),
            roundings(p) + 2 * count,
            p.arithmetic,
            of_derivative(p, name, self._g, gathered),
            size=gathered(size * max(1.0, scale)),
            stored=True,
            finite_inputs=True,
            typical=typical,
        )
