"""scikit-learn's `SGDRegressor`, which steps after every single row."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from gdcore.bench.case import Array
from gdcore.bench.libraries import Run, Unsupported, repeating
from gdcore.bench.suites.fit import FullBatch, MiniBatch


class Sklearn:
    """`sklearn`, of which only the fit by mini-batches has a counterpart: batches of one."""

    def __init__(self, threads: int) -> None:
        self.sklearn: Any = import_module("sklearn")
        self.linear: Any = import_module("sklearn.linear_model")

    def describe(self) -> dict[str, Any]:
        """Return the version."""
        return {"version": self.sklearn.__version__}

    def fit(self, case: FullBatch | MiniBatch, X: Array, y: Array) -> Run:
        """One epoch of `SGDRegressor` at a constant learning rate."""
        if isinstance(case, FullBatch):
            raise Unsupported("SGDRegressor has no full-batch descent")

        def call() -> tuple[Array, Any]:
            model = self.linear.SGDRegressor(
                penalty=None,
                learning_rate="constant",
                eta0=case.lr_of_rows,
                max_iter=case.epochs,
                tol=None,
                random_state=0,
            )
            model.fit(X, y)
            return model.coef_, model.intercept_[0]

        return repeating(call)
