"""Data frames and series as numbers and names, through narwhals (extra "frames")."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.advice import listed
from gdcore.data.missing import WAY_OUT, is_number, nan_for_nulls
from gdcore.data.unread import Unread, plain_column, plain_table, unread
from gdcore.typing import Names

BLOCK = 1 << 15  # numbers of a block of rows
_ARRAYS = (np.ndarray, list, tuple, int, float)


def as_numbers(
    given: Any, what: str, wanted: Names | None = None, missing: str | None = None
) -> tuple[Any, Names | None]:
    """Return the numbers of a data frame or series, and the names of its columns.

    Anything else is returned unchanged, with None. `wanted` names the columns to take from a frame
    and their order; None takes all of them. Nulls are NaN with ``missing="drop"`` and refused
    without; "error" says that the caller has a choice.
    """
    if given is None or type(given) is np.ndarray:  # by far the most frequent
        return given, None
    if isinstance(given, np.matrix):  # its products and rows have other shapes than an array's
        return np.asarray(given), None
    if isinstance(given, _ARRAYS):
        return given, None
    table = as_narwhals(given, what)
    if table is None:
        return given, None
    if not is_frame(table):
        name = table.name
        return column_as_floats(table, what, missing), None if name in (None, "") else (str(name),)
    names = names_of(table, what)
    wanted = names if wanted is None else wanted
    refuse_absent(wanted, names, what)
    table, names = in_memory(table, names, wanted)
    return floats_of(table, names, wanted, missing), wanted


def narwhals() -> Any:
    """Import narwhals; ImportError names the extra that brings it."""
    try:
        import narwhals.stable.v1 as nw
    except ImportError:
        raise ImportError(
            "data frames need the package narwhals: pip install 'gdcore[frames]', or pass arrays."
        ) from None
    return nw


def as_narwhals(given: Any, what: str) -> Any:
    """Return a data frame or series as narwhals wraps it; None if it is neither.

    Lazy frames and streams of Arrow come as `Unread`.
    """
    kind = type(given)
    is_array = hasattr(given, "__array__")
    is_stream = hasattr(kind, "__arrow_c_stream__") and not is_array
    is_table = hasattr(kind, "columns") or is_stream
    if not (is_table or hasattr(kind, "to_numpy")):
        return None
    try:
        nw = narwhals()
    except ImportError:
        if is_table:
            raise
        return None
    if kind.__module__.startswith("pyarrow"):
        given = _chunked(given)
    elif kind.__module__.startswith("narwhals"):  # of any of its versions
        given = given.to_native()
    try:
        return nw.from_native(given, eager_only=True, allow_series=True)
    except ValueError:  # narwhals refuses two columns of one name
        column_names(given, what)
        raise
    except TypeError:
        if is_array or not is_table:
            return None
    found = unread(given, what, nw)
    if found is None:
        call = next((name for name in ("compute", "toPandas") if hasattr(given, name)), "collect")
        raise TypeError(
            f"{what} is {kind.__name__}, whose rows are not in memory; pass {what}.{call}()."
        )
    return found


def is_frame(table: Any) -> bool:
    """Whether what `as_narwhals` returned has columns, and is not a series."""
    return isinstance(table, Unread) or hasattr(table, "columns")


def names_of(table: Any, what: str) -> Names:
    """Return the names of the columns as text; ValueError if two are the same."""
    if isinstance(table, Unread):
        return _unique(table.names, what)
    return column_names(table.to_native(), what)


def in_memory(table: Any, names: Names, wanted: Names) -> tuple[Any, Names]:
    """Return a frame in memory that holds the wanted columns, and the names of its columns."""
    return (table.read(wanted), wanted) if isinstance(table, Unread) else (table, names)


def _chunked(given: Any) -> Any:
    """Return a table or chunked array of pyarrow, which are all that narwhals knows."""
    import pyarrow

    if isinstance(given, pyarrow.RecordBatch):
        given = pyarrow.Table.from_batches([given])
    if isinstance(given, pyarrow.Table):
        return plain_table(given)
    if isinstance(given, pyarrow.Array):
        given = pyarrow.chunked_array([given])
    return plain_column(given) if isinstance(given, pyarrow.ChunkedArray) else given


def column_names(frame: Any, what: str) -> Names:
    """Return the names of a frame's columns as text; ValueError if two are the same."""
    given = frame.column_names if hasattr(type(frame), "column_names") else frame.columns
    return _unique(tuple(map(str, given)), what)


def _unique(names: Names, what: str) -> Names:
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"{what} has two columns {twice!r}; rename or drop one of them.")
    return names


def refuse_absent(wanted: Names, names: Names, what: str) -> None:
    """Raise ValueError if a frame lacks a column; it names the columns that there are."""
    known = set(names)
    absent = next((name for name in wanted if name not in known), None)
    if absent is not None:
        raise ValueError(
            f"{what} has no column {absent!r}; it needs {listed(wanted)} and has {listed(names)}: "
            "rename its columns, or pass an array, which goes by position."
        )


