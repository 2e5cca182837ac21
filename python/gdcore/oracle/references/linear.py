"""The squared error of a linear model, and its derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Arithmetic
from gdcore.oracle.numbers.double_double import (
    DoubleDouble,
    Floats,
    add,
    dot,
    exact,
    negative,
    product,
    quotient,
    sum_up,
    times,
    up,
)
from gdcore.oracle.numbers.operands import root_of_squares, take
from gdcore.oracle.references.linear_mistakes import of_gradient, of_loss
from gdcore.oracle.references.losses import Scale, check_reduction, scale_of
from gdcore.oracle.references.problem import Problem, linear_problem
from gdcore.oracle.references.reference import Reference, all_finite
from gdcore.oracle.references.reference import make_reference as make

Array = NDArray[Any]


def linear_mse(
    X: Any,
    y: Any,
    weights: Any,
    intercept: Any = None,
    *,
    offset: Any = None,
    sample_weight: Any = None,
    reduction: str = "mean",
    dtype: Any = None,
    accumulator: Any = None,
) -> Reference:
    """Return the reference of a linear model's squared error, ``c * (s * r**2).sum()``.

    The residual is ``r = X @ weights + intercept + offset - y``; s are the sample weights, and c
    is 1/N, 1, 1/(2N) or 1/2 with N = n t elements, or the sum of their weights. r is kept as a
    pair of float64 numbers before ``X.T @ r`` is summed. With delta the bound of r's error,
    ``((1 + u)**(d + 3) - 1) * (|X| @ |weights| + |intercept| + |offset| + |y|)``, and G that of a
    sum and of what follows it, the gradient is off by at most
    ``2 c |X|.T @ (s * (delta + G * (|r| + delta)))`` with ``G = (1 + u)**(n + 4) - 1``, and the
    loss by ``c * (s * (2 |r| delta + delta**2 + G * (|r| + delta)**2)).sum()`` with
    ``G = (1 + u)**(n t + 5) - 1``; docs/oracle.md has accumulators and sample weights, too.

    Parameters
    ----------
    X : array_like, shape (..., n, d)
    y : array_like, shape (..., n) or (..., n, t)
        Several targets if it has as many dimensions as X.
    weights : array_like, shape (..., d) or (..., d, t)
    intercept : array_like, shape (...) or (..., t), optional
    offset : array_like, optional
        Fixed term of the prediction, broadcast to y's shape.
    sample_weight : array_like, shape (..., n), optional
    reduction : {"mean", "sum", "half_mean", "half_sum"}
    dtype, accumulator : optional
        The arithmetic under test, as in `matmul`.

    Returns
    -------
    Reference
        Of the loss, one for each problem of the batch; ``grad.weights``, ``grad.intercept`` (None
        without an intercept) and ``grad.X`` are those of its derivatives.

    Raises
    ------
    ValueError
        If shapes do not fit, for a mean over no samples, an unknown reduction or dtype.
    TypeError
        If an array cannot be read as real numbers.

    Examples
    --------
    >>> from gdcore import oracle
    >>> ref = oracle.linear_mse([[1.0], [2.0], [3.0], [4.0]], [2.0, 4.0, 6.0, 8.0], [0.0])
    >>> print(ref.value, ref.grad.weights.value)
    30.0 [-30.]
    >>> oracle.assert_matches([-120.0], ref.grad.weights)
    Traceback (most recent call last):
        ...
    AssertionError: gradient of the weights: WRONG in 1 of 1 elements; worst at [0]: -120 instead \
