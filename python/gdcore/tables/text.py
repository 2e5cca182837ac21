"""Tables of text: comma-separated values and their relatives.

Columns are read as float64 whatever the first rows look like, so that no later row can need another
type. Text is cut into blocks of whole rows, which threads decode in parallel. A block that pyarrow
cannot convert is converted again cell by cell: numbers, true and false, and the names of a null.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

import gdcore._core as _core
from gdcore.tables.cells import BadCell, Mask, has_words, to_numbers
from gdcore.tables.lines import DELIMITERS, Lines, likely_delimiter, read_lines
from gdcore.tables.table import (
    Block,
    NoRowsError,
    Part,
    Refusal,
    Table,
    TableError,
    first_line,
    nulls_of,
    pyarrow,
    shown,
)

_SAMPLE_LINES = 50  # by which the delimiter is found
_DECODERS = 8  # threads at most

Decoded = tuple[list[NDArray[Any]], list[Mask | None]]


class _BadRow(Exception):
    """A row of a block that cannot be read, and what to say around its place in the file."""

    def __init__(self, row: int, before: str, after: str) -> None:
        self.row, self.before, self.after = row, before, after

    def error(self, place: str) -> TableError:
        """Return what to raise, with the row's place in the file."""
        return TableError(f"{self.before} in {place}{self.after}.")


