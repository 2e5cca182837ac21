"""Fits of windows in the core, and their results as those of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

import gdcore._core as _core
from gdcore.data.device import local
from gdcore.data.labels import problem_name
from gdcore.data.problem import RowProblem
from gdcore.data.rows import Rows
from gdcore.data.shape import Shape
from gdcore.data.times import Times
from gdcore.data.windows import Windows
from gdcore.results.inference import Inference
from gdcore.results.rolling import RollingFit
from gdcore.sgd import SGD
from gdcore.solvers.exact import exact_options
from gdcore.solvers.inference import DECAY, EMPTY, REASONS
from gdcore.solvers.options import DEFAULT, Options
from gdcore.solvers.plan import MOST_SPECTRUM, NO_SPECTRUM
from gdcore.status import STATUSES, Status
from gdcore.typing import Floats, Ints, Statuses

NO_WINDOW = "no window with min_rows rows ends there."
_CODES = {
    None: Status.EMPTY.code,
    "max_epochs": Status.MAX_EPOCHS.code,
    "converged": Status.CONVERGED.code,
    "diverged": Status.DIVERGED.code,
    "stalled": Status.STALLED.code,
}


def check_method(sgd: SGD, options: Options, shape: Shape, half_life: Any) -> None:
    """Raise TypeError or ValueError for options that windows do not have."""
    if options.method != "exact":
        if options.covariance is not None:
            raise ValueError("covariance is for the closed form; leave out sgd and method='gram'.")
        if sgd.momentum == "auto" and shape.columns > MOST_SPECTRUM:
            raise ValueError(NO_SPECTRUM)
        if callable(sgd.lr):
            raise TypeError("lr is a schedule; fit_rolling takes a number or 'auto'.")
    if half_life is not None and shape.is_sum:
        raise ValueError(
            f"reduction is {shape.reduction!r}; with half_life the loss is a weighted mean: use "
            "'mean' or 'half_mean'."
        )
    if options.covariance not in (None, "ols"):
        raise ValueError(
            f"covariance is {options.covariance!r}; fit_rolling has 'ols' alone, as the others "
            "read each window's rows again. Fit the windows that need it with gdcore.fit."
        )


def check_known(problem: RowProblem) -> None:
    """Raise ValueError if a row that counts holds infinity, or targets have gaps of their own."""
    known = problem.known
    if known is None:
        problem.check_finite()
        return
    if problem.is_ragged:
        raise ValueError(
            "the targets in y have missing values in different rows; fit each by itself: "
            "gdcore.fit_rolling(X, y[:, j], ...)."
        )
    filled = (
        None if a is None else np.where(known.reshape(-1, *(1,) * (a.ndim - 1)), a, 0)
        for a in problem.rows.local()
    )
    replace(problem, rows=Rows(*filled)).check_finite()  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class RollingTask:
    """The fits of all windows of a call."""

    shape: Shape
    sgd: SGD
    options: Options
    windows: Windows
    times: Times | None
    align: bool

    @property
    def _is_exact(self) -> bool:
        return self.options.method == "exact"

    @property
    def _descent(self) -> SGD:
        """The descent; that of the closed form, which has none, by default."""
        return DEFAULT if self._is_exact else self.sgd

    def begin(self, problem: RowProblem, start: Floats) -> _core.Rolling:
        """Return the fits, for the core to advance."""
        windows, core = self.windows, problem.core
        rows = windows.gather(problem.rows, problem.known)
        if rows is not problem.rows:
            core = _core.Problem(*rows, self.shape.fit_intercept, self.shape.reduction)
        return _core.Rolling(
            core,
            start,
            self._settings(),
            windows.begins,
            windows.ends,
            windows.ages,
            windows.half_life,
            self._counts(rows) if self._infers else None,
        )

    @property
    def _infers(self) -> bool:
        """Whether the core estimates covariances: of the least-squares solution alone."""
        return self.options.covariance is not None and not self.sgd.weight_decay

    def _counts(self, rows: Rows) -> Ints:
        """Return for each fitted window the rows of weight above 0."""
        windows = self.windows
        if rows.sample_weight is None:
            return windows.ends - windows.begins
        before = np.append(0, np.cumsum(local(rows.sample_weight) > 0))
        return np.asarray(before[windows.ends] - before[windows.begins], np.int64)

    def _settings(self) -> _core.RollingOptions:
        sgd, options = self._descent, self.options
        auto, rate = sgd.momentum == "auto", cast("float | str", sgd.lr)
        momentum = {"momentum": 0.5} if auto else {}
        return _core.RollingOptions(
            descent=_core.DescentOptions(
                sgd=_core.SgdOptions(**sgd.options | momentum, decay_intercept=sgd.decay_intercept),
                tol=-1.0 if options.tol is None else float(options.tol),
                stop_on_equal_loss=options.stop == "loss_equal",
                history=0,
            ),
            epochs=int(options.epochs),
            lr=0.0 if rate == "auto" else float(rate),
            share=_share(sgd),
            standardize=options.standardize,
            auto_momentum=auto,
            exact=self._exact_options() if self._is_exact else None,
        )

    def _exact_options(self) -> _core.ExactOptions:
        options = self.options
        if options.covariance is not None and not self._infers:
            options = replace(options, covariance=None)
        return exact_options(self.sgd, options)

    def out_of_range(self, done: int) -> str:
        """Say what is wrong with the first window that is not done."""
        windows, series = self.windows, self.windows.series
        i = np.flatnonzero(windows.is_fitted)[done : done + 1]
        first, last = (int(series.rows_at(at[i])[0]) for at in (windows.first, windows.last))
        which = ""
        if series.labels is not None:
            which = f" of {problem_name(series.labels, int(series.series_of(windows.last[i])[0]))}"
        return (
            f"the squares of rows {first} to {last}{which} leave the range of {self.shape.dtype}; "
            "scale the columns of X and y."
        )

    def result(self, rolling: _core.Rolling, *, interrupted: bool = False) -> RollingFit:
        """Return an entry for each window, or row; after an interrupt those of the windows done."""
        found, done, windows, shape = rolling.results(), rolling.done, self.windows, self.shape
        fitted = np.flatnonzero(windows.is_fitted)[:done]
        entries = fitted if interrupted else np.arange(len(windows.last))
        last_row = windows.series.rows_at(windows.last[entries])
        spread = _Spread(done)
        if self.align and not interrupted:
            spread = _Spread(done, shape.n, last_row[windows.is_fitted])
        elif len(entries) > done:
            spread = _Spread(done, len(entries), fitted)
        weights, intercept = shape.split(
            spread(found["params"].reshape(done, max(shape.size, 1)), math.nan)
        )
        status, limit = self._ends(found)
        return RollingFit(
            **self._where(entries, last_row, align=self.align and not interrupted),
            weights=weights,
            intercept=intercept,
            loss=spread(found["loss"], math.nan),
            status=spread(status, Status.EMPTY),
            epochs=spread(found["epochs"], 0),
            lr=spread(found["lr"], math.nan),
            momentum=spread(found["momentum"], math.nan),
            r2_lost=spread(found["r2_lost"], math.nan),
            stability_limit=spread(limit, math.nan),
            rank=spread(found["rank"], 0) if self._is_exact else None,
            inference=self._inference(found, status, spread),
            recomputed=rolling.recomputed,
            fit_intercept=shape.fit_intercept,
            feature_names=shape.feature_names,
            target_name=shape.target_name,
            series=windows.series,
            home=shape.home,
        )

    def _ends(self, found: dict[str, Any]) -> tuple[Statuses, Floats]:
        """Return how the fits ended, and each window's stability limit."""
        limit = _limits(self._descent, found)
        limit[np.isnan(found["curvature"])] = math.nan
        codes = np.array([_CODES[outcome] for outcome in found["outcome"]], np.int8)
        if self._is_exact:
            full = found["rank"] == self.shape.columns
            ends = np.where(full, Status.CONVERGED.code, Status.SINGULAR.code)
            codes = np.where(codes == Status.EMPTY.code, codes, ends)
        else:
            above = (found["lr"] > limit) & ~(found["loss"] <= found["first_loss"])
            grew = above & (codes == Status.MAX_EPOCHS.code)
            codes[grew] = Status.DIVERGED.code  # though still finite
        return STATUSES[codes], limit

    def _inference(
        self, found: dict[str, Any], status: Statuses, spread: _Spread
    ) -> Inference | None:
        if self.options.covariance is None:
            return None
        shape, count = self.shape, len(status)
        p, targets = shape.columns, (shape.t,) if shape.has_target_axis else ()
        nothing = np.full(count * shape.t * p * p, np.nan)
        parts = nothing, nothing[: count * shape.t], nothing[: count * shape.t]
        df_resid, codes = np.zeros(count, np.int64), np.full(count, DECAY)
        if self._infers and count:
            *parts, df_resid, codes = found["inferences"]
            df_resid, codes = df_resid[:count], codes[:count].astype(np.int64)
        codes[status == Status.EMPTY] = EMPTY

        def entries(values: Floats, *sizes: int) -> Floats:
            each = values[: count * shape.t * math.prod(sizes)]
            return np.asarray(spread(each.reshape(count, *targets, *sizes), math.nan))

        return Inference(
            kind="ols",
            covariance=entries(parts[0], p, p),
            sigma2=entries(parts[1]),
            r2=entries(parts[2]),
            df_resid=spread(df_resid, 0),
            reason=spread(REASONS[codes], NO_WINDOW),
        )

    def _where(self, entries: Ints, last_row: Ints, *, align: bool) -> dict[str, Any]:
        """Return which rows each entry has, and the labels and times of the last of them."""
        windows, series = self.windows, self.windows.series
        spread = _Spread(len(entries))
        if align:
            spread, last_row = _Spread(len(entries), series.n, last_row), np.arange(series.n)
        return {
            "first_row": spread(series.rows_at(windows.first[entries]), -1),
            "last_row": last_row,
            "rows": spread(windows.rows[entries], 0),
            "groups": None if series.labels is None else series.labels_of_rows()[last_row],
            "times": None if self.times is None else self.times.given[last_row],
        }


class _Spread:
    """Puts the values of windows where their entries are, among entries without a window."""

    def __init__(
        self, windows: int, entries: int | None = None, places: Ints | None = None
    ) -> None:
        self._entries = windows if entries is None else entries
        self._places = places

    def __call__(self, values: Any, fill: Any) -> Any:
        if self._places is None:
            return values
        spread = np.empty((self._entries, *values.shape[1:]), values.dtype)
        spread.fill(fill)  # np.full would make text of a Status
        spread[self._places] = values
        return spread


def _share(sgd: SGD) -> float:
    """Return lr="auto" times the curvature, weight decay included: see `learning_rate.auto_lr`."""
    if sgd.momentum == "auto":
        return 1.0
    limit = replace(sgd, weight_decay=0.0).stability_limit(1.0)
    return min(1.0, limit / 2 if limit > 0 else math.inf)


def _limits(sgd: SGD, found: dict[str, Any]) -> Floats:
    """Return each window's stability limit; with momentum="auto", of the momentum it got."""
    curvature = found["curvature"]
    if sgd.momentum == "auto":
        return np.asarray(2 * (1 + found["momentum"]) / (curvature + sgd.weight_decay))
    return np.asarray(sgd.stability_limit(curvature))
