"""Text, cut into blocks of whole rows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gdcore.tables.table import TableError, first_line, pyarrow

BLOCK_BYTES = 1 << 20
_LONGEST_VALUE = 16 << 20  # bytes; quotes that span more are taken for stray ones
DELIMITERS = ",;\t|"


class Lines(NamedTuple):
    """Whole rows, and the number of their first line in the file, from 1 on."""

    data: Any  # a pyarrow.Buffer
    line: int

    def text(self) -> io.StringIO:
        """Return the rows to read line by line."""
        return io.StringIO(self.data.to_pybytes().decode("utf-8", "replace"), newline=None)

    def is_blank(self) -> bool:
        """Whether there is nothing but white space."""
        begin = self.data.slice(0, min(64, self.data.size))
        return not (begin.to_pybytes().strip() or self.data.to_pybytes().strip())

    def without(self, number: int) -> Lines:
        """Return the text after a number of lines."""
        begin = _end_of_line(self.data.to_pybytes(), number)
        return Lines(self.data.slice(begin), self.line + number)

    def squeezed(self, pa: Any) -> Lines:
        """Return rows whose columns one space parts, where several may part these."""
        return Lines(_buffer(pa, _squeezed(self.data.to_pybytes())), self.line)

    def place(self, first: int, row: int, delimiter: str) -> str:
        """Return where a row is in the file, in words; `first` rows come before these."""
        records, line, at = csv.reader(self.text(), delimiter=delimiter), 0, -1
        with suppress(csv.Error):  # text that only pyarrow takes apart
            for record in records:
                at += bool(record)
                if at == row:
                    return f"row {first + row + 1} (line {self.line + line})"
                line = records.line_num
        return f"row {first + row + 1}"


def read_lines(
    path: Path, label: str, compression: str | None, delimiters: str, columns: int
) -> Generator[Lines, None, None]:
    """Yield the text of a file, cut where rows end; more at a time if there are many columns."""
    size = BLOCK_BYTES * (1 + columns // 1000)
    rest, line, newline = b"", 1, b""
    pa = pyarrow("", label)
    with pa.input_stream(str(path), compression=compression) as stream:
        while True:
            try:
                data = stream.read(size)
            except OSError as error:
                raise TableError(f"cannot read {label}: {first_line(error)}.") from error
            last = not data
            if not newline:
                rest, data = b"", (rest + data).removeprefix(b"\xef\xbb\xbf")
                newline = _newline(data)
            if last or newline not in data or b'"' in data or b'"' in rest:
                rest, data = b"", rest + data
            end = len(data)
            if not last:
                end = _end_of_rows(data, newline, delimiters) if newline else 0
            if end:
                text = _buffer(pa, rest, memoryview(data)[:end])
                yield Lines(text, line)
                line += int(
                    np.count_nonzero(np.frombuffer(text, np.uint8) == ord(newline or b"\n"))
                )
                rest = b""
            rest += data[end:]
            if last:
                return


def likely_delimiter(sample: Sequence[str]) -> str:
    """Return the most frequent delimiter that all lines hold equally often.

    Spaces are one only where the header has no other.
    """
    unquoted = [re.sub(r'"[^"]*"', "text", line) for line in sample]
    counts = {d: [line.count(d) for line in unquoted] for d in DELIMITERS}
    if not any(found[0] for found in counts.values()):
        return " " if len(unquoted[0].split()) > 1 else ","
    even = [d for d, found in counts.items() if found[0] and len(set(found)) == 1]
    return max(even or DELIMITERS, key=lambda d: counts[d][0])


def _squeezed(data: bytes) -> bytes:
    """Return lines whose columns one space parts."""
    return re.sub(rb"(?m)^ +| +(?=\r?$)|(?<= ) +", b"", data)


def _buffer(pa: Any, *pieces: Any) -> Any:
    """Return bytes in memory of pyarrow's own, which its threads may free."""
    copy = pa.BufferOutputStream()
    for piece in pieces:
        copy.write(piece)
    return copy.getvalue()


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
