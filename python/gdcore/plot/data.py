"""What pictures need of a fit and of its data: one target, named features, the way down."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

import gdcore as gd
from gdcore.data.columns import as_numbers
from gdcore.data.home import on_host
from gdcore.scalars import as_numpy

Array = NDArray[Any]


class Way(NamedTuple):
    """Where a fit came along: its start, what it recorded, its end."""

    epochs: Array  # (k,)
    weights: Array  # (k, d)
    intercepts: Array  # (k,)


def way_of(fit: gd.Fit, target: int | None) -> Way:
    """Return the way a fit took, for one target."""
    start, history, fit = start_of(fit), fit.history, on_host(fit)
    if history.weights is None or history.intercept is None:
        raise ValueError("this fit's weights were too many to record: fit again with history=100")
    before = history.epoch < fit.epochs

    def along(first: Any, recorded: Array, last: Any) -> Array:
        return np.concatenate([[first], recorded[before], [last]])

    return Way(
        along(start.epoch, history.epoch, fit.epochs),
        one_target(along(start.weights, history.weights, fit.weights), 2, target),
        one_target(along(start.intercept, history.intercept, fit.intercept), 1, target),
    )


def start_of(fit: gd.Fit) -> gd.Start:
    """Return where a fit began; raise unless it recorded its way from there."""
    start = fit.start
    if start is None or (len(fit.history.epoch) == 0 and fit.epochs > start.epoch):
        raise ValueError(
            f"this fit (method {fit.method!r}) recorded nothing on its way: "
            "fit again with method='stream' and history=1"
        )
    return start


def matrix(fit: gd.Fit, X: ArrayLike) -> Array:
    """Return X as an array (n, d): a row at least, and a column for each weight."""
    rows: Array = as_numpy(as_numbers(X, "X", fit.feature_names)[0])
    d = len(on_host(fit).weights)
    if rows.ndim != 2 or rows.size == 0 or rows.shape[1] != d:
        raise ValueError(f"X has shape {rows.shape}; it must be (n, {d}), with a row at least")
    return rows


def one_target(values: ArrayLike, ndim: int, target: int | None) -> Array:
    """Return values of one target, of ndim axes; of several targets, the last axis counts them."""
    array: Array = as_numpy(values)
    if array.ndim == ndim:
        return array
    if target is None and array.shape[-1] > 1:
        raise ValueError(f"there are {array.shape[-1]} targets: choose one with target=")
    return array[..., target or 0]


def feature_names(fit: gd.Fit) -> tuple[str, ...]:
    """Return the names of the columns of X: x, or x0, x1, ... where a fit has none."""
    d = len(on_host(fit).weights)
    return fit.feature_names or (("x",) if d == 1 else tuple(f"x{i}" for i in range(d)))


def losses(X: Array, y: Array, weights: Array, intercepts: Array | None, **how: Any) -> Array:
    """Return losses (k,) of weights (k, d) and intercepts (k,) on X (n, d) and y (n,)."""
    loss: Array
    loss, _ = gd.linear_mse_value_and_grad(X[None], y[None], weights, intercepts, **how)
    return loss
