"""A wrong result beside the right one, and whether a mistake explains it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from gdcore.oracle.numbers.arithmetic import rounded
from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.references.mistakes import ALL, SLACK, Array, Where
from gdcore.oracle.references.reference import SUSPICION, Reference
from gdcore.oracle.references.verdict import Verdict

_MANY = 3  # elements that a mistake within those bounds must all explain
_NEARER = 16.0  # times nearer than the right result
NEAR = 4.0  # the same, of elements beyond those bounds
_SAMPLE = 64  # elements


class Case:
    """A wrong result beside the right one, both as vectors, and a sample of its elements."""

    def __init__(self, actual: Floats, reference: Reference, verdict: Verdict, wrong: Any) -> None:
        self.reference, self.mistakes = reference, reference.mistakes
        self.actual, self.value = actual.reshape(-1), reference.value.reshape(-1)
        slack = np.where(np.isinf(reference.slack), 0.0, reference.slack)
        self.slack = np.broadcast_to(slack, actual.shape).reshape(-1)
        self.unit = reference.arithmetic.store.unit
        self.sample = _sample(verdict, wrong)

    def allowed(self, where: Where, other: Floats, factor: float = 1.0) -> Floats:
        """Return how far a result may be from what a mistake makes of it."""
        allowed: Floats = SLACK * (
            max(1.0, abs(factor)) * self.slack[where] + self.share * np.abs(other)
        )
        return allowed

    @cached_property
    def share(self) -> float:
        """What share of itself a result may be off by: half of the elements' bounds are below."""
        some = (self.value != 0) & np.isfinite(self.value) & (self.slack > 0)
        if not some.any():
            return self.unit
        return max(self.unit, float(np.median(self.slack[some] / np.abs(self.value[some]))))

    def is_nearer(self, off: Floats, error: Floats) -> bool:
        """Whether what a mistake makes is clearly nearer than the right result, all in all."""
        return bool(NEAR * np.max(off, initial=0.0) <= np.max(error, initial=0.0))

    def has_sums_of(self, narrow: Callable[[Array], Array], bits: int) -> bool:
        """Whether the result has the bits of a precision, and the errors that its sums come to.

        Most elements must need more than half of the bits, where the right ones need more than
        all: 3.0 or 1.5 is no evidence of a precision, nor are sums of small integers.
        """
        if not np.array_equal(narrow(self.actual), self.actual):
            return False
        told = (rounded(self.actual, bits // 2) != self.actual) & (narrow(self.value) != self.value)
        if 2 * np.count_nonzero(told) <= len(self.actual):
            return False
        growth = 2.0 ** (self.reference.arithmetic.store.bits - bits)
        usual = SUSPICION * growth * self.reference.typical.reshape(-1)
        most = np.minimum(growth * self.slack, usual + self.slack)
        return bool(np.all(np.abs(self.actual - self.value) <= most))

    def equals(self, other: Floats, result: Floats) -> bool:
        """Whether a result is another one but for rounding, with its NaN and infinities."""
        same = (result == other) | (np.isnan(result) & np.isnan(other))
        near = np.abs(result - other) <= self.allowed(ALL, other)
        return bool(np.all(same | (near & np.isfinite(other))))

    def is_like(self, of: Callable[[Where], Array], factor: float = 1.0) -> bool:
        """Whether the result is another one but for rounding, and that is not the right one."""
        for where in (self.sample, ALL) if len(self.sample) < len(self.actual) else (ALL,):
            other = of(where)
            allowed = self.allowed(where, other, factor)
            off = np.abs(self.actual[where] - other)
            if not np.all((off <= allowed) & np.isfinite(other)):
                return False
        error = np.abs(self.actual - self.value)
        if np.any(np.abs(other - self.value) > allowed):
            return self.is_nearer(off, error)
        return len(error) >= _MANY and bool(np.max(off) <= np.max(error) / _NEARER)


def _sample(verdict: Verdict, wrong: Any) -> Array:
    """Return indices of elements: the worst one, then wrong ones, then any, evenly spread."""
    if wrong.size <= _SAMPLE:
        return np.arange(wrong.size)
    worst = np.ravel_multi_index(verdict.worst, wrong.shape)
    bad = np.flatnonzero(wrong)
    half = _SAMPLE // 2 - 1
    spread = np.linspace(0, wrong.size - 1, half).astype(np.intp)
    drawn = np.concatenate([[worst], bad[:: -(-len(bad) // half)], spread])
    _, first = np.unique(drawn, return_index=True)
    return drawn[np.sort(first)]
