"""polars without an extension: linear regression of one feature by group, from its moments."""

from __future__ import annotations

from typing import Any

import numpy as np

from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run, Unsupported, repeating
from gdcore.bench.libraries.frames import Frames
from gdcore.bench.suites.many import Groups


class Polars(Frames):
    """`polars`, in float64."""

    closed_forms = ("fit_groups",)

    def __init__(self, threads: int) -> None:
        super().__init__("polars")

    def fit_groups(self, case: Groups, X: Array, y: Array, labels: Array) -> Run:
        """`cov`, `var` and `mean` in `group_by`; the frame is there already."""
        if case.d != 1:
            raise Unsupported("polars has no regression on several features")
        frame, (x,) = self.frame(X, y, label=labels)
        target = self.polars.col("y")
        moments = {
            "slope": self.polars.cov(x, target) / x.var(),
            "x": x.mean(),
            "y": target.mean(),
        }

        def call() -> tuple[Any, Any]:
            found = frame.group_by("label").agg(**moments).sort("label")
            slope, x, y = (np.asarray(found[name]) for name in moments)
            return slope[:, None], y - slope * x

        return repeating(call)
