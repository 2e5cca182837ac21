"""The squared error of two arrays, and its derivatives."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Arithmetic
from gdcore.oracle.numbers.double_double import (
    DoubleDouble,
    Floats,
    add,
    exact,
    negative,
    product,
    times,
    up,
)
from gdcore.oracle.numbers.operands import finite, take
from gdcore.oracle.references.mistakes import (
    PRECISIONS,
    Alternative,
    Factor,
    Mistakes,
    Terms,
    as_float64,
)
from gdcore.oracle.references.reference import Reference, all_finite
from gdcore.oracle.references.reference import make_reference as make

Array = NDArray[Any]
REDUCTIONS = ("mean", "sum", "half_mean", "half_sum")


def mse(
    pred: Any,
    target: Any,
    *,
    reduction: str = "mean",
    dtype: Any = None,
    accumulator: Any = None,
) -> Reference:
    """Return the reference of the squared error ``c * ((pred - target)**2).sum()``.

    With N elements, ``c`` is 1/N, 1, 1/(2N) or 1/2. A residual is rounded once; its square, the
    sum of N, c and the products are N + 4 roundings more, so the loss is off by at most
    ``((1 + u)**(N + 5) - 1) * loss`` and the gradient ``2 c (pred - target)`` by
    ``((1 + u)**3 - 1)`` of itself, besides what underflows; by one rounding more where the dtype
    does not hold N, or the accumulator's sum is stored.

    Parameters
    ----------
    pred, target : array_like, any shape, the same for both
    reduction : {"mean", "sum", "half_mean", "half_sum", "none"}
        As in `gdcore.mse`.
    dtype, accumulator : optional
        The arithmetic under test, as in `matmul`.

    Returns
    -------
    Reference
        Of the loss; ``grad.pred`` and ``grad.target`` are those of its derivatives.

    Raises
    ------
    ValueError
        If the shapes differ, for a mean over 0 elements, or an unknown reduction or dtype.
    TypeError
        If an array cannot be read as real numbers.

    Examples
    --------
    >>> from gdcore import oracle
    >>> ref = oracle.mse([1.0, 2.0], [0.0, 4.0])
    >>> print(ref.value, ref.grad.pred.value)
    2.5 [ 1. -2.]
    >>> print(ref.grad.pred.check([2.0, -4.0]).worst_status)
    WRONG
    """
    arithmetic, given = take(dtype, accumulator, pred=pred, target=target)
    p, y = given["pred"], given["target"]
    if p.shape != y.shape:
        raise ValueError(
            f"pred has shape {p.shape} and target has shape {y.shape}; they must be equal."
        )
    if reduction != "none":
        check_reduction(reduction, ("none",))
    if not p.size and reduction.endswith("mean"):
        raise ValueError("the mean over 0 elements is not defined; pass data, or reduction='sum'.")
    with np.errstate(all="ignore"):
        return _Loss(arithmetic, p, y, reduction).reference()


class _Loss:
    """The residuals, and the references made of them."""

    def __init__(self, arithmetic: Arithmetic, p: Array, y: Array, reduction: str) -> None:
        self.arithmetic, self.reduction = arithmetic, reduction
        self.p, self.y = p, y
        self.residual = add(exact(p), negative(exact(y)))
        self.finite = all_finite(p, y)
        lost = arithmetic.converted * arithmetic.store.unit
        self.lost = lost * (np.abs(p) + np.abs(y)) if lost else np.zeros(p.shape)
        self.rounded_count = int(p.size > 2**arithmetic.store.bits)

    def reference(self) -> Reference:
        """Return the reference of the loss, or of each square."""
        if self.reduction == "none":
            square = times(self.residual, self.residual)
            name = "squared error"
            growth = self.arithmetic.growth(0, 3)
            bound = growth * square.size + (1 + growth) * self._lost_square()
            bound = bound + self.arithmetic.store.tiny
            return make(
                name,
                square,
                bound,
                8,
                self.arithmetic,
                Mistakes("the squared error", factors_of_loss("none", 1)),
                size=square.size,
                stored=True,
                finite_inputs=self.finite,
                typical=lambda: 2 * self.arithmetic.store.unit * square.hi,
            )
        n = self.p.size
        squares, size = sum_of_squares(self.residual)
        lost = float(self._lost_square().sum())
        scale = scale_of(self.reduction, n)
        loss = times(squares, scale.loss)
        growth = self.arithmetic.growth(n, 5 + self.arithmetic.final + self.rounded_count)
        tiny = self.arithmetic.sums.tiny * n + self.arithmetic.store.tiny
        factor = float(scale.loss.hi)
        return make(
            "loss",
            loss,
            (growth * size + (1 + growth) * lost) * factor
            + tiny * (2 + factor)
            + self.arithmetic.store.tiny * size,
            2 * n + 16,
            self.arithmetic,
            Mistakes(
                f"the {reduction_name(self.reduction)} loss with n = {n}",
                factors_of_loss(self.reduction, n),
                terms=partial(self._squares, factor),
            ),
            size=(1 + growth) * (size + lost) * max(1.0, factor),
            stored=True,
            finite_inputs=self.finite,
            typical=lambda: (
                (self.arithmetic.sum_unit * np.sqrt(n / 3 + 1) + 3 * self.arithmetic.store.unit)
                * loss.hi
            ),
            grad=MseGrad(self),
        )

    def _lost_square(self) -> Floats:
        """Return how far the squares are off where the operands are rounded first."""
        lost: Floats = 2 * self.residual.size * self.lost + self.lost**2
        return lost

    def gradient(self, sign: int) -> Reference:
        """Return the reference of the derivative with respect to pred (1) or target (-1)."""
        n = self.p.size
        scale = scale_of(self.reduction, n)
        with np.errstate(all="ignore"):
            residual = self.residual if sign > 0 else negative(self.residual)
            gradient = times(residual, scale.gradient)
            tiny = self.arithmetic.store.tiny
            size = residual.size + self.lost
            growth = self.arithmetic.growth(0, 3 + self.rounded_count)
            lost = scale.gradient.size * self.lost
            return make(
                f"gradient of {'pred' if sign > 0 else 'target'}",
                gradient,
                growth * gradient.size + (1 + growth) * lost + tiny * (4 + size),
                8,
                self.arithmetic,
                Mistakes(
                    f"the {reduction_name(self.reduction)}-loss gradient with n = {n}",
                    factors_of_gradient(self.reduction, n) + self._axes(),
                    partial(self._gradients, sign),
                    lost=partial(self._lost, sign),
                ),
                size=2 * size,
                stored=True,
                finite_inputs=self.finite,
                typical=lambda: 2 * self.arithmetic.store.unit * np.abs(gradient.hi),
            )

    def _axes(self) -> tuple[Factor, ...]:
        """Return what a mean over some axes alone multiplies by."""
        if not self.reduction.endswith("mean"):
            return ()
        n, shape = self.p.size, self.p.shape
        sizes = [size for size in shape if 1 < size < n]
        return tuple(
            Factor(n / size, f"a mean over one axis of {size} alone, where it is over all n")
            for size in dict.fromkeys(sizes)
        )

    def _squares(self, factor: float) -> Iterator[Terms]:
        squares = factor * (self.p.astype(np.float64) - self.y).reshape(1, -1) ** 2
        n = self.p.size
        yield Terms(
            f"n = {n} elements", n, n, lambda where: squares,
            lambda part: squares[:, part].sum(1), self.reduction.endswith("mean"),
        )  # fmt: skip

    def _lost(self, sign: int) -> Iterator[Alternative]:
        """Yield what becomes of NaN and infinity if they are replaced."""
        factor = sign * float(scale_of(self.reduction, self.p.size).gradient.hi)
        replaced = factor * (finite(self.p).astype(np.float64) - finite(self.y)).reshape(-1)
        yield Alternative("replaced by 0 in pred and target", replaced.__getitem__)

    def _gradients(self, sign: int) -> Iterator[Alternative]:
        factor = sign * float(scale_of(self.reduction, self.p.size).gradient.hi)
        p, y = self.p.reshape(-1), self.y.reshape(-1)

        def less(where: Any, of_p: Any, of_y: Any) -> Floats:
            gradient: Floats = factor * (of_p(p[where]) - of_y(y[where]))
            return gradient

        yield Alternative(
            "the target is not subtracted", partial(less, of_p=as_float64, of_y=np.zeros_like)
        )
        for precision, narrow in PRECISIONS.items():
            through = f"rounded through {precision}"
            both = partial(less, of_p=narrow, of_y=narrow)
            yield Alternative(f"the inputs are {through}", both)
            for name, change in (("predictions", "of_p"), ("targets", "of_y")):
                one = {"of_p": as_float64, "of_y": as_float64} | {change: narrow}
                yield Alternative(f"the {name} are {through}", partial(less, **one))


class MseGrad:
    """References of the derivatives, each computed when it is first asked for."""

    def __init__(self, loss: _Loss) -> None:
        self._loss = loss

    @cached_property
    def pred(self) -> Reference:
        """With respect to the predictions."""
        return self._loss.gradient(1)

    @cached_property
    def target(self) -> Reference:
        """With respect to the targets."""
        return self._loss.gradient(-1)


class Scale:
    """Factors of the sum of squares and of the sum of residual times input."""

    def __init__(self, loss: DoubleDouble, gradient: DoubleDouble) -> None:
        self.loss, self.gradient = loss, gradient


def scale_of(reduction: str, count: int) -> Scale:
    """Return the factors for a whole number of elements."""
    loss = Fraction(1, 2 if reduction.startswith("half") else 1)
    loss /= count if reduction.endswith("mean") else 1
    return Scale(_double_double(loss), _double_double(2 * loss))


def _double_double(x: Fraction) -> DoubleDouble:
    hi = float(x)
    lo = float(x - Fraction(hi))
    error = abs(float(x - Fraction(hi) - Fraction(lo))) * 1.01
    return DoubleDouble(*(np.asarray(part) for part in (hi, lo, error)))


def sum_of_squares(r: DoubleDouble) -> tuple[DoubleDouble, Floats]:
    """Return the sum of the squares of all of r, and a bound of its size."""
    hi = r.hi.reshape(1, -1)
    lo = np.broadcast_to(r.lo, r.hi.shape).reshape(1, -1)
    error = np.broadcast_to(r.error, r.hi.shape).reshape(1, -1)
    left, right = np.concatenate([hi, finite(hi)], axis=1), np.concatenate([hi, 2 * lo], axis=1)
    value, size = product(left, right.T)  # an infinite hi times lo = 0 would be NaN
    ones = np.ones((hi.shape[1], 1))
    missing = product(2 * np.abs(hi) * error + (np.abs(lo) + error) ** 2, ones).size
    whole = DoubleDouble(*(np.broadcast_to(part, (1, 1))[0, 0] for part in value))
    total = whole._replace(error=np.asarray(up(whole.error + missing[0, 0], 8)))
    return total, np.asarray(up(size[0, 0] + missing[0, 0], 8))


def check_reduction(reduction: Any, more: tuple[str, ...] = ()) -> None:
    """Raise ValueError unless it is one of the reductions."""
    if reduction not in REDUCTIONS:
        choices = ", ".join(map(repr, (*REDUCTIONS, *more)))
        raise ValueError(f"reduction is {reduction!r}; choose one of {choices}.")


def reduction_name(reduction: str) -> str:
    """Return a reduction as an adjective."""
    return reduction.replace("_", "-")


def factors_of_loss(reduction: str, n: float) -> tuple[Factor, ...]:
    """Return what known mistakes multiply a loss by."""
    factors = [
        Factor(2.0, "stale accumulation, or a factor 2"),
        Factor(0.5, "a factor 1/2 too many"),
        Factor(-1.0, "the sign is wrong"),
    ]
    if reduction.endswith("mean") and n not in (0, 1):
        factors += [
            Factor(n, "a missing 1/n"),
            Factor(1 / n, "1/n is applied twice"),
            Factor(n / (n - 1), "a division by n - 1 instead of n"),
        ]
    elif reduction.endswith("sum") and n not in (0, 1):
        factors.append(Factor(1 / n, "a mean, where the reduction is a sum"))
    return tuple(factors)


def factors_of_gradient(reduction: str, n: float) -> tuple[Factor, ...]:
    """Return what known mistakes multiply a gradient by."""
    factors = [
        Factor(2.0, "stale accumulation, or a factor 2"),
        Factor(-1.0, "the sign is wrong"),
    ]
    if reduction == "mean":
        factors.append(Factor(0.5, "1/n instead of 2/n"))
    else:
        factors.append(Factor(0.5, "a factor 1/2 too many"))
    if reduction.endswith("mean") and n not in (0, 1):
        factors += [
            Factor(n, "a missing 1/n"),
            Factor(n / (n - 1), "a division by n - 1 instead of n"),
            Factor(1 / n, "1/n is applied twice"),
        ]
        if reduction == "mean":
            factors.append(Factor(n / 2, "a missing 2/n"))
    elif reduction.endswith("sum") and n not in (0, 1):
        factors.append(Factor(1 / n, "a mean, where the reduction is a sum"))
    return tuple(factors)
