"""Labels to groups of rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data.missing import WAY_OUT
from gdcore.data.row_ids import FEW, RowIds, array_ids, column_ids, representatives, taken
from gdcore.typing import Ints

MOST_BYTES = 1 << 26  # a larger text in fixed width is sorted as Python's objects
MOST_LETTERS = 32  # of text that is sorted as numbers
NEVER_MISSING = frozenset((str, bytes, int, bool))


def group_rows(
    given: Any, n: int, n_threads: int = 0, name: str = "groups"
) -> tuple[Any, Ints, Ints | None]:
    """Return labels, group starts, and the row order (None if rows are already grouped)."""
    labels, rows = label_rows(given, n, name)
    return labels, rows.starts, rows.order(n_threads)


def label_rows(given: Any, n: int, name: str = "groups") -> tuple[Any, _core.GroupedRows]:
    """Return the different labels, sorted if they can be, and their rows, which are not yet."""
    column, ids = _read(given, n, name)
    low, span = _span(column) if ids is None else (0, 0)
    if span:
        wide, least = _as_int64(column, low)
        occur, rows = _core.rows_by_label(wide, least, span)
        codes = np.arange(span) if occur is None else occur
        return codes.astype(column.dtype) + column.dtype.type(low), rows
    if ids is None and _are_far_apart(column):
        different = _core.DifferentLabels(column.astype(np.int64, copy=False))
        labels = different.labels().astype(column.dtype, copy=False)
        order = np.argsort(labels)
        rank = np.empty(len(order), np.uint32)
        rank[order] = np.arange(len(order), dtype=np.uint32)
        return labels[order], different.rows(rank)
    labels, codes = _factorized(column, ids, name)
    labels = _fixed_width(labels) if isinstance(given, Sequence) else labels
    return labels, _core.rows_by_label(codes, 0, max(1, len(labels)))[1]


def factorize(given: Any, n: int, name: str = "groups") -> tuple[Any, Ints]:
    """Return the different labels, sorted if they can be, and the label number of each row."""
    column, ids = _read(given, n, name)
    low, span = _span(column) if ids is None else (0, 0)
    return _factorize_integers(column, low, span) if span else _factorized(column, ids, name)


def _read(given: Any, n: int, name: str) -> tuple[Any, RowIds | None]:
    """Return the labels and an id for each row; if there are no ids, the labels are an array."""
    ids = column_ids(given) if n else None
    if ids is not None and len(ids) == n:
        return given, ids
    return _checked(given, n, name), None


def _factorized(column: Any, ids: RowIds | None, name: str) -> tuple[Any, Ints]:
    ids = array_ids(column) if ids is None else ids
    if ids is None:
        return _factorized_array(column, name)
    rows, places = representatives(ids)
    order = np.argsort(rows)  # labels that cannot be sorted keep the order of the rows
    one_each = _checked(taken(column, rows[order]), len(rows), name)
    labels, codes = _factorized_texts(one_each) or _factorized_array(one_each, name)
    of_place = np.empty(len(rows), np.int64)
    of_place[order] = codes
    return labels, of_place[places]


def _factorized_texts(array: npt.NDArray[Any]) -> tuple[Any, Ints] | None:
    """Return what `_factorized_array` does of labels that nearly all differ, if they are text."""
    fixed = _fixed_width(array) if array.dtype.kind == "O" else array
    if fixed.dtype.kind != "U" or fixed.nbytes > MOST_BYTES:
        return None
    keys = _sort_keys(fixed)
    order = np.argsort(fixed, kind="stable") if keys is None else np.lexsort(keys)
    fixed = fixed[order]
    differs = np.ones(len(fixed), bool)
    differs[1:] = fixed[1:] != fixed[:-1]
    codes = np.empty(len(fixed), np.int64)
    codes[order] = np.cumsum(differs) - 1
    return array[order[differs]], codes


def _sort_keys(fixed: npt.NDArray[Any]) -> npt.NDArray[np.uint64] | None:
    """Return numbers that sort as short text in fixed width does: eight letters each, last first.

    NumPy sorts them in a fraction of the time of text. None if a letter takes more than a byte.
    """
    width = fixed.dtype.itemsize // 4
    points = np.ascontiguousarray(fixed, f"=U{width}").view(np.uint32).reshape(len(fixed), width)
    if width > MOST_LETTERS or points.max(initial=0) > 255:
        return None
    letters = np.zeros((len(fixed), -(-width // 8) * 8), np.uint8)
    letters[:, :width] = points
    return letters.view(">u8").astype(np.uint64).T[::-1]


def _factorized_array(array: npt.NDArray[Any], name: str) -> tuple[Any, Ints]:
    if array.dtype.kind == "T":
        labels, codes = _factorize_objects(array.astype(object), name)
        return labels.astype(array.dtype), codes
    if array.dtype.kind == "O":
        return _factorize_objects(array, name)
    if array.dtype.kind in "fcmM":
        missing = np.isnan(array)
        if missing.any():
            raise _missing(missing, name)
    labels, codes = np.unique(array, return_inverse=True)
    return labels, codes.astype(np.int64).reshape(len(array))


def as_labels(given: Any) -> npt.NDArray[Any]:
    """Return labels as an array; of Python objects where NumPy would change a label."""
    if not isinstance(given, Sequence) or isinstance(given, str | bytes | range):
        return np.asarray(as_objects(values_of(given)) if _changes_in_numpy(given) else given)
    types = set(map(type, given))
    if len(types) <= 1:
        (one,) = types or {float}
        kinds = {int: "iu", float: "f", bool: "b"}.get(one, "iufbcmM")
        if one in (int, float, bool) or issubclass(one, np.generic):
            array = np.asarray(given)
            if array.dtype.kind in kinds:
                return array
    return as_objects(given)


def as_objects(values: Sequence[Any]) -> npt.NDArray[Any]:
    """Return an array of Python objects; tuples are not spread over dimensions."""
    array = np.empty(len(values), object)
    array[:] = values if isinstance(values, list) else list(values)
    return array


def _changes_in_numpy(given: Any) -> bool:
    """Whether NumPy changes labels of Arrow or polars: it drops time zones and trailing NULs."""
    dtype = getattr(given, "type", getattr(given, "dtype", None))
    zone = getattr(dtype, "tz", getattr(dtype, "time_zone", None))
    return isinstance(zone, str) or str(dtype) in ("String", "Int128", "UInt128")


def values_of(given: Any) -> list[Any]:
    """Return the values of a column of Arrow, polars or pandas as Python objects."""
    if "ns" in str(getattr(given, "dtype", "")) and hasattr(given, "to_arrow"):
        given = given.to_arrow()  # polars would cut nanoseconds off, Arrow does not
    values: list[Any] = given.to_pylist() if hasattr(given, "to_pylist") else given.to_list()
    return values


def _fixed_width(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return text or bytes in NumPy's fixed width, unless it loses NULs or takes much memory."""
    values: list[Any] = labels.tolist()
    types = set(map(type, values))
    width = max(1, *map(len, values)) if types in ({str}, {bytes}) else 257
    if width > 256:
        return labels
    is_text = types == {str}
    fixed = labels.astype(f"{'U' if is_text else 'S'}{width}")
    holds_nul = "\0" in "".join(values) if is_text else b"\0" in b"".join(values)
    return labels if holds_nul and fixed.tolist() != values else fixed


