"""The unit and the limits of each element of one golden result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.trials.bias import LIMIT as BIAS
from gdcore.oracle.trials.bias import bias
from gdcore.oracle.trials.golden import ROUNDING, SMALLEST, Golden
from gdcore.oracle.trials.operand import Operand

Array = NDArray[Any]

LARGEST = {
    "float64": float(np.finfo(np.float64).max),
    "float32": float(np.finfo(np.float32).max),
    "float16": 65504.0,
    "bfloat16": float(np.finfo(np.float32).max),
}
FLOOR, SLACK, SUSPICIOUS = 8.0, 4.0, 16.0
NARROW = ("float16", "bfloat16")
NARROW_FLOOR, NARROW_SLACK, NARROW_SUSPICIOUS = 2.0, 2.0, 2.0
OCTAVES = 2  # of the golden result: eager's errors there are its neighbours' errors


@dataclass(frozen=True, eq=False)
class Scale:
    """One golden result with the unit and the limits of each element.

    Attributes
    ----------
    golden, unit : ndarray
    right, wrong : ndarray
        Units up to which an element is right, and beyond which it is wrong.
    judged : ndarray of bool
        Elements whose finite value is judged.
    infinite : ndarray of bool
        Elements that must be infinite.
    dtypes : tuple of str
        That the result may have; empty: any.
    plain : ndarray of bool, optional
        Elements whose unit is a rounding of their own, if errors that point the same way count.
    bias : float
        How large, in units, their mean over a row may be.
    """

    golden: Array
    unit: Array
    right: Array
    wrong: Array
    judged: Array
    infinite: Array
    dtypes: tuple[str, ...] = ()
    plain: Array | None = None
    bias: float = np.inf

    def chance(self, other: Scale) -> float:
        """Return how likely a result that is right for `other` is right here by chance.

        Each element is taken to lie anywhere between the two golden values.
        """
        if self.golden.shape != other.golden.shape:
            return 1.0
        use = self.judged & other.judged
        with np.errstate(all="ignore"):
            gap = np.abs(self.golden - other.golden.astype(np.float64))[use]
            width = 2 * (other.right * other.unit)[use]
            likely = np.where(gap > width, width / gap, 1.0)
            return float(np.exp(np.log(likely).sum()))

    def units_of(self, values: Array) -> Array:
        """Return how far values are off: inf where they are not finite, 0 where not judged."""
        with np.errstate(all="ignore"):
            error = np.abs(values.astype(np.float64) - self.golden) / self.unit
            error = np.where(np.isnan(error), np.inf, error)
            error = np.where(self.judged, error, 0.0)
            return np.where(self.infinite & (values != self.golden), np.inf, error)


def precision(operands: Sequence[Operand], result: str | None = None) -> str:
    """Return the dtype that counts: the coarsest of the inputs', else the result's."""
    dtypes = [x.dtype for x in operands if x.is_float]
    return max(dtypes, key=lambda d: ROUNDING[d], default=result or "float32")


def errors_of(scale: Scale, result: Operand) -> Array:
    """Return the errors of an implementation in units, 0 where it is not finite."""
    if result.shape != scale.golden.shape:
        return np.zeros(scale.golden.shape)
    units = scale.units_of(result.values())
    return np.where(np.isfinite(units), units, 0.0)


def scale_of(
    result: Golden,
    operands: Sequence[Operand],
    theirs: Operand | None,
    own: Array | None,
    named: bool,
) -> Scale:
    """Return the scale of a golden result.

    Parameters
    ----------
    result : Golden
    operands : sequence of Operand
        The inputs.
    theirs : Operand or None
        What the eager function returned, if anything.
    own : ndarray or None
        Errors, in units, that golden itself is likely to have.
    named : bool
        Whether the eager function is the one that the kernel replaces, so that its dtype is the
        only right one.
    """
    values = result.values
    shape = values.shape
    if values.dtype.kind != "f":
        judged = result.steady
        if theirs is not None and theirs.shape == shape:
            judged = judged & (theirs.values() == values)
        exact, none = np.ones(shape), np.zeros(shape, bool)
        return Scale(values, exact, exact * 0.5, exact * 0.5, judged, none)
    dtype = precision(operands, theirs.dtype if theirs is not None else None)
    with np.errstate(all="ignore"):
        judged = np.isfinite(values) & (np.abs(values) < LARGEST[dtype] * 0.5) & result.steady
        infinite = np.isinf(values)
        size = np.where(judged, np.abs(values), 0.0)
    unit = np.maximum(np.maximum(result.spread, ROUNDING[dtype] * size), SMALLEST[dtype])
    scale = Scale(values, unit, unit, unit, judged, infinite)
    usual = np.zeros(shape)
    dtypes: tuple[str, ...] = ()
    if theirs is not None and theirs.shape == shape:
        got = theirs.values()
        with np.errstate(all="ignore"):
            judged = judged & np.isfinite(got)
            infinite = infinite & (got == values)
        scale = Scale(values, unit, unit, unit, judged, infinite)
        usual = _local(errors_of(scale, theirs), size)
        dtypes = (theirs.dtype,) if named else (theirs.dtype, precision(operands, theirs.dtype))
    if own is not None and own.shape == shape:
        usual = np.maximum(usual, _local(own, size))
    longest = _longest(operands, values.size)
    right, wrong = _limits(usual, dtype, longest)
    if own is not None:  # golden's own errors come on top
        right = np.maximum(right, 2 * longest**0.5) + _local(own, size)
    wrong = np.maximum(right, wrong)
    if dtype not in NARROW:
        return Scale(values, unit, right, wrong, judged, infinite, dtypes)
    plain = judged & (unit <= 2 * ROUNDING[dtype] * size)
    usual_bias = 0.0
    if theirs is not None and theirs.shape == shape:
        usual_bias = bias(theirs.values(), values, unit, plain, dtype)
    allowed = max(BIAS, NARROW_SLACK * usual_bias)
    return Scale(values, unit, right, wrong, judged, infinite, dtypes, plain, allowed)


def _longest(operands: Sequence[Operand], outputs: int) -> float:
    """Return about how many numbers a result is made of."""
    lengths = [n for x in operands for n in x.shape]
    inputs = sum(x.size for x in operands if x.is_float)
    return max(*lengths, inputs / max(1, outputs), 1.0) if lengths else 1.0


def _limits(usual: Array, dtype: str, longest: float) -> tuple[Array, Array]:
    if dtype in NARROW:
        right = np.maximum(NARROW_FLOOR, NARROW_SLACK * usual)
        return right, right * NARROW_SUSPICIOUS
    right = np.maximum(FLOOR, SLACK * usual)
    wrong = right * max(SUSPICIOUS, 2 * longest**0.5)
    return np.maximum(right, longest**0.5), wrong


def _local(errors: Array, size: Array) -> Array:
    """Return the largest error among elements of about the same size.

    A formula that cancels for small results, such as 1 + erf(x), has large errors there and
    nowhere else, so that one number for all elements would hide mistakes.
    """
    if not errors.size:
        return errors
    with np.errstate(divide="ignore"):
        octave = np.where(size > 0, np.log2(np.where(size > 0, size, 1.0)), -2000.0)
    bins = np.floor(octave / OCTAVES).astype(np.int64).reshape(-1)
    bins -= bins.min()
    most = np.zeros(int(bins.max()) + 3)
    np.maximum.at(most, bins + 1, errors.reshape(-1))
    near = np.maximum(np.maximum(most[:-2], most[1:-1]), most[2:])
    return near[bins].reshape(errors.shape)
