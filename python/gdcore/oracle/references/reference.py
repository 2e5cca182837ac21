"""A reference value, how far a right result may lie from it, and how far it usually does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from gdcore.oracle.numbers.arithmetic import Arithmetic
from gdcore.oracle.numbers.double_double import DoubleDouble, Floats, up
from gdcore.oracle.numbers.intake import to_numpy
from gdcore.oracle.references.mistakes import Mistakes
from gdcore.oracle.references.verdict import Verdict, judge

SUSPICION = 16.0  # times the typical error: rounding hardly ever comes to more


@dataclass(frozen=True, eq=False)
class Reference:
    """The right result to more than the precision under test, and how far others may be off.

    Attributes
    ----------
    name : str
        What it is, such as "product" or "gradient of the weights".
    value : ndarray of float64
        The result. `value + tail` is the result to twice the precision of float64 where that is
        under test; `tail` is 0 for less precise data.
    bound : ndarray of float64
        Certified for each element: every order of summation, fused or not, of the dtype and the
        accumulator under test stays within it, the reference's own error counted in. Infinite
        where a sum may overflow.
    grad : object or None
        References of the derivatives, each computed when it is first asked for.
    """

    name: str
    value: Floats
    tail: Floats
    bound: Floats
    arithmetic: Arithmetic
    mistakes: Mistakes
    finite_inputs: bool = True
    grad: Any = None
    slack: Floats = field(default_factory=lambda: np.zeros(()))
    _typical: Callable[[], Any] = field(default=lambda: np.zeros(()))
    _least_typical: float = 0.0  # times the bound

    def __repr__(self) -> str:
        return f"<Reference: {self.name} of shape {self.value.shape}, {self.arithmetic.name}>"

    @cached_property
    def typical(self) -> Floats:
        """Size of the rounding errors to be expected, from a random model: no proof."""
        with np.errstate(all="ignore"):
            typical: Floats = np.broadcast_to(self._typical(), self.value.shape)
        return typical

    def ulp_of(self, value: Any) -> Any:
        """Return the unit in the last place of values, in the dtype under test."""
        store = self.arithmetic.store
        _, exponent = np.frexp(value)
        ulp = np.ldexp(1.0, np.maximum(exponent - store.bits, store.least))
        return np.where(np.equal(value, 0), store.tiny, ulp)

    def undecided_where(self, rest: Reference) -> Reference:
        """Return the reference without a verdict where another may overflow.

        That of the finite operands alone: their sum, overflown, makes NaN of an infinity.
        """
        open_ = np.isinf(rest.bound)
        return replace(
            self,
            bound=np.where(open_, np.inf, self.bound),
            slack=np.where(open_, np.inf, self.slack),
        )

    def exactly(self) -> Reference:
        """Return the reference for data whose every partial sum is exact: a bound of 0."""
        zero = np.zeros(())
        return replace(self, bound=np.zeros_like(self.value), _typical=lambda: zero)

    def check(self, actual: Any, *, factor: float = SUSPICION) -> Verdict:
        """Compare a result with the reference.

        Parameters
        ----------
        actual : array_like
            Of any library; the shape of `value`.
        factor : float
            Errors above this many times `typical` are SUSPECT.

        Returns
        -------
        Verdict
            True if nothing is proven wrong.

        Raises
        ------
        ValueError
            If the shape differs.
        TypeError
            If `actual` cannot be read as real numbers.

        Examples
        --------
        >>> from gdcore import oracle
        >>> ref = oracle.matmul([[1.0, 2.0]], [[3.0], [4.0]], dtype="float32")
        >>> print(ref.check([[11.0]]))
        product: OK, at most 0 ulps off
        >>> print(ref.check([[11.5]]).worst_status)
        WRONG
        """
        given = to_numpy("actual", actual)
        if given.shape != self.value.shape:
            raise ValueError(
                f"the {self.name} has shape {given.shape} instead of {self.value.shape}."
            )
        if not factor > 0:
            raise ValueError(f"factor is {factor!r}; it must be a positive number such as 16.")
        return judge(
            self.name,
            given.astype(np.float64, copy=False),
            self.value,
            self.tail,
            self.bound,
            lambda error: self._suspicious(error, factor),
            self.ulp_of,
            not self.finite_inputs,
        )

    def _suspicious(self, error: Floats, factor: float) -> Any:
        """Return which errors are suspect; what is typical is only computed if one may be."""
        if not np.any(error > factor * self._least_typical * self.slack):
            return False
        suspect = error > factor * self.typical
        return suspect & (error > self.arithmetic.store.tiny)


def make_reference(
    name: str,
    result: DoubleDouble,
    bound: Any,
    roundings: float,
    arithmetic: Arithmetic,
    mistakes: Mistakes,
    *,
    size: Any,
    stored: bool,
    finite_inputs: bool,
    typical: Callable[[], Any],
    grad: Any = None,
) -> Reference:
    """Return a reference whose bound holds, the error of its own result counted in.

    `bound` was evaluated with `roundings` roundings in a row. `size` is the largest magnitude that
    any partial sum may have, `stored` whether sums are rounded to the dtype before they are scaled;
    beyond the range of what holds them every result is right.
    """
    with np.errstate(all="ignore"):
        value, tail = result.hi, np.broadcast_to(result.lo, result.hi.shape)
        total = up(np.asarray(bound) + result.error, roundings)
        store, sums = arithmetic.store, arithmetic.sums
        largest = store.largest if stored else sums.largest
        most = up(_most(size), roundings) + _most(total)
        if not (most <= largest and _most(np.abs(value)) + _most(total) <= store.largest):
            over = up(size, roundings) + total > largest
            over = over | (np.abs(value) + total > store.largest)
            total = np.where(over | np.isnan(total), np.inf, total)
        total = np.broadcast_to(total, value.shape)
    if not finite_inputs:  # what is not finite must be so, and what is must be right
        total = np.where(np.isfinite(value) | ~np.isinf(total), total, 0.0)
    least = 1 / (roundings + 4)  # by Cauchy and Schwarz
    return Reference(
        name, value, tail, total, arithmetic, mistakes, finite_inputs, grad, total, typical, least
    )


def _most(x: Any) -> float:
    """Return the largest element, NaN if there is one."""
    return float(np.max(x, initial=0.0))


def all_finite(*arrays: Any) -> bool:
    """Whether there is neither NaN nor infinity in any of them."""
    return all(bool(np.isfinite(array).all()) for array in arrays if array is not None)
