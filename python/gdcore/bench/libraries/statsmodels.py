"""statsmodels: `RollingOLS`."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run, repeating
from gdcore.bench.suites.many import Rolling


class Statsmodels:
    """`statsmodels`; its threads are those of NumPy's BLAS."""

    closed_forms: ClassVar[Collection[str]] = ("fit_rolling",)

    def __init__(self, threads: int) -> None:
        self.statsmodels: Any = import_module("statsmodels")
        self.rolling: Any = import_module("statsmodels.regression.rolling")

    def describe(self) -> dict[str, Any]:
        """Return the version."""
        return {"version": self.statsmodels.__version__}

    def fit_rolling(self, case: Rolling, X: Array, y: Array) -> Run:
        """Ask for the parameters alone; the column of ones is there already."""
        A = np.column_stack([X, np.ones_like(y)])

        def call() -> tuple[Array, Array]:
            model = self.rolling.RollingOLS(y, A, window=case.window)
            w = model.fit(params_only=True).params[case.window - 1 :]
            return w[:, :-1], w[:, -1]

        return repeating(call)