class TextTable(Table):
    """A file of text with a header line.

    Parameters
    ----------
    path : Path
    label : str
        What messages call it.
    compression : str, optional
        pyarrow's name of it.
    delimiter : str
        The one to take if the header has it; empty to find the likeliest.
    decimal : {".", ","}
    """

    def __init__(
        self, path: Path, label: str, compression: str | None, delimiter: str, decimal: str
    ) -> None:
        self.label, self._path, self._compression = label, path, compression
        self._decimal, self._csv = decimal, pyarrow("csv", label)
        self._delimiter, self.names = DELIMITERS, ()  # any, until they are known
        with closing(self._read_lines()) as blocks:
            head = next(blocks, None)
        sample = [*islice(filter(str.strip, head.text()), _SAMPLE_LINES)] if head else []
        if not head or not sample:
            raise NoRowsError(f"{label} is an empty file.")
        if head.data.to_pybytes().startswith((b"\xff\xfe", b"\xfe\xff")):
            raise TableError(f"{label} is UTF-16 text; save it as UTF-8.")
        found = delimiter if delimiter and delimiter in sample[0] else likely_delimiter(sample)
        self._delimiter = found
        self.names, self._header_lines = self._read_header(head)
        self._at = {name: j for j, name in enumerate(self.names)}
        self._keys = [str(j) for j in range(len(self.names))]
        self._first_texts = self._read_first()

    def refusal(self, name: str) -> Refusal | None:
        """Return what a column holds that is not a number, or None if it holds numbers.

        The first block of rows decides; later ones are refused when they are read.
        """
        if self._first_texts is None:
            return None
        lines, texts = self._first_texts
        try:
            to_numbers(texts[self._at[name]], self._decimal, self.label)
        except BadCell as bad:
            return Refusal(
                f"{shown(bad.value)} in {lines.place(0, bad.row, self._delimiter)}", bad.hint()
            )
        return None

    def parts(self) -> list[Part]:
        """Return the one function that reads the rows."""
        return [self._read]

    # Rows.

    def _read(self, names: Sequence[str], rows: int) -> Iterator[Block]:
        columns = [self._at[name] for name in names]
        first = 0
        with closing(self._decode_ahead(columns)) as blocks:
            for lines, decoded in blocks:
                try:
                    values, nulls = decoded.result()
                except _BadRow as bad:
                    raise bad.error(lines.place(first, bad.row, self._delimiter)) from None
                n = len(values[0])
                for begin in range(0, n, rows):
                    cut = slice(begin, begin + rows)
                    yield Block(
                        [column[cut] for column in values],
                        [null if null is None else _or_none(null[cut]) for null in nulls],
                        self.label,
                        partial(self._place, lines, first, begin),
                    )
                first += n

    def _place(self, lines: Lines, first: int, begin: int, row: int) -> str:
        return lines.place(first, begin + row, self._delimiter)

    def _decode_ahead(
        self, columns: list[int]
    ) -> Generator[tuple[Lines, Future[Decoded]], None, None]:
        """Yield blocks of rows in their order, some of which threads decode at a time."""
        threads = min(_core.get_num_threads(), _DECODERS)
        logical = set()
        if self._first_texts:
            texts = self._first_texts[1]
            logical = {j for j in columns if has_words(texts[j], self.label)}
        waiting: deque[tuple[Lines, Future[Decoded]]] = deque()
        with ThreadPoolExecutor(threads, "gdcore-decoder") as pool:
            try:
                for lines in self._read_rows():
                    waiting.append((lines, pool.submit(self._decode, lines, columns, logical)))
                    if len(waiting) > threads:
                        yield waiting.popleft()
                while waiting:
                    yield waiting.popleft()
            finally:
                for _, decoded in waiting:
                    decoded.cancel()

    def _decode(self, lines: Lines, columns: list[int], logical: set[int]) -> Decoded:
        """Return columns of a block of rows as floats, and where they are null."""
        types = {j: "bool" if j in logical else "float64" for j in columns}
        try:
            table = self._parsed(lines, types)
        except ValueError:
            decoded = [*map(self._converted, self._texts(lines, columns), columns)]
            return [values for values, _ in decoded], [null for _, null in decoded]
        arrays = [column.chunk(0) for column in table.columns]  # a block is one chunk
        floats = [
            a.cast("float64") if j in logical else a for j, a in zip(columns, arrays, strict=True)
        ]
        return [a.to_numpy(zero_copy_only=False) for a in floats], [*map(nulls_of, arrays)]

    def _parsed(self, lines: Lines, types: dict[int, str], text: bool = False) -> Any:
        """Parse a block of rows into columns of these types."""
        pa, form = pyarrow("", self.label), self._csv
        return form.read_csv(
            pa.BufferReader(lines.data),
            read_options=form.ReadOptions(
                use_threads=False,
                column_names=self._keys,
                block_size=lines.data.size + 1,
            ),
            parse_options=form.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
            convert_options=form.ConvertOptions(
                column_types={self._keys[j]: kind for j, kind in types.items()},
                include_columns=[self._keys[j] for j in types],
                decimal_point=self._decimal,
                check_utf8=not text,
            ),
        )

    # Cells that are not plain numbers.

    def _texts(self, lines: Lines, columns: Sequence[int]) -> list[Any]:
        """Return columns of a block as text; _BadRow if a row has not as many as the header."""
        try:
            table = self._parsed(lines, dict.fromkeys(columns, "string"), text=True)
        except ValueError as error:
            with suppress(csv.Error):  # text that only pyarrow takes apart
                self._find_ragged(lines)
            raise TableError(f"cannot read {self.label}: {first_line(error)}.") from error
        return [column.chunk(0) for column in table.columns]

    def _converted(self, text: Any, j: int) -> tuple[NDArray[Any], Mask | None]:
        try:
            return to_numbers(text, self._decimal, self.label)
        except BadCell as bad:
            before = f"column {self.names[j]!r} of {self.label} holds {shown(bad.value)}"
            advice = "leave the column out of the features, or encode it as numbers first"
            after = f", which is not a number; {bad.hint() or advice}"
            raise _BadRow(bad.row, before, after) from None

    def _read_first(self) -> tuple[Lines, list[Any]] | None:
        """Return the first rows as text, or None if all are plain numbers."""
        with closing(self._read_rows()) as blocks:
            lines = next(blocks, None)
        if lines is None:
            raise NoRowsError(f"{self.label} has no rows of data, only its header line.")
        try:
            self._parsed(lines, dict.fromkeys(range(len(self.names)), "float64"))
        except ValueError:
            try:
                return lines, self._texts(lines, range(len(self.names)))
            except _BadRow as bad:
                raise bad.error(lines.place(0, bad.row, self._delimiter)) from None
        return None

    def _find_ragged(self, lines: Lines) -> None:
        """Raise _BadRow for the first row that has not as many values as the header."""
        width = len(self.names)
        rows = (row for row in csv.reader(lines.text(), delimiter=self._delimiter) if row)
        for number, row in enumerate(rows):
            if len(row) == width:
                continue
            hint = ""
            if self.names[0].startswith("#"):
                hint = "; the header has to be the first line: take the comments out"
            elif len(row) > width and not "".join(row[width:]).strip():
                hint = "; take the delimiters at its end out"
            elif self._delimiter == "," and len(row) == 2 * width:
                hint = "; where ',' is the decimal point, another delimiter has to part the columns"
            elif len(row) == width + 1:
                hint = "; the name of its first column may be missing"
            values = f"{len(row)} value{'s' if len(row) > 1 else ''}"
            raise _BadRow(
                number,
                f"{self.label} has {values}",
                f", and its header names {width} column{'s' if width > 1 else ''}{hint}",
            )

    # Lines.

    def _read_rows(self) -> Generator[Lines, None, None]:
        """Yield the rows after the header, some at a time."""
        skip = self._header_lines
        with closing(self._read_lines()) as blocks:
            for lines in blocks:
                if self._delimiter == " ":
                    lines = lines.squeezed(pyarrow("", self.label))
                if skip:
                    lines, skip = lines.without(skip), 0
                if not lines.is_blank():
                    yield lines

    def _read_lines(self) -> Generator[Lines, None, None]:
        columns = len(self.names)
        return read_lines(self._path, self.label, self._compression, self._delimiter, columns)

    def _read_header(self, head: Lines) -> tuple[tuple[str, ...], int]:
        """Return the names of the columns and the lines that they take."""
        if self._delimiter == " ":
            head = head.squeezed(pyarrow("", self.label))
        lines = csv.reader(head.text(), delimiter=self._delimiter, skipinitialspace=True)
        try:
            names = next(row for row in lines if len(row) > 1 or "".join(row).strip())
        except csv.Error as error:
            raise TableError(f"cannot read the header of {self.label}: {error}.") from error
        if any("\ufffd" in name for name in names):
            raise TableError(f"the header of {self.label} is not UTF-8 text; save it as UTF-8.")
        return tuple(name.strip() for name in names), lines.line_num


def _or_none(null: Mask) -> Mask | None:
    return null if null.any() else None
