"""The data of a fit, checked and laid out for the core."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data.columns import Names, as_numbers, refuse_as_feature
from gdcore.kernels import Floats
from gdcore.results.state import FitState


@dataclass(frozen=True)
class Problem:
    """Arrays of one dtype: X (n, d), y (n, t); and offset (n, t), sample_weight (n,) or None."""

    X: Floats
    y: Floats
    offset: Floats | None
    sample_weight: Floats | None
    fit_intercept: bool
    reduction: str
    several: bool  # y came with a dimension of targets
    core: _core.Problem
    # If there is one, parameters are those of standardised columns: see FitState.
    scaling: Floats | None = field(default=None, kw_only=True)
    feature_names: Names | None = field(default=None, kw_only=True)  # of a data frame's columns
    target_name: str | None = field(default=None, kw_only=True)

    @property
    def rowless(self) -> bool:
        """Whether the rows are known by their moments alone."""
        return False

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.X.shape[0])

    @property
    def d(self) -> int:
        """Features."""
        return int(self.X.shape[1])

    @property
    def t(self) -> int:
        """Targets."""
        return int(self.y.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.X.dtype

    @property
    def size(self) -> int:
        """Parameters, intercepts included."""
        return (self.d + self.fit_intercept) * self.t

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """(d,) or (d, t)."""
        return (self.d, self.t) if self.several else (self.d,)

    @property
    def summed(self) -> bool:
        """The loss is a sum, not a mean, over the rows."""
        return self.reduction in ("sum", "half_sum")

    @property
    def weightless(self) -> bool:
        """No row counts: every sample weight is 0."""
        return self.sample_weight is not None and not self.sample_weight.any()

    @property
    def featureless(self) -> bool:
        """Every feature is 0 in every row that counts."""
        X = self.X if self.sample_weight is None else self.X[self.sample_weight > 0]
        return not X.any()

    def largest_row(self) -> float:
        """Curvature of the steepest single row."""
        return self.core.largest_row()

    def unpack(self, params: Floats) -> tuple[Floats, Any]:
        """Split the parameters into weights and intercept, those of the columns as given."""
        params, split = self.returned(params), self.d * self.t
        weights = params[:split].reshape(self.weights_shape).copy()
        if not self.fit_intercept:
            return weights, np.zeros(self.t, self.dtype) if self.several else self.dtype.type(0)
        return weights, params[split:].copy() if self.several else params[split]

    def scaled(self, scaling: Floats) -> Self:
        """Return the problem of the standardised columns."""
        return replace(self, core=self.core.scaled(scaling), scaling=scaling)

    def returned(self, params: Floats) -> Floats:
        """Return parameters (k * size,) as those of the columns as given."""
        return params if self.scaling is None else self._rescaled(params, self.scaling, to=False)

    def at(self, state: FitState) -> FitState:
        """Return a state in the coordinates of this problem.

        Where they were others its velocity is lost, which is of a step there.
        """
        own = np.empty(0) if self.scaling is None else self.scaling
        if np.array_equal(own, state.scaling):
            return state
        params = state.params
        if state.scaling.size:
            params = self._rescaled(params, state.scaling, to=False)
        if own.size:
            params = self._rescaled(params, own, to=True)
        fresh = np.empty(0, params.dtype)
        return replace(
            state,
            params=params,
            velocity=fresh,
            previous=fresh,
            step=0,
            epoch_sums=None,
            scaling=own,
        )

    def _rescaled(self, params: Floats, scaling: Floats, *, to: bool) -> Floats:
        many = np.tile(scaling, (len(params) // max(self.size, 1), 1))
        return _core.rescaled(params, many, self.d, self.t, self.fit_intercept, to)

    def fingerprint(self) -> str:
        """Digest of the data and of what is fitted to it."""
        import hashlib

        digest = hashlib.blake2b(digest_size=16)
        digest.update(
            repr(
                (self.X.shape, self.y.shape, str(self.dtype), self.fit_intercept, self.reduction)
            ).encode()
        )
        for array in (self.X, self.y, self.offset, self.sample_weight):
            if array is None:
                digest.update(b"none")
                continue
            for begin in range(0, len(array), 4096):
                digest.update(np.ascontiguousarray(array[begin : begin + 4096]).data)
        return digest.hexdigest()


def make_problem(
    X_given: npt.ArrayLike,
    y_given: npt.ArrayLike,
    offset: npt.ArrayLike | None,
    sample_weight: npt.ArrayLike | None,
    fit_intercept: bool,
    reduction: str,
    features: Names | None = None,
    part: bool = False,
) -> Problem:
    """Check shapes and dtypes; ValueError and TypeError say what to change.

    `features` are the columns to take of a data frame; all by default. `part` is whether more rows
    follow, so that small weights may be small beside theirs.
    """
    X_numbers, names = as_numbers(X_given, "X", features)
    y_numbers, targets = as_numbers(y_given, "y")
    X, y, fixed, weight = _core.prepare(
        ("X", X_numbers),
        ("y", y_numbers),
        ("offset", as_numbers(offset, "offset")[0], True),
        ("sample_weight", as_numbers(sample_weight, "sample_weight")[0], True),
    )
    if X.ndim != 2:
        single = "X.to_numpy()" if hasattr(X_given, "to_numpy") else "X"
        hint = f" Reshape a single feature with {single}[:, None]." if X.ndim == 1 else ""
        raise ValueError(
            f"X has shape {X.shape}; it must have two dimensions, (n, d), or three for many "
            f"problems, (count, n, d).{hint}"
        )
    if y.ndim not in (1, 2) or len(y) != len(X):
        raise ValueError(
            f"y has shape {y.shape} and X {X.shape}; "
            "with X (n, d), y must be (n,) or (n, t) with the same n."
        )
    for name, column in zip(targets or (), np.atleast_2d(y.T), strict=False):
        refuse_as_feature(X, names, name, column, "the target y")
    target = targets[0] if targets and len(targets) == 1 else None
    y, fixed, weight, several = laid_out(X, y, fixed, weight, fit_intercept, part)
    fields = (X, y, fixed, weight, bool(fit_intercept), reduction)
    core = _core.Problem(*fields)
    return Problem(*fields, several, core, feature_names=names, target_name=target)


def laid_out(
    X: Floats,
    y: Floats,
    offset: Floats | None,
    weight: Floats | None,
    fit_intercept: bool,
    part: bool = False,
) -> tuple[Floats, Floats | None, Floats | None, bool]:
    """Return y and offset (..., n, t), sample_weight (..., n), and whether y had its targets' axis.

    X is (..., n, d), and y goes with its rows.
    """
    several = y.ndim == X.ndim
    if several and y.shape[-1] == 0:
        raise ValueError(f"y has shape {y.shape}: there is no target to fit.")
    if X.shape[-1] == 0 and not fit_intercept:
        raise ValueError(
            f"X has shape {X.shape} and fit_intercept is False: there is nothing to fit."
        )
    if offset is not None:
        offset = broadcast_offset(offset, y.shape)
    if weight is not None:
        weight = checked_weights(weight, X.shape[:-1], part)
    if not several:
        y = y[..., None]
        offset = None if offset is None else offset[..., None]
    return y, offset, weight, several


def broadcast_offset(offset: Floats, shape: tuple[int, ...]) -> Floats:
    """Stretch an offset to the shape of the predictions; ValueError if it does not fit."""
    try:
        return np.broadcast_to(offset, shape)
    except ValueError:
        raise ValueError(
            f"offset has shape {offset.shape}, which does not broadcast to y's shape {shape}."
        ) from None


def checked_weights(sample_weight: Floats, shape: tuple[int, ...], part: bool = False) -> Floats:
    """Stretch weights to one a row; ValueError if they do not fit, or one is out of range."""
    try:
        stretched = np.broadcast_to(sample_weight, shape)
    except ValueError:
        raise ValueError(
            f"sample_weight has shape {sample_weight.shape}; "
            f"it must be {shape}, one for each row of X."
        ) from None
    bad = ~((sample_weight >= 0) & np.isfinite(sample_weight))
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        place = ", ".join(map(str, at))
        raise ValueError(
            f"sample_weight[{place}] is {sample_weight[at]}; weights must be finite, 0 or larger."
        )
    check_scale(float(sample_weight.max(initial=0)), sample_weight.dtype, part)
    return stretched


def check_scale(largest: float, dtype: np.dtype[Any], part: bool = False) -> None:
    """Raise ValueError if products of the largest weight with squares would leave the range."""
    far = float(np.float32(1e30)) if dtype == np.float32 else 1e150
    if largest > far or (0 < largest < 1 / far and not part):
        raise ValueError(
            f"the largest sample_weight is {largest:.3g}; it must be from {1 / far:.0e} to "
            f"{far:.0e}, or 0: pass sample_weight / sample_weight.max()."
        )


def diagnose(problem: Problem) -> None:
    """Raise ValueError naming the first NaN or infinity of the data, if it holds one."""
    for name, array in (("X", problem.X), ("y", problem.y), ("offset", problem.offset)):
        if array is None:
            continue
        for begin in range(0, len(array), 4096):
            bad = np.argwhere(~np.isfinite(array[begin : begin + 4096]))
            if not len(bad):
                continue
            row, column = begin + int(bad[0][0]), int(bad[0][1])
            names = problem.feature_names if name == "X" else None
            which = column if names is None else repr(names[column])
            where = f"row {row}" + (
                f", column {which}" if array.shape[1] > 1 or name == "X" else ""
            )
            raise ValueError(
                f"{name} holds {array[row, column]} at {where} (counted from 0); "
                "drop or fill such rows before fitting."
            )


def check_names(init: Any, problem: Problem) -> None:
    """Raise ValueError if an earlier fit's features have other names, or another order."""
    known, names = init.feature_names, problem.feature_names
    if known is not None and names is not None and known != names:
        raise ValueError(
            f"init is a fit of the columns {', '.join(known)} and X has {', '.join(names)}; give "
            "the columns of X the same names and order."
        )
