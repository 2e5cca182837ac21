"""Calls as programs make them: after a rest, and beside other processes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from gdcore.bench.bounds import Array
from gdcore.bench.case import Case, Expected, Situation, Work
from gdcore.bench.suites.fit import FullBatch
from gdcore.bench.suites.matmul import Matmul

_PAUSE = 0.02  # seconds: by then the threads of every library sleep, or should


@dataclass(frozen=True)
class Rest(Case):
    """A product or a fit whose calls are timed one by one, in one situation.

    Parameters
    ----------
    inner : Matmul or FullBatch
        The computation.
    pause : float
        Seconds of rest before each call; with 0, calls follow each other.
    busy : int
        Processes that compute beside it.
    """

    suite: ClassVar[str] = "rest"
    sizes: ClassVar[str] = "suite, sizes, situation"

    inner: Matmul | FullBatch
    pause: float
    busy: int

    @property
    def name(self) -> str:
        """The case that is computed, and the situation."""
        return f"{self.inner.suite} {self.inner.name}, {self.situation}"

    @property
    def job(self) -> str:
        """That of the computation."""
        return self.inner.job

    @property
    def computation(self) -> Case:
        """The inner case."""
        return self.inner

    @property
    def situation(self) -> Situation:
        """When the calls are made."""
        return Situation(self.pause, self.busy)

    def inputs(self, dtype: str) -> tuple[Array, ...]:
        """Return the inputs of the inner case."""
        return self.inner.inputs(dtype)

    def whole(self) -> Rest:
        """Return the inner case on whole numbers, in the same situation."""
        return replace(self, inner=self.inner.whole())

    def work(self, dtype: str) -> Work:
        """Count what the inner case has to do."""
        return self.inner.work(dtype)

    def expected(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return what comes out of the inner case."""
        return self.inner.expected(inputs)


_SITUATIONS = (Situation(0, 0), Situation(0, 1), *(Situation(_PAUSE, busy) for busy in range(3)))
_FULL = (  # on one thread with AVX-512 about 20 µs, 100 µs, 1 ms and 10 ms
    Matmul(1, 112, 112, 112),
    Matmul(1, 192, 192, 192),
    Matmul(1, 384, 384, 384),
    Matmul(1, 832, 832, 832),
    FullBatch(20_000, 16, 30),
)
_QUICK = (Matmul(1, 192, 192, 192), FullBatch(20_000, 16, 30))
FULL = tuple(Rest(inner, *situation) for inner in _FULL for situation in _SITUATIONS)
QUICK = tuple(Rest(inner, *situation) for inner in _QUICK for situation in _SITUATIONS)
