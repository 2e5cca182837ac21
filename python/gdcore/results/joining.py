"""Which fit predicts each row: by labels that are given, or by columns of a data frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from gdcore.advice import listed
from gdcore.data.columns import (
    as_narwhals,
    floats_of,
    in_memory,
    is_frame,
    names_of,
    narwhals,
    refuse_absent,
    refuse_nulls,
)
from gdcore.data.frames import combined_codes, labelled_rows
from gdcore.data.home import from_device
from gdcore.data.labels import as_objects, factorize, values_of
from gdcore.data.missing_labels import labelled, refuse_missing
from gdcore.results.interval import Prediction
from gdcore.results.prediction import UNKNOWN
from gdcore.typing import Floats, Ints, Names

Unknown = Literal["raise", "nan"]


class RowLabels(NamedTuple):
    """The label of each row: its number among the different ones, -1 if it is missing."""

    different: Any
    codes: Ints


@dataclass(frozen=True)
class LabelledFrame:
    """A frame with columns that say whose fit predicts a row, read into memory."""

    table: Any  # as narwhals wraps it
    names: Names
    by: Names

    def __len__(self) -> int:
        return len(self.table)

    def floats(self, wanted: Names) -> Floats:
        """Return columns as one array, NaN where a number is missing."""
        return floats_of(self.table, self.names, wanted, "drop", by_row=True)

    def labels(self, skip_missing: bool) -> RowLabels:
        """Return the labels of the rows; ValueError if one is missing, unless they are skipped."""
        keys = [self.table[:, self.names.index(name)] for name in self.by]
        if not skip_missing:
            for key, name in zip(keys, self.by, strict=True):
                refuse_nulls(key, f"the column {name!r}", "pass unknown='nan'", way_out=False)
            return RowLabels(*_factorized(keys))
        rows = labelled_rows(keys)
        known = keys if rows is None else [key[rows] for key in keys]
        return RowLabels(*_spread(*_factorized(known), rows, len(self)))

    def beside(self, found: Any, name: str) -> Any:
        """Return predictions as a column of the frame's library, with its index if it has one.

        Those with intervals are three columns.
        """
        if isinstance(found, Prediction):
            parts = found._asdict().items()
            return Prediction(*(self.beside(part, field) for field, part in parts))
        nw, kind = narwhals(), self.table.implementation
        backend = nw.get_native_namespace(self.table)
        series = nw.new_series(name, found, backend=backend).to_native()
        if kind.is_pandas_like():
            series.index = self.table.to_native().index
        return series.combine_chunks() if kind.is_pyarrow() else series


def labelled_frame(X: Any, by: Names, others: Names) -> LabelledFrame | None:
    """Read the columns `by` and others of a frame; None for anything else."""
    if isinstance(X, np.ndarray | list):
        return None
    table = as_narwhals(X, "X")
    if table is None or not is_frame(table):
        return None
    names = names_of(table, "X")
    absent = next((name for name in by if name not in names), None)
    if absent is not None:
        raise ValueError(
            f"X has no column {absent!r}, whose labels say which fit is a row's; it has "
            f"{listed(names)}. Add it, or pass groups=."
        )
    wanted = tuple(dict.fromkeys((*by, *others)))
    refuse_absent(wanted, names, "X")
    return LabelledFrame(*in_memory(table, names, wanted), by)


def check_unknown(unknown: Any, has_labels: bool) -> None:
    """Raise ValueError unless `unknown` is a choice that means something."""
    if unknown not in ("raise", "nan"):
        raise ValueError(f"unknown is {unknown!r}; it must be 'raise' or 'nan'.")
    if unknown == "nan" and not has_labels:
        raise ValueError("unknown='nan' is for rows with labels; pass groups=, or leave it out.")


def given_labels(groups: Any, n: int, skip_missing: bool) -> RowLabels:
    """Return labels that the user passed, one for each of n rows."""
    given, rows = from_device(groups, "groups"), None
    if skip_missing:
        given, rows = labelled(given, n)
    try:
        found = factorize(given, n if rows is None else len(rows))
    except (TypeError, ValueError):  # which advise what a fit can do
        refuse_missing(given, n, "pass unknown='nan'")
        raise
    return RowLabels(*_spread(*found, rows, n))


def _factorized(keys: list[Any]) -> tuple[Any, Ints]:
    """Return the different labels in one column or several, and the number of each row's."""
    rows, native = len(keys[0]), [key.to_native() for key in keys]
    if len(keys) == 1:
        return factorize(native[0], rows)
    whats = [f"the column {key.name!r}" for key in keys]
    codes = factorize(combined_codes(native, whats, rows), rows)[1]
    first = np.empty(int(codes.max(initial=-1)) + 1, np.int64)
    first[codes] = np.arange(rows)  # any of its rows has a combination's labels
    parts = (values_of(key[first].to_native()) for key in keys)
    return as_objects(list(zip(*parts, strict=True))), codes


def _spread(different: Any, codes: Ints, rows: Ints | None, n: int) -> tuple[Any, Ints]:
    """Return labels, and the number of each of n rows if the codes are those of some rows."""
    if rows is None:
        return different, codes
    spread = np.full(n, UNKNOWN)
    spread[rows] = codes
    return different, spread
