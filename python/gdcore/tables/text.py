"""Tables of text: comma-separated values and their relatives.

Columns are read as float64 whatever the first rows look like, so that no later row can need another
type. Text is cut into blocks of whole rows, which threads decode in parallel. A block that pyarrow
cannot convert is converted again cell by cell: numbers, true and false, and the names of a null.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

import gdcore._core as _core
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

_BLOCK_BYTES = 1 << 20
_LONGEST_VALUE = 16 << 20  # bytes; quotes that span more are taken for stray ones
_SAMPLE_LINES = 50  # by which the delimiter is found
_DELIMITERS = ",;\t|"
_DECODERS = 8  # threads at most

Mask = NDArray[np.bool_]
Decoded = tuple[list[NDArray[Any]], list[Mask | None]]


class _Lines(NamedTuple):
    """Whole rows, and the number of their first line in the file, from 1 on."""

    data: Any  # a pyarrow.Buffer
    line: int


class _BadRow(Exception):
    """A row of a block that cannot be read: `what` is wrong with it, said around its place."""

    def __init__(self, row: int, before: str, after: str) -> None:
        self.row, self.before, self.after = row, before, after


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
        self._delimiter = _DELIMITERS  # any, until it is known
        with closing(self._read_lines()) as blocks:
            first = next(blocks, None)
        head = first.data.to_pybytes() if first else b""
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise TableError(f"{label} is UTF-16 text; save it as UTF-8.")
        text = head.decode("utf-8", "replace")
        sample = [*islice(filter(str.strip, io.StringIO(text, newline=None)), _SAMPLE_LINES)]
        if not sample:
            raise NoRowsError(f"{label} is an empty file.")
        found = delimiter if delimiter and delimiter in sample[0] else _delimiter(sample)
        self._delimiter = found
        self.names, self._header_lines = self._read_header(text)
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
            self._converted(texts[self.names.index(name)])
        except _BadRow as bad:
            return Refusal(f"{bad.before} in {self._place(lines, 0, bad.row)}", bad.after)
        return None

    def parts(self) -> list[Part]:
        """Return the one function that reads the rows."""
        return [self._read]

    # Rows.

    def _read(self, names: Sequence[str], rows: int) -> Iterator[Block]:
        columns = [self.names.index(name) for name in names]
        first = 0
        with closing(self._decode_ahead(columns)) as blocks:
            for lines, decoded in blocks:
                try:
                    values, nulls = decoded.result()
                except _BadRow as bad:
                    place = self._place(lines, first, bad.row)
                    raise TableError(f"{bad.before} in {place}{bad.after}.") from None
                n = len(values[0])
                for begin in range(0, n, rows):
                    cut = slice(begin, begin + rows)
                    yield Block(
                        [column[cut] for column in values],
                        [null if null is None else _or_none(null[cut]) for null in nulls],
                        self.label,
                        partial(self._place_in_cut, lines, first, begin),
                    )
                first += n

    def _decode_ahead(
        self, columns: list[int]
    ) -> Generator[tuple[_Lines, Future[Decoded]], None, None]:
        """Yield blocks of rows in their order, some of which threads decode at a time."""
        threads = min(_core.get_num_threads(), _DECODERS)
        logical = self._logical(columns)
        waiting: deque[tuple[_Lines, Future[Decoded]]] = deque()
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

    def _decode(self, lines: _Lines, columns: list[int], logical: set[int]) -> Decoded:
        """Return columns of a block of rows as floats, and where they are null."""
        types = {j: "bool" if j in logical else "float64" for j in columns}
        try:
            table = self._parsed(lines, types)
        except ValueError:
            texts = self._texts(lines, columns)
            decoded = [
                self._converted(text, self.names[j]) for text, j in zip(texts, columns, strict=True)
            ]
            return [values for values, _ in decoded], [null for _, null in decoded]
        arrays = [column.chunk(0) for column in table.columns]  # a block is one chunk
        floats = [
            a.cast("float64") if j in logical else a for j, a in zip(columns, arrays, strict=True)
        ]
        return [a.to_numpy(zero_copy_only=False) for a in floats], [*map(nulls_of, arrays)]

    def _parsed(self, lines: _Lines, types: dict[int, str], text: bool = False) -> Any:
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

    def _texts(self, lines: _Lines, columns: Sequence[int]) -> list[Any]:
        """Return columns of a block as text; _BadRow if a row has not as many as the header."""
        try:
            table = self._parsed(lines, dict.fromkeys(columns, "string"), text=True)
        except ValueError as error:
            with suppress(csv.Error):  # text that only pyarrow takes apart
                self._find_ragged(lines.data.to_pybytes())
            raise TableError(f"cannot read {self.label}: {first_line(error)}.") from error
        return [column.chunk(0) for column in table.columns]

    def _converted(self, text: Any, name: str = "") -> tuple[NDArray[Any], Mask | None]:
        """Return text as numbers, and where it is null; _BadRow names the first that is neither."""
        pa, pc = pyarrow("", self.label), pyarrow("compute", self.label)
        options = self._csv.ConvertOptions()
        text = pc.ascii_trim(text, ' \t"')
        null = pc.is_in(text, value_set=pa.array(options.null_values))
        number = pc.if_else(null, pa.scalar(None, "string"), text)
        for words, value in ((options.true_values, "1"), (options.false_values, "0")):
            number = pc.if_else(pc.is_in(number, value_set=pa.array(words)), value, number)
        if self._decimal == ",":
            dotted = pc.match_substring(number, ".")  # no decimal point here
            number = pc.if_else(dotted, "text", pc.replace_substring(number, ",", "."))
        try:
            values = number.cast("float64")
        except ValueError:
            row = _first_failing(number)
            value = text[row].cast("binary").as_py().decode("utf-8", "replace")
            self._refuse(row, value, name)
        return values.to_numpy(zero_copy_only=False), nulls_of(number)

    def _refuse(self, row: int, value: str, name: str) -> NoReturn:
        hint = ""
        if re.fullmatch(r"[+-]?\d*[.,]\d+([eE][+-]?\d+)?", value):
            other = "," if "," in value else "."
            hint = f"if its decimal point is {other!r}, pass --decimal {other} or decimal={other!r}"
        if not name:
            raise _BadRow(row, shown(value), hint)
        before = f"column {name!r} of {self.label} holds {shown(value)}"
        advice = hint or "leave the column out of the features, or encode it as numbers first"
        raise _BadRow(row, before, f", which is not a number; {advice}")

    def _read_first(self) -> tuple[_Lines, list[Any]] | None:
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
                place = self._place(lines, 0, bad.row)
                raise TableError(f"{bad.before} in {place}{bad.after}.") from None
        return None

    def _logical(self, columns: Sequence[int]) -> set[int]:
        """Return the columns whose first rows hold true or false, which pyarrow reads as such."""
        if self._first_texts is None:
            return set()
        pa, pc = pyarrow("", self.label), pyarrow("compute", self.label)
        words, texts = pa.array(["true", "false"]), self._first_texts[1]
        found = {j: pc.is_in(pc.ascii_lower(texts[j]), value_set=words) for j in columns}
        return {j for j, are_words in found.items() if pc.any(are_words).as_py()}

    def _find_ragged(self, data: bytes) -> None:
        """Raise _BadRow for the first row that has not as many values as the header."""
        lines = io.StringIO(data.decode("utf-8", "replace"), newline=None)
        width = len(self.names)
        rows = (row for row in csv.reader(lines, delimiter=self._delimiter) if row)
        for number, row in enumerate(rows):
            if len(row) == width:
                continue
            hint = ""
            if self._delimiter == "," and len(row) == 2 * width:
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

    def _read_rows(self) -> Generator[_Lines, None, None]:
        """Yield the rows after the header, some at a time."""
        skip = self._header_lines
        with closing(self._read_lines()) as blocks:
            for data, line in blocks:
                if self._delimiter == " ":
                    data = _buffer(pyarrow("", self.label), _squeezed(data.to_pybytes()))
                if skip:
                    begin = _end_of_line(data.to_pybytes(), skip)
                    data, line, skip = data.slice(begin), line + skip, 0
                if (
                    data.slice(0, min(64, data.size)).to_pybytes().strip()
                    or data.to_pybytes().strip()
                ):
                    yield _Lines(data, line)

    def _read_lines(self) -> Generator[_Lines, None, None]:
        """Yield the file's text, cut where rows end."""
        rest, line, newline = b"", 1, b""
        pa, path = pyarrow("", self.label), str(self._path)
        with pa.input_stream(path, compression=self._compression) as stream:
            while True:
                try:
                    data = stream.read(_BLOCK_BYTES)
                except OSError as error:
                    raise TableError(f"cannot read {self.label}: {first_line(error)}.") from error
                last = not data
                if not newline:
                    rest, data = b"", (rest + data).removeprefix(b"\xef\xbb\xbf")
                    newline = _newline(data)
                if last or newline not in data or b'"' in data or b'"' in rest:
                    rest, data = b"", rest + data
                end = len(data)
                if not last:
                    end = _end_of_rows(data, newline, self._delimiter) if newline else 0
                if end:
                    text = _buffer(pa, rest, memoryview(data)[:end])
                    yield _Lines(text, line)
                    line += int(
                        np.count_nonzero(np.frombuffer(text, np.uint8) == ord(newline or b"\n"))
                    )
                    rest = b""
                rest += data[end:]
                if last:
                    return

    def _read_header(self, text: str) -> tuple[tuple[str, ...], int]:
        """Return the names of the columns and the lines that they take."""
        if self._delimiter == " ":
            text = _squeezed(text.encode()).decode()
        lines = csv.reader(
            io.StringIO(text, newline=None), delimiter=self._delimiter, skipinitialspace=True
        )
        try:
            names = next(row for row in lines if len(row) > 1 or "".join(row).strip())
        except csv.Error as error:
            raise TableError(f"cannot read the header of {self.label}: {error}.") from error
        if any("\ufffd" in name for name in names):
            raise TableError(f"the header of {self.label} is not UTF-8 text; save it as UTF-8.")
        return tuple(name.strip() for name in names), lines.line_num

    def _place(self, lines: _Lines, first: int, row: int) -> str:
        """Return where a row of a block is in the file, in words."""
        quoted, at, begin = False, -1, True  # a newline between quotes belongs to a value
        text = io.StringIO(lines.data.to_pybytes().decode("utf-8", "replace"), newline=None)
        for number, content in enumerate(text):
            at += begin and content != "\n"
            if at == row:
                return f"row {first + row + 1} (line {lines.line + number})"
            quoted ^= content.count('"') % 2 == 1
            begin = not quoted
        return f"row {first + row + 1}"

    def _place_in_cut(self, lines: _Lines, first: int, begin: int, row: int) -> str:
        return self._place(lines, first, begin + row)


