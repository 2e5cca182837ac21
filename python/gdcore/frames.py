"""Data frames of any library, through narwhals (extra "frames")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gdcore.kernels import Floats
from gdcore.labels import Ints, factorize
from gdcore.result import Fits
from gdcore.status import Status


@dataclass(frozen=True)
class Table:
    """What a fit reads of a frame, and the frame, to answer in its library."""

    frame: Any
    features: list[str]
    by: list[str]
    X: Floats
    y: Floats
    codes: Ints  # group of each row, from 0 on

    def answer(self, fits: Fits) -> Any:
        """Return one row a group as a frame of the same library."""
        import narwhals.stable.v1 as nw

        columns: dict[str, Any] = {
            f"weight_{name}": fits.weights[:, j] for j, name in enumerate(self.features)
        }
        columns |= {
            "intercept": fits.intercept,
            "loss": fits.loss,
            "n": fits.rows,
            "status": [Status(value).name for value in fits.status.tolist()],
        }
        clash = [name for name in columns if name in self.by]
        if clash:
            raise ValueError(
                f"the column {clash[0]!r} of by has the name of a result; rename it first."
            )
        backend = nw.get_native_namespace(self.frame)
        made = [nw.new_series(name, values, backend=backend) for name, values in columns.items()]
        _, first_rows = np.unique(self.codes, return_index=True)
        keys = self.frame.select(self.by)[first_rows.tolist()]
        return nw.to_native(nw.maybe_reset_index(keys).with_columns(*made))


def read(
    frame: Any,
    target: str | None,
    features: str | Sequence[str] | None,
    by: str | Sequence[str] | None,
) -> Table:
    """Take the columns out of a frame; ValueError names the one that does not fit."""
    try:
        import narwhals.stable.v1 as nw
    except ImportError:
        raise ImportError(
            "data frames need the package narwhals: pip install 'gdcore[frames]'."
        ) from None
    try:
        table = nw.from_native(frame, eager_only=True)
    except TypeError:
        raise TypeError(
            f"X is {type(frame).__name__}, which is no data frame that narwhals knows; collect a "
            "lazy frame first, or pass arrays X, y and groups."
        ) from None
    if target is None or features is None or by is None:
        raise ValueError("a data frame needs all of target=, features= and by=.")
    features = [features] if isinstance(features, str) else list(features)
    by = [by] if isinstance(by, str) else list(by)
    if not features or not by:
        raise ValueError("features and by must each name at least one column.")
    for name in (target, *features, *by):
        if name not in table.columns:
            raise ValueError(
                f"the frame has no column {name!r}; it has {', '.join(map(repr, table.columns))}."
            )
    X = np.column_stack([_numbers(table[name]) for name in features])
    return Table(table, features, by, X, _numbers(table[target]), _codes(table, by))


def _numbers(series: Any) -> Floats:
    """Return a column as numbers without gaps."""
    if not (series.dtype.is_numeric() or str(series.dtype) == "Boolean"):
        raise ValueError(
            f"the column {series.name!r} holds {series.dtype}; it has to be numeric, so encode or "
            "leave it out."
        )
    nulls = int(series.null_count())
    if nulls:
        raise ValueError(
            f"the column {series.name!r} has {nulls} missing values; drop or fill those rows first."
        )
    values: Floats = series.to_numpy()
    return values


def _codes(table: Any, by: list[str]) -> Ints:
    """Return for each row the number of its group, in the order of the keys."""
    rows = len(table)
    codes = np.zeros(rows, np.int64)
    for name in by:
        nulls = int(table[name].null_count())
        if nulls:
            raise ValueError(
                f"the column {name!r} of by has {nulls} missing values; drop those rows, or give "
                "them a label of their own."
            )
        labels, of_key = factorize(table[name].to_numpy(), rows, f"the column {name!r} of by")
        codes = factorize(codes * max(len(labels), 1) + of_key, rows)[1]
    return codes
