"""Data frames of any library, through narwhals (extra "frames")."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.advice import listed
from gdcore.data.columns import (
    as_narwhals,
    column_as_floats,
    floats_of,
    in_memory,
    is_frame,
    names_of,
    narwhals,
    refuse_absent,
    refuse_nulls,
)
from gdcore.data.labels import as_objects, factorize, label_rows, values_of
from gdcore.data.missing_labels import missing_in_series
from gdcore.typing import Floats, Ints, Names

MOST_CODES = 1 << 62


@dataclass(frozen=True)
class GroupedFrame:
    """The numbers that a fit of groups reads from a frame, and the columns of its labels."""

    features: Names
    target: str
    by: Names
    X: Floats
    y: Floats
    offset: Any
    sample_weight: Any
    columns: Any  # those of `by`, as narwhals wraps them

    def groups(
        self, missing: str, n_threads: int
    ) -> tuple[Any, Any, _core.GroupedRows | tuple[Ints, Ints]]:
        """Return the labels, the columns of `by` with a row a group, and the rows by group.

        With ``missing="drop"``, rows without a label are in no group, and the others come as starts
        and order.
        """
        columns, width = self.columns, len(self.by)
        whats = [f"the column {name!r} of by" for name in self.by]
        series = [columns[:, j] for j in range(width)]
        labelled = labelled_rows(series) if missing == "drop" else None
        if labelled is not None:
            columns = columns[labelled]
            series = [columns[:, j] for j in range(width)]
        for one, what in zip(series, whats, strict=True):
            refuse_nulls(one, what, "give them a label of their own", way_out=True)
        rows = len(columns)
        native = [one.to_native() for one in series]
        if width == 1:
            labels, grouped = label_rows(native[0], rows, whats[0])
        else:
            _, grouped = label_rows(combined_codes(native, whats, rows), rows)
        nw = narwhals()
        keys = nw.maybe_reset_index(columns[grouped.first_rows()])
        if width > 1:
            parts = [values_of(keys[:, j].to_native()) for j in range(width)]
            labels = as_objects(list(zip(*parts, strict=True)))
        if labelled is None:
            return labels, nw.to_native(keys), grouped
        order = grouped.order(n_threads)
        order = labelled if order is None else labelled[order]
        return labels, nw.to_native(keys), (grouped.starts, order)


def read_groups(
    frame: Any,
    target: Any,
    features: Any,
    by: Any,
    offset: Any,
    sample_weight: Any,
    missing: str,
) -> GroupedFrame:
    """Read the columns of a frame; ValueError names the one that does not fit.

    `offset` and `sample_weight` are the names of columns, or anything else to be used as it is.
    """
    narwhals()  # ImportError names the extra, whatever was given
    table = as_narwhals(frame, "the frame")
    if table is None or not is_frame(table):
        kind = f"{type(frame).__module__}.{type(frame).__name__}"
        advice = "pass a data frame, or arrays X, y and groups"
        if kind.startswith("dask."):
            advice = "pass X.compute(), or call gdcore.dask.fit_groups"
        raise TypeError(f"X is {kind}, which is not a data frame in memory; {advice}.")
    if isinstance(target, list):
        raise TypeError("target is a list; name the one column to predict, such as target='y'.")
    wanted = {
        "target": () if target is None else (str(target),),
        "features": _names(features),
        "by": _names(by),
    }
    names = names_of(table, "the frame")
    for argument, given in wanted.items():
        if not given:
            raise ValueError(
                f"{argument} names no column; a data frame needs all of target=, features= and "
                f"by=, and this one has {listed(names)}."
            )
    _refuse_twice(wanted)
    fixed = {"offset": offset, "sample_weight": sample_weight}
    named = {argument: name for argument, name in fixed.items() if isinstance(name, str)}
    _refuse_twice({"target": wanted["target"]} | {a: (name,) for a, name in named.items()})
    columns = tuple(dict.fromkeys([*chain(*wanted.values()), *named.values()]))
    _refuse_index(frame, columns, names)
    refuse_absent(columns, names, "the frame")
    table, names = in_memory(table, names, columns)
    for argument, name in named.items():
        fixed[argument] = _floats(table, names, name, missing)
    return GroupedFrame(
        features=wanted["features"],
        target=wanted["target"][0],
        by=wanted["by"],
        X=floats_of(table, names, wanted["features"], missing, by_row=True),
        y=_floats(table, names, wanted["target"][0], missing),
        columns=table[:, [names.index(name) for name in wanted["by"]]],
        **fixed,
    )


def _floats(table: Any, names: Names, name: str, missing: str) -> Floats:
    """Return one column as floats, without a copy if it holds them."""
    return column_as_floats(table[:, names.index(name)], f"the column {name!r}", missing)


def labelled_rows(columns: list[Any]) -> Ints | None:
    """Return the numbers of the rows that have all labels; None if all rows do."""
    missing = [gaps for gaps in map(missing_in_series, columns) if gaps is not None]
    return np.flatnonzero(~np.logical_or.reduce(missing)) if missing else None


def _refuse_twice(wanted: dict[str, Names]) -> None:
    """Raise ValueError if a column is named twice, by one argument or by two."""
    named: dict[str, str] = {}
    for argument, names in wanted.items():
        for name in names:
            if name in named:
                where = "twice" if named[name] == argument else f"and so does {named[name]}"
                raise ValueError(f"{argument} names the column {name!r} {where}; name it once.")
            named[name] = argument


def _refuse_index(frame: Any, columns: Names, names: Names) -> None:
    """Raise ValueError if a column is a part of pandas' index instead."""
    index = map(str, getattr(getattr(frame, "index", None), "names", ()))
    for name in index:
        if name in columns and name not in names:
            raise ValueError(
                f"{name!r} is in the index of the frame and not a column; pass frame.reset_index()."
            )


def _names(given: Any) -> Names:
    """Return no name, one name or several as text."""
    if given is None:
        return ()
    if isinstance(given, Set):
        raise TypeError(f"{given!r} is a set, which has no order; pass a list of columns.")
    one = isinstance(given, str) or not isinstance(given, Iterable)
    return (str(given),) if one else tuple(map(str, given))


def combined_codes(columns: list[Any], whats: list[str], rows: int) -> Ints:
    """Return for each row the number of its combination of labels, in the order of the labels."""
    codes, count = np.zeros(rows, np.int64), 1
    for column, what in zip(columns, whats, strict=True):
        labels, of_key = factorize(column, rows, what)
        if count * len(labels) > MOST_CODES:
            kept, codes = factorize(codes, rows)
            count = len(kept)
        codes, count = codes * len(labels) + of_key, count * len(labels)
    return codes
