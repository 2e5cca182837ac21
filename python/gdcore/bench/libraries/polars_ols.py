"""polars-ols, an extension of polars in Rust: ordinary least squares by group and by window."""

from __future__ import annotations

from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run, repeating
from gdcore.bench.libraries.frames import Frames
from gdcore.bench.suites.many import Groups, Rolling


class PolarsOls(Frames):
    """`polars_ols`, in float64."""

    def __init__(self, threads: int) -> None:
        super().__init__("polars_ols")

    def fit_groups(self, case: Groups, X: Array, y: Array, labels: Array) -> Run:
        """`least_squares.ols` in `group_by`, by Cholesky factors; the frame is there already."""
        frame, features = self.frame(X, y, label=labels)
        target = self.polars.col("y")

        def call() -> tuple[Array, Array]:
            fitted = target.least_squares.ols(
                *features,
                add_intercept=True,
                mode="coefficients",
                null_policy="ignore",
                solve_method="chol",
            )
            found = frame.group_by("label").agg(fitted.alias("fit")).sort("label")
            w = found["fit"].struct.unnest().to_numpy()
            return w[:, :-1], w[:, -1]

        return repeating(call)

    def fit_rolling(self, case: Rolling, X: Array, y: Array) -> Run:
        """`least_squares.rolling_ols`; the frame is there already."""
        frame, features = self.frame(X, y)
        target = self.polars.col("y")

        def call() -> tuple[Array, Array]:
            fitted = target.least_squares.rolling_ols(
                *features,
                window_size=case.window,
                min_periods=case.window,
                add_intercept=True,
                mode="coefficients",
                null_policy="ignore",
            )
            found = frame.select(fitted.alias("fit"))["fit"].struct.unnest()
            w = found.to_numpy()[case.window - 1 :]
            return w[:, :-1], w[:, -1]

        return repeating(call)
