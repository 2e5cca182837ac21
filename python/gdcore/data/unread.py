"""Frames whose rows are not in memory yet: lazy frames and streams of Arrow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from gdcore.typing import Names


class Unread(NamedTuple):
    """The names of the columns, and a function that reads some of them, the rows in order."""

    names: Names
    read: Callable[[Names], Any]  # to a data frame in memory, as narwhals wraps it


def unread(given: Any, what: str, nw: Any) -> Unread | None:
    """Return a lazy frame or an Arrow stream; None for anything else.

    `nw` is narwhals. A stream is opened here, and read once.
    """
    frame = nw.from_native(given, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        if not frame.implementation.is_polars():
            return None
        names = _attempt(lambda: tuple(frame.collect_schema().names()), given, what)
        return Unread(names, lambda wanted: _attempt(frame.select(*wanted).collect, given, what))
    if not hasattr(type(given), "__arrow_c_stream__"):
        return None
    if frame is given:
        names, read = _stream(given, what)
    else:  # a database, which need not compute other columns
        names, read = tuple(frame.columns), partial(_projected, frame, what, nw)
    return Unread(names, lambda wanted: nw.from_native(read(wanted), eager_only=True))


def _projected(frame: Any, what: str, nw: Any, wanted: Names) -> Any:
    return _stream(nw.to_native(frame.select(*wanted)), what).read(wanted)


def _attempt(read: Callable[[], Any], given: Any, what: str) -> Any:
    """Return what `read` does; RuntimeError, with its error as the cause, if it fails."""
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise RuntimeError(
            f"{what} is {type(given).__name__}, and reading its rows failed: {said}"
        ) from error


def _stream(given: Any, what: str) -> Unread:
    """Open an Arrow stream by pyarrow, or by polars where that is installed alone."""
    try:
        import pyarrow
    except ImportError:
        return _stream_of_polars(given, what)
    reader = _attempt(lambda: pyarrow.RecordBatchReader.from_stream(given), given, what)

    def read(wanted: Names) -> Any:
        schema = pyarrow.schema([reader.schema.field(name) for name in wanted])
        batches = (batch.select(list(wanted)) for batch in reader)
        table = _attempt(lambda: pyarrow.Table.from_batches(batches, schema), given, what)
        return without_views(table)

    return Unread(tuple(reader.schema.names), read)


def without_views(table: Any) -> Any:
    """Return a table of pyarrow without views of text or bytes, of which Arrow takes no rows."""
    import pyarrow

    for j, kind in enumerate(table.schema.types):
        if str(kind) in ("string_view", "binary_view"):
            plain = pyarrow.large_string() if str(kind) == "string_view" else pyarrow.large_binary()
            table = table.set_column(j, table.schema.names[j], table.column(j).cast(plain))
    return table


def _stream_of_polars(given: Any, what: str) -> Unread:
    try:
        import polars
    except ImportError:
        raise ImportError(
            f"{what} is {type(given).__name__}, a stream of Arrow, which pyarrow or polars reads: "
            "pip install pyarrow."
        ) from None
    frame = _attempt(lambda: polars.DataFrame(given), given, what)
    return Unread(tuple(frame.columns), lambda wanted: frame.select(wanted))
