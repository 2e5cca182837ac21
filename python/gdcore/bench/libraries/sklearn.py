"""scikit-learn: `SGDRegressor`, which steps after every single row, and `LinearRegression`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run, Unsupported, repeating
from gdcore.bench.suites.fit import FullBatch, MiniBatch
from gdcore.bench.suites.many import Groups, Stack


class Sklearn:
    """`sklearn`: of single fits, that by mini-batches alone has a counterpart, batches of one."""

    closed_forms: ClassVar[Collection[str]] = ("fit_stack", "fit_groups")

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

    def fit_stack(self, case: Stack, X: Array, y: Array, lr: Array) -> Run:
        """`LinearRegression` in a loop over the problems."""
        return repeating(lambda: self._loop(zip(X, y, strict=True)))

    def fit_groups(self, case: Groups, X: Array, y: Array, labels: Array) -> Run:
        """Sort the rows, then `LinearRegression` in a loop over the groups."""

        def call() -> tuple[Array, Array]:
            order = np.argsort(labels, kind="stable")
            cuts = np.flatnonzero(np.diff(labels[order])) + 1
            return self._loop((X[rows], y[rows]) for rows in np.split(order, cuts))

        return repeating(call)

    def _loop(self, problems: Iterable[tuple[Array, Array]]) -> tuple[Array, Array]:
        models = [self.linear.LinearRegression().fit(X, y) for X, y in problems]
        return np.array([m.coef_ for m in models]), np.array([m.intercept_ for m in models])
