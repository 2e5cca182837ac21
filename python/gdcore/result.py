"""What a fit returns: the model, how it ended, and what was recorded on the way."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gdcore import _core
from gdcore.kernels import Floats, matmul
from gdcore.problem import Problem, broadcast_offset
from gdcore.state import FitState
from gdcore.status import Status

Record = tuple[npt.NDArray[np.int64], Floats, Floats]  # epochs (k,), losses (k,), parameters (k p,)


@dataclass(frozen=True, eq=False)
class History:
    """What a fit recorded, one entry every `history` epochs.

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

    epoch: npt.NDArray[np.int64]
    loss: Floats
    weights: Floats | None = None
    intercept: Floats | None = None


class Start(NamedTuple):
    """Where a descent began.

    Attributes
    ----------
    weights : ndarray, shape (d,) or (d, t)
    intercept : scalar or ndarray, shape (t,)
    epoch : int
        Epochs already behind them: 0, or those of the fit that a warm start went on from.
    """

    weights: Floats
    intercept: Any
    epoch: int


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted linear model: ``prediction = X @ weights + intercept + offset``.

    Attributes
    ----------
    weights : ndarray, shape (d,) or (d, t)
    intercept : scalar or ndarray, shape (t,)
        0 if none was fitted.
    loss : scalar
        At the weights, over all the data.
    epochs : int
        Passes over the data behind the weights, earlier fits of a warm start included.
    status : Status
    lr : float
        Last learning rate used; NaN if none was.
    history : History
    method : str
        "stream" (the data is read every epoch), "gram" (once) or "exact" (closed form).
    method_reason : str
        Why this method.
    stability_limit : float
        The lr above which full-batch descent on this data must diverge.
    fit_intercept : bool
        Whether the intercept was fitted, or fixed at 0.
    start : Start or None
        Where descent began; None for the closed form.
    state : FitState or None
        What a warm start goes on from: velocity, epoch, first gradient norm.
    feature_names : tuple of str, or None
    target_name : str or None
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
    feature_names: tuple[str, ...] | None = None
    target_name: str | None = None

    @property
    def message(self) -> str:
        """How the fit ended and what to do about it, in words."""
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        what = {
            Status.CONVERGED: f"Converged after {epochs}.",
            Status.MAX_EPOCHS: f"Not yet converged after {epochs}.",
            Status.DIVERGED: self._divergence,
            Status.STALLED: f"Stalled after {epochs}: no weight changes any more.",
            Status.SINGULAR: "The columns of X are dependent; these weights have least norm.",
            Status.EMPTY: "No rows to learn from; the weights are the start.",
        }[self.status]
        if self.method == "exact" and self.status is Status.CONVERGED:
            what = "Solved in closed form."
        advice = "" if self.status is Status.CONVERGED else " " + self.status.advice
        return what + advice

    @property
    def _divergence(self) -> str:
        rates = f"with lr {self.lr:.4g} (stability limit {self.stability_limit:.4g})"
        taken_back = self.state is None or math.isnan(self.state.last_loss)
        if taken_back:
            return f"Diverged in epoch {self.epochs + 1} {rates}; the weights are the last finite."
        return f"Diverged {rates}: after {self.epochs} epochs the loss is above the start's."

    def predict(self, X: npt.ArrayLike, *, offset: npt.ArrayLike | None = None) -> Floats:
        """Return predictions for new rows.

        Parameters
        ----------
        X : array_like, shape (m, d)
        offset : array_like, optional
            Fixed term, broadcast to the result.

        Returns
        -------
        ndarray, shape (m,) or (m, t)

        Raises
        ------
        ValueError
            If X has another number of columns than the fit.

        Examples
        --------
        >>> import gdcore as gd
        >>> fit = gd.fit([[1.0], [2.0], [3.0]], [3.0, 5.0, 7.0])
        >>> fit.predict([[10.0]]).round(3)
        array([21.])
        """
        rows, fixed = _core.prepare(("X", X), ("offset", offset, True))
        d = self.weights.shape[0]
        if rows.ndim != 2 or rows.shape[1] != d:
            raise ValueError(
                f"X has shape {rows.shape}; this fit predicts from X of shape (m, {d})."
            )
        with _core.FpEnv():
            prediction: Floats = matmul(rows, self.weights)
            prediction += self.intercept
            if fixed is not None:
                prediction += broadcast_offset(fixed, prediction.shape)
        return prediction

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fit to an .npz file, whole or not at all; `gdcore.load` reads it back.

        Parameters
        ----------
        path : path-like
            Taken as it is: no suffix is added.

        Raises
        ------
        OSError
            If the file cannot be written; what stood there before stays.
        """
        from gdcore.storage import save_fit

        save_fit(self, path)


def load(path: str | os.PathLike[str]) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Fit
        The same bits; a warm start goes on as if never saved.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a gdcore fit, is truncated, or has a version this gdcore does not know.
    """
    from gdcore.storage import load_fit

    fields, start, history = load_fit(path)
    return Fit(start=Start(*start) if start else None, history=History(**history), **fields)


def history_of(problem: Problem, record: Record | None = None) -> History:
    """Lay a record out in the problem's shapes; None is an empty one."""
    if record is None:
        return History(np.empty(0, np.int64), np.empty(0, problem.dtype))
    epoch, loss, params = record
    if params.size != epoch.size * problem.size:  # parameters were not recorded
        return History(epoch, loss)
    k, table = epoch.size, params.reshape(epoch.size, problem.size)
    split, targets = problem.d * problem.t, problem.weights_shape[1:]
    intercept = table[:, split:] if problem.fit_intercept else np.zeros((k, problem.t), table.dtype)
    return History(
        epoch,
        loss,
        weights=table[:, :split].reshape(k, *problem.weights_shape),
        intercept=intercept.reshape(k, *targets),
    )
