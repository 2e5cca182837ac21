"""polars-ds, an extension of polars in Rust: linear regression by group and by window."""

from __future__ import annotations

from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run, repeating
from gdcore.bench.libraries.frames import Frames, stacked
from gdcore.bench.suites.many import Groups, Rolling


class PolarsDs(Frames):
    """`polars_ds`, in float64."""

    def __init__(self, threads: int) -> None:
        super().__init__("polars_ds")

    def fit_groups(self, case: Groups, X: Array, y: Array, labels: Array) -> Run:
        """`lin_reg` in `group_by`; the frame is there already."""
        frame, features = self.frame(X, y, label=labels)

        def call() -> tuple[Array, Array]:
            fitted = self.extension.lin_reg(*features, target="y", add_bias=True)
            found = frame.group_by("label").agg(fitted.alias("fit")).sort("label")
            w = stacked(found["fit"], case.d + 1)
            return w[:, :-1], w[:, -1]

        return repeating(call)

    def fit_rolling(self, case: Rolling, X: Array, y: Array) -> Run:
        """`rolling_lin_reg`; the frame is there already."""
        frame, features = self.frame(X, y)

        def call() -> tuple[Array, Array]:
            fitted = self.extension.rolling_lin_reg(
                *features, target="y", window_size=case.window, add_bias=True
            )
            found = frame.select(fitted.alias("fit"))["fit"].struct.field("coeffs")
            w = stacked(found[case.window - 1 :], case.d + 1)
            return w[:, :-1], w[:, -1]

        return repeating(call)
