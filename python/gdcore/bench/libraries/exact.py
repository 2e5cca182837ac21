"""gdcore's own closed form, `method="exact"`: what its descent is measured against."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

import gdcore as gd
from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run, repeating
from gdcore.bench.libraries.gdcore import Gdcore
from gdcore.bench.suites.many import Groups, Rolling, Stack


class Exact:
    """`gdcore`, which solves where it descends as a baseline."""

    closed_forms: ClassVar[Collection[str]] = ("fit_stack", "fit_groups", "fit_rolling")

    def __init__(self, threads: int) -> None:
        self.gdcore = Gdcore(threads)

    def describe(self) -> dict[str, Any]:
        """Return gdcore's version."""
        return {"version": self.gdcore.describe()["version"]}

    def fit_stack(self, case: Stack, X: Array, y: Array, lr: Array) -> Run:
        """`gdcore.fit` of all problems."""

        def call() -> tuple[Array, Array]:
            fits = gd.fit(X, y, method="exact", history=0)
            return fits.weights, fits.intercept

        return repeating(call)

    def fit_groups(self, case: Groups, X: Array, y: Array, labels: Array) -> Run:
        """`gdcore.fit_groups`."""

        def call() -> tuple[Array, Array]:
            fits = gd.fit_groups(X, y, labels, method="exact")
            return fits.weights, fits.intercept

        return repeating(call)

    def fit_rolling(self, case: Rolling, X: Array, y: Array) -> Run:
        """`gdcore.fit_rolling`."""

        def call() -> tuple[Array, Array]:
            fit = gd.fit_rolling(X, y, case.window, method="exact")
            return fit.weights, fit.intercept

        return repeating(call)
