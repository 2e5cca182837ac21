"""The result of a fit: the model, its status and the recorded history."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data.home import Home, bring_home, on_host, settle
from gdcore.data.shape import Shape
from gdcore.errors import warn_of_fit
from gdcore.frozen import at_once
from gdcore.results.display import html_of_fit, line_of_fit, numbers_in_words
from gdcore.results.inference import Inference, Inferring
from gdcore.results.interval import DEFAULT_LEVEL, check_interval, with_interval
from gdcore.results.prediction import predicted, prepared, product, residuals_of
from gdcore.results.state import FitState
from gdcore.status import (
    DESERVE_A_LOOK,
    Status,
    dropped_in_words,
    epochs_in_words,
    has_advice,
)
from gdcore.typing import Floats, Interval, Ints, Names

Record = tuple[Ints, Floats, Floats]  # epochs (k,), losses (k,), parameters (k p,)


@at_once
@dataclass(frozen=True, eq=False)
class History:
    """The record of a fit, one entry every `history` epochs.

    Attributes
    ----------
    epoch : ndarray of int64, shape (k,)
        Number of the epoch, counted from 1 over warm starts.
    loss : ndarray, shape (k,)
        Loss measured during that epoch, before its update (for mini-batches: over its batches).
    weights : ndarray, shape (k, d) or (k, d, t), or None
        Weights after that epoch; None if the record would exceed 64 MiB.
    intercept : ndarray, shape (k,) or (k, t), or None
        Intercept after that epoch, likewise.
    """

    epoch: Ints
    loss: Floats
    weights: Floats | None = None
    intercept: Floats | None = None

    def __repr__(self) -> str:
        problems = f" of {len(self.loss)} problems" if self.loss.ndim == 2 else ""
        return f"History({len(self.epoch)} epochs{problems})"

    def emptied(self) -> History:
        """Return a record of no epochs, of as many problems."""
        return History(self.epoch[:0], self.loss[..., :0])


class Start(NamedTuple):
    """The point at which a descent began.

    Attributes
    ----------
    weights : ndarray, shape (d,) or (d, t)
    intercept : scalar or ndarray, shape (t,)
    epoch : int
        Epochs done before: 0, or those of the fit that a warm start continues.
    """

    weights: Floats
    intercept: Any
    epoch: int

    def __repr__(self) -> str:
        return (
            f"Start(weights={numbers_in_words(self.weights)}, "
            f"intercept={numbers_in_words(self.intercept)}, epoch={self.epoch})"
        )


@at_once
@dataclass(frozen=True, eq=False)
class Fit(Inferring):
    """A fitted linear model: ``prediction = X @ weights + intercept + offset``.

    Attributes
    ----------
    weights : array, shape (d,) or (d, t)
        Of the library of X, on the device of X: see `fit`. The array is made when it is first read.
        Copies and pickles of the fit, and files, hold NumPy's.
    intercept : scalar or array, shape (t,)
        0 if none was fitted. As `weights`; without dimensions where NumPy has a scalar.
    loss : scalar
        The loss at the weights, over all the data.
    epochs : int
        Passes over the data, those of earlier fits of a warm start included.
    status : Status
    lr, momentum : float
        Last learning rate used, NaN if none was; and the momentum.
    history : History
    method : str
        "stream" (the data is read every epoch), "gram" (once) or "exact" (closed form).
    method_reason : str
        Why this method.
    stability_limit : float
        The lr above which full-batch descent on this data must diverge.
    fit_intercept : bool
        Whether the intercept was fitted, or fixed at 0.
    r2_lost : float
        How far R^2 is below that of the best fit; for several targets, the largest distance. NaN
        if it is not known, if y is constant, or after a descent without `tol`.
    start : Start or None
        The point at which descent began; None for the closed form.
    state : FitState or None
        What a warm start continues from: velocity, epoch, rates.
    feature_names : tuple of str, or None
        Columns of the data frame, or of the file, that was fitted. A name that is not text is
        kept as its ``str``.
    target_name : str or None
        The same for y.
    rank : int or None
        Columns that count, the intercept's included, if the closed form found it: see
        docs/numerics.md.
    inference : Inference or None
        What ``covariance=`` estimated, with the reason where it is NaN; `stderr`, `pvalues`,
        `summary` and their like read it.
    rows, dropped : int or ndarray of int64, shape (t,)
        Rows that were fitted, those of weight 0 included, and rows that ``missing="drop"`` left
        out. One each for targets that were fitted in different rows: then `status` is the worst of
        any target, `epochs` the most, `rank` the least, `loss` is over all entries of y that
        count, `lr` is NaN if it differs, and there is no history and no state. `message` says how
        the targets ended. `Moments` do not count the rows that they leave out.
    """

    weights: Floats
    intercept: Any
    loss: Any
    epochs: int
    status: Status
    lr: float
    history: History = field(repr=False)
    method: str = "stream"
    method_reason: str = field(default="", repr=False)
    stability_limit: float = math.nan
    fit_intercept: bool = True
    start: Start | None = field(default=None, repr=False)
    state: FitState | None = field(default=None, repr=False)
    feature_names: Names | None = None
    target_name: str | None = None
    rank: Any = None
    momentum: Any = 0.0
    r2_lost: Any = math.nan
    inference: Inference | None = field(default=None, repr=False)
    rows: Any = field(default=None, repr=False)
    dropped: Any = field(default=0, repr=False)
    detail: str = field(default="", repr=False)  # the distance from the best fit, for `message`
    home: Home | None = field(default=None, repr=False)  # of weights and intercept

    def __post_init__(self) -> None:
        if self.home is not None:
            settle(self)

    def __repr__(self) -> str:
        return line_of_fit(self)

    def _repr_html_(self) -> str:
        return html_of_fit(self)

    def __getstate__(self) -> dict[str, Any]:
        return vars(on_host(self))

    @property
    def message(self) -> str:
        """How the fit ended and what to do about it, in words."""
        by_target = isinstance(self.rows, np.ndarray)
        left_out = dropped_in_words(self.rows, self.dropped, by_target=by_target)
        if by_target and self.detail:
            return f"{self.detail} {left_out}"
        if self.detail and self.status is Status.EMPTY:  # not a fit, but a window without one
            return self.detail
        epochs = epochs_in_words(self.epochs)
        what = {
            Status.CONVERGED: f"Converged after {epochs}.",
            Status.MAX_EPOCHS: f"Ended after all {epochs}.",
            Status.DIVERGED: self._divergence,
            Status.STALLED: f"Stalled after {epochs}: rounding errors keep it from the minimum.",
            Status.SINGULAR: self._dependence,
            Status.EMPTY: "No rows to learn from; the weights are the start.",
            Status.INVALID: "The data holds NaN or infinity, or its squares overflow.",
        }[self.status]
        if self.method == "exact" and self.status is Status.CONVERGED:
            what = "Solved in closed form."
        if left_out:
            what += " " + left_out
        if self.detail:
            what += " " + self.detail
        as_asked = self.status is Status.MAX_EPOCHS and not self.detail  # without a tol
        if self.status is Status.CONVERGED or as_asked or has_advice(self.detail):
            return what
        return f"{what} {self.status.advice}"

    @property
    def _dependence(self) -> str:
        said = "the columns of X are dependent; these weights have least norm."
        if self.rank is None:
            return "T" + said[1:]
        return f"Rank {self.rank} of {len(self.weights) + self.fit_intercept}: {said}"

    @property
    def _divergence(self) -> str:
        rates = f"with lr {self.lr:.4g} (stability limit {self.stability_limit:.4g})"
        taken_back = self.state is None or math.isnan(self.state.last_loss)
        if taken_back:
            return f"Diverged in epoch {self.epochs + 1} {rates}; the weights are the last finite."
        return (
            f"Diverged {rates}: after {epochs_in_words(self.epochs)} the loss is above the start's."
        )

    def predict(
        self,
        X: npt.ArrayLike,
        *,
        offset: npt.ArrayLike | None = None,
        interval: Interval | None = None,
        level: float = DEFAULT_LEVEL,
    ) -> Any:
        """Return predictions for new rows.

        Parameters
        ----------
        X : array_like, shape (m, d), or data frame
            The columns of a frame go by name if the fit has `feature_names`: in any order, and
            others are ignored. Those of an array go by position. A missing number makes its row's
            prediction NaN.
        offset : array_like, optional
            Fixed term, broadcast to the result.
        interval : {"confidence", "prediction"}, optional
            Add an interval around each prediction (extra "stats"): "confidence" for the expected
            value, "prediction" for a new y of weight 1. The fit needs ``covariance=``.
        level : float
            Of the intervals, between 0 and 1: the share of them that hold that value.

        Returns
        -------
        array, shape (m,) or (m, t)
            Of X's library, on X's device: NumPy's for lists and data frames. With `interval` a
            `Prediction`, which holds three such arrays: mean, lower, upper. Their ends are computed
            in float64 in the host's memory: ``x' V x`` of the covariance V, plus `sigma2` for
            "prediction", and Student's t. They are NaN where rounding errors of the covariance may
            exceed that: fit columns that are less nearly dependent, such as centred ones.

        Raises
        ------
        ValueError
            If X has another number of columns than the fit, or a frame has no such column. If
            interval or level is wrong; `NoCovarianceError` if the fit has no covariance.
        ImportError
            If scipy is not installed, with `interval`.

        Examples
        --------
        >>> import gdcore as gd
        >>> fit = gd.fit([[1.0], [2.0], [3.0]], [3.0, 5.0, 7.0])
        >>> fit.predict([[10.0]]).round(3)
        array([21.])
        """
        if interval is not None or level != DEFAULT_LEVEL:
            check_interval(self.inference, interval, level)
        model = self if self.home is None else on_host(self)
        rows, fixed = prepared(X, offset, self.feature_names)
        d = model.weights.shape[0]
        if rows.ndim != 2 or rows.shape[1] != d:
            raise ValueError(
                f"X has shape {rows.shape}; this fit predicts from X of shape (m, {d})."
            )
        with _core.FpEnv():
            products = product(rows, model.weights)
            mean = predicted(X, rows, products, model.intercept, fixed)
            if interval is None or self.inference is None:
                return mean
            return with_interval(self.inference, mean, X, rows, interval, level)

    def residuals(
        self, X: Any, y: npt.ArrayLike | None = None, *, offset: npt.ArrayLike | None = None
    ) -> Any:
        """Return what y is above the predictions: ``y - fit.predict(X, offset=offset)``.

        Parameters
        ----------
        X, offset
            As in `predict`.
        y : array_like, shape (m,) or (m, t), optional
            By default the column `target_name` of a data frame.

        Returns
        -------
        array, shape (m,) or (m, t)
            Of X's library, on X's device: NumPy's for lists and data frames.

        Raises
        ------
        ValueError
            As `predict`; or if y is missing or has another shape than the predictions.

        Examples
        --------
        >>> import gdcore as gd
        >>> fit = gd.fit([[1.0], [2.0], [3.0]], [3.0, 5.0, 7.0])
        >>> fit.residuals([[10.0]], [22.0]).round(3)
        array([1.])
        """
        return residuals_of(X, y, self.predict(X, offset=offset), self.target_name)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fit to an .npz file, whole or not at all; `gdcore.load` reads it back.

        Parameters
        ----------
        path : path-like
            No suffix is added.

        Raises
        ------
        OSError
            If the file cannot be written; the one that was there before stays.
        """
        from gdcore.results import archive

        model = on_host(self)
        meta = {
            "format": archive.FIT,
            "version": archive.NEWEST[archive.FIT],
            "epochs": self.epochs,
            "status": self.status.name,
            "lr": self.lr,
            "momentum": self.momentum,
            "r2_lost": self.r2_lost,
            "detail": self.detail,
            "stability_limit": self.stability_limit,
            "rank": self.rank,
        } | described(self)
        arrays = {"weights": model.weights, "intercept": model.intercept, "loss": self.loss}
        arrays |= archive.prefixed("", {"rows": self.rows, "dropped": self.dropped})
        arrays |= archive.prefixed("history_", asdict(self.history))
        if self.start is not None:
            arrays |= archive.prefixed("start_", self.start._asdict())
        if self.state is not None:
            arrays |= archive.prefixed("state_", self.state.as_dict())
        arrays |= inferred(self)
        archive.write(path, meta, arrays)

    @classmethod
    def from_file(cls, meta: dict[str, Any], arrays: dict[str, Any]) -> Fit:
        """Return the fit that `save` wrote; KeyError if something is missing."""
        from gdcore.results.archive import group

        state, start = group("state_", arrays), group("start_", arrays)
        return cls(
            **as_described(meta),
            weights=arrays["weights"],
            intercept=arrays["intercept"][()],
            loss=arrays["loss"][()],
            epochs=int(meta["epochs"]),
            status=Status[meta["status"]],
            lr=float(meta["lr"]),
            momentum=float(meta.get("momentum", 0.0)),
            r2_lost=float(meta.get("r2_lost", math.nan)),
            detail=str(meta.get("detail", "")),
            stability_limit=float(meta["stability_limit"]),
            rank=meta.get("rank"),
            rows=_number(arrays.get("rows")),
            dropped=_number(arrays.get("dropped", 0)),
            state=FitState.from_file(state) if state else None,
            start=_start(start) if start else None,
            history=history_from(arrays),
            inference=inference_from(arrays),
        )


