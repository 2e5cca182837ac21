"""Labels to groups of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gdcore import _core

Ints = npt.NDArray[np.int64]


def group_rows(given: Any, n: int, n_threads: int = 0) -> tuple[Any, Ints, Ints | None]:
    """Return the labels, each one's start in an order of the rows, and that (None: as they lie)."""
    array = _checked(given, n, "groups")
    low, span = _span(array)
    if not span:
        labels, codes = factorize(array, n)
        if not n:
            return labels, np.zeros(1, np.int64), None
        return labels, *_core.rows_by_group(codes, 0, len(labels), n_threads)
    wide, least = _as_int64(array, low)
    starts, order = _core.rows_by_group(wide, least, span, n_threads)
    present = np.diff(starts) > 0
    labels = np.flatnonzero(present).astype(array.dtype) + array.dtype.type(low)
    return labels, starts if present.all() else starts[np.append(present, True)], order


def factorize(given: Any, n: int, name: str = "groups") -> tuple[Any, Ints]:
    """Return the different labels, sorted where they can be, and for each row which it has."""
    array = _checked(given, n, name)
    if array.dtype.kind == "O":
        return _factorize_objects(array, name)
    missing = np.isnan(array) if array.dtype.kind in "fcmM" else np.zeros(n, bool)
    if missing.any():
        raise _missing(missing, name)
    low, span = _span(array)
    if span:
        return _factorize_integers(array, low, span)
    labels, codes = np.unique(array, return_inverse=True)
    return labels, codes.astype(np.int64).reshape(n)


def as_labels(given: Any) -> npt.NDArray[Any]:
    """Return labels of one type as its array, what NumPy would convert to another as objects."""
    if not isinstance(given, list | tuple):
        return np.asarray(given)
    try:
        array = np.asarray(given)
    except (ValueError, OverflowError):  # tuples of several lengths, very large numbers
        array = np.empty((0, 0))
    of_type = {int: "iu", float: "f", bool: "b", str: "U", bytes: "S"}
    types = {type(label) for label in given}
    if array.ndim == 1 and len(types) <= 1:
        (one,) = types or {float}
        if array.dtype.kind in of_type.get(one, array.dtype.kind):
            return array
    objects = np.empty(len(given), object)
    objects[:] = list(given)
    return objects


def _checked(given: Any, n: int, name: str) -> npt.NDArray[Any]:
    if isinstance(given, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost; drop those rows.")
    array = given if isinstance(given, np.ndarray) else as_labels(given)
    if array.shape != (n,):
        raise ValueError(
            f"{name} has shape {array.shape}; it must be ({n},), one label for each row of X."
        )
    return array


def _span(array: npt.NDArray[Any]) -> tuple[int, int]:
    """Return the least of integers and how many there are up to the largest; 0, 0 if too many."""
    if array.dtype.kind not in "iub" or not len(array):
        return 0, 0
    low, high = int(array.min()), int(array.max())
    return (low, high - low + 1) if high - low <= 4 * len(array) + 1024 else (0, 0)


def _as_int64(array: npt.NDArray[Any], low: int) -> tuple[Ints, int]:
    """Return integers as int64, and the least of them there: uint64 may have to be moved.

    They are a copy, which nobody else changes while rows are sorted by them.
    """
    if array.dtype.kind == "u" and array.dtype.itemsize == 8:
        return (array - array.dtype.type(low)).astype(np.int64), 0
    return array.astype(np.int64), low


def _factorize_integers(array: npt.NDArray[Any], low: int, span: int) -> tuple[Any, Ints]:
    wide, least = _as_int64(array, low)
    at = wide - least
    present = np.bincount(at, minlength=span) > 0
    labels = np.flatnonzero(present).astype(array.dtype) + array.dtype.type(low)
    return labels, at if present.all() else (np.cumsum(present) - 1)[at].astype(np.int64)


def _factorize_objects(array: npt.NDArray[Any], name: str) -> tuple[Any, Ints]:
    missing = np.array([label is None or label != label for label in array], bool)
    if missing.any():
        raise _missing(missing, name)
    try:
        found = dict.fromkeys(array)
    except TypeError as error:
        raise TypeError(
            f"a group label cannot be hashed ({error}); use tuples or strings."
        ) from None
    try:
        ordered = sorted(found)
    except TypeError:  # of several types: as they come
        ordered = list(found)
    place = {label: i for i, label in enumerate(ordered)}
    labels = np.empty(len(ordered), object)
    labels[:] = ordered
    return labels, np.fromiter((place[label] for label in array), np.int64, len(array))


def _missing(missing: npt.NDArray[np.bool_], name: str) -> ValueError:
    return ValueError(
        f"{name} has {int(missing.sum())} missing labels, the first in row "
        f"{int(np.flatnonzero(missing)[0])}; drop those rows, or give them a label of their own."
    )
