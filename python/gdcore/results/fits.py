"""The result of a fit of many problems."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Never, overload

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data.device import local
from gdcore.data.home import on_host
from gdcore.data.labels import label_name, problem_name
from gdcore.errors import warn_of_fit
from gdcore.results.display import ends_of, html_of_many, line_of_many
from gdcore.results.fit import (
    Fit,
    History,
    as_described,
    described,
    history_from,
    inference_from,
    inferred,
)
from gdcore.results.interval import DEFAULT_LEVEL, check_interval, with_interval
from gdcore.results.joining import (
    LabelledFrame,
    Unknown,
    check_unknown,
    given_labels,
    labelled_frame,
)
from gdcore.results.lookup import Labels, Place, close_to, find, place_of
from gdcore.results.prediction import (
    UNKNOWN,
    by_position,
    predicted,
    prepared,
    product,
    residuals_of,
    taken,
)
from gdcore.results.selection import one_label, selected
from gdcore.results.state import ManyState
from gdcore.results.table import (
    Columns,
    Library,
    columns_of_labels,
    parameter_columns,
    refuse_two_intercepts,
    rows_of,
    status_column,
    table_of,
)
from gdcore.status import (
    STATUSES,
    Status,
    count_by_status,
    deserve_a_look,
    dropped_in_words,
    ends_in_words,
)
from gdcore.typing import Floats, Interval, Ints, Names

ONE_EACH = ("epochs", "status", "lr", "stability_limit", "rows")  # arrays of a file
PER_PROBLEM = (
    *("weights", "intercept", "loss", *ONE_EACH, "dropped"),
    *("momentum", "r2_lost", "groups", "rank"),
)


@dataclass(frozen=True, eq=False)
class Fits(Fit):
    """Many linear models of one call: the attributes of `Fit`, one entry or row a problem.

    ``len(fits)`` is their number. A position or a label gives one of them as a `Fit`: ``fits[3]``,
    ``fits["s1"]``, ``fits["s1", 2024]``. A slice, a mask or a list of positions or labels gives
    `Fits`: ``fits[:5]``, ``fits[fits.rows > 9]``, ``fits[["a", "b"]]``. A whole number is always a
    position; `get_group` finds labels that are numbers. ``label in fits`` is whether it was fitted.

    An array with one number for all problems may be read-only: copy it before you write to it.

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
    rows, dropped : ndarray of int64, shape (count,) or (count, t)
        Rows of each problem that were fitted, and those that ``missing="drop"`` left out. See `Fit`
        for targets that were fitted in different rows.
    groups : ndarray or None
        Label of each problem, from `fit_groups`. Several columns `by` of a frame make tuples, in an
        array of objects, with one value of each column.
    group_names : tuple of str, or None
        The columns `by` of the frame that was fitted.
    group_keys : data frame or None
        Those columns, one row a problem, with their dtypes, in the library of that frame.
    rank : ndarray of int64, shape (count,), or None
    pickles_history : bool
        Whether pickles hold the history, as those of `with_history` do.
    """

    __module__ = "gdcore"

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
    group_names: Names | None = field(default=None, repr=False)
    group_keys: Any = field(default=None, repr=False)
    pickles_history: bool = field(default=False, repr=False)

    if not TYPE_CHECKING:  # which is to report attributes that do not exist

        def __getattr__(self, name: str) -> Never:
            found = getattr(type(self), name, None)
            if isinstance(found, property):
                found.__get__(self)  # raises its own AttributeError again
            said = f"{type(self).__name__!r} object has no attribute {name!r}"
            if vars(self).get("group_names") is not None and not name.startswith("_"):
                said += ": fit_groups returns Fits; call fits.to_frame() for a data frame"
            raise AttributeError(said, name=name, obj=self)

    def __len__(self) -> int:
        return len(self.status)

    def __repr__(self) -> str:
        return line_of_many("Fits", "problems", self)

    def _repr_html_(self) -> str:
        ends = ends_of(len(self))
        some = self._some(ends)
        keys = columns_of_labels(some.groups, self.group_names, ends)
        title = f"Linear models of {len(self)} {'problems' if self.groups is None else 'groups'}"
        return html_of_many(title, keys, some._columns(), len(self), self.message)

    def __iter__(self) -> Iterator[Fit]:
        return map(self._one, range(len(self)))

    def __contains__(self, label: object) -> bool:
        return self.groups is not None and bool(self._found(one_label(label))[0] != UNKNOWN)

    @overload
    def __getitem__(self, key: int | str | bytes | tuple[Any, ...]) -> Fit: ...
    @overload
    def __getitem__(self, key: slice | list[Any] | npt.NDArray[Any]) -> Fits: ...
    @overload
    def __getitem__(self, key: Any) -> Any: ...
    def __getitem__(self, key: Any) -> Any:
        find = None if self.groups is None else self._found_all
        at = selected(key, len(self), find)
        return self._one(at) if isinstance(at, int) else self._some(at)

    def get_group(self, label: Any) -> Fit:
        """Return the fit of a group.

        Parameters
        ----------
        label : hashable
            One of `groups`, of any type; ``fits[3]`` is the fourth problem, whatever its label.

        Returns
        -------
        Fit

        Raises
        ------
        KeyError
            If there is no such group. The message names close labels.

        Examples
        --------
        >>> import gdcore as gd
        >>> X, y = [[0.0], [0.0], [1.0], [1.0]], [1.0, 5.0, 3.0, 5.0]
        >>> fits = gd.fit_groups(X, y, [2023, 2024, 2023, 2024])
        >>> fits.get_group(2023).predict([[10.0]]).round(3)
        array([21.])
        """
        if self.groups is None:
            raise ValueError("these fits have no groups; fits[i] is the fit of problem i.")
        return self._one(int(self._found_all(one_label(label))[0]))

    def _one(self, i: int) -> Fit:
        """Return the fit of one problem."""
        model = on_host(self)
        losses, lost = self.history.loss[i], _number(self.r2_lost, i)
        short = self.status[i] in (Status.MAX_EPOCHS, Status.STALLED) and not math.isnan(lost)
        detail = f"R^2 is {lost:.2g} below that of the best fit." if short else ""
        if np.ndim(self.rows) == 2:
            ended = Status(self.status[i])
            advice = "" if ended is Status.CONVERGED else f": {ended.advice[:-1]}"
            detail = f"The worst of the targets ended as {ended}{advice}."
        known = ~np.isnan(losses)
        return Fit(
            weights=model.weights[i].copy(),
            intercept=model.intercept[i],
            loss=self.loss[i],
            epochs=int(self.epochs[i]),
            status=Status(self.status[i]),
            lr=float(self.lr[i]),
            momentum=_number(self.momentum, i),
            r2_lost=lost,
            detail=detail,
            history=History(self.history.epoch[known], losses[known]),
            method=self.method,
            method_reason=self.method_reason,
            stability_limit=float(self.stability_limit[i]),
            fit_intercept=self.fit_intercept,
            state=None if self.state is None else self.state.one(i),
            feature_names=self.feature_names,
            target_name=self.target_name,
            rank=None if self.rank is None else int(self.rank[i]),
            inference=None if self.inference is None else self.inference.at(i),
            rows=_entry(self.rows, i),
            dropped=_entry(self.dropped, i),
            home=self.home,
        )

    def _some(self, at: Ints) -> Fits:
        """Return the fits of some problems, with arrays of their own."""
        model = on_host(self)
        parts = {name: _part(getattr(model, name), at) for name in PER_PROBLEM}
        keys = self.group_keys
        return replace(
            model,
            **parts,
            history=replace(self.history, loss=self.history.loss[at]),
            state=None if self.state is None else self.state.part(at),
            group_keys=None if keys is None else rows_of(keys, at),
            inference=None if self.inference is None else self.inference.at(at),
            home=self.home,
        )

    @cached_property
    def _place(self) -> Place:
        return place_of(self.groups)

    def _found(self, labels: Labels) -> Ints:
        """Return the problem of each label, `UNKNOWN` if there is none."""
        return find(self.groups, self._place, labels)

    def _found_all(self, labels: Labels) -> Ints:
        """Return the problem of each label; KeyError if there is none."""
        found = self._found(labels)
        if (found == UNKNOWN).any():
            raise self._no_group(labels, int(np.argmax(found == UNKNOWN)))
        return found

    def _no_group(self, labels: Labels, i: int) -> KeyError:
        """Return the error for the label `i` of some, which was not fitted."""
        label = labels[i] if labels.dtype.kind in "mM" else labels[i : i + 1].tolist()[0]
        if self.group_names and isinstance(label, str):
            columns = (*self.group_names, *self._columns())
            column = "rows" if label == "n" else label  # its name while a frame was returned
            if column in columns:
                return KeyError(
                    f"no group {label!r}; fit_groups returns Fits: for a data frame, call "
                    f"fits.to_frame()[{column!r}]"
                )
        return KeyError(f"no group {label_name(labels, i)}; {close_to(self.groups, label)}")

    def __getstate__(self) -> dict[str, Any]:
        state = self._copied()
        if not self.pickles_history:
            state["history"] = self.history.emptied()
        return state

    def __copy__(self) -> Fits:
        return self._with(self._copied())

    def __deepcopy__(self, memo: dict[int, Any]) -> Fits:
        return self._with(deepcopy(self._copied(), memo))

    def with_history(self) -> Fits:
        """Return these fits, whose pickles keep the history.

        Other pickles leave it out, since it may be many times larger than the models. Files of
        `save` and copies always hold it.

        Returns
        -------
        Fits
        """
        return replace(self, pickles_history=True)

    def _copied(self) -> dict[str, Any]:
        """Return the fields of a copy, with NumPy's arrays."""
        return {name: value for name, value in vars(on_host(self)).items() if name != "_place"}

    def _with(self, fields: dict[str, Any]) -> Fits:
        copied = object.__new__(type(self))
        vars(copied).update(fields)
        return copied

    def counts(self) -> dict[Status, int]:
        """Return how many problems ended in each way, the most frequent first."""
        return count_by_status(self.status)

    def _named(self, i: int) -> str:
        return problem_name(self.groups, i)

    @property
    def message(self) -> str:
        """How the fits ended and what to do about it, in words."""
        words = ends_in_words(self.status, self.r2_lost, "problem", self._named)
        return f"{words} {self._left_out}".rstrip()

    @property
    def _left_out(self) -> str:
        return dropped_in_words(self.rows, self.dropped, by_target=np.ndim(self.rows) == 2)

    def predict(
        self,
        X: Any,
        *,
        groups: Any = None,
        offset: npt.ArrayLike | None = None,
        unknown: Unknown = "raise",
        interval: Interval | None = None,
        level: float = DEFAULT_LEVEL,
    ) -> Any:
        """Return predictions for new rows.

        Parameters
        ----------
        X : array_like, shape (count, m, d) or (m, d), or data frame
            Rows of each problem, or the same rows for all of them. With `groups`, (m, d). The
            features in a frame go by name, as in `Fit.predict`; if a frame was fitted, the columns
            of `by` say which model predicts a row.
        groups : array_like, shape (m,), optional
            For each row, the label of the group whose model predicts it.
        offset : array_like or str, optional
            Fixed term, broadcast to the result; or the name of its column in a frame with labels.
        unknown : {"raise", "nan"}
            What a row gets whose label was not fitted, or is missing: an error, or NaN.
        interval : {"confidence", "prediction"}, optional
        level : float
            As in `Fit.predict`.

        Returns
        -------
        array, shape (count, m) or (count, m, t); with labels (m,) or (m, t)
            Of X's library, on X's device. By the labels in a frame, a column of its library, such
            as a Series with the index of the frame, in the order of its rows. With `interval` a
            `Prediction` of three such arrays.

        Raises
        ------
        ValueError
            If shapes do not fit, a frame has no such column, or a label is not among `Fits.groups`.
            If interval or level is wrong; `NoCovarianceError` if the fits have no covariance.
        ImportError
            If scipy is not installed, with `interval`.

        Examples
        --------
        >>> import gdcore as gd, pandas as pd
        >>> frame = pd.DataFrame({"shop": list("abab"), "x": [0, 0, 1, 1], "y": [1, 5, 3, 5]})
        >>> fits = gd.fit_groups(frame, target="y", features="x", by="shop")
        >>> frame["predicted"] = fits.predict(frame)
        >>> new = pd.DataFrame({"shop": ["b", "c"], "x": [2, 2]})
        >>> fits.predict(new, unknown="nan").round(3).tolist()
        [5.0, nan]
        """
        if interval is not None or level != DEFAULT_LEVEL:
            check_interval(self.inference, interval, level)
        frame = None if groups is not None else self._labelled(X, offset)
        found = self._predicted(X, frame, groups, offset, unknown, interval, level)
        return found if frame is None else frame.beside(found, "prediction")

    def residuals(
        self,
        X: Any,
        y: npt.ArrayLike | None = None,
        *,
        groups: Any = None,
        offset: npt.ArrayLike | None = None,
        unknown: Unknown = "raise",
    ) -> Any:
        """Return what y is above the predictions.

        Parameters
        ----------
        X, groups, offset, unknown
            As in `predict`.
        y : array_like, of the shape of the predictions, optional
            By default the column `target_name` of a data frame.

        Returns
        -------
        array, of the shape of y
            What `predict` returns: an array, or a column of a frame's library.

        Raises
        ------
        ValueError
            As `predict`; or if y is missing or has another shape than the predictions.
        """
        target = self.target_name if y is None else None
        frame = None if groups is not None else self._labelled(X, offset, target)
        found = self._predicted(X, frame, groups, offset, unknown)
        if frame is None:
            return residuals_of(X, y, found, self.target_name)
        y = frame.floats((target,))[:, 0] if target is not None else y
        return frame.beside(residuals_of(found, y, found, None), "residual")

    def _predicted(
        self,
        X: Any,
        frame: LabelledFrame | None,
        groups: Any,
        offset: Any,
        unknown: Unknown,
        interval: Interval | None = None,
        level: float = DEFAULT_LEVEL,
    ) -> Any:
        """Return what `predict` does, by the labels in a frame as NumPy's arrays."""
        has_labels = groups is not None or frame is not None
        check_unknown(unknown, has_labels)
        if frame is not None:
            X = frame.floats(self.feature_names or ())
            offset = frame.floats((offset,))[:, 0] if isinstance(offset, str) else offset
        rows, fixed = prepared(X, offset, self.feature_names)
        model, at = on_host(self), None
        self._check_rows(rows.shape, model.weights.shape[1], has_labels)
        several = model.weights.ndim == 3
        weights = model.weights if several else model.weights[..., None]
        intercept = model.intercept if several else model.intercept[..., None]
        with _core.FpEnv():
            if has_labels:
                at = self._positions(frame, groups, len(rows), unknown)
                products, intercept = by_position(local(rows), weights, at), taken(intercept, at)
            else:
                products, intercept = product(rows, weights), intercept[:, None, :]
            if not several:
                products, intercept = products[..., 0], intercept[..., 0]
            mean = predicted(X, rows, products, intercept, fixed)
            if interval is None or self.inference is None:
                return mean
            return with_interval(self.inference, mean, X, rows, interval, level, many=True, at=at)

    def _labelled(self, X: Any, *columns: Any) -> LabelledFrame | None:
        """Return X if it is a frame with labels, the features and other columns; else None."""
        if self.group_names is None:
            return None
        others = (*(self.feature_names or ()), *(c for c in columns if isinstance(c, str)))
        return labelled_frame(X, self.group_names, others)

    def _check_rows(self, shape: tuple[int, ...], d: int, by_label: bool) -> None:
        """Raise ValueError unless fits of d features predict from rows of this shape."""
        is_stack = not by_label and len(shape) == 3 and shape[0] in (1, len(self))
        if not (is_stack or len(shape) == 2) or shape[-1] != d:
            wanted = f"(m, {d})" if by_label else f"({len(self)}, m, {d}) or (m, {d})"
            raise ValueError(f"X has shape {shape}; these fits predict from X of shape {wanted}.")

    def _positions(
        self, frame: LabelledFrame | None, groups: Any, n: int, unknown: Unknown
    ) -> Ints:
        """Return the problem that the label of each row names; `UNKNOWN` becomes NaN later."""
        if self.groups is None:
            raise ValueError("these fits have no groups; leave out groups=.")
        skip = unknown == "nan"
        labels = given_labels(groups, n, skip) if frame is None else frame.labels(skip)
        found = np.append(self._found(labels.different), UNKNOWN)[labels.codes]
        if not skip and (found == UNKNOWN).any():
            row = int(np.argmax(found == UNKNOWN))
            label, code = labels.different, int(labels.codes[row])
            raise ValueError(
                f"group {label_name(label, code)} was not fitted (row {row}, counted from 0); "
                f"{close_to(self.groups, label[code : code + 1].tolist()[0])}. Drop such rows, or "
                "pass unknown='nan'."
            )
        return found

    def to_frame(self, library: Library | None = None) -> Any:
        """Return the fits as a data frame, one row a problem (extra "frames").

        The columns are those of `by`, with their names and dtypes; ``weight_<feature>`` for each
        feature, ``intercept``, ``loss``, ``rows`` and ``status``; and, if the fit was asked for a
        `covariance`, ``stderr_<feature>`` and ``stderr_intercept``. Several targets have their
        numbers at the end: ``weight_<feature>_0``. Fits of arrays have the label in ``group``, a
        stack the number in ``problem``.

        Parameters
        ----------
        library : {"pandas", "polars", "pyarrow"}, optional
            By default the library of the frame that was fitted; pandas for fits of arrays, and for
            those that `load` read, whose labels have the dtypes of `groups`.

        Returns
        -------
        data frame

        Raises
        ------
        ValueError
            If two columns would have one name.
        TypeError
            If the library cannot hold the labels.
        ImportError
            If the library or narwhals is not installed.

        Examples
        --------
        >>> import gdcore as gd
        >>> X, y = [[0.0], [0.0], [1.0], [1.0]], [1.0, 5.0, 3.0, 5.0]
        >>> fits = gd.fit_groups(X, y, ["a", "b", "a", "b"])
        >>> fits.to_frame()[["group", "rows", "status"]]
          group  rows     status
        0     a     2  CONVERGED
        1     b     2  CONVERGED
        """
        refuse_two_intercepts(self)
        keys = self.group_keys
        if keys is None:
            keys = columns_of_labels(self.groups, self.group_names, np.arange(len(self)))
        return table_of(keys, self._columns(), library)

    def _columns(self) -> Columns:
        """Return the columns of `to_frame` after those that name the problems."""
        model = on_host(self)
        features = self.feature_names or tuple(map(str, range(model.weights.shape[1])))
        columns = parameter_columns("weight", features, model.weights)
        columns |= parameter_columns("", ["intercept"], model.intercept[:, None])
        columns["loss"] = self.loss
        columns |= parameter_columns("", ["rows"], np.asarray(self.rows)[:, None])
        columns["status"] = status_column(self.status)
        if self.inference is not None:
            names = [*features, *(["intercept"] if self.fit_intercept else [])]
            columns |= parameter_columns("stderr", names, self.stderr)
        return columns

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
        meta = {"format": archive.FITS, "version": version, "group_names": self.group_names}
        meta |= described(self)
        model = on_host(self)
        arrays = {
            name: getattr(model, name) for name in ("weights", "intercept", "loss", *ONE_EACH)
        }
        arrays["status"] = np.array([status.code for status in self.status.tolist()], np.int8)
        labels = {"groups_text": to_text(self.groups)} if as_text else {"groups": self.groups}
        extra = {"rank": self.rank, "r2_lost": self.r2_lost, "momentum": self.momentum}
        extra["dropped"] = self.dropped
        arrays |= archive.prefixed("", labels | extra)
        arrays |= archive.prefixed("history_", asdict(self.history))
        if self.state is not None:
            arrays |= archive.prefixed("state_", self.state.as_dict())
        arrays |= inferred(self)
        archive.write(path, meta, arrays)

    @classmethod
    def from_file(cls, meta: dict[str, Any], arrays: dict[str, Any]) -> Fits:
        """Return the fits that `save` wrote; KeyError if something is missing."""
        from gdcore.results.archive import group
        from gdcore.results.saved_labels import from_text

        state, text = group("state_", arrays), arrays.get("groups_text")
        names = meta.get("group_names")  # files of gdcore 0.1 have none
        fields = {name: arrays[name] for name in ("weights", "intercept", "loss", *ONE_EACH)}
        fields["status"] = STATUSES[fields["status"]]
        count = len(fields["lr"])
        return cls(
            **as_described(meta),
            **fields,
            groups=arrays.get("groups") if text is None else from_text(text),
            group_names=None if names is None else tuple(names),
            rank=arrays.get("rank"),
            r2_lost=arrays.get("r2_lost", np.full(count, np.nan)),
            momentum=arrays.get("momentum", np.zeros(count)),
            dropped=arrays.get("dropped", np.zeros(count, np.int64)),
            state=ManyState.from_file(state) if state else None,
            history=history_from(arrays),
            inference=inference_from(arrays),
        )


def _part(array: Any, at: Ints) -> Any:
    """Return some entries of an array; None or one value for all of them stay."""
    return array if np.ndim(array) == 0 else array[at]


def _number(values: Any, i: int) -> float:
    """Return a number of one problem, which may be one for all of them."""
    return float(values[i] if np.ndim(values) else values)


def _entry(values: Any, i: int) -> Any:
    """Return what is known of one problem: a number, one for each target, or nothing."""
    if values is None or np.ndim(values) == 0:  # of files and pickles from before
        return values
    one = values[i]
    return one.copy() if one.ndim else int(one)


def warn_of_ends(fits: Fits, expects_convergence: bool) -> None:
    """Warn the user, once, of all fits that deserve a look."""
    if deserve_a_look(fits.status, expects_convergence):
        warn_of_fit(fits.message)
