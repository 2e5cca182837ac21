"""Data frames of any library, through narwhals (extra "frames")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gdcore.advice import listed
from gdcore.data.columns import as_narwhals, column_names, floats_of, narwhals, refuse_nulls
from gdcore.data.labels import factorize
from gdcore.typing import Floats, Ints, Names


@dataclass(frozen=True)
class GroupedFrame:
    """The numbers that a fit of groups reads from a frame, and the columns that tell the groups."""

    by: Any  # columns of the frame
    features: Names
    X: Floats
    y: Floats
    codes: Ints  # group of each row, from 0 on

    def answer(self, columns: Mapping[str, Any]) -> Any:
        """Return a frame of the same library, one row a group: the columns of `by`, then others."""
        nw = narwhals()
        clash = [name for name in self.by.columns if name in columns]
        if clash:
            raise ValueError(
                f"the column {clash[0]!r} of by has the name of a result; rename it first."
            )
        backend = nw.get_native_namespace(self.by)
        made = [nw.new_series(name, values, backend=backend) for name, values in columns.items()]
        _, first_rows = np.unique(self.codes, return_index=True)
        keys = self.by[first_rows.tolist()]
        return nw.to_native(nw.maybe_reset_index(keys).with_columns(*made))


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
    X, y = (
        floats_of(table, names, wanted[argument], "error") for argument in ("features", "target")
    )
    _refuse_twice(wanted)
    keys = table[:, [names.index(name) for name in wanted["by"]]]
    return GroupedFrame(keys, wanted["features"], X, y[:, 0], _codes(keys))


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


def _codes(keys: Any) -> Ints:
    """Return for each row the number of its group, in the order of the keys."""
    rows = len(keys)
    codes = np.zeros(rows, np.int64)
    for j, name in enumerate(keys.columns):
        series, what = keys[:, j], f"the column {name!r} of by"
        refuse_nulls(series, what, "give them a label of their own", way_out=True)
        labels, of_key = factorize(series.to_native(), rows, what)
        codes = factorize(codes * max(len(labels), 1) + of_key, rows)[1]
    return codes
