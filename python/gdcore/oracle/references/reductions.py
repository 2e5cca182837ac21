"""Sums, means and variances over axes, and their vector-Jacobian products."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Arithmetic
from gdcore.oracle.numbers.double_double import DoubleDouble, Floats, exact, times
from gdcore.oracle.numbers.elementary import divide, sum_along
from gdcore.oracle.numbers.operands import take
from gdcore.oracle.references import reduction_mistakes as mistakes
from gdcore.oracle.references.axes import Roundings, Rows, check_grad_out, settled
from gdcore.oracle.references.centred import Centred
from gdcore.oracle.references.mistakes import Mistakes
from gdcore.oracle.references.reference import Reference, all_finite
from gdcore.oracle.references.reference import make_reference as make

Array = NDArray[Any]
_ROUNDINGS = 64  # of float64, on the way to a bound, beside those of sums


def total(
    x: Any,
    axis: Any = -1,
    *,
    keepdims: bool = False,
    grad_out: Any = None,
    dtype: Any = None,
    accumulator: Any = None,
) -> Reference:
    """Return the reference of a sum over axes.

    A sum of n numbers is off by at most ``((1 + u)**n - 1) * abs(x).sum()`` in any order: one
    after the other, in pairs, in blocks, compensated (Kahan), as a product with ones (Higham,
    Accuracy and Stability of Numerical Algorithms, chapter 4); u is that of the accumulator. With
    an accumulator of more precision it is rounded once more for each axis.

    Parameters
    ----------
    x : array_like, any shape
    axis : int, tuple of int or None
        What the sum is over; None: all axes.
    keepdims : bool
        Whether the axes stay, of length 1.
    grad_out : array_like, shape of the sum, optional
        What the vector-Jacobian product is taken with.
    dtype, accumulator : optional
        The arithmetic under test, as in `matmul`.

    Returns
    -------
    Reference
        With `grad_out`, ``grad.x`` is that of the derivative of ``(grad_out * sum).sum()``.

    Raises
    ------
    ValueError
        If an axis is out of range or named twice, shapes do not fit, or the dtype is unknown.
    TypeError
        If an operand cannot be read as real numbers, or an axis is not an integer.

    Examples
    --------
    >>> from gdcore import oracle
    >>> ref = oracle.sum([[1.0, 2.0], [3.0, 4.0]], axis=0)
    >>> print(ref.value, ref.check([4.0, 6.5]).worst_status)
    [4. 6.] WRONG
    """
    return _reduced(_Sum, x, axis, keepdims, grad_out, dtype, accumulator)


def mean(
    x: Any,
    axis: Any = -1,
    *,
    keepdims: bool = False,
    grad_out: Any = None,
    dtype: Any = None,
    accumulator: Any = None,
) -> Reference:
    """Return the reference of a mean over axes.

    A mean of n numbers is off by at most ``((1 + u)**(n + 2) - 1) * abs(x).mean()``, whether the
    sum is divided, or the numbers are before they are added, or 1/n is rounded.

    Parameters
    ----------
    x, axis, keepdims, grad_out, dtype, accumulator
        As in `sum`.

    Returns
    -------
    Reference
        With `grad_out`, ``grad.x`` is that of the derivative of ``(grad_out * mean).sum()``.

    Raises
    ------
    ValueError, TypeError
        As `sum`; also for a mean over no elements.

    Examples
    --------
    >>> from gdcore import oracle
    >>> ref = oracle.mean([[1.0, 2.0], [3.0, 5.0]], grad_out=[1.0, 1.0])
    >>> print(ref.value, ref.grad.x.value.ravel())
    [1.5 4. ] [0.5 0.5 0.5 0.5]
    """
    return _reduced(_Mean, x, axis, keepdims, grad_out, dtype, accumulator)


def var(
    x: Any,
    axis: Any = -1,
    *,
    correction: float = 0,
    keepdims: bool = False,
    grad_out: Any = None,
    dtype: Any = None,
    accumulator: Any = None,
) -> Reference:
    """Return the reference of a variance over axes, ``((x - mean)**2).sum() / (n - correction)``.

    The correction is 0 by default, as in NumPy, JAX and the array API; torch's default is 1. The
    bound holds for two passes, Welford's and Chan's updates. The mean of the squares less the
    square of the mean may rightly be beyond it: it loses all digits where the mean is large
    beside the standard deviation (Chan, Golub and LeVeque 1983, Algorithms for computing the
    sample variance). With v divided by n, q the root of ``(x**2).mean()`` and
    ``s = G(n + 4) * q``, a variance is off by at most ``G(K) * v + (1 + G(K)) * (2 * sqrt(v) * s
    + 2 * s**2)``, ``K = n + 4 + 6 * sqrt(1 + log2(n))``, times n / (n - correction);
    docs/numerics.md derives it.

    Parameters
    ----------
    x, axis, keepdims, grad_out, dtype, accumulator
        As in `sum`.
    correction : float
        What is subtracted from n before the division.

    Returns
    -------
    Reference
        With `grad_out`, ``grad.x`` is that of the derivative of ``(grad_out * var).sum()``.

    Raises
    ------
    ValueError, TypeError
        As `sum`; also where n is not above the correction.

    Examples
    --------
    >>> from gdcore import oracle
    >>> ref = oracle.var([1.0, 2.0, 3.0, 4.0])
    >>> print(ref.value, oracle.var([1.0, 2.0, 3.0], correction=1).value)
    1.25 1.0
    """
    return _reduced(_Var, x, axis, keepdims, grad_out, dtype, accumulator, correction=correction)


def _reduced(
    kind: Any, x: Any, axis: Any, keepdims: bool, grad_out: Any, dtype: Any, accumulator: Any,
    **more: Any,
) -> Reference:  # fmt: skip
    arithmetic, given = take(dtype, accumulator, x=x, grad_out=grad_out)
    rows = Rows(given["x"].shape, axis)
    check_grad_out(given["grad_out"], rows.reduced(keepdims))
    operation = kind(arithmetic, rows, keepdims, given["x"], given["grad_out"], **more)
    reference: Reference = operation.reference()
    return reference


class _Reduction:
    """One number for each row, and its vector-Jacobian product."""

    name = "sum"

    def __init__(
        self, arithmetic: Arithmetic, rows: Rows, keepdims: bool, x: Array, grad_out: Array | None
    ) -> None:
        self.arithmetic, self.rows, self.given, self.grad_out = arithmetic, rows, x, grad_out
        self.shape = rows.reduced(keepdims)
        self.g, self.usual = Roundings(arithmetic), Roundings(arithmetic, typical=True)
        self.counted = int(rows.n > 2**arithmetic.sums.bits)  # the dtype does not hold n

    def reference(self) -> Reference:
        grad = None if self.grad_out is None else ReductionGrad(self)
        return settled(partial(self._of_rows, grad), self.rows.take(self.given))

    def gradient(self) -> Reference:
        assert self.grad_out is not None
        g = np.asarray(self.grad_out, np.float64).reshape(-1)
        return settled(self._of_gradient, self.rows.take(self.given), g)

    def values(self, x: Floats) -> DoubleDouble:
        return sum_along(exact(x), -1)

    def bound(self, x: Floats, value: DoubleDouble, g: Roundings) -> Floats:
        stores = g(0, len(self.rows.axes)) if not g.typical else 0.0
        size = np.abs(x).sum(-1)
        lost: Floats = g.sum(x, value.hi) + stores * size + g.converted(size)
        return lost * (1 + stores) + g.stored(np.abs(value.hi) if g.typical else 0.0)

    def largest(self, x: Floats) -> Floats:
        size: Floats = np.abs(x).sum(-1) * (1 + self.g(self.rows.n, len(self.rows.axes)))
        return size

    def mistakes(self, x: Floats) -> Mistakes:
        return mistakes.of_sum(self.rows, self.given, x, self.shape)

    def _of_rows(self, grad: Any, x: Floats) -> Reference:
        value = self.values(x)
        return make(
            self.name,
            value.map(lambda part: part.reshape(self.shape)),
            self.bound(x, value, self.g).reshape(self.shape),
            2 * self.rows.n + _ROUNDINGS,
            self.arithmetic,
            self.mistakes(x),
            size=self.largest(x).reshape(self.shape),
            stored=len(self.rows.axes) > 1,
            finite_inputs=all_finite(x),
            typical=lambda: self.bound(x, value, self.usual).reshape(self.shape),
            grad=grad,
        )

    def spread(self, x: Floats, g: Floats) -> tuple[DoubleDouble, Callable[[Roundings], Floats]]:
        """Return the vector-Jacobian product (R, n), and how far it is off."""
        value = exact(np.broadcast_to(g[:, None], x.shape))
        return value, lambda r: np.zeros(x.shape) + r.converted(np.abs(value.hi))

    def _of_gradient(self, x: Floats, g: Floats) -> Reference:
        value, bound = self.spread(x, g)
        return make(
            f"gradient of x, through the {self.name}",
            value.map(self.rows.back),
            self.rows.back(bound(self.g)),
            2 * self.rows.n + _ROUNDINGS,
            self.arithmetic,
            self.gradient_mistakes(x, g),
            size=self.rows.back(2 * np.abs(np.broadcast_to(g[:, None], x.shape)) + value.size),
            stored=False,
            finite_inputs=all_finite(x, g),
            typical=lambda: self.rows.back(bound(self.usual)),
        )

    def gradient_mistakes(self, x: Floats, g: Floats) -> Mistakes:
        return mistakes.of_spread(self.rows, g, 1.0, "the gradient of a sum")


class _Sum(_Reduction):
    pass


class _Mean(_Reduction):
    name = "mean"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        _check_count(self.name, self.rows, 0)

    def values(self, x: Floats) -> DoubleDouble:
        return divide(super().values(x), exact(float(self.rows.n)))

    def bound(self, x: Floats, value: DoubleDouble, g: Roundings) -> Floats:
        n, stores = self.rows.n, 0.0 if g.typical else g(0, len(self.rows.axes) + 1)
        size = np.abs(x).sum(-1) / n
        off = g.sum(x, value.hi * n, 2 + self.counted) / n
        lost: Floats = (off + stores * size + g.converted(size)) * (1 + stores) + n * g.tiny
        return lost + g.stored(np.abs(value.hi) if g.typical else 0.0)

    def mistakes(self, x: Floats) -> Mistakes:
        return mistakes.of_mean(self.rows, self.given, x, self.shape)

    def spread(self, x: Floats, g: Floats) -> tuple[DoubleDouble, Callable[[Roundings], Floats]]:
        value = divide(exact(g), exact(float(self.rows.n)))
        value = value.map(lambda part: np.broadcast_to(part[:, None], x.shape))
        size = value.size

        def bound(r: Roundings) -> Floats:
            growth = r(2 + self.counted, 2)
            off: Floats = growth * size + (1 + growth) * r.converted(size) + 2 * r.tiny
            return off

        return value, bound

    def gradient_mistakes(self, x: Floats, g: Floats) -> Mistakes:
        return mistakes.of_spread(self.rows, g, 1 / self.rows.n, "the gradient of a mean")


class _Var(_Reduction):
    name = "variance"

    def __init__(self, *given: Any, correction: float) -> None:
        super().__init__(*given)
        _check_count(self.name, self.rows, correction)
        self.correction = float(correction)
        self.divisor = self.rows.n - self.correction

    @property
    def _share(self) -> float:
        return self.rows.n / self.divisor

    def values(self, x: Floats) -> DoubleDouble:
        return divide(Centred(x).squares, exact(self.divisor))

    def bound(self, x: Floats, value: DoubleDouble, g: Roundings) -> Floats:
        off: Floats = Centred(x).variance_error(g) * self._share
        return off + g.stored(value.size if g.typical else 0.0)

    def largest(self, x: Floats) -> Floats:
        return Centred(x).largest(self.g)

    def mistakes(self, x: Floats) -> Mistakes:
        lost = Centred(x).one_pass_error(self.g) * self._share
        return mistakes.of_variance(self.rows, self.given, x, self.shape, self.correction, lost)

    def spread(self, x: Floats, g: Floats) -> tuple[DoubleDouble, Callable[[Roundings], Floats]]:
        rows = Centred(x)
        factor = divide(exact(2 * g), exact(self.divisor)).map(lambda part: part[:, None])
        value = times(rows.d, factor)
        size = np.abs(rows.d.hi)

        def bound(r: Roundings) -> Floats:
            mean = rows.stored_mean_error(r)[:, None]
            back = mean + r(self.rows.n + 6, 2) * (size.mean(-1, keepdims=True) + mean)
            growth = r(6, 5)
            off = (rows.deviation_error(r) + 2 * back) * (1 + growth) + growth * size
            lost: Floats = factor.size * (off + r.converted(size)) + (2 + size) * r.tiny
            return lost

        return value, bound

    def gradient_mistakes(self, x: Floats, g: Floats) -> Mistakes:
        return mistakes.of_variance_gradient(self.rows, x, g, self.correction)


class ReductionGrad:
    """Reference of the derivative, computed when it is first asked for."""

    def __init__(self, reduction: _Reduction) -> None:
        self._reduction = reduction

    @cached_property
    def x(self) -> Reference:
        """With respect to what is reduced, in its shape."""
        return self._reduction.gradient()


def _check_count(name: str, rows: Rows, correction: float) -> None:
    if not rows.n:
        raise ValueError(f"the {name} over 0 elements is not defined; pass data.")
    if not rows.n > correction:
        raise ValueError(
            f"the variance of {rows.n} elements is not defined with correction = {correction}; "
            "pass more data, or a smaller correction."
        )
