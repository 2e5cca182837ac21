"""Softmax, its logarithm, the logarithm of a sum of exponentials, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
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
    times,
)
from gdcore.oracle.numbers.elementary import sum_along
from gdcore.oracle.numbers.operands import take
from gdcore.oracle.references import softmax_mistakes as mistakes
from gdcore.oracle.references import softmax_vjp_mistakes as vjp_mistakes
from gdcore.oracle.references.exponentials import Exponentials
from gdcore.oracle.references.lines import Rows
from gdcore.oracle.references.mistakes import Mistakes
from gdcore.oracle.references.reference import Reference, all_finite
from gdcore.oracle.references.reference import make_reference as make

Array = NDArray[Any]


def softmax(
    x: Any, axis: int = -1, *, grad_out: Any = None, dtype: Any = None, accumulator: Any = None
) -> Reference:
    """Return the reference of softmax, ``exp(x) / exp(x).sum(axis)``.

    The bound holds where the largest element is subtracted first, in one pass or two, in blocks of
    any order whose sums are rescaled, for powers of 2 in place of e, for ``exp(x - logsumexp)``,
    and without any subtraction where nothing overflows or vanishes. It takes exponentials and
    logarithms to be off by at most 8 half ulps; docs/numerics.md derives it. Results of
    ``exp(x - logsumexp)`` for large x are within it, and SUSPECT where their errors are far above
    those of the subtraction (Blanchard, Higham and Higham 2021, "Accurately computing the
    log-sum-exp and softmax functions", IMA J. Numer. Anal. 41).

    Parameters
    ----------
    x : array_like, at least one dimension
        Elements of -inf have probability 0; rows with NaN, +inf or -inf alone are NaN.
    axis : int
    grad_out : array_like, shape of x, optional
        What the vector-Jacobian product is taken with.
    dtype : {"float32", "float64", "float16", "bfloat16", "tf32"}, optional
        The dtype under test; by default the operands'. TF32 has no meaning here beside float32.
    accumulator : {"float32", "float64"}, optional
        Where sums are kept, if in more precision than the dtype's; the rest is in the dtype.

    Returns
    -------
    Reference
        With `grad_out`, ``grad.x`` is that of the derivative of ``(grad_out * softmax(x)).sum()``.

    Raises
    ------
    ValueError
        If shapes do not fit, there is no such axis, or the dtype is unknown.
    TypeError
        If an operand cannot be read as real numbers.

    Examples
    --------
    >>> from gdcore import oracle
    >>> ref = oracle.softmax([0.0, 0.0], grad_out=[1.0, 0.0], dtype="float32")
    >>> print(ref.value, ref.grad.x.value)
    [0.5 0.5] [ 0.25 -0.25]
    >>> print(ref.check([0.5, 0.25]).worst_status)
    WRONG
    """
    return _of("softmax", x, axis, grad_out, dtype, accumulator)


def log_softmax(
    x: Any, axis: int = -1, *, grad_out: Any = None, dtype: Any = None, accumulator: Any = None
) -> Reference:
    """Return the reference of the logarithm of softmax, ``x - log(exp(x).sum(axis))``.

    Its bound holds for the same ways to compute it as that of `softmax`. An element of -inf stays
    so; the logarithm of a softmax that vanishes is WRONG.

    Parameters
    ----------
    x, axis, grad_out, dtype, accumulator
        As in `softmax`.

    Returns
    -------
    Reference
        With `grad_out`, ``grad.x`` is that of the vector-Jacobian product.

    Raises
    ------
    ValueError, TypeError
        As in `softmax`.

    Examples
    --------
    >>> from gdcore import oracle
    >>> print(oracle.log_softmax([0.0, -1000.0]).value)
    [    0. -1000.]
    """
    return _of("log_softmax", x, axis, grad_out, dtype, accumulator)


def logsumexp(
    x: Any,
    axis: int = -1,
    *,
    keepdims: bool = False,
    grad_out: Any = None,
    dtype: Any = None,
    accumulator: Any = None,
) -> Reference:
    """Return the reference of ``log(exp(x).sum(axis))``.

    Its bound holds for the same ways to compute it as that of `softmax`.

    Parameters
    ----------
    x : array_like, at least one dimension
        The result is infinite for rows with +inf, and -inf for rows of -inf alone or of no
        elements. Their derivatives get no verdict: libraries differ.
    axis : int
    keepdims : bool
        Whether the result keeps the axis, with one element.
    grad_out : array_like, shape of the result, optional
    dtype, accumulator : optional
        As in `softmax`.

    Returns
    -------
    Reference
        With `grad_out`, ``grad.x`` is that of the vector-Jacobian product.

    Raises
    ------
    ValueError, TypeError
        As in `softmax`.

    Examples
    --------
    >>> from gdcore import oracle
    >>> print(oracle.logsumexp([1000.0, 1000.0]).value)
    1000.6931471805599
    """
    return _of("logsumexp", x, axis, grad_out, dtype, accumulator, keepdims)


def _of(
    what: str,
    x: Any,
    axis: int,
    grad_out: Any,
    dtype: Any,
    accumulator: Any,
    keepdims: bool = False,
) -> Reference:
    arithmetic, given = take(dtype, accumulator, x=x, grad_out=grad_out)
    rows = Rows.of(what, given["x"].shape, axis)
    reduced = what == "logsumexp"
    shape = rows.reduced(keepdims) if reduced else rows.shape
    g = given["grad_out"]
    if g is not None and g.shape != shape:
        raise ValueError(
            f"{what}: grad_out has shape {g.shape}; the result has shape {shape}: pass one number "
            "for each of its elements."
        )
    soft = Soft(arithmetic, rows, given["x"], shape)
    with np.errstate(all="ignore"):
        grad = None if g is None else SoftmaxGrad(what, soft, g)
        return replace(_VALUES[what](soft), grad=grad)


@dataclass(frozen=True, eq=False)
class Soft:
    """Rows of an array, and what is known of their exponentials."""

    arithmetic: Arithmetic
    rows: Rows
    x: Array
    shape: tuple[int, ...]  # of logsumexp

    @cached_property
    def exponentials(self) -> Exponentials:
        """Exact numbers and bounds, of rows (R,n)."""
        return Exponentials(self.arithmetic, self.rows.take(self.x))

    def softmax(self) -> Reference:
        """Return the reference of softmax."""
        t = self.exponentials
        return self.reference(
            "softmax", t.p, t.of_p, lambda: t.usual_p + self.tiny,
            mistakes.of_softmax(self.rows, self.x, self.arithmetic.store),
            size=t.total.hi * np.exp(t.of_total),
        )  # fmt: skip

    def log_softmax(self) -> Reference:
        """Return the reference of its logarithm."""
        t = self.exponentials
        size = np.maximum(np.abs(t.x) + np.abs(t.shift), t.total.hi * np.exp(t.of_total))
        return self.reference(
            "log-softmax", t.z, t.of_z, lambda: t.usual_z + self.tiny,
            mistakes.of_log_softmax(self.rows, self.x, self.arithmetic.store),
            size=np.where(np.isinf(t.x), 0.0, size),
        )  # fmt: skip

    def logsumexp(self) -> Reference:
        """Return the reference of the logarithm of the sum."""
        t = self.exponentials
        return self.reference(
            "logsumexp", t.lse, t.of_lse, lambda: t.usual_lse + self.tiny,
            mistakes.of_logsumexp(self.rows, self.x, self.arithmetic.store),
            size=t.total.hi * np.exp(t.of_total), shape=self.shape,
        )  # fmt: skip

    @property
    def tiny(self) -> float:
        """The smallest number, which any result may be off by."""
        return self.arithmetic.store.tiny

    def reference(
        self,
        name: str,
        value: DoubleDouble,
        bound: Floats,
        typical: Callable[[], Any],
        known: Mistakes,
        *,
        size: Any,
        shape: tuple[int, ...] | None = None,
        finite: bool = True,
    ) -> Reference:
        """Return a reference of rows (R,n), or (R,1) where `shape` is that of one number a row."""
        back = self.rows.back if shape is None else lambda part: part.reshape(shape)
        made = make(
            name,
            value.map(back),
            back(np.broadcast_to(bound, value.hi.shape)),
            2 * self.exponentials.count + 64,
            self.arithmetic,
            known,
            size=back(np.broadcast_to(size, value.hi.shape)),
            stored=False,
            finite_inputs=finite and all_finite(self.x, value.hi),
            typical=lambda: back(np.broadcast_to(typical(), value.hi.shape)),
        )
        return replace(made, _least_typical=0.0)


_VALUES: dict[str, Callable[[Soft], Reference]] = {
    "softmax": Soft.softmax,
    "log_softmax": Soft.log_softmax,
    "logsumexp": Soft.logsumexp,
}


class SoftmaxGrad:
    """References of the derivatives, each computed when it is first asked for."""

    def __init__(self, what: str, soft: Soft, grad_out: Array) -> None:
        self._what, self._soft = what, soft
        rows = soft.rows
        one = what == "logsumexp"
        self._g = grad_out.reshape(-1, 1).astype(np.float64) if one else rows.take(grad_out)
        self._finite = all_finite(grad_out)

    @cached_property
    def x(self) -> Reference:
        """Return the reference of the derivative with respect to x."""
        of = {
            "softmax": self._softmax, "log_softmax": self._log_softmax,
            "logsumexp": self._logsumexp,
        }[self._what]  # fmt: skip
        with np.errstate(all="ignore"):
            return of()

    def _softmax(self) -> Reference:
        """Return p (g - sum(g p))."""
        soft, g, t = self._soft, self._g, self._soft.exponentials
        dot = _total(times(exact(g), t.p))
        value = times(t.p, add(exact(g), negative(dot)))
        p, off, size = t.p.hi, t.of_p, np.abs(g)
        sums = self._growth(t.count + 1)
        most = _sum(size * p)
        of_dot = (1 + sums) * _sum(size * off) + sums * most + t.count * self._tiny
        last = self._growth(1, 4)
        bound = off * (size + most + of_dot) + p * of_dot
        bound = (1 + last) * bound + last * p * (size + most) + self._tiny * (2 + size + most)

        def typical() -> Floats:
            usual = t.usual_p
            of_sum = np.sqrt(_sum((g * usual) ** 2)) + t.sum_unit * np.sqrt(
                _sum((g * p) ** 2) * t.count / 3 + dot.hi**2
            )
            rest = np.abs(g - dot.hi)
            result: Floats = usual * rest + p * (of_sum + 2 * t.unit * (rest + np.abs(dot.hi)))
            return result

        return self._reference(
            value, bound, typical, (1 + off) * (size + most + of_dot),
            vjp_mistakes.of_softmax_vjp(soft.rows, soft.x, g),
        )  # fmt: skip

    def _log_softmax(self) -> Reference:
        """Return g - p sum(g)."""
        soft, g, t = self._soft, self._g, self._soft.exponentials
        total = _total(exact(g))
        value = add(exact(g), negative(times(t.p, total)))
        p, off, size, most = t.p.hi, t.of_p, np.abs(g), _sum(np.abs(g))
        sums = self._growth(t.count + 1)
        last = self._growth(1, 4)
        bound = (1 + sums) * off * most + sums * p * most
        bound = (1 + last) * bound + last * (size + p * most) + self._tiny * (2 + most)

        def typical() -> Floats:
            of_sum = t.sum_unit * np.sqrt(_sum(g**2) * t.count / 3 + total.hi**2)
            result: Floats = t.usual_p * np.abs(total.hi) + p * of_sum
            return result + 2 * t.unit * (size + p * np.abs(total.hi))

        return self._reference(
            value, bound, typical, (1 + off) * (size + most),
            vjp_mistakes.of_log_softmax_vjp(soft.rows, soft.x, g),
        )  # fmt: skip

    def _logsumexp(self) -> Reference:
        """Return g p; no verdict for rows whose largest element is infinite."""
        soft, g, t = self._soft, self._g, self._soft.exponentials
        value = times(exact(g), t.p)
        open_ = np.isinf(t.largest) & np.ones(t.x.shape, bool)
        value = value._replace(hi=np.where(open_, 0.0, value.hi))
        size, last = np.abs(g), self._growth(1, 3)
        bound = size * ((1 + last) * t.of_p + last * t.p.hi) + self._tiny * (2 + size)
        reference = self._reference(
            value, bound,
            lambda: size * (t.usual_p + t.unit * (2 + np.abs(t.lse.hi)) * t.p.hi),  # exp(x - lse)
            size, vjp_mistakes.of_logsumexp_vjp(soft.rows, soft.x, g),
        )  # fmt: skip
        back = soft.rows.back(open_)
        return replace(
            reference,
            bound=np.where(back, np.inf, reference.bound),
            slack=np.where(back, np.inf, reference.slack),
        )

    @property
    def _tiny(self) -> float:
        return self._soft.exponentials.least

    def _growth(self, sums: float, stores: float = 2) -> float:
        a = self._soft.arithmetic
        return a.growth(sums, stores * (1 + a.final) + 2 * a.converted)

    def _reference(
        self, value: DoubleDouble, bound: Floats, typical: Callable[[], Any], size: Any,
        known: Mistakes,
    ) -> Reference:  # fmt: skip
        return self._soft.reference(
            "gradient of x", value, bound, lambda: typical() + self._soft.tiny, known,
            size=size, finite=self._finite,
        )  # fmt: skip


def _total(x: DoubleDouble) -> DoubleDouble:
    """Return the sums of rows (R,1)."""
    return sum_along(x, 1).map(lambda part: part[:, None])


def _sum(x: Any) -> Floats:
    total: Floats = np.sum(x, axis=1, keepdims=True)
    return total