bring_home(Fit)


def _number(array: Any) -> Any:
    """Return an array without dimensions as a Python number."""
    return array.item() if isinstance(array, np.ndarray) and not array.ndim else array


def _start(arrays: dict[str, Any]) -> Start:
    return Start(arrays["weights"], arrays["intercept"][()], int(arrays["epoch"]))


def described(fit: Fit) -> dict[str, Any]:
    """Return the fields of the model that files of one fit and of many have in common."""
    return {
        "method": fit.method,
        "method_reason": fit.method_reason,
        "fit_intercept": fit.fit_intercept,
        "feature_names": fit.feature_names,
        "target_name": fit.target_name,
    }


def as_described(meta: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that `described` wrote."""
    names = meta["feature_names"]
    return {
        "method": str(meta["method"]),
        "method_reason": str(meta["method_reason"]),
        "fit_intercept": bool(meta["fit_intercept"]),
        "feature_names": None if names is None else tuple(names),
        "target_name": meta["target_name"],
    }


def history_from(arrays: dict[str, Any]) -> History:
    """Return the history in a file; KeyError if something is missing."""
    from gdcore.results.archive import group

    fields = group("history_", arrays)
    fields["epoch"], fields["loss"]  # the two that there always are
    return History(**fields)


def inferred(fit: Fit) -> dict[str, Any]:
    """Return the arrays of a fit's inference as files name them; none without one."""
    from gdcore.results.archive import prefixed

    return {} if fit.inference is None else prefixed("inference_", fit.inference.as_dict())


def inference_from(arrays: dict[str, Any]) -> Inference | None:
    """Return the inference in a file, None if there is none; KeyError if a part is missing."""
    from gdcore.results.archive import group

    fields = group("inference_", arrays)
    return Inference.from_file(fields) if fields else None


def model_of(shape: Shape, params: Floats) -> dict[str, Any]:
    """Return the fields of a `Fit` that say what it predicts."""
    weights, intercept = shape.unpack(params)
    return {
        "weights": weights,
        "intercept": intercept,
        "fit_intercept": shape.fit_intercept,
        "feature_names": shape.feature_names,
        "target_name": shape.target_name,
        "home": shape.home,
        "rows": shape.n,
        "dropped": shape.dropped,
    }


def fit_at(shape: Shape, start: FitState, state: FitState) -> Fit:
    """Return the fit of a state without reading any rows: its loss is the one measured last."""
    return Fit(
        **model_of(shape, state.params),
        loss=shape.dtype.type(state.last_loss),
        epochs=state.epoch,
        status=Status.MAX_EPOCHS,
        lr=state.lr,
        history=history_of(shape),
        start=Start(*shape.unpack(start.params), start.epoch),
        state=state,
    )


def empty_fit(shape: Shape, start: FitState, method: str) -> Fit:
    """Return the fit of no rows: the start, by the method that was asked for."""
    closed: dict[str, Any] = {"method": "exact", "rank": 0} if method == "exact" else {}
    return replace(
        fit_at(shape, start, start),
        loss=shape.dtype.type(math.nan),
        status=Status.EMPTY,
        lr=math.nan,
        method_reason="there is nothing to read.",
        **closed,
    )


def history_of(shape: Shape, record: Record | None = None) -> History:
    """Return a record as weights and intercepts; None is an empty one."""
    if record is None:
        return _empty_history(shape.dtype)
    epoch, loss, params = record
    if params.size != epoch.size * shape.size:  # parameters were not recorded
        return History(epoch, loss)
    return History(epoch, loss, *shape.split(shape.returned(params.reshape(-1, shape.size))))


@cache
def _empty_history(dtype: np.dtype[Any]) -> History:
    return History(np.empty(0, np.int64), np.empty(0, dtype))


def warn_of_end(fit: Fit, expects_convergence: bool) -> None:
    """Warn the user of a fit that deserves a look.

    One that ran all its epochs does if it was to converge, unless a warning said so before.
    """
    short = fit.status is Status.MAX_EPOCHS and expects_convergence
    if fit.status in DESERVE_A_LOOK or (short and not has_advice(fit.detail)):
        warn_of_fit(fit.message)
