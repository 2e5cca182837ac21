"""Predictions, where the rows are and in their library."""

from __future__ import annotations

from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.data.columns import as_numbers
from gdcore.data.device import is_local, local, upload
from gdcore.data.home import home_of, importer_of
from gdcore.data.problem import broadcast_offset
from gdcore.kernels import matmul
from gdcore.typing import Floats, Names


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
