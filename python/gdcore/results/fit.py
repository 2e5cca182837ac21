"""What a fit returns: the model, how it ended, and what was recorded on the way."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data.columns import as_numbers
from gdcore.data.labels import as_labels, keys_of, named
from gdcore.data.problem import Problem, broadcast_offset
from gdcore.kernels import Floats, matmul
from gdcore.results.state import FitState
from gdcore.status import Status, account, advises, counted, counts_in_words, epochs_in_words

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
        How far R^2 is below that of the predictions that fit best; of several targets, the most.
        NaN if it is not known, if y is constant, or after a descent without `tol`.
    start : Start or None
        Where descent began; None for the closed form.
    state : FitState or None
        What a warm start goes on from: velocity, epoch, rates.
    feature_names : tuple of str, or None
        Columns of the data frame, or of the file, that was fitted. A name that is a number, or
        else no text, is kept as its ``str``.
    target_name : str or None
        Likewise of y.
    rank : int or None
        Columns that count, the intercept's included, if the closed form found it: see
        docs/numerics.md.
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
    rank: Any = None
    momentum: Any = 0.0
    r2_lost: Any = math.nan
    detail: str = field(default="", repr=False)  # what `message` says of the distance

    @property
    def message(self) -> str:
        """How the fit ended and what to do about it, in words."""
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
        if self.detail:
            what += " " + self.detail
        as_asked = self.status is Status.MAX_EPOCHS and not self.detail  # no tol was
        if self.status is Status.CONVERGED or as_asked or advises(self.detail):
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

    def predict(self, X: npt.ArrayLike, *, offset: npt.ArrayLike | None = None) -> Floats:
        """Return predictions for new rows.

        Parameters
        ----------
        X : array_like, shape (m, d), or data frame
            The columns of a frame go by name if the fit has `feature_names`: in any order, and
            others are ignored. Those of an array go by position.
        offset : array_like, optional
            Fixed term, broadcast to the result.

        Returns
        -------
        ndarray, shape (m,) or (m, t)

        Raises
        ------
        ValueError
            If X has another number of columns than the fit, or a frame lacks one of them or holds
            nulls in it.

        Examples
        --------
        >>> import gdcore as gd
        >>> fit = gd.fit([[1.0], [2.0], [3.0]], [3.0, 5.0, 7.0])
        >>> fit.predict([[10.0]]).round(3)
        array([21.])
        """
        X, _ = as_numbers(X, "X", self.feature_names)
        rows, fixed = _core.prepare(("X", X), ("offset", as_numbers(offset, "offset")[0], True))
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
        from gdcore.results.archive import save_fit

        save_fit(self, path)


@dataclass(frozen=True, eq=False)
class Fits(Fit):
    """Many linear models of one call: the attributes of `Fit`, one entry or row a problem.

    ``len(fits)`` is their number, ``fits[i]`` one of them as a `Fit`.

    Attributes
    ----------
    weights : ndarray, shape (count, d) or (count, d, t)
    intercept : ndarray, shape (count,) or (count, t)
    loss : ndarray, shape (count,)
    epochs : ndarray of int64, shape (count,)
    status : ndarray of Status, shape (count,)
        Compare with ``fits.status == "CONVERGED"``.
    lr, momentum, r2_lost : ndarray, shape (count,)
    history : History
        Its `loss` has shape (count, k), NaN after a problem's last epoch; k is 0 if the record
        would exceed 64 MiB.
    stability_limit : ndarray, shape (count,)
        NaN where it was not needed: with an lr that was given.
    state : ManyState or None
    rows : ndarray of int64, shape (count,)
        Rows of each problem.
    groups : ndarray or None
        Label of each problem, from `fit_groups`.
    rank : ndarray of int64, shape (count,), or None
    """

    weights: Floats
    intercept: Floats
    loss: Floats
    epochs: Any
    status: Any
    lr: Any
    history: History = field(repr=False)
    stability_limit: Any = math.nan
    state: Any = field(default=None, repr=False)
    rows: Any = field(default=None, repr=False)
    groups: Any = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.weights)

    def __repr__(self) -> str:
        shape = f"weights of shape {self.weights.shape}, {self.weights.dtype}"
        return f"Fits({len(self)} problems, {shape}: {counts_in_words(self.status)})"

    def __getitem__(self, i: int) -> Fit:
        if not isinstance(i, int | np.integer):
            raise TypeError(f"fits[{i!r}]: the number of a problem is a whole number.")
        if not -len(self) <= i < len(self):
            raise IndexError(f"problem {i} is not among the {len(self)} of these fits.")
        i = i % len(self)
        losses, lost = self.history.loss[i], float(np.broadcast_to(self.r2_lost, len(self))[i])
        short = self.status[i] in (Status.MAX_EPOCHS, Status.STALLED) and not math.isnan(lost)
        known = ~np.isnan(losses)
        return Fit(
            weights=self.weights[i].copy(),
            intercept=self.intercept[i],
            loss=self.loss[i],
            epochs=int(self.epochs[i]),
            status=Status(self.status[i]),
            lr=float(self.lr[i]),
            momentum=float(np.broadcast_to(self.momentum, len(self))[i]),
            r2_lost=lost,
            detail=f"R^2 is {lost:.2g} below that of the best fit." if short else "",
            history=History(self.history.epoch[known], losses[known]),
            method=self.method,
            method_reason=self.method_reason,
            stability_limit=float(self.stability_limit[i]),
            fit_intercept=self.fit_intercept,
            state=None if self.state is None else self.state.one(i),
            feature_names=self.feature_names,
            target_name=self.target_name,
            rank=None if self.rank is None else int(self.rank[i]),
        )

    def counts(self) -> dict[Status, int]:
        """Return how many problems ended in which way, the most frequent first."""
        return counted(self.status)

    def _named(self, i: int) -> str:
        return named(self.groups, i)

    @property
    def message(self) -> str:
        """How the fits ended and what to do about it, in words."""
        return account(self.status, self.r2_lost, "problem", self._named)

    def predict(
        self, X: npt.ArrayLike, *, groups: Any = None, offset: npt.ArrayLike | None = None
    ) -> Floats:
        """Return predictions for new rows.

        Parameters
        ----------
        X : array_like, shape (count, m, d) or (m, d)
            Rows of each problem, or the same rows for all of them. With `groups`, (m, d). A data
            frame goes by name, as in `Fit.predict`.
        groups : array_like, shape (m,), optional
            For each row, the label of the group whose model predicts it.
        offset : array_like, optional
            Fixed term, broadcast to the result.

        Returns
        -------
        ndarray, shape (count, m) or (count, m, t); with groups (m,) or (m, t)

        Raises
        ------
        ValueError
            If shapes do not fit, or a label is not among `Fits.groups`.
        """
        X, _ = as_numbers(X, "X", self.feature_names)
        rows, fixed = _core.prepare(("X", X), ("offset", as_numbers(offset, "offset")[0], True))
        d, several = self.weights.shape[1], self.weights.ndim == 3
        leading = (len(self), 1) if groups is None else ()
        if (
            rows.ndim not in (2, 2 + len(leading) // 2)
            or rows.shape[-1] != d
            or (rows.ndim == 3 and rows.shape[0] not in leading)
        ):
            wanted = f"(m, {d})" if groups is not None else f"({len(self)}, m, {d}) or (m, {d})"
            raise ValueError(
                f"X has shape {rows.shape}; these fits predict from X of shape {wanted}."
            )
        weights = self.weights if several else self.weights[..., None]
        intercept = self.intercept if several else self.intercept[..., None]
        with _core.FpEnv():
            prediction: Floats
            if groups is None:
                prediction = matmul(rows, weights) + intercept[:, None, :]
            else:
                at = self._positions(groups, len(rows))
                prediction = matmul(rows[:, None, :], weights[at])[:, 0] + intercept[at]
            if not several:
                prediction = prediction[..., 0]
            if fixed is not None:
                prediction += broadcast_offset(fixed, prediction.shape)
        return prediction

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fits to an .npz file, whole or not at all; `gdcore.load` reads them back.

        Parameters
        ----------
        path : path-like
            Taken as it is: no suffix is added.

        Raises
        ------
        OSError
            If the file cannot be written; what stood there before stays.
        ValueError
            If a label is an object of a type that `load` could not make anew.
        """
        from gdcore.results.archive import save_fits

        save_fits(self, path)

    def _positions(self, groups: Any, n: int) -> npt.NDArray[np.int64]:
        """Return the problem that each label names."""
        if self.groups is None:
            raise ValueError("these fits have no groups; leave out groups=.")
        labels = groups if isinstance(groups, np.ndarray) else as_labels(groups)
        if labels.dtype.kind == self.groups.dtype.kind == "M":
            labels = labels.astype(self.groups.dtype)
        if labels.shape != (n,):
            raise ValueError(f"groups has shape {labels.shape}; X has {n} rows.")
        place = {label: i for i, label in enumerate(keys_of(self.groups.tolist()))}
        try:
            return np.array([place[label] for label in keys_of(labels.tolist())], np.int64)
        except KeyError as error:
            raise ValueError(
                f"group {error.args[0]!r} was not fitted; it is not among fits.groups."
            ) from None
        except TypeError as error:
            raise TypeError(
                f"a group label cannot be hashed ({error}); pass labels as in fits.groups."
            ) from None


def load(path: str | os.PathLike[str]) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Fit
        The same bits, `Fits` if it was many; a warm start goes on as if never saved.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a gdcore fit, is truncated, or has a version this gdcore does not know.
    """
    from gdcore.results.archive import load_fit, load_fits

    many = load_fits(path)
    if many is not None:
        return Fits(history=History(**many[1]), **many[0])
    fields, start, history = load_fit(path)
    return Fit(start=Start(*start) if start else None, history=History(**history), **fields)


def history_of(problem: Problem, record: Record | None = None) -> History:
    """Lay a record out in the problem's shapes; None is an empty one."""
    if record is None:
        return History(np.empty(0, np.int64), np.empty(0, problem.dtype))
    epoch, loss, params = record
    if params.size != epoch.size * problem.size:  # parameters were not recorded
        return History(epoch, loss)
    k, table = epoch.size, problem.returned(params).reshape(epoch.size, problem.size)
    split, targets = problem.d * problem.t, problem.weights_shape[1:]
    intercept = table[:, split:] if problem.fit_intercept else np.zeros((k, problem.t), table.dtype)
    return History(
        epoch,
        loss,
        weights=table[:, :split].reshape(k, *problem.weights_shape),
        intercept=intercept.reshape(k, *targets),
    )
