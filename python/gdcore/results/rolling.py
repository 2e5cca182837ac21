"""The result of a fit of windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data.device import local
from gdcore.data.home import Home, bring_home, from_device, on_host, settle
from gdcore.data.windows import Series
from gdcore.results.display import ends_of, html_of_many, line_of_many
from gdcore.results.fit import Fit, History
from gdcore.results.inference import Inference, Inferring
from gdcore.results.interval import DEFAULT_LEVEL, check_interval, with_interval
from gdcore.results.prediction import UNKNOWN, by_position, predicted, prepared, taken
from gdcore.results.summary import Summary, summarize
from gdcore.results.table import (
    Columns,
    Library,
    parameter_columns,
    refuse_two_intercepts,
    status_column,
    table_of,
)
from gdcore.scalars import as_scalar, is_whole
from gdcore.status import Status, ends_in_words
from gdcore.typing import Bools, Floats, Interval, Ints, Names, Statuses

_NO_WINDOW = "No window with min_rows rows ends there; the weights are NaN."


@dataclass(frozen=True, eq=False)
class RollingFit(Inferring):
    """Fits of k windows, an entry each; with ``align=True`` one entry for each row.

    ``len(rolling)`` is k, ``rolling[i]`` the fit of window i as a `Fit`. A window with fewer rows
    than `min_rows`, and a row where no window ends, has the status EMPTY and weights NaN.

    Attributes
    ----------
    first_row, last_row : ndarray of int64, shape (k,)
        The window's first row and its last. With groups, other groups' rows may lie between them.
        Where no window ends, `first_row` is -1.
    rows : ndarray of int64, shape (k,)
        Rows of the window that were used: without those that `missing` dropped.
    weights : array, shape (k, d) or (k, d, t)
        Of the library of X, on the device of X, as `intercept` is.
    intercept : array, shape (k,) or (k, t)
    loss : ndarray, shape (k,)
        The loss at the weights, over the window's rows, weighted by their age with `half_life`.
    status : ndarray of Status, shape (k,)
    epochs : ndarray of int64, shape (k,)
    lr, momentum : ndarray of float64, shape (k,)
    r2_lost : ndarray of float64, shape (k,)
        See `Fit`.
    stability_limit : ndarray of float64, shape (k,)
        The lr above which descent on the window must diverge.
    rank : ndarray of int64, shape (k,), or None
        See `Fit`; 0 where the status is EMPTY.
    recomputed : int
        Windows whose moments were summed from all their rows, not derived from the last window's.
    groups, times : ndarray, shape (k,), or None
        The label of each window's group, and the time of its last row.
    inference : Inference or None
        With ``covariance="ols"``.
    fit_intercept : bool
    feature_names : tuple of str, or None
    target_name : str or None
    """

    __module__ = "gdcore"

    first_row: Ints
    weights: Floats
    intercept: Floats
    loss: Floats
    status: Statuses
    epochs: Ints
    lr: Floats
    momentum: Floats
    r2_lost: Floats
    stability_limit: Floats
    recomputed: int
    feature_names: Names | None = None
    target_name: str | None = None
    home: Home | None = field(default=None, repr=False)  # of weights and intercept
    last_row: Any = None
    rows: Any = None
    rank: Any = None
    groups: Any = None
    times: Any = None
    inference: Inference | None = field(default=None, repr=False)
    fit_intercept: bool = True
    series: Series | None = field(default=None, repr=False)  # of the rows that were fitted

    def __post_init__(self) -> None:
        if self.home is not None:
            settle(self)

    def __getstate__(self) -> dict[str, Any]:
        return vars(on_host(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        known = dict(state)
        if "summed_anew" in known:  # the name in pickles of 0.1.0
            known["recomputed"] = known.pop("summed_anew")
        self.__dict__.update(known)

    def __len__(self) -> int:
        return len(self.status)

    def __repr__(self) -> str:
        return line_of_many("RollingFit", "windows", self)

    def _repr_html_(self) -> str:
        at, title = ends_of(len(self)), f"Linear models of {len(self)} windows"
        keys, results = ({n: c[at] for n, c in columns.items()} for columns in self._tables())
        return html_of_many(title, keys, results, len(self), self.message)

    def __iter__(self) -> Iterator[Fit]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, i: int) -> Fit:
        i = as_scalar(i)
        if not is_whole(i):
            raise TypeError(f"rolling[{i!r}]: the number of a window is a whole number.")
        if not -len(self) <= i < len(self):
            raise IndexError(f"window {i} is not among the {len(self)} of these fits.")
        i, model = i % len(self), on_host(self)
        return Fit(
            weights=model.weights[i].copy(),
            intercept=model.intercept[i],
            loss=self.loss[i],
            epochs=int(self.epochs[i]),
            status=Status(self.status[i]),
            lr=float(self.lr[i]),
            momentum=float(self.momentum[i]),
            r2_lost=float(self.r2_lost[i]),
            history=History(np.empty(0, np.int64), np.empty(0, model.weights.dtype)),
            method=self.method,
            method_reason="windows share their moments.",
            stability_limit=float(self.stability_limit[i]),
            fit_intercept=self.fit_intercept,
            feature_names=self.feature_names,
            target_name=self.target_name,
            rank=None if self.rank is None else int(self.rank[i]),
            inference=None if self.inference is None else self.inference.at(i),
            rows=None if self.rows is None else int(self.rows[i]),
            detail=_NO_WINDOW if np.isnan(self._first_parameter[i]) else "",
            home=self.home,
        )

    def summary(self, *, level: float = 0.95) -> Summary:
        """Return the table of the last window that has a fit: see `Fit.summary`.

        ``rolling[i].summary()`` shows another.
        """
        fits = np.flatnonzero(self.has_fit)
        return self[int(fits[-1])].summary(level=level) if len(fits) else summarize(self, level)

    @property
    def method(self) -> str:
        """How each window was fitted: "exact" or "gram"."""
        return "gram" if self.rank is None else "exact"

    @property
    def has_fit(self) -> Bools:
        """Whether each entry is the fit of a window, not of too few rows or of none."""
        has_weights = ~np.isnan(self._first_parameter)
        if has_weights.all():
            return has_weights
        return np.asarray(has_weights | (self.status != Status.EMPTY), np.bool_)

    @property
    def _first_parameter(self) -> Floats:
        """Return a parameter of each entry: all are NaN where there is no fit."""
        model = on_host(self)
        first = model.intercept if self.fit_intercept else model.weights[:, 0]
        return first if first.ndim == 1 else first[:, 0]

    @property
    def message(self) -> str:
        """How the fits ended and what to do about it, in words."""
        fits = np.flatnonzero(self.has_fit)
        words = ends_in_words(
            self.status[fits], self.r2_lost[fits], "window", lambda i: f"window {fits[i]}"
        )
        left, p = len(self) - len(fits), on_host(self).weights.shape[1] + self.fit_intercept
        if self.rows is not None:
            small = np.count_nonzero((self.status == Status.SINGULAR) & (self.rows < p))
            if small:
                way = f"pass min_rows={p}" if self.rows.max() >= p else "make the windows longer"
                words += f" {small} SINGULAR have fewer rows than the {p} parameters: {way}."
        return words + (f" Without enough rows: {left}." if left else "")

    def predict(
        self,
        X: npt.ArrayLike,
        *,
        lag: int = 0,
        windows: npt.ArrayLike | None = None,
        offset: npt.ArrayLike | None = None,
        interval: Interval | None = None,
        level: float = DEFAULT_LEVEL,
    ) -> Any:
        """Return predictions of the rows that were fitted, each by the last window that had ended.

        Parameters
        ----------
        X : array_like, shape (n, d), or data frame
            The rows in the order of the fit; with `windows` any rows. A frame goes by name, as in
            `Fit.predict`.
        lag : int
            Row i is predicted by the last window that ended at least `lag` rows before it, in its
            group: 0 by one that may end with the row itself, 1 by rows before it alone.
        windows : array_like of int, shape (m,), optional
            In place of `lag`, for each row of X the window that predicts it.
        offset : array_like, optional
            Fixed term, broadcast to the result.
        interval : {"confidence", "prediction"}, optional
        level : float
            As in `Fit.predict`.

        Returns
        -------
        array, shape (n,) or (n, t)
            Of X's library, on X's device. NaN where there is no window, or one without enough rows.
            With `interval` a `Prediction` of three such arrays.

        Raises
        ------
        ValueError
            If X has another shape, `lag` is below 0, or a window is not there. If interval or level
            is wrong; `NoCovarianceError` if the fits have no covariance.
        ImportError
            If scipy is not installed, with `interval`.

        Examples
        --------
        >>> import numpy as np, gdcore as gd
        >>> x = np.arange(6.0)[:, None]
        >>> rolling = gd.fit_rolling(x, 2 * x[:, 0], 3)
        >>> rolling.predict(x, lag=1).round(3)
        array([nan, nan, nan,  6.,  8., 10.])
        """
        if interval is not None or level != DEFAULT_LEVEL:
            check_interval(self.inference, interval, level)
        model = on_host(self)
        rows, fixed = prepared(X, offset, self.feature_names)
        d, several = model.weights.shape[1], model.weights.ndim == 3
        if rows.ndim != 2 or rows.shape[1] != d:
            raise ValueError(
                f"X has shape {rows.shape}; these fits predict from X of shape (m, {d})."
            )
        if windows is None:
            at = self._windows_before(lag, len(rows))
        else:
            at = self._checked_windows(windows, lag, len(rows))
        weights = model.weights if several else model.weights[..., None]
        with _core.FpEnv():
            products = by_position(local(rows), weights, at)
            products = products if several else products[:, 0]
            mean = predicted(X, rows, products, taken(model.intercept, at), fixed)
            if interval is None or self.inference is None:
                return mean
            return with_interval(self.inference, mean, X, rows, interval, level, many=True, at=at)

    def _checked_windows(self, given: Any, lag: Any, n: int) -> Ints:
        if lag != 0:
            raise ValueError("pass either lag or windows.")
        windows = np.asarray(from_device(given, "windows"))
        if windows.shape != (n,) or windows.dtype.kind not in "iu":
            raise ValueError(
                f"windows has shape {windows.shape} and dtype {windows.dtype}; it must be whole "
                f"numbers, one for each of the {n} rows of X."
            )
        bad = (windows < -len(self)) | (windows >= len(self))
        if bad.any():
            raise ValueError(
                f"windows holds {windows[bad][0]}; these fits have windows 0 to {len(self) - 1}."
            )
        return windows.astype(np.int64) % max(len(self), 1)

    def _windows_before(self, lag: Any, n: int) -> Ints:
        """Return for each row the last window that ended `lag` rows before it, or `UNKNOWN`."""
        lag = as_scalar(lag)
        if not (is_whole(lag) and lag >= 0):
            raise ValueError(f"lag is {lag!r}; it must be a whole number of rows, 0 or more.")
        series = self.series
        if series is None:
            raise ValueError(
                "this fit comes from gdcore 0.1; pass windows=, one for each row of X."
            )
        if n != series.n:
            raise ValueError(
                f"X has {n} rows and {series.n} were fitted; pass those, or windows=, which window "
                "predicts each row."
            )
        place = series.positions()
        ended = np.flatnonzero(self.first_row >= 0)
        last = place[self.last_row[ended]]
        by_place = np.argsort(last, kind="stable")
        ended, last = ended[by_place], last[by_place]
        k = np.searchsorted(last, place - lag, "right") - 1
        found = (k >= 0) & (len(last) > 0)
        found[found] = last[k[found]] >= series.starts[series.series_of(place[found])]
        at = np.full(n, UNKNOWN)
        at[found] = ended[k[found]]
        return at

    def to_frame(self, library: Library | None = None) -> Any:
        """Return a data frame with one row for each window (extra "frames").

        The columns are ``group`` and ``time`` where there are any, ``last_row``, ``rows``,
        ``status``, ``loss``, ``weight_<feature>`` and ``intercept``; with a covariance also ``r2``,
        ``stderr_<feature>`` and ``stderr_intercept``. Features without names go by number. Several
        targets have their number at the end: ``weight_a_0``.

        Parameters
        ----------
        library : {"pandas", "polars", "pyarrow"}, optional
            By default pandas.

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
        >>> import numpy as np, gdcore as gd
        >>> x = np.arange(6.0)[:, None]
        >>> gd.fit_rolling(x, 2 * x[:, 0], 4).to_frame()[["last_row", "rows", "status"]]
           last_row  rows     status
        0         3     4  CONVERGED
        1         4     4  CONVERGED
        2         5     4  CONVERGED
        """
        refuse_two_intercepts(self)
        return table_of(*self._tables(), library)

    def _tables(self) -> tuple[Columns, Columns]:
        """Return the columns that identify the windows, then those of their fits."""
        model, d = on_host(self), on_host(self).weights.shape[1]
        keys: Columns = {"group": self.groups, "time": self.times, "last_row": self.last_row}
        if self.last_row is None:  # from gdcore 0.1
            keys = {"first_row": self.first_row}
        features = self.feature_names or tuple(map(str, range(d)))
        columns: Columns = {} if self.rows is None else {"rows": self.rows}
        columns["status"] = status_column(self.status)
        columns["loss"] = self.loss
        columns |= parameter_columns("weight", features, model.weights)
        columns |= parameter_columns("", ["intercept"], model.intercept[:, None])
        if self.inference is not None:
            names = [*features, *(["intercept"] if self.fit_intercept else [])]
            columns |= parameter_columns("", ["r2"], np.asarray(self.r2)[:, None])
            columns |= parameter_columns("stderr", names, self.stderr)
        return {name: key for name, key in keys.items() if key is not None}, columns


bring_home(RollingFit)
