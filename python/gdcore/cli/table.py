"""Named columns of numbers, and sentences on what is wrong with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHOWN = 12  # names listed in a message before "and 88 more"


class TableError(ValueError):
    """What is wrong with a file, or with a column of it, in one sentence."""


@dataclass(frozen=True)
class Table:
    """The columns of one file, in the file's order.

    Parameters
    ----------
    path : Path
        The file they came from.
    columns : Mapping[str, Any]
        A 1-D numeric array for a column of numbers, any other sequence for the rest.

    Examples
    --------
    >>> table = Table(Path("points.npy"), {"x0": np.array([1.0, 2.0])})
    >>> table.names, table.n_rows
    (('x0',), 2)
    >>> table.numbers(["x0"])
    array([[1.],
           [2.]])
    """

    path: Path
    columns: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.columns)

    @property
    def numeric(self) -> tuple[str, ...]:
        """Names of the columns that hold numbers."""
        return tuple(name for name, column in self.columns.items() if _is_numeric(column))

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))

    def find(self, name: str) -> str:
        """Return the column meant by `name`; in an ``.npy`` file its index, maybe from the end."""
        if name not in self.columns and self.path.suffix.lower() == ".npy":
            try:
                return self.names[int(name)]
            except (ValueError, IndexError):
                pass
        self.require([name])
        return name

    def require(self, names: Sequence[str]) -> None:
        """Raise `TableError` naming those of `names` that are not columns."""
        missing = [name for name in names if name not in self.columns]
        if not missing:
            return
        close = [m for name in missing for m in difflib.get_close_matches(name, self.names, 1)]
        hint = f" (did you mean {listed(dict.fromkeys(close))}?)" if close else ""
        if all(_parses(name) for name in self.names):
            hint += " (is the header line missing?)"
        raise TableError(
            f"{self.path} has no {_column(missing)}{hint}; its columns are {listed(self.names)}."
        )

    def not_numeric(self, names: Sequence[str]) -> str:
        """Say of columns that are not numeric where that shows first, without a full stop."""
        where = ", ".join(self._first_text(name) for name in names[:3])
        are = "are" if len(names) > 1 else "is"
        return f"{_column(names)} of {self.path} {are} not numeric: {where}"

    def numbers(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return columns as a float64 matrix, every entry of it finite."""
        self.require(names)
        texts = [name for name in names if not _is_numeric(self.columns[name])]
        if texts:
            raise TableError(f"{self.not_numeric(texts)}.")
        matrix = np.empty((self.n_rows, len(names)))
        for j, name in enumerate(names):
            matrix[:, j] = self.columns[name]
            finite = np.isfinite(matrix[:, j])
            if not finite.all():
                row = int(np.argmin(finite))
                what = "no number" if np.isnan(matrix[row, j]) else "an infinite number"
                raise TableError(
                    f"{_column([name])} of {self.path} has {what} in {self._place(row)}; "
                    "fill or remove such rows first."
                )
        return matrix

    def _first_text(self, name: str) -> str:
        """Return the first value of a column that is not a number, and its place."""
        values = ((row, str(value)) for row, value in enumerate(self.columns[name]))
        row, text = next(((r, v) for r, v in values if v != "None" and not _parses(v)), (0, ""))
        return f"{text[:40]!r} in {self._place(row)}" if text else f"see {self._place(row)}"

    def _place(self, row: int) -> str:
        """Return where 0-based `row` is in words, with its line if the file has lines."""
        place = f"row {row + 1}"
        if self.path.suffix.lower() not in (".csv", ".tsv"):
            return place
        quoted = False  # a newline between quotes belongs to a value
        ends = []  # the lines on which the header and each row end
        with self.path.open(encoding="utf-8-sig", errors="replace") as file:
            for line, text in enumerate(file, start=1):
                quoted ^= text.count('"') % 2 == 1
                if not quoted and text != "\n":
                    ends.append(line)
                if len(ends) == row + 2:
                    break
        return f"{place} (line {ends[-1]})"


def _is_numeric(column: Any) -> bool:
    return isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind in "biuf"


def _parses(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _column(names: Sequence[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {listed(names)}"


def listed(names: Iterable[str]) -> str:
    """Return names in quotes, the first ones of many."""
    names = list(names)
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:SHOWN]) + rest


def first_line(error: Exception) -> str:
    """Return the first line of what an exception says, without a full stop."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(". ")
