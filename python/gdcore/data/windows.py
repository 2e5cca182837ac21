"""Windows of rows: which rows each one has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gdcore.data.home import from_device
from gdcore.data.labels import group_rows
from gdcore.data.missing_labels import group_labelled_rows
from gdcore.data.rows import Rows
from gdcore.data.times import Times, as_length, check_sorted, is_span
from gdcore.scalars import as_scalar, is_finite, is_whole
from gdcore.typing import Bools, Floats, Ints

# Half-lives after which a row leaves the window. Its weight, 2^-100, is below what rounding leaves
# of float64 numbers in pairs.
OLDEST = 100
MOST = 2**62


@dataclass(frozen=True, eq=False)
class Series:
    """Rows in series: all of them, or those of each group, in the order of the data.

    Attributes
    ----------
    n : int
        Rows, those without a label included, which are in no series.
    starts : ndarray of int64, shape (series + 1,)
        Series i has the positions ``starts[i]`` to ``starts[i + 1] - 1``.
    order : ndarray of int64, or None
        The row at each position; None if it is the position.
    labels : ndarray or None
        Label of each series.
    """

    n: int
    starts: Ints
    order: Ints | None = None
    labels: Any = None

    def series_of(self, positions: Ints) -> Ints:
        """Return the number of the series of each position."""
        return np.searchsorted(self.starts, positions, "right") - 1

    def rows_at(self, positions: Ints) -> Ints:
        """Return the row at each position."""
        return positions if self.order is None else self.order[positions]

    def labels_of_rows(self) -> Any:
        """Return the label of each row; NaN, NaT or None for a row without one."""
        labels = np.repeat(self.labels, np.diff(self.starts))
        if self.order is None:
            return labels
        has_gaps = len(self.order) < self.n
        if has_gaps and labels.dtype.kind not in "fcmM":
            labels = labels.astype(object)
        by_row = np.full(self.n, None, labels.dtype) if has_gaps else np.empty_like(labels)
        by_row[self.order] = labels
        return by_row

    def positions(self) -> Ints:
        """Return the position of each row, -1 for a row in no series."""
        if self.order is None:
            return np.arange(self.n)
        by_row = np.full(self.n, -1)
        by_row[self.order] = np.arange(len(self.order))
        return by_row

    def in_order(self, values: Any) -> Any:
        """Return values of rows by their positions."""
        return values if self.order is None else values[self.order]


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of rows, an entry each; those that have enough rows are fitted.

    Positions are those of a `Series`. The core counts rows that are kept, and only those that are
    young enough to weigh anything.

    Attributes
    ----------
    series : Series
    first, last : ndarray of int64
        Positions of a window's first row and its last.
    rows : ndarray of int64
        Rows of the window that are kept.
    is_fitted : ndarray of bool
        Whether those are enough.
    begins, ends : ndarray of int64
        Rows of the fitted windows, as the core counts them.
    ages : ndarray of float64, or None
        Of each row that is kept, in the unit of half_life.
    half_life : float
    """

    series: Series
    first: Ints
    last: Ints
    rows: Ints
    is_fitted: Bools
    begins: Ints
    ends: Ints
    ages: Floats | None
    half_life: float

    def gather(self, rows: Rows, kept: Bools | None) -> Rows:
        """Return the rows as the core counts them: by position, without those not kept."""
        take = self.series.order
        if kept is not None:
            where = np.arange(self.series.n) if take is None else take
            take = where[kept[where]]
        if self.ages is not None:  # their weights are made on the host
            rows = rows.local()
        return rows if take is None else rows.taken(take)


def make_series(n: int, groups: Any, missing: str, n_threads: int) -> Series:
    """Return the rows of each group in the order of the data; one series without groups."""
    if groups is None:
        return Series(n, np.array([0, n]))
    read = group_labelled_rows if missing == "drop" else group_rows
    labels, starts, order = read(from_device(groups, "groups"), n, n_threads)
    return Series(n, starts, order, labels)


class Extent(NamedTuple):
    """How far windows reach, checked: `rows` or `span`, or neither if they expand."""

    rows: int | None
    span: Any  # in the unit of times
    step: int
    min_rows: int
    half_life: float | None  # in rows, or in the unit of times


