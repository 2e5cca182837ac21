"""Which of many fits a label names."""

from __future__ import annotations

from bisect import bisect_left
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from gdcore.data.labels import keys_of, label_name
from gdcore.results.prediction import UNKNOWN
from gdcore.typing import Bools, Ints

MOST_COMPARED = 20_000  # labels whose spelling is compared with one that was not found
Labels = npt.NDArray[Any]
Place = dict[Any, int]  # position of each label, by its key


def place_of(groups: Labels) -> Place:
    """Return the position of each label, the first one of equal labels."""
    keys = _own_keys(groups)
    return dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))


def find(groups: Labels, place: Place, labels: Labels) -> Ints:
    """Return the position of each of some labels, `UNKNOWN` where it was not fitted."""
    keys, comparable = _keys_among(groups, labels)
    try:
        found = np.array([place.get(key, UNKNOWN) for key in keys], np.int64)
        for i in np.flatnonzero(found == UNKNOWN).tolist():
            found[i] = place.get(_same_day(keys[i]), UNKNOWN)
    except TypeError as error:
        raise TypeError(
            f"a group label cannot be hashed ({error}); pass labels as in fits.groups."
        ) from None
    return np.where(comparable, found, UNKNOWN)


def close_to(groups: Labels, label: Any) -> str:
    """Say which labels there are near one that was not found."""
    if not len(groups):
        return "there are no groups"
    near = _alike(groups, label) if isinstance(label, str | tuple) else _around(groups, label)
    if not near:
        kind = type(groups[0]).__name__ if groups.dtype.kind == "O" else groups.dtype
        return f"the labels are of type {kind}, such as {label_name(groups, 0)}"
    return f"close to it {'is' if len(near) == 1 else 'are'} {' and '.join(near)}"


def _own_keys(groups: Labels) -> list[Any]:
    """Return what the labels are found by: times by their counts of the unit."""
    if groups.dtype.kind in "mM":
        return list(groups.astype(np.int64).tolist())
    return keys_of(groups.tolist())


def _keys_among(groups: Labels, labels: Labels) -> tuple[list[Any], Bools]:
    """Return what labels are found by among the groups, and whether they can be among them."""
    times, sought = groups.dtype.kind in "mM", labels.dtype.kind in "mM"
    if times:
        labels, comparable = _in_units_of(groups.dtype, labels)
        return _own_keys(labels), comparable
    if sought:  # among labels that are objects of the module datetime
        unit = "D" if np.datetime_data(labels.dtype)[0] in "YMWD" else "us"
        labels, comparable = _in_units_of(np.dtype(f"{labels.dtype.kind}8[{unit}]"), labels)
        return labels.tolist(), comparable & (groups.dtype.kind == "O")
    return keys_of(labels.tolist()), np.ones(len(labels), bool)


def _in_units_of(dtype: np.dtype[Any], labels: Labels) -> tuple[Labels, Bools]:
    """Return labels as times of a dtype, and which of them are the same times in it."""
    if labels.dtype.kind == "O":
        labels = np.array([_time(label, dtype.kind) for label in labels.tolist()], f"{dtype.kind}8")
    if labels.dtype.kind != dtype.kind:
        return np.zeros(len(labels), dtype), np.zeros(len(labels), bool)
    there = labels.astype(dtype)
    return there, there.astype(labels.dtype) == labels


def _time(label: Any, kind: str) -> Any:
    """Return a time of Python or pandas as NumPy's; NaT for anything else."""
    if kind == "m" and isinstance(label, timedelta):
        exact = getattr(label, "to_timedelta64", None)
        return np.timedelta64(label) if exact is None else exact()
    if kind == "M" and isinstance(label, date) and getattr(label, "tzinfo", None) is None:
        exact = getattr(label, "to_datetime64", None)
        return np.datetime64(label) if exact is None else exact()
    return np.timedelta64("NaT") if kind == "m" else np.datetime64("NaT")


def _same_day(label: Any) -> Any:
    """Return a label whose dates are midnights, and whose midnights are dates.

    One library reads a column of days as dates, another one as times.
    """
    if isinstance(label, tuple):
        return tuple(map(_same_day, label))
    if isinstance(label, datetime):
        is_day = label.tzinfo is None and label == datetime(label.year, label.month, label.day)
        return label.date() if is_day else label
    if isinstance(label, date):
        return datetime(label.year, label.month, label.day)
    return label


def _alike(groups: Labels, label: Any) -> list[str]:
    """Return labels that are spelt like one."""
    from difflib import get_close_matches

    if len(groups) > MOST_COMPARED:
        return []
    alike = (known for known in groups.tolist() if type(known) is type(label))
    spelt = {str(known).lower(): repr(known) for known in alike}
    return [spelt[text] for text in get_close_matches(str(label).lower(), spelt, 2)]


def _around(groups: Labels, label: Any) -> list[str]:
    """Return the labels before and after one in their order, if they have one."""
    try:
        ordered = sorted(groups.tolist())
        at = bisect_left(ordered, label)
    except TypeError:
        return []
    return [repr(known) for known in ordered[max(at - 1, 0) : at + 1]]
