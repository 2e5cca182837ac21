"""gdcore on contiguous copies: what its own results on other operands are measured against."""

from __future__ import annotations

from typing import Any

from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run
from gdcore.bench.libraries.gdcore import Gdcore
from gdcore.bench.suites.operands import Operands


class Contiguous:
    """`gdcore`; the copies are made before, and are not timed."""

    def __init__(self, threads: int) -> None:
        self.gdcore = Gdcore(threads)

    def describe(self) -> dict[str, Any]:
        """Return gdcore's version."""
        return {"version": self.gdcore.describe()["version"]}

    def operands(self, case: Operands, *inputs: Array) -> Run:
        """Do what `Gdcore` does."""
        return self.gdcore.operands(case, *(each.copy(order="C") for each in inputs))