def _checked(given: Any, n: int, name: str) -> npt.NDArray[Any]:
    if isinstance(given, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be lost; drop those rows, or {WAY_OUT}."
        )
    array = given if isinstance(given, np.ndarray) else as_labels(given)
    if not array.ndim:
        raise TypeError(f"{name} is {type(given).__name__}; pass a list, one label for each row.")
    if array.shape != (n,):
        raise ValueError(
            f"{name} has shape {array.shape}; it must be ({n},), one label for each row of X."
        )
    return array


def _span(array: npt.NDArray[Any]) -> tuple[int, int]:
    """Return the least of integers and the size of their range; 0, 0 if that is too large."""
    if array.dtype.kind not in "iub" or not len(array):
        return 0, 0
    low, high = int(array.min()), int(array.max())
    return (low, high - low + 1) if high - low <= 4 * len(array) + 1024 else (0, 0)


def _are_far_apart(array: npt.NDArray[Any]) -> bool:
    """Whether labels are integers, and so many that a hash table numbers them sooner."""
    return type(array) is np.ndarray and array.dtype.kind in "iu" and FEW <= len(array) < 2**32 - 1


def _as_int64(array: npt.NDArray[Any], low: int) -> tuple[Ints, int]:
    """Return integers as int64, and the least of them: uint64 may have to be shifted."""
    if array.dtype.kind == "u" and array.dtype.itemsize == 8:
        return (array - array.dtype.type(low)).astype(np.int64), 0
    return array.astype(np.int64, copy=False), low


