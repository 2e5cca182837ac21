"""Frames of polars, as its extensions for regression take them."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np

from gdcore.bench.case import Array


class Frames:
    """`polars` and an extension of it. Its threads are set by the environment."""

    closed_forms: ClassVar[Collection[str]] = ("fit_groups", "fit_rolling")

    def __init__(self, extension: str) -> None:
        self.polars: Any = import_module("polars")
        self.extension: Any = import_module(extension)

    def describe(self) -> dict[str, Any]:
        """Return the versions."""
        return {"version": version(self.extension.__name__), "polars": version("polars")}

    def frame(self, X: Array, y: Array, **columns: Array) -> tuple[Any, list[Any]]:
        """Return a frame of float64, which is what the extensions compute in, and its features."""
        names = [f"x{j}" for j in range(X.shape[1])]
        data = {name: np.ascontiguousarray(X[:, j], np.float64) for j, name in enumerate(names)}
        frame = self.polars.DataFrame(data | {"y": y.astype(np.float64)} | columns)
        return frame, [self.polars.col(name) for name in names]


def stacked(lists: Any, size: int) -> Array:
    """Return lists of `size` numbers each as rows."""
    return np.asarray(lists.explode().to_numpy()).reshape(-1, size)
