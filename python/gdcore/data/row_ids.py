"""Integers that are equal where labels are, by the library that holds the labels.

A hash table of pandas, Arrow or polars numbers two million texts in the time that Python takes to
look at them. No library is imported here: a column's own is loaded. Arrays have the core's table.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.typing import Ints

FEW = 512
BLOCK = 1 << 15  # rows whose numbers stay in a cache
RowIds = npt.NDArray[np.integer[Any]]


def column_ids(given: Any) -> RowIds | None:
    """Return an integer for each row of a column: equal ones only where the labels are equal.

    None for anything but a column of pandas, polars or Arrow, for numbers, which need no ids, and
    if a label is missing.
    """
    library = type(given).__module__.partition(".")[0]
    find = _LIBRARIES.get(library)
    return None if find is None else find(given)


def array_ids(array: npt.NDArray[Any]) -> RowIds | None:
    """Return the same for an array whose labels are equal where their bytes are, or for text.

    None for floats, which have two zeros, for objects that are not all text, which are equal by
    rules of their own, and for few rows, which are sorted sooner.
    """
    kind = array.dtype.kind
    if len(array) < FEW:
        return None
    if kind in "OT":
        return _core.text_ids(np.ascontiguousarray(array, object))
    plain = type(array) is np.ndarray and array.dtype.itemsize
    if not plain or kind not in "iuUSmM" or (kind in "mM" and np.isnat(array).any()):
        return None
    if len(array) >= 2**32 - 1:
        return None
    return _core.row_ids(np.ascontiguousarray(array).view(np.uint8).reshape(len(array), -1))


def taken(given: Any, rows: Ints) -> Any:
    """Return some rows of a column or array, in its library if that can."""
    if not hasattr(given, "take"):
        return given[rows]
    try:
        return given.take(rows)
    except NotImplementedError:  # Arrow's views of text
        return np.asarray(given)[rows]


def representatives(ids: RowIds) -> tuple[Ints, RowIds]:
    """Return the first row of each id, by id, and for each row the position of its id there.

    Ids are 0 or larger.
    """
    span = int(ids.max()) + 1
    if span > 4 * len(ids) + 1024:
        _, rows, places = np.unique(ids, return_index=True, return_inverse=True)
        return rows, places
    rows = np.full(span, -1)
    for begin in range((len(ids) - 1) // BLOCK * BLOCK, -1, -BLOCK):
        block = ids[begin : begin + BLOCK]  # of equal ids the last one written stays
        rows[block[::-1]] = np.arange(begin + len(block) - 1, begin - 1, -1)
    present = rows >= 0
    return rows[present], ids if present.all() else (np.cumsum(present) - 1)[ids]


def _of_pandas(given: Any) -> RowIds | None:
    dtype = getattr(given, "dtype", None)
    if dtype is None or isinstance(dtype, np.dtype):
        return None
    if str(dtype) == "category":
        ids = given.codes if hasattr(given, "codes") else given.cat.codes.to_numpy()
    else:
        ids = sys.modules["pandas"].factorize(given)[0]
    return None if ids.min(initial=0) < 0 else ids


def _of_polars(given: Any) -> RowIds | None:
    polars = sys.modules["polars"]
    dtype = getattr(given, "dtype", None)
    if dtype is None or given.null_count():
        return None
    if dtype == polars.String:
        return _of_polars_texts(given)
    if dtype not in (polars.Categorical, polars.Enum):
        return None
    ids: RowIds = given.to_physical().to_numpy()
    return ids


def _of_polars_texts(given: Any) -> RowIds:
    hashes = given.hash().to_numpy()
    ids = _core.row_ids(hashes.view(np.uint8).reshape(len(hashes), -1))
    rows, places = representatives(ids)
    if (given.gather(rows).gather(places) == given).all():  # no two texts have one hash
        return ids
    polars = sys.modules["polars"]
    of_column = [polars.Categories.random()] if hasattr(polars, "Categories") else []
    coded: RowIds = given.cast(polars.Categorical(*of_column)).to_physical().to_numpy()
    return coded


def _of_pyarrow(given: Any) -> RowIds | None:
    pyarrow = sys.modules["pyarrow"]
    if isinstance(given, pyarrow.Array):
        given = pyarrow.chunked_array([given])
    if not isinstance(given, pyarrow.ChunkedArray) or given.null_count:
        return None
    types, kind = pyarrow.types, given.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return None
    if types.is_dictionary(kind) and types.is_floating(kind.value_type):  # may hold NaN
        return None
    try:
        encoded = given if types.is_dictionary(kind) else given.dictionary_encode()
        chunks = encoded.unify_dictionaries().chunks
    except (pyarrow.ArrowNotImplementedError, pyarrow.ArrowInvalid):
        return None
    if not chunks or chunks[0].dictionary.null_count:
        return None
    parts = [chunk.indices.to_numpy(zero_copy_only=False) for chunk in chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


_LIBRARIES = {"pandas": _of_pandas, "polars": _of_polars, "pyarrow": _of_pyarrow}
