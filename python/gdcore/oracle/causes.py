"""The likely cause of a wrong result: its error, projected on known mistakes.

Each known mistake says what it would have made of the result. The one that explains the result
within rounding errors is named, and all of them where several do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gdcore.oracle.products import PRECISIONS
from gdcore.oracle.reference import Reference
from gdcore.oracle.verdict import Status
from gdcore.oracle.wide import Floats

_SLACK = 4.0  # bounds of the right result that a mistaken one may be off by


class Cause(NamedTuple):
    """What explains a wrong result: the mistake alone, and a sentence on this very result."""

    name: str
    sentence: str


def find_causes(actual: Floats, reference: Reference, status: Any) -> list[Cause]:
    """Return the mistakes that explain a result, the likeliest ones first; often one, or none.

    Parameters
    ----------
    actual : ndarray of float64
    reference : Reference
    status : ndarray of Status
        What `Reference.check` found.

    Examples
    --------
    >>> from gdcore import oracle
    >>> ref = oracle.mse([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]).grad.pred
    >>> actual = ref.value / 2
    >>> print(find_causes(actual, ref, ref.check(actual).status)[0].sentence)
    0.500 times the mean-loss gradient with n = 3: 1/n instead of 2/n.
    """
    with np.errstate(all="ignore"):
        if not np.isfinite(actual).all():
            odd = ~np.isfinite(actual)
            return (
                _overflow(actual, odd, reference)
                or _unwritten(actual, reference, odd)
                or _nan(actual)
            )
        return (
            _flushed(actual, reference, status >= Status.WRONG)
            or _factors(actual, reference)
            or _alternatives(actual, reference)
            or _rounding(actual, reference)
            or _place(actual, reference, status >= Status.WRONG)
            or _any_factor(actual, reference)
        )


def _fits(actual: Floats, other: Floats, reference: Reference, factor: float = 1.0) -> bool:
    """Whether a result is the other one but for rounding, and that one is not the right one."""
    if np.shape(other) != reference.value.shape:
        return False
    slack = np.where(np.isinf(reference.slack), 0.0, reference.slack)
    unit = reference.arithmetic.store.unit
    allowed = _SLACK * (max(1.0, abs(factor)) * slack + unit * np.abs(other))
    explained = np.abs(actual - other) <= allowed
    distinct = np.abs(other - reference.value) > allowed
    return bool(explained.all() and distinct.any())


def _factors(actual: Floats, reference: Reference) -> list[Cause]:
    found = [
        factor
        for factor in reference.mistakes.factors
        if _fits(actual, factor.value * reference.value, reference, factor.value)
    ]
    if not found:
        return []
    causes = list(dict.fromkeys(factor.cause for factor in found))
    times = f"{found[0].value:.3f} times {reference.mistakes.of}"
    return [
        Cause(cause, f"{times}: {', or '.join([cause, *(c for c in causes if c != cause)])}.")
        for cause in causes
    ]


def _alternatives(actual: Floats, reference: Reference) -> list[Cause]:
    found = [
        alternative.cause
        for alternative in reference.mistakes.alternatives()
        if _fits(actual, alternative.value(), reference)
    ]
    return [Cause(cause, _likely(cause)) for cause in dict.fromkeys(found)]


def _rounding(actual: Floats, reference: Reference) -> list[Cause]:
    """Find a result of fewer bits than its dtype has."""
    if reference.arithmetic.store.bits <= 11:
        return []
    found = []
    for precision, narrow in PRECISIONS.items():
        near = np.abs(actual - narrow(reference.value)) <= _SLACK * reference.slack + (
            np.abs(actual - reference.value) * 1e-9
        )
        short = (narrow(actual) == actual).all() and not np.all(
            narrow(reference.value) == reference.value
        )
        step = 2.0**-7 if precision == "bfloat16" else 2.0**-10
        close = np.abs(actual - reference.value) <= step * np.abs(reference.value) + reference.slack
        if short and (near.all() or close.all()):
            found.append(f"the result is rounded through {precision}")
    return [Cause(cause, _likely(cause)) for cause in found]


def _overflow(actual: Floats, odd: Any, reference: Reference) -> list[Cause]:
    """Find infinities, of the right sign, just where float16 ends."""
    narrow = PRECISIONS["float16"](reference.value)
    same = np.array_equal(odd, ~np.isfinite(narrow)) and np.array_equal(actual[odd], narrow[odd])
    if not same:
        return []
    cause = "the result is rounded through float16"
    return [Cause(cause, f"Not finite just where float16 ends, beyond 65504: {cause}.")]


def _nan(actual: Floats) -> list[Cause]:
    """Tell of NaN where nothing more is known."""
    count = int(np.isnan(actual).sum())
    if not count:
        return []
    told = "Every element is" if count == actual.size else f"{count} of {actual.size} elements are"
    return [Cause("NaN", f"{told} NaN: 0/0, inf - inf, or memory that nobody wrote?")]


def _flushed(actual: Floats, reference: Reference, wrong: Any) -> list[Cause]:
    """Find zeros where sums of a thousand numbers below the normal ones would be."""
    store, size = reference.arithmetic.store, np.abs(reference.value[wrong])
    small = 2.0**10 * store.tiny * 2.0 ** (store.bits - 1)
    if not size.size or np.any(actual[wrong]) or not np.all((size > 0) & (size < small)):
        return []
    cause = "numbers below the normal ones are flushed to zero"
    return [Cause(cause, _likely(cause))]


def _place(actual: Floats, reference: Reference, wrong: Any) -> list[Cause]:
    """Find what is wrong with some elements alone."""
    if not wrong.any() or (wrong.all() and wrong.size > 1 and np.any(actual)):
        return []
    bad, right = actual[wrong], reference.value[wrong]
    slack = _SLACK * np.broadcast_to(reference.slack, actual.shape)[wrong]
    if np.all(np.abs(bad + right) <= slack):
        first = [int(i) for i in np.argwhere(wrong)[0]]
        more = f" and {int(wrong.sum()) - 1} more" if wrong.sum() > 1 else ""
        return [Cause("the sign is wrong", f"The sign of element {first}{more} is wrong.")]
    return _unwritten(actual, reference, wrong)


def _unwritten(actual: Floats, reference: Reference, wrong: Any) -> list[Cause]:
    """Find elements at the end that nobody computed."""
    where = _tail(wrong)
    if where is None:
        return []
    if not np.any(actual[wrong]):
        what = "zero"
    elif np.isfinite(actual[wrong]).all():
        what = "none of the right size"
    else:
        what = "not all finite"
    cause = "an uninitialised tail"
    return [
        Cause(cause, f"Only {where} are wrong, and {what}: {cause}, left by a loop over blocks.")
    ]


def _tail(wrong: Any) -> str | None:
    """Name the last rows or elements, if they alone are wrong: half of them at most."""
    for axis in range(wrong.ndim):
        others = tuple(i for i in range(wrong.ndim) if i != axis)
        lines, full = wrong.any(axis=others), wrong.shape[axis]
        first = int(np.argmax(lines))
        if lines.any() and 2 * first >= full and lines[first:].all():
            return f"the last {full - first} of {full} along axis {axis}"
    flat = wrong.reshape(-1)
    first = int(np.argmax(flat))
    if flat.any() and 2 * first >= flat.size and flat[first:].all():
        return f"the last {flat.size - first} of {flat.size} elements"
    return None


def _any_factor(actual: Floats, reference: Reference) -> list[Cause]:
    value = reference.value
    if np.any(value) and not np.any(actual):
        return [Cause("all zero", "Every element is zero.")]
    if np.count_nonzero(value) < 3:
        return []
    factor = float(np.vdot(value, actual) / np.vdot(value, value))
    if (
        not abs(factor) > 1e-6
        or not np.isfinite(factor)
        or not _fits(actual, factor * value, reference, factor)
    ):
        return []
    cause = "a wrong factor"
    return [Cause(cause, f"{factor:.6g} times {reference.mistakes.of}: {cause}.")]


def _likely(cause: str) -> str:
    return f"Likely cause: {cause}."
