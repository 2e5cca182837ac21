"""DuckDB: linear regression of one feature by group, in SQL."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run, Unsupported, repeating
from gdcore.bench.suites.many import Groups

_QUERY = """
    SELECT regr_slope(y, x) AS slope, regr_intercept(y, x) AS intercept
    FROM given GROUP BY label ORDER BY label
"""


class Duckdb:
    """`duckdb`, in float64, on a table in memory."""

    closed_forms: ClassVar[Collection[str]] = ("fit_groups",)

    def __init__(self, threads: int) -> None:
        self.duckdb: Any = import_module("duckdb")
        self.connection = self.duckdb.connect(config={"threads": threads})

    def describe(self) -> dict[str, Any]:
        """Return the version."""
        return {"version": self.duckdb.__version__}

    def fit_groups(self, case: Groups, X: Array, y: Array, labels: Array) -> Run:
        """`regr_slope` and `regr_intercept`; the table is there already."""
        if case.d != 1:
            raise Unsupported("regr_slope takes one feature")
        columns = {"label": labels, "x": X[:, 0].astype(np.float64), "y": y.astype(np.float64)}
        self.connection.register("columns", columns)
        self.connection.execute("CREATE OR REPLACE TABLE given AS SELECT * FROM columns")
        self.connection.unregister("columns")

        def call() -> tuple[Array, Array]:
            found = self.connection.execute(_QUERY).fetchnumpy()
            return found["slope"][:, None], found["intercept"]

        return repeating(call)
