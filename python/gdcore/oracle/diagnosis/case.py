"""A wrong result beside the right one, and whether a mistake explains it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.references.mistakes import ALL, SLACK, Array, Where
from gdcore.oracle.references.reference import Reference
from gdcore.oracle.references.verdict import Verdict

_MANY = 3  # elements that a mistake within those bounds must all explain
_NEARER = 16.0  # times nearer than the right result
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
            max(1.0, abs(factor)) * self.slack[where] + self.unit * np.abs(other)
        )
        return allowed

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
        if np.any(np.abs(other - self.value) > allowed):
            return True
        error = np.abs(self.actual - self.value)
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
