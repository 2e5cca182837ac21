"""polars-statistics, an extension of polars in Rust: regression with inference by group."""

from __future__ import annotations

from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run, repeating
from gdcore.bench.libraries.frames import Frames, stacked
from gdcore.bench.suites.many import Groups


class PolarsStatistics(Frames):
    """`polars_statistics`, in float64."""

    closed_forms = ("fit_groups",)

    def __init__(self, threads: int) -> None:
        super().__init__("polars_statistics")

    def fit_groups(self, case: Groups, X: Array, y: Array, labels: Array) -> Run:
        """`ols` in `group_by`, by Cholesky factors; the frame is there already."""
        frame, features = self.frame(X, y, label=labels)
        fitted = self.extension.ols(
            "y", *features, add_intercept=True, solve_method="cholesky", alias_tolerance=0.0
        )

        def call() -> tuple[Array, Array]:
            found = frame.group_by("label").agg(fitted.alias("fit")).sort("label")["fit"].struct
            return stacked(found.field("coefficients"), case.d), found.field("intercept").to_numpy()

        return repeating(call)