of -30, off by 90 = 2.53e+16 ulps, 2.25e+15 times the certified bound. \
4.000 times the mean-loss gradient with n = 4: a missing 1/n.
    """
    check_reduction(reduction)
    arithmetic, given = take(
        dtype,
        accumulator,
        X=X,
        y=y,
        weights=weights,
        intercept=intercept,
        offset=offset,
        sample_weight=sample_weight,
    )
    problem = linear_problem(reduction, **given)
    n, t = problem.y.shape[-2:]
    mean = reduction.endswith("mean")
    if mean and (n * t == 0 or (problem.s is not None and not problem.s.sum(-2).all())):
        raise ValueError(
            "the mean over 0 samples, or samples of no weight, is not defined; pass data, or "
            "reduction='sum'."
        )
    with np.errstate(all="ignore"):
        return _Linear(arithmetic, problem).of(_Linear.loss)


class _Linear:
    """The residuals of a problem and what bounds their errors, and the references made of them."""

    def __init__(self, arithmetic: Arithmetic, problem: Problem) -> None:
        p, self.arithmetic, self.problem = problem, arithmetic, problem
        self.n, self.d = p.X.shape[-2:]
        self.t = p.w.shape[-1]
        self.finite = all_finite(p.X, p.y, p.w, p.b, p.o, p.s)
        r, size = product(p.X, p.w)
        stored = r.size  # of what is stored on the way to r, whatever is added first
        for term in (p.b, p.o):
            if term is not None:
                r, size, stored = add(r, exact(term)), size + np.abs(term), stored + np.abs(term)
        r, size = add(r, negative(exact(p.y))), size + np.abs(p.y)
        stored = stored + np.abs(p.y)
        shape = (*p.batch, self.n, self.t)
        self.r = r.map(lambda x: np.broadcast_to(x, shape))
        self.size = np.broadcast_to(up(size, 4), shape)
        lost = (self.d + 3) * arithmetic.sums.tiny + 3 * arithmetic.store.tiny
        stores = 3 * arithmetic.final + 2 * arithmetic.converted
        growth = arithmetic.growth(self.d + 3, stores, operands=2)
        self.delta = np.where(self.size == 0, 0.0, growth * self.size) + lost
        over = self.size + self.delta > arithmetic.sums.largest
        over = over | (up(stored, 4) + self.delta > arithmetic.store.largest)
        self.delta = np.where(over, np.inf, self.delta)
        self.at_most = self.r.size + self.delta  # of what is computed for |r|
        self.weighted = 0 if p.s is None else self.n + 3  # the roundings of their sum, and with r
        self.scale = self._scale()
        self.opposed = self._opposed()

    def _scale(self) -> Scale:
        p = self.problem
        if p.s is None or not p.reduction.endswith("mean"):
            return scale_of(p.reduction, max(self.n * self.t, 1))
        total, _ = product(np.swapaxes(p.s, -1, -2), np.full((self.n, 1), float(self.t)))
        total = total.map(lambda x: np.broadcast_to(x[..., 0, 0], p.batch))
        gradient = quotient(1.0 if p.reduction == "half_mean" else 2.0, total)
        return Scale(quotient(0.5 if p.reduction == "half_mean" else 1.0, total), gradient)

    def _opposed(self) -> Any:
        """Return how much further than one of positive weights 1 / sum(s) may be off (…,1,1).

        The sum is off by G sum(|s|), however little is left of it.
        """
        p = self.problem
        if p.s is None or not p.reduction.endswith("mean") or np.all(p.s >= 0):
            return 0.0
        size = np.abs(p.s).sum((-2, -1), keepdims=True)
        growth = self.arithmetic.growth(self.n + 3, 1 + self.arithmetic.converted)
        off = growth * up(size / np.abs(p.s.sum((-2, -1), keepdims=True)), self.n)
        mixed = (p.s < 0).any((-2, -1), keepdims=True) & (p.s > 0).any((-2, -1), keepdims=True)
        return np.where(mixed, np.where(off < 1, off / (1 - off), np.inf), 0.0)

    def growth(self, sums: int, stores: int, operands: int = 0) -> Any:
        """Return how far a sum over rows, and what follows it, may be off: a number or (…,1,1)."""
        a = self.arithmetic
        stores_in_all = stores + a.final + 3 * a.converted
        growth = a.growth(sums + self.weighted, stores_in_all, operands)
        return growth + (1 + growth) * self.opposed

    @cached_property
    def weighted_residual(self) -> DoubleDouble:
        """The residuals times the sample weights."""
        return self.r if self.problem.s is None else times(exact(self.problem.s), self.r)

    def terms(self, growth: Any) -> Floats:
        """Return how far a term of a sum over rows may be off, but for its factor in X."""
        s = 1.0 if self.problem.s is None else np.abs(self.problem.s)
        terms: Floats = s * (self.delta + growth * self.at_most) + self.arithmetic.store.tiny
        return terms

    def of(self, what: Callable[[_Linear], Reference]) -> Reference:
        """Return one of the references; no verdict where the finite terms may overflow."""
        with np.errstate(all="ignore"):
            reference = what(self)
            if self.finite:
                return reference
            return reference.undecided_where(what(_Linear(self.arithmetic, self.problem.finite())))

    def loss(self) -> Reference:
        """Return the reference of the loss (…)."""
        p, arithmetic = self.problem, self.arithmetic
        elements = self.n * self.t
        shape = (*p.batch, elements)
        weighted = self.weighted_residual.map(lambda x: x.reshape(shape)[..., None, :])
        plain = self.r.map(lambda x: x.reshape(shape)[..., :, None])
        squares, _ = dot(weighted, plain)
        squares = squares.map(lambda x: x[..., 0, 0])
        growth = self.growth(elements, 5)
        s = 1.0 if p.s is None else np.abs(p.s)
        allowed = s * (2 * self.r.size * self.delta + self.delta**2 + growth * self.at_most**2)
        tiny = elements * (1 + np.max(s, initial=0.0)) * arithmetic.sums.tiny
        factor = self.scale.loss.size
        total = sum_up(s * self.at_most**2)
        bound = factor * (sum_up(allowed) + tiny) + arithmetic.store.tiny * (2 + total) + tiny
        return make(
            "loss",
            times(squares, self.scale.loss),
            bound,
            2 * elements + self.d + 16,
            arithmetic,
            of_loss(p, self.scale.loss.hi),
            size=sum_up(np.maximum(s, 1.0) * self.at_most**2) * np.maximum(1.0, factor),
            stored=True,
            finite_inputs=self.finite,
            typical=partial(self._typical_loss, elements),
            grad=LinearGrad(self),
        )

    def weights(self) -> Reference:
        """Return the reference of the derivative with respect to the weights."""
        p = self.problem
        sums = dot(np.swapaxes(p.X, -1, -2), self.weighted_residual)[0]
        growth = self.growth(self.n, 4, operands=2)
        transposed = np.swapaxes(p.X, -1, -2)
        allowed = product(transposed, self.terms(growth)).size
        at_most = product(transposed, self._at_most()).size
        tiny = product(np.abs(transposed), np.ones((self.n, 1))).size + self.n + 4
        return self._gradient(
            "weights",
            sums,
            allowed,
            at_most,
            tiny,
            partial(self._typical_sum, transposed, sums),
        )

    def intercept(self) -> Reference:
        """Return the reference of the derivative with respect to the intercept."""
        ones = np.ones((1, self.n))
        sums = dot(ones, self.weighted_residual)[0]
        growth = self.growth(self.n, 4)
        allowed = product(ones, self.terms(growth)).size
        at_most = product(ones, self._at_most()).size
        typical = partial(self._typical_sum, ones, sums)
        reference = self._gradient("intercept", sums, allowed, at_most, 2.0 * self.n + 4, typical)
        shape = self.problem.batch + ((self.t,) if self.problem.several else ())
        return _reshaped(reference, shape)

    def X(self) -> Reference:
        """Return the reference of the derivative with respect to X, of the whole batch's shape."""
        right = np.swapaxes(self.problem.w, -1, -2)
        sums = dot(self.weighted_residual, right)[0]
        growth = self.growth(self.t, 4, operands=2)
        allowed = product(self.terms(growth), right).size
        at_most = product(self._at_most(), right).size
        tiny = product(np.ones((1, self.t)), np.abs(right)).size + self.t + 4
        u = self.arithmetic.sum_unit
        return self._gradient(
            "X", sums, allowed, at_most, tiny, lambda: u * allowed / np.maximum(growth, u)
        )

    def _at_most(self) -> Floats:
        s = 1.0 if self.problem.s is None else np.maximum(np.abs(self.problem.s), 1.0)
        at_most: Floats = 2 * s * self.at_most  # the 2 may come first
        return at_most

    def _gradient(
        self,
        what: str,
        sums: DoubleDouble,
        allowed: Floats,
        at_most: Floats,
        tiny: Any,
        typical: Any,
    ) -> Reference:
        """Return the reference of 2 c times sums, themselves off by `allowed` at most.

        `tiny` of what underflows are added up; `at_most` is the size of what is summed.
        """
        p, a = self.problem, self.arithmetic
        scale = self.scale.gradient.map(lambda x: np.asarray(x)[..., None, None])
        factor = scale.size
        bound = factor * allowed + tiny * (a.sums.tiny * (1 + factor) + a.store.tiny)
        bound = bound + a.store.tiny * at_most
        result = times(sums, scale)
        drop = what == "weights" and not p.several
        reference = make(
            f"gradient of {'X' if what == 'X' else 'the ' + what}",
            result,
            np.broadcast_to(bound, result.hi.shape),
            2 * self.n * self.t + self.d + 16,
            a,
            of_gradient(p, what, scale.hi),
            size=at_most * np.maximum(1.0, factor),
            stored=True,
            finite_inputs=self.finite,
            typical=lambda: factor * typical() + 2 * a.store.unit * np.abs(result.hi),
        )
        return _reshaped(reference, result.hi.shape[:-1]) if drop else reference

    def _typical_delta(self) -> Floats:
        """Typical error of r."""
        p = self.problem
        spread = root_of_squares(p.X, p.w) ** 2 + p.y**2
        for term in (p.b, p.o):
            if term is not None:
                spread = spread + term**2
        drift = self.d / 3 * (self.r.hi + p.y) ** 2
        unit = max(self.arithmetic.sum_unit, self.arithmetic.operand_unit)
        delta: Floats = unit * np.sqrt((self.d + 1) * spread + drift)
        return delta + self.arithmetic.store.unit * np.abs(self.r.hi) * self.arithmetic.final

    def _typical_sum(self, left: Array, sums: DoubleDouble) -> Floats:
        """Typical error of left (…,m,n) @ (s r): see docs/oracle.md."""
        s = 1.0 if self.problem.s is None else self.problem.s
        of_residuals = root_of_squares(left, s * self._typical_delta())
        spread = self.n * root_of_squares(left, s * self.r.hi) ** 2
        drift = self.n / 3 * sums.hi**2
        typical: Floats = of_residuals + self.arithmetic.sum_unit * np.sqrt(spread + drift)
        return typical

    def _typical_loss(self, elements: int) -> Any:
        s = 1.0 if self.problem.s is None else self.problem.s
        delta = self._typical_delta()
        of_residuals = np.sqrt(sum_up((2 * s * self.r.hi * delta) ** 2))
        of_residuals = of_residuals + sum_up(s * delta**2)
        total = sum_up(s * self.r.hi**2)
        unit = self.arithmetic.sum_unit * np.sqrt(elements / 3 + 1) + 3 * self.arithmetic.store.unit
        return self.scale.loss.hi * (of_residuals + unit * total)


class LinearGrad:
    """References of the derivatives, each computed when it is first asked for."""

    def __init__(self, linear: _Linear) -> None:
        self._linear = linear

    @cached_property
    def weights(self) -> Reference:
        """With respect to the weights (…,d) or (…,d,t)."""
        return self._linear.of(_Linear.weights)

    @cached_property
    def intercept(self) -> Reference | None:
        """With respect to the intercept (…) or (…,t), if there is one."""
        return None if self._linear.problem.b is None else self._linear.of(_Linear.intercept)

    @cached_property
    def X(self) -> Reference:
        """With respect to X (…,n,d), without any sum over a batch that shares it."""
        return self._linear.of(_Linear.X)


def _reshaped(reference: Reference, shape: tuple[int, ...]) -> Reference:
    """Return a reference of another shape of the same size."""
    typical = reference._typical
    return replace(
        reference,
        value=reference.value.reshape(shape),
        tail=reference.tail.reshape(shape),
        bound=reference.bound.reshape(shape),
        slack=reference.slack.reshape(shape),
        _typical=lambda: np.reshape(typical(), shape),
    )
