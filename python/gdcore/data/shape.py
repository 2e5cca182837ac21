"""The shape of a problem: sizes, types and names, without its rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.data.home import Home
from gdcore.frozen import at_once
from gdcore.typing import Floats, Names


@at_once
@dataclass(frozen=True, eq=False)
class Shape:
    """The sizes, types and names of a problem, or of many that share all but the number of rows.

    Parameters of a problem lie in one array: weights (d, t), then intercepts (t,) if there are any.

    Attributes
    ----------
    n : int
        Rows; of many problems an array with one entry each.
    d, t : int
        Features and targets.
    has_target_axis : bool
        Whether y came with a dimension of targets.
    dtype : float32 or float64
    fit_intercept : bool
    reduction : str
    feature_names, target_name : tuple of str, str or None
        Those of a data frame's columns.
    scaling : ndarray of float64, shape (2 d + t,), or None
        Means of the features, 1 / their deviations, means of y. With it, parameters are those of
        the standardised columns.
    home : Home or None
        What makes the parameters that the caller gets; None leaves them in NumPy's arrays.
    dropped : int
        Rows that were left out of n as some value of theirs is missing; as `n` for many problems.
    """

    n: Any
    d: int
    t: int
    has_target_axis: bool
    dtype: np.dtype[Any]
    fit_intercept: bool
    reduction: str
    feature_names: Names | None = None
    target_name: str | None = None
    scaling: Floats | None = None
    home: Home | None = None
    dropped: Any = 0

    @property
    def columns(self) -> int:
        """Parameters of one target."""
        return self.d + self.fit_intercept

    @property
    def size(self) -> int:
        """Parameters of all targets."""
        return (self.d + self.fit_intercept) * self.t

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """(d,) or (d, t)."""
        return (self.d, self.t) if self.has_target_axis else (self.d,)

    @property
    def is_sum(self) -> bool:
        """Whether the loss is a sum, not a mean, over the rows."""
        return self.reduction in ("sum", "half_sum")

    def scaled(self, scaling: Floats) -> Shape:
        """Return the shape of the standardised columns."""
        return replace(self, scaling=scaling)

    def split(self, params: Floats) -> tuple[Floats, Any]:
        """Return weights and intercepts as parts of parameters (..., size)."""
        split, lead = self.d * self.t, params.shape[:-1]
        targets = (*lead, self.t) if self.has_target_axis else lead
        weights = params[..., :split].reshape(*lead, *self.weights_shape)
        if not self.fit_intercept:
            return weights, np.zeros(targets, self.dtype)[()]
        return weights, params[..., split:].reshape(targets)[()]

    def unpack(self, params: Floats) -> tuple[Floats, Any]:
        """Return copies of weights and intercepts, those of the columns as given."""
        weights, intercept = self.split(self.returned(params))
        return weights.copy(), intercept.copy() if intercept.ndim else intercept

    def returned(self, params: Floats) -> Floats:
        """Return parameters (..., size) as those of the columns as given."""
        if self.scaling is None:
            return params
        return self.rescaled(params, self.scaling, to_scaled=False)

    def rescaled(self, params: Floats, scaling: Floats, *, to_scaled: bool) -> Floats:
        """Convert parameters (..., size) to those of standardised columns, or back.

        There is one scaling for all, or one for each row of the parameters.
        """
        count = params.size // max(self.size, 1)
        each = np.tile(scaling, (count, 1)) if scaling.ndim == 1 else scaling
        flat = _core.rescaled(params, each, self.d, self.t, self.fit_intercept, to_scaled)
        return flat.reshape(params.shape)


def without_rows(shape: Shape, weighted: bool) -> _core.Problem:
    """Return the core's view of a problem whose rows come in pieces, or as their moments.

    `weighted` counts rows by the weights that the pieces, or the moments, bring along.
    """
    X, y = np.empty((0, shape.d), shape.dtype), np.empty((0, shape.t), shape.dtype)
    weight = np.empty(0, shape.dtype) if weighted else None
    return _core.Problem(X, y, None, weight, shape.fit_intercept, shape.reduction)