def _delimiter(sample: Sequence[str]) -> str:
    """Return the likeliest delimiter: of those that all lines have equally often the most frequent.

    Spaces are one only where the header has no other.
    """
    unquoted = [re.sub(r'"[^"]*"', "text", line) for line in sample]
    counts = {d: [line.count(d) for line in unquoted] for d in _DELIMITERS}
    if not any(found[0] for found in counts.values()):
        return " " if len(unquoted[0].split()) > 1 else ","
    even = [d for d, found in counts.items() if found[0] and len(set(found)) == 1]
    return max(even or _DELIMITERS, key=lambda d: counts[d][0])


def _buffer(pa: Any, *pieces: Any) -> Any:
    """Return bytes in memory of pyarrow's own, which its threads may free."""
    copy = pa.BufferOutputStream()
    for piece in pieces:
        copy.write(piece)
    return copy.getvalue()


def _squeezed(data: bytes) -> bytes:
    """Return lines whose columns one space parts."""
    return re.sub(rb"(?m)^ +| +(?=\r?$)|(?<= ) +", b"", data)


def _newline(data: bytes) -> bytes:
    """Return the byte that ends lines; empty if no line ends yet."""
    first = re.search(rb"\r\n|\n|\r(?=.)", data)
    return first[0][-1:] if first else b""