def _factorize_integers(array: npt.NDArray[Any], low: int, span: int) -> tuple[Any, Ints]:
    wide, least = _as_int64(array, low)
    at = wide - least
    present = np.bincount(at, minlength=span) > 0
    labels = np.flatnonzero(present).astype(array.dtype) + array.dtype.type(low)
    return labels, at if present.all() else (np.cumsum(present) - 1)[at].astype(np.int64)


def _factorize_objects(array: npt.NDArray[Any], name: str) -> tuple[Any, Ints]:
    given = array.tolist()
    keys = keys_of(given)
    try:
        found: dict[Any, Any] = dict.fromkeys(keys)
    except TypeError as error:
        raise TypeError(
            f"a group label cannot be hashed ({error}); use tuples or strings."
        ) from None
    if not NEVER_MISSING.issuperset(map(type, found)) and any(map(is_missing_label, found)):
        raise _missing(np.array([is_missing_label(label) for label in given], bool), name)
    try:
        ordered = sorted(found)
    except TypeError:  # labels of several types keep the order of the rows
        ordered = list(found)
    place = {key: i for i, key in enumerate(ordered)}
    if keys is not given:  # return labels, the first one of each key
        found.update(zip(reversed(keys), reversed(given), strict=True))
        ordered = list(map(found.__getitem__, ordered))
    return as_objects(ordered), np.fromiter(map(place.__getitem__, keys), np.int64, len(keys))


def keys_of(labels: list[Any]) -> list[Any]:
    """Return a key for each label: the label, or the instant of a datetime with a time zone.

    In Python the two hours that a zone has for one in autumn are equal, though they are not, and
    neither equals the same instant in another library.
    """
    types = set(map(type, labels))
    if tuple in types:
        types.update(
            chain.from_iterable(map(type, label) for label in labels if type(label) is tuple)
        )
    return list(map(_key, labels)) if any(issubclass(t, datetime) for t in types) else labels


def _key(label: Any) -> Any:
    if type(label) is tuple:
        return tuple(map(_key, label))
    return label.astimezone(UTC) if isinstance(label, datetime) and label.tzinfo else label


def is_missing_label(label: Any) -> bool:
    """Whether a label, or a part of a tuple, is None or does not equal itself: NaN, NaT, NA."""
    if isinstance(label, tuple):
        return any(map(is_missing_label, label))
    try:
        return label is None or bool(label != label)
    except TypeError:  # pandas.NA is neither equal nor not
        return True


def _missing(missing: npt.NDArray[np.bool_], name: str) -> ValueError:
    rows = np.flatnonzero(missing)
    return ValueError(
        f"{name} has {len(rows)} missing label{'s' if len(rows) > 1 else ''}, the first in row "
        f"{rows[0]}; drop such rows, give them a label of their own, or {WAY_OUT}."
    )


def problem_name(labels: Any, i: int) -> str:
    """Return a problem's name in messages: its label, or else its number."""
    if labels is None:
        return f"problem {i}"
    return f"group {label_name(labels, i)}"


def label_name(labels: npt.NDArray[Any], i: int) -> str:
    """Return a label as messages show it."""
    label = labels[i : i + 1]
    return str(label[0]) if label.dtype.kind in "mM" else repr(label.tolist()[0])
