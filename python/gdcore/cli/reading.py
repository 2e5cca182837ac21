"""Tables out of files.

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

import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.cli.table import SHOWN, Table, TableError, first_line, listed

Columns = Iterable[tuple[str, Any]]


def read_table(path: Path) -> Table:
    """Read the columns of a file, one at least, of one row at least; its suffix says how."""
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
        raise TableError(f"cannot read {path}: {first_line(error)}.") from error
    except (ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile) as error:
        kind = path.suffix[1:].lower()
        raise TableError(f"cannot read {path} as {kind}: {first_line(error)}.") from error
    twice = [name for name, count in Counter(name for name, _ in columns).items() if count > 1]
    if twice:
        raise TableError(
            f"{path} has more than one column named {listed(twice)}; rename them first."
        )
    lengths = {len(column) for _, column in columns}
    if len(lengths) > 1:
        sizes = ", ".join(f"{name!r} {len(column)}" for name, column in columns[:SHOWN])
        raise TableError(f"{path} has columns of different lengths: {sizes}.")
    if not lengths or lengths == {0}:
        raise TableError(f"{path} has no rows of data.")
    return Table(path, dict(columns))


def _read_csv(path: Path) -> Columns:
    pyarrow_csv = pyarrow("csv", path)
    table = pyarrow_csv.read_csv(
        path,
        read_options=pyarrow_csv.ReadOptions(use_threads=False),  # its errors then name the row
        parse_options=pyarrow_csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
    )
    return ((name.strip(), column) for name, column in _from_arrow(table))


def _read_parquet(path: Path) -> Columns:
    with path.open("rb") as file:
        return _from_arrow(pyarrow("parquet", path).read_table(file))


def _read_feather(path: Path) -> Columns:
    return _from_arrow(pyarrow("feather", path).read_table(path))


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


_READERS: dict[str, Callable[[Path], Columns]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    ".feather": _read_feather,
    ".arrow": _read_feather,
    ".npy": _read_npy,
    ".npz": _read_npz,
}


def pyarrow(module: str, path: Path) -> Any:
    """Import a module of pyarrow, which a file needs."""
    try:
        return import_module(f"pyarrow.{module}")
    except ModuleNotFoundError as error:
        raise TableError(f"{path} needs pyarrow; run: pip install 'gdcore[cli]'.") from error


def _delimiter(path: Path) -> str:
    """Return the likeliest delimiter of a text file, from its header line."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline()
    return max(",;\t", key=header.count)
