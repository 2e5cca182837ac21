"""Named columns of numbers, out of files and into them.

========================  ========================================================
suffix                    columns
========================  ========================================================
``.csv``, ``.tsv``        named by the header line; comma, semicolon or tab
``.parquet``              by their names
``.feather``, ``.arrow``  by their names
``.npz``                  a 1-D array is one column with the array's name; a 2-D
                          array ``X`` gives ``x0``, ``x1``, ...
``.npy``                  a 2-D array gives ``x0``, ``x1``, ...; a structured
                          array's fields keep their names
========================  ========================================================

CSV, Parquet and Feather are read by pyarrow, which is imported at first use.
"""

from __future__ import annotations

import csv
import difflib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "OUTPUT_SUFFIXES",
    "Table",
    "TableError",
    "check_writable",
    "print_csv",
    "read_table",
    "write_table",
]

Columns = Iterable[tuple[str, Any]]

_SHOWN = 12  # names listed in a message before "and 88 more"


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
        """Return the column meant by `name`; in an ``.npy`` file its index will do.

        Parameters
        ----------
        name : str
            A column's name, or for an ``.npy`` file its index, counted from the end if
            negative.

        Returns
        -------
        str
            The column's name.
        """
        if name not in self.columns and self.path.suffix.lower() == ".npy":
            try:
                return self.names[int(name)]
            except (ValueError, IndexError):
                pass
        self.require([name])
        return name

    def require(self, names: Sequence[str]) -> None:
        """Raise `TableError` naming those of `names` that are not columns.

        Parameters
        ----------
        names : Sequence[str]
            Names that should be columns.
        """
        missing = [name for name in names if name not in self.columns]
        if not missing:
            return
        close = [m for name in missing for m in difflib.get_close_matches(name, self.names, 1)]
        hint = f" (did you mean {_listed(dict.fromkeys(close))}?)" if close else ""
        if all(_parses(name) for name in self.names):
            hint += " (is the header line missing?)"
        raise TableError(
            f"{self.path} has no {_column(missing)}{hint}; its columns are {_listed(self.names)}."
        )

    def not_numeric(self, names: Sequence[str]) -> str:
        """Say of columns that are not numeric where that shows first.

        Parameters
        ----------
        names : Sequence[str]
            Columns that are not numeric.

        Returns
        -------
        str
            A clause without a full stop.
        """
        where = ", ".join(self._first_text(name) for name in names[:3])
        return f"{_column(names)} of {self.path} {_be(names)} not numeric: {where}"

    def numbers(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Return columns as a float64 matrix, every entry of it finite.

        Parameters
        ----------
        names : Sequence[str]
            The columns, in the order wanted.

        Returns
        -------
        ndarray of shape (n_rows, len(names))
            The numbers.
        """
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


def read_table(path: Path) -> Table:
    """Read the columns of a file; its suffix says how.

    Parameters
    ----------
    path : Path
        A file with one of the suffixes in the table above.

    Returns
    -------
    Table
        Its columns, at least one of them, and at least one row.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise TableError(
            f"{path} has a suffix that gdcore does not read; it reads {', '.join(_READERS)}."
        )
    try:
        if path.stat().st_size == 0:
            raise TableError(f"{path} is an empty file.")
        columns = list(reader(path))
    except TableError:
        raise
    except OSError as error:
        raise TableError(f"cannot read {path}: {_first_line(error)}.") from error
    except (ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile) as error:
        kind = path.suffix[1:].lower()
        raise TableError(f"cannot read {path} as {kind}: {_first_line(error)}.") from error
    twice = [name for name, count in Counter(name for name, _ in columns).items() if count > 1]
    if twice:
        raise TableError(
            f"{path} has more than one column named {_listed(twice)}; rename them first."
        )
    lengths = {len(column) for _, column in columns}
    if len(lengths) > 1:
        sizes = ", ".join(f"{name!r} {len(column)}" for name, column in columns[:_SHOWN])
        raise TableError(f"{path} has columns of different lengths: {sizes}.")
    if not lengths or lengths == {0}:
        raise TableError(f"{path} has no rows of data.")
    return Table(path, dict(columns))


def write_table(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of numbers to a ``.csv``, ``.parquet`` or ``.npy`` file.

    Parameters
    ----------
    path : Path
        The file; an ``.npy`` file holds a single column as a 1-D array, several as a
        2-D one, without their names.
    columns : Mapping[str, ndarray]
        Name and numbers of each column.
    """
    _WRITERS[path.suffix.lower()](path, columns)


def print_csv(file: TextIO, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of numbers as CSV, each number with as many digits as it takes.

    Parameters
    ----------
    file : TextIO
        An open file.
    columns : Mapping[str, ndarray]
        Name and numbers of each column.

    Examples
    --------
    >>> import sys
    >>> print_csv(sys.stdout, {"a": np.array([0.1, 2.0]), "b": np.float32([0.1, 1e-9])})
    a,b
    0.1,0.1
    2.0,1e-09
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column.astype(str) for column in columns.values()), strict=True))


def check_writable(path: Path, suffixes: Iterable[str] = ()) -> None:
    """Raise `TableError` unless a file could be written at `path`.

    Parameters
    ----------
    path : Path
        The file; what it holds already is left alone.
    suffixes : Iterable[str]
        The suffixes it may have; none given means any.
    """
    suffixes = tuple(suffixes)
    if suffixes and path.suffix.lower() not in suffixes:
        raise TableError(f"cannot write {path}: its suffix must be {_either(suffixes)}.")
    existed = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise TableError(f"cannot write {path}: {_first_line(error)}.") from error
    if not existed:
        path.unlink()


def _read_csv(path: Path) -> Columns:
    pyarrow_csv = _pyarrow("csv", path)
    table = pyarrow_csv.read_csv(
        path,
        read_options=pyarrow_csv.ReadOptions(use_threads=False),  # its errors then name the row
        parse_options=pyarrow_csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
    )
    return ((name.strip(), column) for name, column in _from_arrow(table))


def _read_parquet(path: Path) -> Columns:
    with path.open("rb") as file:
        return _from_arrow(_pyarrow("parquet", path).read_table(file))


def _read_feather(path: Path) -> Columns:
    return _from_arrow(_pyarrow("feather", path).read_table(path))


def _read_npy(path: Path) -> Columns:
    with path.open("rb") as file:
        return _from_array("x", np.load(file, allow_pickle=False))


def _read_npz(path: Path) -> Columns:
    with path.open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise TableError(f"{path} holds a single array: name it .npy.")
        for name, array in arrays.items():
            yield from [(name, array)] if array.ndim == 1 else _from_array(name.lower(), array)


def _from_array(name: str, array: NDArray[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the columns of a structured array or of a matrix."""
    if array.dtype.names:
        yield from ((field, array[field]) for field in array.dtype.names)
    elif array.ndim in (1, 2):
        matrix = array[:, None] if array.ndim == 1 else array
        yield from ((f"{name}{j}", matrix[:, j]) for j in range(matrix.shape[1]))
    else:
        raise TableError(f"array {name!r} has {array.ndim} dimensions; a table has 1 or 2.")


def _from_arrow(table: Any) -> Iterator[tuple[str, Any]]:
    """Yield an Arrow table's columns, numbers as NumPy arrays with NaN where null."""
    types = import_module("pyarrow.types")
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        if types.is_null(kind) or types.is_decimal(kind) or types.is_boolean(kind):
            column = column.cast("float64")
        numeric = types.is_integer(kind) or types.is_floating(column.type)
        yield name, column.to_numpy() if numeric else column


def _write_csv(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        print_csv(file, columns)


def _write_parquet(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    table = import_module("pyarrow").table(dict(columns))
    _pyarrow("parquet", path).write_table(table, path)


def _write_npy(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    arrays = list(columns.values())
    np.save(path, arrays[0] if len(arrays) == 1 else np.column_stack(arrays))


_READERS: dict[str, Callable[[Path], Columns]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".feather": _read_feather,
    ".arrow": _read_feather,
    ".npy": _read_npy,
    ".npz": _read_npz,
}
_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet, ".npy": _write_npy}
OUTPUT_SUFFIXES = tuple(_WRITERS)


def _pyarrow(module: str, path: Path) -> Any:
    try:
        return import_module(f"pyarrow.{module}")
    except ModuleNotFoundError as error:
        raise TableError(f"{path} needs pyarrow; run: pip install 'gdcore[cli]'.") from error


def _delimiter(path: Path) -> str:
    """Return the likeliest delimiter of a text file, from its header line."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline()
    return max(",;\t", key=header.count)


def _is_numeric(column: Any) -> bool:
    return isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind in "biuf"


def _parses(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _first_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(". ")


def _column(names: Sequence[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {_listed(names)}"


def _be(names: Sequence[str]) -> str:
    return "are" if len(names) > 1 else "is"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + rest


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