def _end_of_line(data: bytes, number: int) -> int:
    """Return where the line of this number, from 1 on, ends."""
    end, newline = 0, _newline(data) or b"\n"
    for _ in range(number):
        end = data.find(newline, end) + 1
        if not end:
            return len(data)
    return end


def _end_of_rows(data: bytes, newline: bytes, delimiters: str) -> int:
    """Return where the last whole row ends; 0 if none does.

    A newline between quotes ends no row. Quotes within a value are not special.
    """
    last = data.rfind(newline) + 1
    if b'"' not in data:
        return last
    stops = delimiters.encode() + b"\r\n"
    if _quotes_are_pairs(data, stops):
        end, quotes = last, data.count(b'"', 0, last)
        while end and quotes % 2:
            before = data.rfind(newline, 0, end - 1) + 1
            quotes -= data.count(b'"', before, end)
            end = before
    else:
        quoted = rb'(?:\A|(?<=[%s]))"[^"]*(?:""[^"]*)*(?:"|\Z)' % re.escape(stops)
        end = re.sub(quoted, lambda m: b"x" * len(m[0]), data).rfind(newline) + 1
    return end or (last if len(data) > _LONGEST_VALUE else 0)


def _quotes_are_pairs(data: bytes, stops: bytes) -> bool:
    """Whether every other quote begins a value, and those between end one."""
    padded = np.frombuffer(b"\n" + data + b"\n", np.uint8)
    quotes = np.flatnonzero(padded == ord('"'))
    beside = np.isin(np.arange(256), [*stops, ord('"')])
    return bool(beside[padded[quotes[::2] - 1]].all() and beside[padded[quotes[1::2] + 1]].all())


def _first_failing(text: Any) -> int:
    """Return the first of some texts that is not a number."""
    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            text[low:middle].cast("float64")
            low = middle
        except ValueError:
            high = middle
    return low


def _or_none(null: Mask) -> Mask | None:
    return null if null.any() else None
