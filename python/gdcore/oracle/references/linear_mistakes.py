"""What people get wrong about the squared error of a linear model and its derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.references.losses import factors_of_gradient, factors_of_loss, reduction_name
from gdcore.oracle.references.mistakes import (
    PRECISIONS,
    Addition,
    Alternative,
    Factor,
    Mistakes,
    Parts,
    Terms,
    Where,
    vectors,
)
from gdcore.oracle.references.problem import Array, Problem


def of_loss(problem: Problem, factor: Any) -> Mistakes:
    """Return what is known of a loss, `factor` (…) times the weighted sum of squares."""
    p = problem
    made = _Loss(p, np.asarray(factor))
    return Mistakes(
        f"the {reduction_name(p.reduction)} loss{_counted(p)}",
        _factors(p, factors_of_loss),
        made.alternatives,
        made.terms,
        lost=made.lost,
    )


def of_gradient(problem: Problem, what: str, factor: Any) -> Mistakes:
    """Return what is known of the gradient of weights, intercept or X; of X's, factors alone.

    It is `factor` (…,1,1) times X^T @ (s r), or the sums of s r.
    """
    p = problem
    gradient_name = f"the {reduction_name(p.reduction)}-loss gradient{_counted(p)}"
    factors = _factors(p, factors_of_gradient)
    if what == "X":
        return Mistakes(gradient_name, factors)
    made = _Gradient(p, np.asarray(factor), what == "weights")
    return Mistakes(
        gradient_name,
        factors,
        made.alternatives,
        made.terms,
        made.additions,
        made.parts,
        made.lost,
    )


def _counted(p: Problem) -> str:
    """Return the sizes that divide the sum, in words."""
    n, t = p.y.shape[-2:]
    if p.s is not None:
        return ""
    return f" with n = {n}" + (f" rows and t = {t} targets" if t > 1 else "")


def _factors(p: Problem, known: Callable[[str, float], tuple[Factor, ...]]) -> tuple[Factor, ...]:
    """Return the factors of known mistakes, for weights of one sum in all problems."""
    (n, d), t = p.X.shape[-2:], p.y.shape[-1]
    if p.s is None:
        count = float(n * t)
    else:
        counts = np.unique(p.s.sum((-2, -1)) * t)
        count = float(counts[0]) if counts.size == 1 else 1.0
    found = list(known(p.reduction, count))
    if p.reduction.endswith("mean") and t > 1:
        found.append(Factor(float(t), "a division by n instead of n t"))
    if p.reduction.endswith("mean") and p.s is None and d != n and d > 1:
        cause = f"a division by the d = {d} features instead of n: the wrong axis"
        found.append(Factor(n / d, cause))
    return tuple(found)


@dataclass(frozen=True)
class _Sums:
    """A sum over rows of something made of the residuals, in float64 alone."""

    problem: Problem
    factor: Array

    @cached_property
    def r(self) -> Floats:
        """The residuals, of the whole batch."""
        r = self.problem.residual()
        return np.broadcast_to(r, (*self.problem.batch, *r.shape[-2:]))

    @cached_property
    def s(self) -> Any:
        """The sample weights."""
        return 1.0 if self.problem.s is None else self.problem.s

    @property
    def counted(self) -> bool:
        """Whether the number of rows divides the result."""
        return self.problem.reduction.endswith("mean") and self.problem.s is None

    def of(self, r: Floats, s: Any) -> Floats:
        """Return the result that other residuals and weights make."""
        raise NotImplementedError

    def alternatives(self) -> Iterator[Alternative]:
        """Yield results of residuals with a term missing or turned."""
        p, r = self.problem, self.r
        terms = {"intercept": p.b, "offset": p.o}
        for name, term in terms.items():
            if term is not None:
                yield self._with(f"the {name} is missing", r - term)
                yield self._with(f"the {name} is subtracted", r - 2 * term)
        if p.s is not None:
            cause = "the sample weights are missing"
            yield Alternative(cause, lambda where: self.of(r, 1.0).reshape(-1)[where])
        yield self._with("the target is not subtracted", r + p.y)
        yield self._with("the target is added", r + 2 * p.y)

    def lost(self) -> Iterator[Alternative]:
        """Yield what becomes of NaN and infinity if they are replaced, or their rows left out."""
        finite, r = replace(self, problem=self.problem.finite()), self.r
        whole = np.isfinite(r).all(axis=-1, keepdims=True)
        known, kept = np.where(np.isfinite(r), r, 0), np.where(whole, r, 0)
        share = whole.shape[-2] / np.maximum(whole.sum(-2, keepdims=True), 1)
        for cause, made in (
            ("replaced by 0 in the operands", lambda: finite.of(finite.r, finite.s)),
            ("replaced by 0 in the residual", lambda: self.of(known, self.s)),
            ("the row is left out", lambda: finite.of(kept, finite.s)),
            ("the row is left out, and not counted", lambda: finite.of(kept, share * finite.s)),
        ):
            yield Alternative(cause, lambda where, made=made: made().reshape(-1)[where])  # type: ignore[misc]

    def _with(self, cause: str, r: Floats) -> Alternative:
        return Alternative(cause, lambda where: self.of(r, self.s).reshape(-1)[where])


class _Loss(_Sums):
    def of(self, r: Floats, s: Any) -> Floats:
        """Return the loss."""
        loss: Floats = self.factor * (s * r * r).sum((-2, -1))
        return loss

    def terms(self) -> Iterator[Terms]:
        """Yield what each row adds."""
        squares = (self.s * self.r * self.r).sum(-1)
        squares = (self.factor[..., None] * squares).reshape(-1, squares.shape[-1])
        n = squares.shape[-1]
        yield Terms(
            f"n = {n} rows", n, n, squares.__getitem__,
            lambda part: squares[:, part].sum(-1), self.counted,
        )  # fmt: skip


@dataclass(frozen=True)
class _Gradient(_Sums):
    """left (…,d,n) @ (s r), times `factor` (…,1,1); left is X^T or, of the intercept, ones."""

    of_weights: bool

    @cached_property
    def left(self) -> Array:
        """What the residuals are multiplied by."""
        X = self.problem.X
        return np.swapaxes(X, -1, -2) if self.of_weights else np.ones((1, X.shape[-2]))

    def of(self, r: Floats, s: Any) -> Floats:
        """Return the gradient."""
        return self._times(self.left, s * r)

    def _times(self, left: Array, sr: Floats) -> Floats:
        gradient = self.factor * (left @ sr)
        return np.broadcast_to(gradient, (*self.problem.batch, *gradient.shape[-2:]))

    def alternatives(self) -> Iterator[Alternative]:
        """Yield results of residuals with a term missing, turned or rounded."""
        yield from super().alternatives()
        p, r, (n, d) = self.problem, self.r, self.problem.X.shape[-2:]
        t = p.y.shape[-1]
        if t > 1:
            w = p.w.reshape(*p.w.shape[:-2], t, d)  # the same memory, read in the other order
            changed = replace(p, w=np.swapaxes(w, -1, -2))
            yield self._with("the weights (d, t) are read as (t, d)", changed.residual())
            turned = p.y.reshape(*p.y.shape[:-2], t, n)
            yield self._with("y (n, t) is read as (t, n)", r + p.y - np.swapaxes(turned, -1, -2))
            total = self.of(r.sum(axis=-1, keepdims=True), self.s)
            yield Alternative(
                "every target has the sum of the gradients of all targets",
                lambda where: np.broadcast_to(total, (*p.batch, total.shape[-2], t)).reshape(-1)[
                    where
                ],
            )
        if n == d > 1 and self.of_weights:
            yield Alternative(
                "X is transposed: the sum runs over the wrong axis",
                lambda where: self._times(p.X, self.s * self.r).reshape(-1)[where],
            )
        for precision, narrow in PRECISIONS.items():
            through = f"rounded through {precision}"
            X = narrow(p.X)
            others = {
                name: None if (x := getattr(p, name)) is None else narrow(x)
                for name in ("y", "w", "b", "o")
            }
            left = np.swapaxes(X, -1, -2) if self.of_weights else self.left
            for cause, changed in (
                (f"the inputs are {through}", replace(p, X=X, **others)),  # type: ignore[arg-type]
                (f"X is {through}", replace(p, X=X)),
            ):
                yield Alternative(cause, partial(self._of_problem, changed, left))
            yield self._with(f"the residual is {through}", narrow(self.r))

    def _of_problem(self, changed: Problem, left: Array, where: Where) -> Array:
        return self._times(left, self.s * changed.residual()).reshape(-1)[where]

    def terms(self) -> Iterator[Terms]:
        """Yield what each row adds, and what each feature adds by way of the residuals."""
        p, sr = self.problem, np.broadcast_to(self.s * self.r, self.r.shape)
        (n, d), size = p.X.shape[-2:], (*p.batch, self.left.shape[-2], p.y.shape[-1])
        left = np.broadcast_to(self.left, (*p.batch, *self.left.shape[-2:]))
        factor = np.broadcast_to(self.factor, size).reshape(-1)

        def of_rows(where: Array) -> Array:
            rows, columns = vectors(left, sr, where)
            return factor[where, None] * rows * columns

        yield Terms(
            f"n = {n} rows", n, n, of_rows,
            lambda part: self._times(left[..., part], sr[..., part, :]).reshape(-1), self.counted,
        )  # fmt: skip

        def of_features(where: Array) -> Array:
            X = np.broadcast_to(p.X, (*p.batch, n, d))
            s = np.broadcast_to(self.s, (*p.batch, n, 1))
            w = np.broadcast_to(p.w, (*p.batch, *p.w.shape[-2:]))
            found = []
            for element in where:
                *i, row, column = np.unravel_index(element, size)
                at = tuple(i)
                by_column = (left[at][row] * s[at][:, 0]) @ X[at]
                found.append(factor[element] * by_column * w[at][:, column])
            return np.stack(found)

        def without_features(part: slice) -> Array:
            return self._times(left, self.s * (p.X[..., part] @ p.w[..., part, :])).reshape(-1)

        yield Terms(
            f"d = {d} features", d, n * d, of_features, without_features, where=" in the prediction"
        )

    def parts(self) -> Parts | None:
        """Return the targets; None if there is one alone, or a stack of problems."""
        p, t = self.problem, self.problem.y.shape[-1]
        if t < 2 or self.r.ndim != 2:
            return None

        def of(i: int, j: int) -> Array:
            r = self.r[:, [i]] + p.y[:, [i]] - p.y[:, [j]]
            made: Array = self.factor * (self.left @ (self.s * r))
            return made.reshape(-1)

        numbers = np.arange(t)
        return Parts(
            "target", ("weights", "y"), (t,), (numbers, numbers), of,
            lambda x: np.ascontiguousarray(x.reshape(-1, t).T),
        )  # fmt: skip

    def additions(self) -> Iterator[Addition]:
        """Yield what may have been added."""
        if self.of_weights:
            size = (*self.problem.batch, *self.problem.w.shape[-2:])
            w = np.broadcast_to(self.problem.w, size)
            yield Addition("the weights are added: a weight decay", w)
