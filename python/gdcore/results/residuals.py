"""What y is above the predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.data.columns import as_narwhals, as_numbers
from gdcore.data.device import local
from gdcore.data.home import home_of
from gdcore.scalars import as_numpy


def residuals_of(X: Any, y: Any, predictions: Any, target: str | None) -> Any:
    """Return y minus the predictions, in the library of X; without y its column `target`.

    Raises ValueError if y is missing or of another shape.
    """
    found = as_numpy(predictions)
    (observed,) = map(local, _core.prepare(("y", _observed(X, y, target))))
    if observed.shape != found.shape:
        raise ValueError(f"y has shape {observed.shape}; the predictions have shape {found.shape}.")
    with _core.FpEnv():
        residuals = np.subtract(observed, found)
    if isinstance(X, np.ndarray | list) or as_narwhals(X, "X") is not None:
        return residuals
    home = home_of(X, *_core.prepare(("X", X)))
    return residuals if home is None else home(residuals)


def _observed(X: Any, y: Any, target: str | None) -> Any:
    """Return the numbers of y."""
    if y is not None:
        return as_numbers(y, "y", None, "drop")[0]
    numbers: Any = None
    if target is not None:
        numbers, names = as_numbers(X, "X", (target,), "drop")
        numbers = None if names is None else numbers[:, 0]  # X is not a data frame
    if numbers is None:
        named = "" if target is None else f", or a data frame with the column {target!r} for X"
        raise ValueError(f"y is missing; pass y{named}.")
    return numbers
