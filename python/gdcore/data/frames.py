"""Data frames of any library, through narwhals (extra "frames")."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.advice import listed
from gdcore.data.columns import as_narwhals, column_names, floats_of, narwhals, refuse_nulls
from gdcore.data.labels import as_objects, factorize, values_of
from gdcore.typing import Floats, Ints, Names


@dataclass(frozen=True)
class GroupedFrame:
    """The numbers that a fit of groups reads from a frame, and the groups of its rows."""

    features: Names
    target: str
    X: Floats
    y: Floats
    by: Names
    keys: Any  # the columns of `by`, one row a group, in the frame's library
    labels: Any  # of the groups, sorted; tuples if `by` names several columns
    codes: Ints  # number of each row's group

    def rows_by_group(self, n_threads: int) -> tuple[Ints, Ints | None]:
        """Return group starts, and the row order (None if rows are already grouped)."""
        if not len(self.codes):
            return np.zeros(1, np.int64), None
        return _core.rows_by_group(self.codes, 0, len(self.labels), n_threads)


def read_groups(frame: Any, target: Any, features: Any, by: Any) -> GroupedFrame:
    """Read the columns of a frame; ValueError names the one that does not fit."""
    narwhals()  # ImportError names the extra, whatever was given
    table = as_narwhals(frame, "X")
    if table is None or not hasattr(table, "columns"):
        raise TypeError(
            f"X is {type(frame).__name__}, which is not a data frame that narwhals knows; collect "
            "a lazy frame first, or pass arrays X, y and groups."
        )
    if target is None or features is None or by is None:
        raise ValueError("a data frame needs all of target=, features= and by=.")
    if isinstance(target, list):
        raise TypeError("target is a list; name the one column to predict, such as target='y'.")
    names = column_names(table.to_native(), "the frame")
    wanted = {"target": (str(target),), "features": _names(features), "by": _names(by)}
    if not wanted["features"] or not wanted["by"]:
        raise ValueError("features and by must each name at least one column.")
    for name in (*wanted["target"], *wanted["features"], *wanted["by"]):
        if name not in names:
            raise ValueError(f"the frame has no column {name!r}; it has {listed(names)}.")
    X, y = (floats_of(table, names, wanted[argument]) for argument in ("features", "target"))
    _refuse_twice(wanted)
    keys = table[:, [names.index(name) for name in wanted["by"]]]
    (target,) = wanted["target"]
    return GroupedFrame(wanted["features"], target, X, y[:, 0], wanted["by"], *_grouped(keys))


def _refuse_twice(wanted: dict[str, Names]) -> None:
    """Raise ValueError if a column is named twice, by one argument or by two."""
    named: dict[str, str] = {}
    for argument, names in wanted.items():
        for name in names:
            if name in named:
                where = "twice" if named[name] == argument else f"and so does {named[name]}"
                raise ValueError(f"{argument} names the column {name!r} {where}; name it once.")
            named[name] = argument


def _names(given: Any) -> Names:
    """Return one name or several as text."""
    one = isinstance(given, str) or not isinstance(given, Iterable)
    return (str(given),) if one else tuple(map(str, given))


def _grouped(keys: Any) -> tuple[Any, Any, Ints]:
    """Return a row of the keys for each group, the groups' labels, and the group of each row."""
    nw, rows, width = narwhals(), len(keys), len(keys.columns)
    codes, labels = np.zeros(rows, np.int64), None
    for j, name in enumerate(keys.columns):
        series, what = keys[:, j], f"the column {name!r} of by"
        refuse_nulls(series, what, "give them a label of their own")
        labels, of_key = factorize(series.to_native(), rows, what)
        codes = factorize(codes * max(len(labels), 1) + of_key, rows)[1] if j else of_key
    _, first_rows = np.unique(codes, return_index=True)
    one_each = nw.maybe_reset_index(keys[first_rows.tolist()])
    if width > 1:
        parts = [values_of(one_each[:, j].to_native()) for j in range(width)]
        labels = as_objects(list(zip(*parts, strict=True)))
    return nw.to_native(one_each), labels, codes
