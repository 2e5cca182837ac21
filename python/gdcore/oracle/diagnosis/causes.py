"""The likely cause of a wrong result: its error, projected on known mistakes.

Each known mistake says what it would have made of the result. The one that explains the result
within rounding errors is named, and all of them where several do. A sample of the elements comes
first: what does not explain it does not explain the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gdcore.oracle.diagnosis.case import Case
from gdcore.oracle.diagnosis.parts import bad_parts, idle_parts, listed, of_stack, other_parts
from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.references.mistakes import (
    ALL,
    PRECISIONS,
    SLACK,
    Array,
    Cause,
    Where,
    usual_blocks,
)
from gdcore.oracle.references.reference import Reference
from gdcore.oracle.references.verdict import Status, Verdict

_TERMS = 1 << 22  # numbers read to find how many terms are missing
_CHANCE = 0.01  # of an unusual number of terms that explains an error by accident
_FIRST, _LAST = 1, -1  # steps along the terms, from either end
_ENDS: tuple[tuple[str, int, Callable[[Any, Any, Any], Floats]], ...] = (
    ("the last{} is dropped", _LAST, lambda value, part, share: value - part),
    ("the last{} is counted twice", _LAST, lambda value, part, share: value + part),
    ("the first{} is dropped", _FIRST, lambda value, part, share: value - part),
    (
        "the last{} is dropped, and the division is by n - {}",
        _LAST,
        lambda value, part, share: share * (value - part),
    ),
)


def find_causes(actual: Floats, reference: Reference, verdict: Verdict) -> list[Cause]:
    """Return the mistakes that explain a result, the likeliest ones first; often one, or none.

    Parameters
    ----------
    actual : ndarray of float64
    reference : Reference
    verdict : Verdict
        What `Reference.check` found.

    Examples
    --------
    >>> from gdcore import oracle
    >>> ref = oracle.mse([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]).grad.pred
    >>> actual = ref.value / 2
    >>> print(find_causes(actual, ref, ref.check(actual))[0].sentence)
    0.500 times the mean-loss gradient with n = 3: 1/n instead of 2/n.
    """
    with np.errstate(all="ignore"):
        wrong = verdict.status >= Status.WRONG
        case = Case(actual, reference, verdict, wrong)
        if not np.isfinite(reference.value).all():
            return (
                _beside_infinities(case)
                or _lost(case, wrong)
                or _spread(case, wrong)
                or _any_place(case, wrong)
            )
        if not np.isfinite(actual).all():
            odd = ~np.isfinite(actual)
            return (
                _beside_infinities(case)
                or _overflow(actual, odd, reference)
                or idle_parts(case, wrong)
                or _unwritten(actual, reference, odd)
                or _nan(actual)
            )
        return (
            _flushed(actual, reference, wrong)
            or idle_parts(case, wrong)
            or other_parts(case, wrong)
            or _factors(case)
            or [*_alternatives(case), *_left_out(case), *_added(case)]
            or _losses(case, wrong)
            or _rounding(case)
            or _any_place(case, wrong)
            or _any_factor(case)
        )


def _factors(case: Case) -> list[Cause]:
    found = [
        factor
        for factor in case.mistakes.factors
        if case.is_like(lambda where, f=factor: f.value * case.value[where], factor.value)  # type: ignore[misc]
    ]
    if not found:
        return []
    causes = list(dict.fromkeys(factor.cause for factor in found))
    times = f"{found[0].value:.3f} times {case.mistakes.of}"
    return [
        Cause(cause, f"{times}: {', or '.join([cause, *(c for c in causes if c != cause)])}.")
        for cause in causes
    ]


def _alternatives(case: Case) -> list[Cause]:
    known = (*case.mistakes.alternatives(), *case.mistakes.nonfinite())
    found = [each.cause for each in known if case.is_like(each.of)]
    return [Cause(cause, _likely(cause)) for cause in dict.fromkeys(found)]


def _beside_infinities(case: Case) -> list[Cause]:
    """Find the mistake that explains NaN and infinities in the same places, and the rest."""
    found = []
    for each in case.mistakes.nonfinite():
        if _is_same(case, each.of(ALL)):
            found.append(each.cause)
    for each in case.mistakes.alternatives():
        other = each.of(ALL)
        if case.equals(other, case.actual) and not case.equals(other, case.value):
            found.append(each.cause)
    return [Cause(cause, _likely(cause)) for cause in dict.fromkeys(found)]


def _left_out(case: Case) -> Iterator[Cause]:
    """Find how many terms at an end are missing, or there twice: the number that fits best."""
    for terms in case.mistakes.terms():
        if terms.number < 2:
            continue
        n, sample = terms.number, case.sample[: max(1, _TERMS // max(terms.cost, 1))]
        each, value = terms.at(sample), case.value[sample, None]
        sums = {at: np.cumsum(each[:, ::at], axis=1)[:, :-1] for at in (_FIRST, _LAST)}
        shares = n / (n - np.arange(1, n))
        for sentence, end, change in _ENDS[: 4 if terms.mean else 3]:
            count = _count(case, sample, change(value, sums[end], shares), each)
            if not count:
                continue
            part = terms.total(slice(0, count) if end == _FIRST else slice(n - count, n))
            whole = change(case.value, part, n / (n - count))
            if case.is_like(whole.__getitem__):
                block = "" if count == 1 else f" block of {count}"
                cause = sentence.format(f"{block} of the {terms.what}", count) + terms.where
                yield Cause(cause, _likely(cause))


def _count(case: Case, sample: Array, others: Floats, each: Floats) -> int:
    """Return the number of terms, from 1, whose column of `others` (E, n - 1) fits best, or 0.

    A number that blocks do not usually have is taken if hardly one of all would fit by chance.
    """
    slack = case.slack[sample, None]
    gap = np.abs(case.actual[sample, None] - others)
    allowed = SLACK * (slack + case.unit * np.abs(others))
    fits = np.all(gap <= allowed, axis=0)
    if not fits.any():
        return 0
    n = others.shape[1] + 1
    usual = np.isin(np.arange(1, n), [1, *usual_blocks(n)])
    grain = np.min(np.abs(each), axis=1, initial=np.inf, where=each != 0)
    grain = np.where(np.isinf(grain), 0.0, grain)
    hit = (2 * allowed.max(axis=1) + grain) / np.ptp(others, axis=1)
    chance = n * np.prod(np.clip(np.nan_to_num(hit, nan=1.0), 0.0, 1.0))
    if not chance <= _CHANCE:
        fits &= usual
    far = np.max(np.divide(gap, allowed, out=np.zeros(gap.shape), where=gap > 0), axis=0)
    order = np.lexsort((np.arange(n - 1), ~usual, np.where(fits, far, np.inf)))
    return int(order[0]) + 1 if fits.any() else 0


def _added(case: Case) -> Iterator[Cause]:
    """Find what is added to the result, times a number that one element cannot tell."""
    for addition in case.mistakes.additions():
        value = addition.value.reshape(-1)
        if np.count_nonzero(value) < 2:
            continue
        times = float(np.vdot(value, case.actual - case.value) / np.vdot(value, value))
        if np.isfinite(times) and case.is_like(
            lambda where, v=value, t=times: case.value[where] + t * v[where]  # type: ignore[misc]
        ):
            yield Cause(addition.cause, _likely(f"{times:.4g} times {addition.cause}"))


def _rounding(case: Case) -> list[Cause]:
    """Find a result of fewer bits than its dtype has."""
    if case.reference.arithmetic.store.bits <= 11:
        return []
    found = []
    for precision, narrow in PRECISIONS.items():
        wheres = (case.sample, ALL) if len(case.sample) < len(case.actual) else (ALL,)
        if all(_is_short(case, where, precision) for where in wheres) and not np.array_equal(
            narrow(case.value), case.value
        ):
            found.append(f"the result is rounded through {precision}")
    if not found:
        for precision, bits in (("bfloat16", 8), ("float16", 11)):
            if case.has_sums_of(PRECISIONS[precision], bits):
                found.append(f"the sums are kept in {precision}")
                break
    return [Cause(cause, _likely(cause)) for cause in found]


def _losses(case: Case, wrong: Any) -> list[Cause]:
    """Find a way to compute the result that may be this far off everywhere."""
    error, bad = np.abs(case.actual - case.value), wrong.reshape(-1)
    found = [
        loss.cause
        for loss in case.mistakes.losses()
        if np.all(error <= loss.bound.reshape(-1) + case.slack)
        and np.all(loss.bound.reshape(-1)[bad] > SLACK * case.slack[bad])
    ]
    return [Cause(cause, _likely(cause)) for cause in found]


def _is_short(case: Case, where: Where, precision: str) -> bool:
    """Whether elements have the bits of a precision, and are about right."""
    narrow, actual, value = PRECISIONS[precision], case.actual[where], case.value[where]
    slack, error = case.slack[where], np.abs(actual - value)
    near = np.abs(actual - narrow(value)) <= SLACK * slack + error * 1e-9
    step = 2.0**-7 if precision == "bfloat16" else 2.0**-10
    close = error <= step * np.abs(value) + slack
    return bool((narrow(actual) == actual).all() and (near.all() or close.all()))


def _any_place(case: Case, wrong: Any) -> list[Cause]:
    """Find what is wrong with some elements, or some parts, alone."""
    found = _place(case.actual.reshape(wrong.shape), case.reference, wrong)
    parts = case.mistakes.parts()
    if found or parts is None:
        return found
    bad = bad_parts(parts, wrong)
    if bad.all() or not bad.any():
        return []
    cause = f"some {parts.what}s{of_stack(parts)} are wrong"
    return [Cause(cause, f"Only {listed(parts, bad)} {'are' if bad.sum() > 1 else 'is'} wrong.")]


def _lost(case: Case, wrong: Any) -> list[Cause]:
    """Find NaN and infinities of the right result that the result does not have."""
    actual, value, bad = case.actual, case.value, wrong.reshape(-1)
    infinite = bad & np.isinf(value)
    lost = infinite if infinite.any() else bad & np.isnan(value) & ~np.isnan(actual)
    if not lost.any():
        return []
    name = "infinity lost" if infinite.any() else "NaN lost"
    how = [each.cause for each in case.mistakes.lost() if _is_same(case, each.of(ALL))]
    if not how and not np.any(actual[lost]):
        how = ["replaced by 0 in the result"]
    elif not how and np.isnan(actual[lost]).all():
        how = ["it becomes NaN"]
    elif not how and infinite.any() and np.ptp(np.abs(actual[lost])) == 0:
        how = [f"clipped to {np.abs(actual[lost][0]):.4g}"]
    elif not how and np.array_equal(actual[lost], -value[lost]):
        how = ["its sign is wrong"]
    cause = ": ".join([name, *how[:1]])
    wanted = "infinite" if infinite.any() else "NaN"
    finding = f"{int(lost.sum())} of {lost.size} elements must be {wanted}, and are not"
    return [
        Cause(cause, f"{cause}: {finding}." if not how else f"Likely cause: {cause}; {finding}.")
    ]


def _is_same(case: Case, other: Floats) -> bool:
    """Whether the result is another one but for rounding, NaN and infinities included."""
    size = float(np.max(np.abs(other), initial=0.0, where=np.isfinite(other)))
    near = np.abs(case.actual - other) <= size * case.unit**0.5  # no bound is known beside NaN
    same = (case.actual == other) | (np.isnan(case.actual) & np.isnan(other))
    return bool(np.all(same | (near & np.isfinite(other))))


def _spread(case: Case, wrong: Any) -> list[Cause]:
    """Find NaN where the right result has none."""
    bad = wrong.reshape(-1) & np.isfinite(case.value) & ~np.isfinite(case.actual)
    if not bad.any():
        return []
    what = "NaN" if np.isnan(case.actual[bad]).all() else "infinity"
    cause = f"{what} spreads"
    return [
        Cause(cause, f"{cause} to {int(bad.sum())} of {bad.size} elements that must be finite.")
    ]


def unwritten(reference: Reference, memory: Any) -> Cause:
    """Return the cause of elements whose memory nobody wrote."""
    cause, parts = "uninitialised memory", reference.mistakes.parts()
    where = _tail(memory, memory, 1.0)
    if parts is not None:
        idle: Any = parts.split(memory.reshape(-1)).all(axis=1)
        if idle.any() and not idle.all() and idle.sum() * memory.size == memory.sum() * len(idle):
            where = listed(parts, idle)
    if where is None:
        where = f"{int(memory.sum())} of {memory.size} elements"
    return Cause(cause, f"Likely cause: {cause}: nobody wrote {where}.")


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
    finding = (
        "Every element is" if count == actual.size else f"{count} of {actual.size} elements are"
    )
    return [Cause("NaN", f"{finding} NaN: 0/0, inf - inf, or memory that nobody wrote?")]


def _flushed(actual: Floats, reference: Reference, wrong: Any) -> list[Cause]:
    """Find zeros where sums of a thousand numbers below the normal ones would be."""
    if not wrong.any() or np.any(actual[wrong]):
        return []
    store, size = reference.arithmetic.store, np.abs(reference.value[wrong])
    small = 2.0**10 * store.tiny * 2.0 ** (store.bits - 1)
    if not np.all((size > 0) & (size < small)):
        return []
    if np.any((actual != 0) & (np.abs(reference.value) < np.max(size))):
        return []  # smaller ones are kept
    cause = "numbers below the normal ones are flushed to zero"
    return [Cause(cause, _likely(cause))]


def _place(actual: Floats, reference: Reference, wrong: Any) -> list[Cause]:
    """Find what is wrong with some elements alone."""
    if not wrong.any() or (wrong.all() and wrong.size > 1 and np.any(actual)):
        return []
    bad, right = actual[wrong], reference.value[wrong]
    slack = SLACK * np.broadcast_to(reference.slack, actual.shape)[wrong]
    if np.all(np.abs(bad + right) <= slack) and np.any(np.abs(right) > slack):
        first = [int(i) for i in np.argwhere(wrong)[0]]
        more = f" and {int(wrong.sum()) - 1} more" if wrong.sum() > 1 else ""
        return [Cause("the sign is wrong", f"The sign of element {first}{more} is wrong.")]
    return _unwritten(actual, reference, wrong)


def _unwritten(actual: Floats, reference: Reference, wrong: Any) -> list[Cause]:
    """Find elements at the end that nobody computed."""
    zero = not np.any(actual[wrong])
    where = _tail(wrong, wrong | (actual == 0) if zero else wrong)
    if where is None:
        return []
    size, right = np.abs(actual[wrong]), np.abs(reference.value[wrong])
    if zero:
        what = "zero"
    elif not np.isfinite(size).all():
        what = "not all finite"
    elif np.any((size <= 2 * right) & (right <= 2 * size)):
        cause = "the end of a loop over blocks"
        return [Cause(cause, f"Only {where} are wrong: look at {cause}.")]
    else:
        what = "none of the right size"
    cause = "an uninitialised tail"
    left = "left by a loop over blocks" + ("" if zero else ": uninitialised memory")
    return [Cause(cause, f"Only {where} are wrong, and {what}: {cause}, {left}.")]


def _tail(wrong: Any, whole: Any, most: float = 0.5) -> str | None:
    """Name the last rows or elements, if they alone are wrong: half of them at most.

    `most` is another share than half. All of theirs are in `whole`: the wrong elements, and those
    that are right by accident.
    """
    for axis in range(wrong.ndim):
        others = tuple(i for i in range(wrong.ndim) if i != axis)
        lines, full = wrong.any(axis=others), wrong.shape[axis]
        first = int(np.argmax(lines))
        if lines.any() and first >= (1 - most) * full and whole.all(axis=others)[first:].all():
            return f"the last {full - first} of {full} along axis {axis}"
    flat = wrong.reshape(-1)
    first = int(np.argmax(flat))
    if flat.any() and first >= (1 - most) * flat.size and whole.reshape(-1)[first:].all():
        return f"the last {flat.size - first} of {flat.size} elements"
    return None


def _any_factor(case: Case) -> list[Cause]:
    if np.any(case.value) and not np.any(case.actual):
        return [Cause("all zero", "Every element is zero.")]
    if np.count_nonzero(case.value) < 3:
        return []
    factor = float(np.vdot(case.value, case.actual) / np.vdot(case.value, case.value))
    if (
        not abs(factor) > 1e-6
        or not np.isfinite(factor)
        or not case.is_like(lambda where: factor * case.value[where], factor)
    ):
        return []
    cause = "a wrong factor"
    return [Cause(cause, f"{factor:.6g} times {case.mistakes.of}: {cause}.")]


def _likely(cause: str) -> str:
    return f"Likely cause: {cause}."
