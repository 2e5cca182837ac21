"""Tables of NumPy's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.tables.table import (
    Block,
    NoRowsError,
    Part,
    Refusal,
    Table,
    TableError,
    check_unique,
    row_place,
    shown,
)


class ArrayTable(Table):
    """Named columns in memory.

    Parameters
    ----------
    label : str
    columns : Mapping[str, ndarray]
        1-D arrays of one length.
    by_number : bool
        Whether a column can be named by its index, maybe from the end.

    Examples
    --------
    >>> table = ArrayTable("points.npy", {"x0": np.array([1.0, 2.0])})
    >>> table.names
    ('x0',)
    >>> table.numbers(["x0"])
    array([[1.],
           [2.]])
    """

    def __init__(
        self, label: str, columns: Mapping[str, NDArray[Any]], by_number: bool = False
    ) -> None:
        self.label, self.names, self._by_number = label, tuple(columns), by_number
        self._columns = columns
        lengths = {len(column) for column in columns.values()}
        if len(lengths) > 1:
            sizes = ", ".join(f"{name!r} {len(column)}" for name, column in columns.items())
            raise TableError(f"{label} has columns of different lengths: {sizes}.")
        if not any(lengths):
            raise NoRowsError(f"{label} has no rows of data.")

    def find(self, name: str) -> str:
        """Return the column meant by `name`, which may be an index."""
        if name not in self.names and self._by_number:
            try:
                return self.names[int(name)]
            except (ValueError, IndexError):
                pass
        return super().find(name)

    def refusal(self, name: str) -> Refusal | None:
        """Return what a column holds that is not a number, or None if it holds numbers."""
        column = self._columns[name]
        if column.ndim == 1 and column.dtype.kind in "biuf":
            return None
        return Refusal(f"{column.dtype}, {shown(column[0])} in {row_place(0, 0)}")

    def parts(self) -> list[Part]:
        """Return the one function that reads the rows."""
        return [self._read]

    def _read(self, names: Sequence[str], rows: int) -> Iterator[Block]:
        columns = [self._columns[name] for name in names]
        for begin in range(0, len(next(iter(self._columns.values()))), rows):
            block = [as_floats(column[begin : begin + rows]) for column in columns]
            yield Block(block, [None] * len(names), self.label, partial(row_place, begin))


def as_floats(column: NDArray[Any]) -> NDArray[Any]:
    """Return numbers as floats; float32 stays, integers are rounded to float64."""
    return column if column.dtype in (np.float32, np.float64) else column.astype(np.float64)


def open_arrays(path: Path, label: str) -> ArrayTable:
    """Open a .npy or .npz file."""
    single = path.suffix.lower() == ".npy"
    with path.open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        if single:
            columns = [*_from_array("x", arrays)]
        elif isinstance(arrays, np.ndarray):
            raise TableError(f"{label} holds a single array: name it .npy.")
        else:
            columns = [
                column
                for name, array in arrays.items()
                for column in (
                    [(name, array)] if array.ndim == 1 else _from_array(name.lower(), array)
                )
            ]
    check_unique([name for name, _ in columns], label)
    return ArrayTable(label, dict(columns), by_number=single)


def _from_array(name: str, array: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the columns of a structured array or of a matrix."""
    if array.dtype.names:
        yield from ((field, array[field]) for field in array.dtype.names)
    elif array.ndim in (1, 2):
        matrix = array[:, None] if array.ndim == 1 else array
        yield from ((f"{name}{j}", matrix[:, j]) for j in range(matrix.shape[1]))
    else:
        raise TableError(f"array {name!r} has {array.ndim} dimensions; a table has 1 or 2.")
