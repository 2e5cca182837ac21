"""The result of a fit of many problems."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data.columns import as_numbers
from gdcore.data.device import local
from gdcore.data.home import from_device, on_host
from gdcore.data.labels import as_labels, keys_of, problem_name
from gdcore.errors import warn_of_fit
from gdcore.results.fit import Fit, History, as_described, described, history_from
from gdcore.results.prediction import predicted, product
from gdcore.results.state import ManyState
from gdcore.scalars import as_scalar
from gdcore.status import (
    STATUSES,
    Status,
    count_by_status,
    counts_in_words,
    deserve_a_look,
    ends_in_words,
)
from gdcore.typing import Floats, Ints

ONE_EACH = ("epochs", "status", "lr", "stability_limit", "rows")  # arrays of a file


@dataclass(frozen=True, eq=False)
class Fits(Fit):
    """Many linear models of one call: the attributes of `Fit`, one entry or row a problem.

    ``len(fits)`` is their number, ``fits[i]`` one of them as a `Fit`.

    Attributes
    ----------
    weights : array, shape (count, d) or (count, d, t)
    intercept : array, shape (count,) or (count, t)
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
        return len(self.status)

    def __repr__(self) -> str:
        weights = on_host(self).weights
        shape = f"weights of shape {weights.shape}, {weights.dtype}"
        return f"Fits({len(self)} problems, {shape}: {counts_in_words(self.status)})"

    def __getitem__(self, i: int) -> Fit:
        i = as_scalar(i)
        if not isinstance(i, int | np.integer):
            raise TypeError(f"fits[{i!r}]: the number of a problem is a whole number.")
        if not -len(self) <= i < len(self):
            raise IndexError(f"problem {i} is not among the {len(self)} of these fits.")
        i, model = i % len(self), on_host(self)
        losses, lost = self.history.loss[i], float(np.broadcast_to(self.r2_lost, len(self))[i])
        short = self.status[i] in (Status.MAX_EPOCHS, Status.STALLED) and not math.isnan(lost)
        known = ~np.isnan(losses)
        return Fit(
            weights=model.weights[i].copy(),
            intercept=model.intercept[i],
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
            home=self.home,
        )

    def counts(self) -> dict[Status, int]:
        """Return how many problems ended in each way, the most frequent first."""
        return count_by_status(self.status)

    def _named(self, i: int) -> str:
        return problem_name(self.groups, i)

    @property
    def message(self) -> str:
        """How the fits ended and what to do about it, in words."""
        return ends_in_words(self.status, self.r2_lost, "problem", self._named)

    def predict(
        self, X: npt.ArrayLike, *, groups: Any = None, offset: npt.ArrayLike | None = None
    ) -> Any:
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
        array, shape (count, m) or (count, m, t); with groups (m,) or (m, t)
            Of X's library, on X's device.

        Raises
        ------
        ValueError
            If shapes do not fit, or a label is not among `Fits.groups`.
        """
        model = on_host(self)
        numbers, fixed = as_numbers(X, "X", self.feature_names)[0], as_numbers(offset, "offset")[0]
        rows, fixed = _core.prepare(("X", numbers), ("offset", fixed, True))
        d, several = model.weights.shape[1], model.weights.ndim == 3
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
        weights = model.weights if several else model.weights[..., None]
        intercept = model.intercept if several else model.intercept[..., None]
        with _core.FpEnv():
            if groups is None:
                products, intercept = product(rows, weights), intercept[:, None, :]
            else:
                at = self._positions(from_device(groups, "groups"), len(rows))
                products = product(local(rows)[:, None, :], weights[at])[:, 0]
                intercept = intercept[at]
            if not several:
                products, intercept = products[..., 0], intercept[..., 0]
            return predicted(X, rows, products, intercept, fixed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fits to an .npz file, whole or not at all; `gdcore.load` reads them back.

        Parameters
        ----------
        path : path-like
            No suffix is added.

        Raises
        ------
        OSError
            If the file cannot be written; the one that was there before stays.
        ValueError
            If a label is an object of a type that `load` could not restore.
        """
        from gdcore.results import archive
        from gdcore.results.saved_labels import needs_text, to_text

        as_text = self.groups is not None and needs_text(self.groups)
        version = archive.NEWEST[archive.FITS] if as_text else 1
        meta = {"format": archive.FITS, "version": version} | described(self)
        model = on_host(self)
        arrays = {
            name: getattr(model, name) for name in ("weights", "intercept", "loss", *ONE_EACH)
        }
        arrays["status"] = np.array([status.code for status in self.status.tolist()], np.int8)
        labels = {"groups_text": to_text(self.groups)} if as_text else {"groups": self.groups}
        extra = {"rank": self.rank, "r2_lost": self.r2_lost, "momentum": self.momentum}
        arrays |= archive.prefixed("", labels | extra)
        arrays |= archive.prefixed("history_", asdict(self.history))
        if self.state is not None:
            arrays |= archive.prefixed("state_", self.state.as_dict())
        archive.write(path, meta, arrays)

    @classmethod
    def from_file(cls, meta: dict[str, Any], arrays: dict[str, Any]) -> Fits:
        """Return the fits that `save` wrote; KeyError if something is missing."""
        from gdcore.results.archive import group
        from gdcore.results.saved_labels import from_text

        state, text = group("state_", arrays), arrays.get("groups_text")
        fields = {name: arrays[name] for name in ("weights", "intercept", "loss", *ONE_EACH)}
        fields["status"] = STATUSES[fields["status"]]
        count = len(fields["lr"])
        return cls(
            **as_described(meta),
            **fields,
            groups=arrays.get("groups") if text is None else from_text(text),
            rank=arrays.get("rank"),
            r2_lost=arrays.get("r2_lost", np.full(count, np.nan)),
            momentum=arrays.get("momentum", np.zeros(count)),
            state=ManyState.from_file(state) if state else None,
            history=history_from(arrays),
        )

    def _positions(self, groups: Any, n: int) -> Ints:
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


def warn_of_ends(fits: Fits, expects_convergence: bool) -> None:
    """Warn the user, once, of all fits that deserve a look."""
    if deserve_a_look(fits.status, expects_convergence):
        warn_of_fit(fits.message)
