"""Times of rows, and lengths of time, as numbers of one unit."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gdcore.data.labels import as_labels
from gdcore.scalars import as_scalar, is_finite, is_whole
from gdcore.typing import Ints

CALENDAR = ("Y", "M")  # units whose length in days varies


class Times(NamedTuple):
    """Times of rows in one unit, and lengths of time in the same one.

    Dates are int64, with an int64 window; numbers are float64, with a float64 window.
    """

    given: npt.NDArray[Any]  # (n,): datetime64 or float64
    values: npt.NDArray[Any]  # (n,)
    window: Any  # None if it is not a length of time
    half_life: float | None


def is_span(value: Any) -> bool:
    """Whether this is a length of time: of Python, NumPy or pandas."""
    return isinstance(value, timedelta | np.timedelta64)


def as_length(value: Any) -> Any:
    """Return a length of time unchanged, and the number in an array without dimensions."""
    return value if is_span(value) else as_scalar(value)


def read_times(given: Any, n: int, window: Any, half_life: Any) -> Times:
    """Return the times of n rows and these lengths of time; a length may be None.

    With dates a whole number is a window of rows, with times that are numbers a length of time.
    TypeError or ValueError names the argument that does not fit.
    """
    values = _checked(given, n)
    window, half_life = as_length(window), as_length(half_life)
    if values.dtype.kind != "M":
        for name, span in (("window", window), ("half_life", half_life)):
            if not (span is None or (is_finite(span) and span > 0)):
                raise ValueError(
                    f"{name} is {span!r}; with times that are numbers it must be a number above 0, "
                    "in the unit of times."
                )
        return Times(values, values, window, None if half_life is None else float(half_life))
    spans = {
        name: _as_timedelta(name, span)
        for name, span in (("window", window), ("half_life", half_life))
        if not (span is None or (name == "window" and _is_count(span)))
    }
    exact, unit = _to_common_unit(values, spans.get("window"))
    half = spans.get("half_life")
    return Times(
        values,
        _from_first(exact.view(np.int64)),
        int(spans["window"].astype(f"m8[{unit}]").view(np.int64)) if "window" in spans else None,
        None if half is None else float(half / np.array(1, f"m8[{unit}]")),
    )


def _is_count(value: Any) -> bool:
    return is_whole(value) and not is_span(value)  # NumPy's lengths of time are its integers too


def _from_first(ticks: Ints) -> Ints:
    """Return times counted from the earliest, so that differences of them do not overflow."""
    if not len(ticks):
        return ticks
    if int(ticks.max()) - int(ticks.min()) >= 2**62:
        raise ValueError("times span too many years for their unit; convert them to datetime64[s].")
    return np.asarray(ticks - ticks.min(), np.int64)


def _as_timedelta(name: str, span: Any) -> np.timedelta64:
    if not is_span(span):
        raise TypeError(
            f"{name} is {span!r}; with times that are dates it must be a length of time, such as "
            "datetime.timedelta(days=30)."
        )
    exact = span.to_timedelta64() if hasattr(span, "to_timedelta64") else np.timedelta64(span)
    unit = np.datetime_data(exact)[0]
    if unit in (*CALENDAR, "generic"):
        raise ValueError(f"{name} is {span!r}, which is not a fixed length; give it in days.")
    if not exact > np.timedelta64(0):  # NaT neither
        raise ValueError(f"{name} is {span!r}; it must be longer than 0.")
    return exact


def _to_common_unit(
    values: npt.NDArray[Any], window: np.timedelta64 | None
) -> tuple[npt.NDArray[Any], str]:
    """Return the times in the finer of their unit and the window's."""
    unit = np.datetime_data(values.dtype)[0]
    if unit in CALENDAR:
        values = values.astype("M8[D]")
    dtype = values.dtype if window is None else np.promote_types(values.dtype, window.dtype)
    exact = values.astype(dtype)
    unit = np.datetime_data(dtype)[0]
    if not (exact.astype(values.dtype) == values).all():
        raise ValueError(f"times are too far from 1970 to count them in the unit {unit!r}.")
    return exact.astype(f"M8[{unit}]"), unit


def _checked(given: Any, n: int) -> npt.NDArray[Any]:
    values = _as_array(given)
    if values.shape != (n,):
        raise ValueError(
            f"times has shape {values.shape}; it must be ({n},), one time for each row of X."
        )
    if values.dtype.kind not in "iufM":
        raise TypeError(
            f"times holds {values.dtype}; pass dates (datetime64, or a column of dates) or numbers."
        )
    if values.dtype.kind != "M":
        values = values.astype(np.float64)
    missing = ~np.isfinite(values)
    if missing.any():
        row = int(np.argmax(missing))
        raise ValueError(
            f"times holds {values[row]} at row {row} (counted from 0); drop such rows."
        )
    return values


def _as_array(given: Any) -> npt.NDArray[Any]:
    """Return dates as datetime64, those of a time zone in UTC."""
    dtype: Any = getattr(given, "dtype", None)
    if getattr(dtype, "tz", None) is not None:  # of pandas, which NumPy would make objects
        return np.asarray(given, f"datetime64[{dtype.unit}]")
    array = np.asarray(given) if hasattr(given, "__array__") else as_labels(given)
    if array.dtype.kind != "O" or not array.size:
        return array
    if all(isinstance(value, datetime) and value.tzinfo is not None for value in array.flat):
        first = datetime.fromtimestamp(0, array.flat[0].tzinfo)
        return np.array([value - first for value in array.tolist()], "m8[us]").astype("M8[us]")
    if all(isinstance(value, date) for value in array.flat):
        return array.astype("M8[us]")
    return array


def check_sorted(times: npt.NDArray[Any], starts: Ints, rows: Ints | None) -> None:
    """Raise ValueError if times fall within a group; `rows` are the rows of sorted positions."""
    falls = np.flatnonzero(times[1:] < times[:-1]) + 1
    falls = falls[~np.isin(falls, starts)]
    if not len(falls):
        return
    row = int(falls[0] if rows is None else rows[falls[0]])
    if rows is None:
        raise ValueError(
            f"times falls at row {row} (counted from 0); sort the rows first: "
            "order = np.argsort(times, kind='stable'), then X[order], y[order], times[order]."
        )
    raise ValueError(
        f"times falls at row {row} (counted from 0) within its group; sort the rows first: "
        "order = np.argsort(times, kind='stable'), then X[order], y[order], groups[order], "
        "times[order]."
    )