def check_extent(
    n: int, window: Any, step: Any, min_rows: Any, half_life: Any, times: Times | None
) -> Extent:
    """Check how far windows reach; `n` is the most rows that a window may ask for."""
    window, step, min_rows = as_length(window), as_scalar(step), as_scalar(min_rows)
    span = None if times is None else times.window
    rows = None if window is None or span is not None else window
    if isinstance(window, str):
        raise TypeError(
            f"window is {window!r}; pass a number of rows, or a length of time such as "
            "datetime.timedelta(days=30) or pandas.Timedelta('30D'), with times=."
        )
    if rows is not None and is_span(rows):
        raise ValueError(
            f"window is {rows!r}; pass times=, a time for each row, or a number of rows."
        )
    if rows is not None:
        _check_whole("window", rows, n, f"the {n} rows of X" if n < MOST else "2**62")
    _check_whole("step", step, MOST, "2**62")
    if min_rows is None:
        min_rows = 1 if rows is None else rows
    most = MOST if rows is None else rows
    _check_whole("min_rows", min_rows, most, "2**62" if rows is None else f"window, {rows}")
    return Extent(rows, span, step, min_rows, _half_life(half_life, times))


def _check_whole(name: str, value: Any, most: int, what: str) -> None:
    if not (is_whole(value) and 1 <= value <= most):
        raise ValueError(f"{name} is {value!r}; it must be a whole number from 1 to {what}.")


def _half_life(given: Any, times: Times | None) -> float | None:
    if given is None or times is not None:
        return None if times is None else times.half_life
    given = as_length(given)
    if is_span(given):
        raise ValueError(
            f"half_life is {given!r}; pass times=, a time for each row, or a number of rows."
        )
    if not (is_finite(given) and given > 0):
        raise ValueError(
            f"half_life is {given!r}; it must be a number of rows above 0, or None for equal "
            "weights."
        )
    return float(given)


def make_windows(
    series: Series, extent: Extent, times: Times | None, kept: Bools | None
) -> Windows:
    """Return the windows of each series; ValueError if times fall within one, or are too far."""
    start_of = np.repeat(series.starts[:-1], np.diff(series.starts))
    values = None if times is None else series.in_order(times.values)
    if values is not None:
        check_sorted(values, series.starts, series.order)
    last = _ends(start_of, extent)
    if values is not None and extent.span is not None:
        first = _younger(values, series.starts, extent.span)[last]
    elif extent.rows is not None:
        first = np.maximum(start_of[last], last - (extent.rows - 1))
    else:
        first = start_of[last]
    young, ages = first, None
    if extent.half_life is not None:
        ages = _ages(values, start_of, extent.half_life)
        oldest = OLDEST * extent.half_life
        young = np.maximum(first, _younger(ages, series.starts, oldest)[last])
    begins, ends, rows = young, last + 1, last + 1 - first
    if kept is not None:
        keeps = series.in_order(kept)
        before = np.append(0, np.cumsum(keeps))  # rows kept before each position
        begins, ends, rows = before[begins], before[ends], before[ends] - before[first]
        ages = None if ages is None else ages[keeps]
    is_fitted = (rows >= extent.min_rows) & (begins < ends)
    return Windows(
        series,
        first,
        last,
        rows,
        is_fitted,
        begins[is_fitted],
        ends[is_fitted],
        ages,
        extent.half_life or 1.0,
    )


def _ends(start_of: Ints, extent: Extent) -> Ints:
    """Return the positions where windows end: the first with min_rows rows, then every step-th."""
    n, skipped = len(start_of), extent.min_rows - 1
    if not start_of.any():  # one series
        return np.arange(min(skipped, n), n, min(extent.step, n + 1))
    behind = np.arange(n) - start_of - skipped
    return np.flatnonzero((behind >= 0) & (behind % extent.step == 0))


def _younger(values: npt.NDArray[Any], starts: Ints, span: Any) -> Ints:
    """Return, for each position, the first of its series within a span before it."""
    bounds, found = values - min(span, MOST), np.empty(len(values), np.int64)
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        found[begin:end] = np.searchsorted(values[begin:end], bounds[begin:end], "right")
        found[begin:end] += begin
    return found


def _ages(values: npt.NDArray[Any] | None, start_of: Ints, half_life: float) -> Floats:
    """Return the age of each row: dates and rows count from the first of the series."""
    if values is None:
        ages = (np.arange(len(start_of)) - start_of).astype(np.float64)
    elif values.dtype.kind == "i":
        ages = (values - values[start_of]).astype(np.float64)
    else:
        ages = values
    if not np.abs(ages).max(initial=0.0) / half_life < 2.0**50:
        raise ValueError(
            "half_life is too small a part of the time between the rows; make it longer, or give "
            "times from another origin."
        )
    return ages
