"""Which problems of a stack, or which targets, are wrong, and what they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gdcore.oracle.diagnosis.case import Case
from gdcore.oracle.references.mistakes import SLACK, Array, Cause, Parts

_FEW = 3  # parts that a sentence names
_SAMPLE = 64  # parts that are looked at
_REGROUPED = {
    "problem": {
        "first": "{}'s batch stride is forgotten",
        "axis": "{}'s stride of one batch axis is forgotten",
        "turned": "{}'s batch dimensions are transposed",
        "modulo": "{}'s batch dimensions are broadcast wrongly",
        "order": "the problems of the stack are mixed up",
    },
    "target": {
        "first": "every target has {} of target 0",
        "order": "the targets of {} are mixed up",
    },
}


def other_parts(case: Case, wrong: Any) -> list[Cause]:
    """Find problems of a stack, or targets, made of the operands of others."""
    parts = case.mistakes.parts()
    if parts is None:
        return []
    actual, value = parts.split(case.actual), parts.split(case.value)
    bad = bad_parts(parts, wrong)
    count, right = len(bad), [np.broadcast_to(x, parts.shape).reshape(-1) for x in parts.numbers]
    spread = np.linspace(0, count - 1, _SAMPLE).astype(int)
    seen = np.unique(np.concatenate([np.flatnonzero(bad)[:_SAMPLE], spread]))
    slack = SLACK * float(np.max(case.slack, initial=0.0))

    def is_made_of(part: int, i: int, j: int) -> bool:
        other = parts.of(i, j)
        off = np.abs(actual[part] - other)
        if not np.all(off <= slack + SLACK * case.unit * np.abs(other)):
            return False
        return not bad[part] or case.is_nearer(off, np.abs(actual[part] - value[part]))

    for name, first, second, finding in _regroupings(parts, right):
        if all(is_made_of(p, int(first[p]), int(second[p])) for p in seen):
            if finding:
                return [Cause(name, f"Likely cause: {name}: {listed(parts, bad)} {finding}.")]
            return [_mixed(parts, name, bad, first, second)]
    sizes = [x.size for x in parts.numbers]
    if count > _SAMPLE or actual.shape[1] < _FEW or max(sizes) > _SAMPLE:
        return []
    first, second = (x.copy() for x in right)
    pairs = [(i, j) for i in range(sizes[0]) for j in range(sizes[1])]
    for p in np.flatnonzero(bad):
        made = next((pair for pair in pairs if is_made_of(int(p), *pair)), None)
        if made is None:
            return []
        first[p], second[p] = made
    return [_mixed(parts, f"the {parts.what}s{of_stack(parts)} are mixed up", bad, first, second)]


def bad_parts(parts: Parts, wrong: Any) -> Any:
    """Return which parts have a wrong element."""
    return parts.split(wrong.reshape(-1)).any(axis=1)


def of_stack(parts: Parts) -> str:
    """Return what follows the name of the parts in a sentence."""
    return " of the stack" if parts.what == "problem" else ""


def _regroupings(parts: Parts, right: list[Array]) -> Iterator[tuple[str, Array, Array, str]]:
    """Yield names of mistakes, the parts of both operands that they take, and what to say."""
    names = _REGROUPED[parts.what]
    for own, name in enumerate(parts.names):
        for how, taken in _misread(parts.numbers[own], parts.shape):
            made = [*right]
            made[own] = np.broadcast_to(taken, parts.shape).reshape(-1)
            finding = f"use {name} of {parts.what} 0" if how == "first" else ""
            yield names[how].format(name), made[0], made[1], finding
    for how, taken in _misread(np.arange(len(right[0])).reshape(parts.shape), parts.shape):
        order = taken.reshape(-1) if taken.size > 1 else np.zeros(len(right[0]), int)
        finding = f"have the result of {parts.what} 0" if how == "first" else ""
        yield names[how].format("the result"), right[0][order], right[1][order], finding


def _misread(numbers: Array, shape: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    """Yield what mistakes make of the numbers of an operand's parts, in an order of `_REGROUPED`.

    They broadcast to `shape`, that of the result's parts.
    """
    size = numbers.size
    if size < 2:
        return
    yield "first", np.zeros(numbers.shape, int)
    for axis, length in enumerate(numbers.shape):
        if 1 < length < size:
            yield "axis", np.broadcast_to(numbers.take([0], axis), numbers.shape)
    if numbers.ndim > 1:
        yield "turned", np.arange(size).reshape(numbers.shape[::-1]).T
    count = int(np.prod(shape))
    if size < count:
        yield "modulo", (np.arange(count) % size).reshape(shape)
    flat = numbers.reshape(-1)
    for order in (np.roll(flat, 1), np.roll(flat, -1), flat[::-1]):
        yield "order", order.reshape(numbers.shape)


def _mixed(parts: Parts, name: str, bad: Any, first: Array, second: Array) -> Cause:
    """Return the cause, and which parts of the operands the first wrong ones are made of."""
    wrong = np.flatnonzero(bad)
    made = []
    for p in wrong[:_FEW]:
        taken = zip(parts.names, parts.numbers, (first[p], second[p]), strict=True)
        operands = " and ".join(
            f"{each}{_index(parts, numbers.shape, i)}" for each, numbers, i in taken
        )
        made.append(f"{parts.what} {_label(parts.shape, p)} is made of {operands}")
    more = f", and {len(wrong) - _FEW} more are wrong" if len(wrong) > _FEW else ""
    return Cause(name, f"Likely cause: {name}: {', '.join(made)}{more}.")


def _index(parts: Parts, shape: tuple[int, ...], part: Any) -> str:
    """Return how NumPy has one part of an operand."""
    if not shape:
        return ""
    at = ", ".join(str(int(i)) for i in np.unravel_index(int(part), shape))
    return f"[{at}]" if parts.what == "problem" else f"[:, {at}]"


def _label(shape: tuple[int, ...], part: Any) -> str:
    """Return the number of a part, or its index in a stack of several dimensions."""
    at = [int(i) for i in np.unravel_index(int(part), shape)]
    return str(at[0] if len(at) == 1 else at)


def listed(parts: Parts, chosen: Any) -> str:
    """Name some of the parts: "problem 2 of the stack of 3"."""
    found = np.flatnonzero(chosen)
    names = ", ".join(_label(parts.shape, p) for p in found[:6])
    more = f" and {len(found) - 6} more" if len(found) > 6 else ""
    many = "s" if len(found) > 1 else ""
    of = f" of the stack of {len(chosen)}" if parts.what == "problem" else f" of {len(chosen)}"
    return f"{parts.what}{many} {names}{more}{of}"


def idle_parts(case: Case, wrong: Any) -> list[Cause]:
    """Find problems of a stack, or targets, whose results are zero or NaN as a whole."""
    parts = case.mistakes.parts()
    if parts is None:
        return []
    actual, bad = parts.split(case.actual), bad_parts(parts, wrong)
    idle = (actual == 0).all(axis=1) | np.isnan(actual).all(axis=1)
    if bad.all() or not bad.any() or not idle[bad].all():
        return []
    if bad.sum() == 1 and bad[-1]:
        cause = f"the last {parts.what}{of_stack(parts)} is not computed"
    elif parts.what == "target" and bad[1:].all():
        cause = "only the gradient of target 0 is computed"
    else:
        cause = f"some {parts.what}s{of_stack(parts)} are not computed"
    what = "NaN" if np.isnan(actual[bad]).all() else "zero"
    return [Cause(cause, f"Likely cause: {cause}: all is {what} in {listed(parts, bad)}.")]
