"""Predictions and residuals, where the rows are and in their library."""

from __future__ import annotations

from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.data.columns import as_narwhals, as_numbers
from gdcore.data.device import is_local, local, upload
from gdcore.data.home import home_of, importer_of
from gdcore.data.problem import broadcast_offset
from gdcore.kernels import matmul
from gdcore.scalars import as_numpy
from gdcore.typing import Floats, Ints, Names

UNKNOWN = -1  # the position of a label that was not fitted
_BLOCK = 8192  # rows whose weights are gathered at a time, so that they stay in a cache


def prepared(X: Any, offset: Any, names: Names | None) -> list[Any]:
    """Return new rows and their offset as numbers, NaN where a data frame has none.

    `names` are the columns that the rows of a frame have.
    """
    rows = as_numbers(X, "X", names, "drop")[0]
    fixed = as_numbers(offset, "offset", None, "drop")[0]
    return _core.prepare(("X", rows), ("offset", fixed, True))


def product(rows: Any, weights: Floats) -> Any:
    """Return ``rows @ weights``, where the rows are."""
    return matmul(rows, weights if is_local(rows) else upload(weights, rows.ordinal))


def by_position(rows: Floats, weights: Floats, at: Ints) -> Floats:
    """Return the product of each row with its own weights, NaN where the position is `UNKNOWN`.

    Rows (m, d) and weights (count, d, t) give (m, t).
    """
    products = np.empty((len(at), weights.shape[2]), np.result_type(rows, weights))
    for begin in range(0, len(at), _BLOCK):
        some = slice(begin, begin + _BLOCK)
        own = taken(weights, at[some])
        matmul(rows[some, None, :], own, out=products[some, None, :])
    products[at == UNKNOWN] = np.nan
    return products


def taken(array: Floats, at: Ints) -> Floats:
    """Return the entry at each position; anything where the position is `UNKNOWN`."""
    if not len(array):
        return np.zeros((len(at), *array.shape[1:]), array.dtype)
    return array.take(at, axis=0, mode="clip")


def predicted(X: Any, rows: Any, products: Any, intercept: Any, offset: Any) -> Any:
    """Return products plus intercept and offset, in the library of X, whose numbers rows are."""
    if not is_local(products):
        if hasattr(X, "__add__"):
            return _added(importer_of(X), products, intercept, offset)
        products = local(products)
    products += intercept
    if offset is not None:
        products += broadcast_offset(local(offset), products.shape)
    home = home_of(X, rows)
    return products if home is None else home(products)


def _added(importer: Any, products: Any, intercept: Any, offset: Any) -> Any:
    """Return the sum by the library's own addition, whose bits are IEEE's as NumPy's are."""
    intercept = np.asarray(intercept, products.dtype)
    result = importer(products) + importer(upload(intercept, products.ordinal))
    if offset is not None:
        result = result + importer(broadcast_offset(offset, products.shape))
    return result


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
