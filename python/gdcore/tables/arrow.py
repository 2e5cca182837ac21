"""Tables that pyarrow's datasets read: Parquet, Feather, and what users pass themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.tables.arrays import as_floats
from gdcore.tables.table import (
    Block,
    NoRowsError,
    Part,
    Refusal,
    Table,
    TableError,
    check_unique,
    first_line,
    nulls_of,
    pyarrow,
    row_place,
    shown,
)


class ArrowTable(Table):
    """A pyarrow.dataset.Dataset."""

    def __init__(self, dataset: Any, label: str) -> None:
        self._dataset, self.label = dataset, label
        self._types = pyarrow("types", label)
        self.names = tuple(dataset.schema.names)
        self.index = _index(dataset.schema)
        batches = dataset.scanner(columns=[], use_threads=False).to_batches()
        if not any(batch.num_rows for batch in batches):
            raise NoRowsError(f"{label} has no rows of data.")

    def refusal(self, name: str) -> Refusal | None:
        """Return what a column holds that is not a number, or None if it holds numbers."""
        kind = self._dataset.schema.field(name).type
        if self._holds_numbers(kind):
            return None
        return Refusal(_described(self._dataset, name, kind))

    def parts(self) -> list[Part]:
        """Return functions that each read a row group, or a whole file of another kind."""
        parts: list[Part] = []
        fragments = list(self._dataset.get_fragments())
        for fragment in fragments:
            file = getattr(fragment, "path", None) if len(fragments) > 1 else None
            split = getattr(fragment, "split_by_row_group", None)
            first = 0
            for piece in split() if split else [fragment]:
                parts.append(partial(self._read, piece, file or self.label, first))
                first += sum(group.num_rows for group in piece.row_groups) if split else 0
        return parts

    def _read(
        self, fragment: Any, file: str, first: int, names: Sequence[str], rows: int
    ) -> Iterator[Block]:
        try:
            scanner = fragment.scanner(
                schema=self._schema(fragment, file, names),
                columns=list(names),
                batch_size=rows,
                batch_readahead=1,
                fragment_readahead=1,
                use_threads=False,
            )
            for batch in scanner.to_batches():
                columns, nulls = zip(*map(self._numbers, batch.columns), strict=True)
                yield Block(columns, nulls, file, partial(row_place, first))
                first += batch.num_rows
        except TableError:
            raise
        except (OSError, ValueError) as error:
            raise TableError(f"cannot read {file}: {first_line(error)}.") from error

    def _schema(self, fragment: Any, file: str, names: Sequence[str]) -> Any:
        """Return the columns to read, with the types of this file.

        A dataset has those of its first file, and files of text those that the dataset gives them.
        """
        own, fields = fragment.physical_schema, []
        own_names = frozenset(own.names)
        text = getattr(getattr(fragment, "format", None), "default_extname", "") in ("csv", "json")
        for name in names:
            field = self._dataset.schema.field(name)
            if name in own_names and not text:
                field = own.field(name)
            if not self._holds_numbers(field.type):
                what = _described(fragment, name, field.type)
                raise TableError(
                    f"column {name!r} of {file} is not numeric: {what}; leave it out of the "
                    "features, or encode it as numbers first."
                )
            fields.append(field)
        return pyarrow("", file).schema(fields)

    def _holds_numbers(self, kind: Any) -> bool:
        types = self._types
        if types.is_dictionary(kind):
            kind = kind.value_type
        checks = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
        return any(check(kind) for check in (*checks, types.is_null))

    def _numbers(self, column: Any) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        types = self._types
        if types.is_dictionary(column.type):
            column = column.dictionary_decode()
        kind = column.type
        if types.is_boolean(kind) or types.is_decimal(kind) or types.is_null(kind):
            column = column.cast("float64")
        return as_floats(column.to_numpy(zero_copy_only=False)), nulls_of(column)


def open_arrow(path: Path, label: str, form: str) -> ArrowTable:
    """Open a Parquet or Feather file."""
    dataset = pyarrow("dataset", label)
    try:
        found = dataset.dataset(path, format=form)
    except ValueError as error:
        if form == "parquet":
            check_unique(pyarrow("parquet", label).read_schema(path).names, label)
            raise
        try:
            with pyarrow("ipc", label).open_stream(pyarrow("", label).OSFile(str(path))) as stream:
                found = dataset.dataset(stream.read_all())
        except (OSError, ValueError):
            raise error from None
    return ArrowTable(found, label)


def _index(schema: Any) -> frozenset[str]:
    """Return the columns that hold a pandas index."""
    names = {name for name in schema.names if re.fullmatch(r"__index_level_\d+__", name)}
    try:
        stored = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        names |= {name for name in stored if isinstance(name, str)}
    except (KeyError, TypeError, ValueError):
        pass
    return frozenset(names)


def _described(rows: Any, name: str, kind: Any) -> str:
    """Return the type of a column, and its first value if that can be said."""
    try:
        first = rows.head(1, columns=[name], use_threads=False).column(0)
        value = first.cast("string")[0].as_py()
    except (OSError, ValueError, NotImplementedError, IndexError):
        value = None
    return str(kind) if value is None else f"{kind}, {shown(value)} in {row_place(0, 0)}"