def floats_of(
    table: Any,
    names: Names,
    wanted: Names,
    missing: str | None = None,
    *,
    by_row: bool = False,
) -> npt.NDArray[Any]:
    """Return the wanted columns of a frame, in their order, as one array of floats.

    Its columns are contiguous; with `by_row` its rows are, which is how groups of rows are read.
    See `as_numbers` for `missing`.
    """
    place = {name: j for j, name in enumerate(names)}
    columns = [
        column_as_floats(table[:, place[name]], f"the column {name!r}", missing) for name in wanted
    ]
    if not columns:
        return np.empty((len(table), 0))
    dtype = np.result_type(*columns)
    native = table.to_native()
    if wanted == names and table.implementation.is_pandas() and set(native.dtypes) == {dtype}:
        block: npt.NDArray[Any] = native.to_numpy()  # often without a copy
        return block
    n, d = len(table), len(columns)
    out = np.empty((n, d), dtype, order="C" if by_row else "F")
    step = max(1024, BLOCK // d) if by_row else max(1, n)
    for begin in range(0, n, step):  # a block stays in a cache while all columns write to it
        rows = slice(begin, begin + step)
        for j, column in enumerate(columns):
            out[rows, j] = column[rows]
    return out


def column_as_floats(series: Any, what: str, missing: str | None = None) -> npt.NDArray[Any]:
    """Return a column as floats; ValueError names a column that holds nulls or other things.

    See `as_numbers` for `missing`.
    """
    dtype = series.dtype
    is_numeric = dtype.is_numeric() or str(dtype) == "Boolean"
    if not (is_numeric or str(dtype) in ("Object", "Unknown", "Categorical")):
        raise _not_numeric(series, what)
    if missing != "drop":
        refuse_nulls(series, what, "fill them", way_out=missing is not None)
    values = np.array(series.to_list()) if _numpy_errs(series) else series.to_numpy()
    if missing == "drop":
        values = nan_for_nulls(values)
        if is_numeric and not dtype.is_float() and values.dtype.kind == "f":
            return np.asarray(values, np.float64)  # small integers with nulls come as float32
    kind = values.dtype.kind
    if kind not in "biufO" or (kind == "O" and not all(map(is_number, values))):
        raise _not_numeric(series, what)
    if kind == "f":  # the caller refuses floats wider than float64, as in arrays
        return values.astype(np.float32) if values.dtype.itemsize == 2 else values
    try:
        return values.astype(np.float64)
    except OverflowError:
        raise ValueError(f"{what} holds numbers that float64 has no room for; scale it.") from None


def _numpy_errs(series: Any) -> bool:
    """Whether `to_numpy` gives other values than the column has."""
    dtype = str(series.dtype)
    coded = dtype == "Categorical" and series.implementation.is_pyarrow()  # whose nulls get lost
    return "Int128" in dtype or (coded and series.null_count() > 0)


def refuse_nulls(series: Any, what: str, remedy: str, *, way_out: bool) -> None:
    """Raise ValueError if a column holds nulls; it names the first row that does."""
    nulls = 0 if _is_complete(series) else int(series.null_count())
    if nulls:
        first = int(np.argmax(series.is_null().to_numpy()))
        advice = f"{remedy}, or {WAY_OUT}" if way_out else f"or {remedy}"
        raise ValueError(
            f"{what} has {nulls} missing value{'s' if nulls > 1 else ''}, the first in row {first} "
            f"(counted from 0); drop such rows, {advice}."
        )


def _is_complete(series: Any) -> bool:
    """Whether a column of pandas is NumPy's numbers or texts, none missing; pandas takes longer."""
    dtype = series.to_native().dtype if series.implementation.is_pandas() else None
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biufO":
        return False
    if dtype.kind == "O":
        return _core.holds_text(np.ascontiguousarray(series.to_native().to_numpy()))
    return dtype.kind != "f" or not np.isnan(series.to_numpy().min(initial=np.inf))


def _not_numeric(series: Any, what: str) -> ValueError:
    held = next((v for v in series.to_list() if not (v is None or is_number(v))), None)
    such = "" if held is None else f", such as {held!r}"
    leave = "leave it out, or " if what.startswith("the column") else ""
    return ValueError(f"{what} holds {series.dtype}{such}; {leave}encode it as numbers.")


def refuse_as_feature(
    X: npt.NDArray[Any], features: Names | None, name: Any, values: Any, what: str
) -> None:
    """Raise ValueError if a column of X has this name and these values.

    An equal name is not enough: pandas keeps it, for example when a column is shifted.
    """
    if features is None or name is None or str(name) not in features:
        return
    column = X[:, features.index(str(name))]
    given = np.asarray(values)
    if given.dtype.kind in "biuf" and np.array_equal(column, given):
        raise ValueError(f"{what} is also the column {str(name)!r} of X; leave it out of X.")
