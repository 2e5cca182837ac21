"""Rows whose group label is missing: NaN, NaT, NA or None, also in a tuple."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data.columns import as_narwhals, is_frame
from gdcore.data.labels import NEVER_MISSING, group_rows, is_missing_label, label_rows
from gdcore.typing import Bools, Ints


def label_known_rows(
    given: Any, n: int, n_threads: int
) -> tuple[Any, _core.GroupedRows | tuple[Ints, Ints]]:
    """Return what `label_rows` does; starts and order, if rows without a label are in no group."""
    labels, rows = labelled(given, n)
    if rows is None:
        return label_rows(labels, n)
    found, starts, order = group_rows(labels, len(rows), n_threads)
    return found, (starts, rows if order is None else rows[order])


def group_labelled_rows(given: Any, n: int, n_threads: int = 0) -> tuple[Any, Ints, Ints | None]:
    """Return what `group_rows` does; rows without a label are in no group."""
    found, rows = label_known_rows(given, n, n_threads)
    if isinstance(rows, tuple):
        return found, *rows
    return found, rows.starts, rows.order(n_threads)


def labelled(given: Any, n: int) -> tuple[Any, Ints | None]:
    """Return the labels that are not missing, and the numbers of their rows (None: all)."""
    missing = _missing_labels(given)
    plain = given.data if isinstance(given, np.ma.MaskedArray) else given
    if missing is None or missing.shape != (n,):  # which is refused where labels are read
        return plain, None
    rows = np.flatnonzero(~missing)
    if isinstance(given, Sequence):
        return [given[i] for i in rows.tolist()], rows
    series = as_narwhals(given, "groups")
    return plain[rows] if series is None else series[rows].to_native(), rows


def refuse_missing(given: Any, n: int, remedy: str) -> None:
    """Raise ValueError if a label is missing."""
    rows = labelled(given, n)[1]
    if rows is not None:
        first, count = int(np.setdiff1d(np.arange(n), rows)[0]), n - len(rows)
        raise ValueError(
            f"groups has {count} missing label{'s' if count > 1 else ''}, the first in row {first} "
            f"(counted from 0); drop such rows, or {remedy}."
        )


def missing_in_series(series: Any) -> Bools | None:
    """Return where a column, as narwhals wraps it, has no label; None if nowhere."""
    missing = series.is_null().to_numpy() if series.null_count() else None
    if series.dtype.is_float():
        return _either(missing, _missing_in_array(series.to_numpy()))
    if str(series.dtype) in ("Object", "Unknown"):
        return _either(missing, _missing_in_objects(series.to_list()))
    return missing


def _missing_labels(given: Any) -> Bools | None:
    if isinstance(given, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(given) if np.ma.is_masked(given) else None
        return _either(masked, _missing_in_array(given.data))
    if isinstance(given, np.ndarray):
        return _missing_in_array(given)
    if isinstance(given, Sequence):
        return None if isinstance(given, str | bytes | range) else _missing_in_objects(list(given))
    series = as_narwhals(given, "groups")
    if series is None or is_frame(series):
        return _missing_in_array(np.asarray(given))
    return missing_in_series(series)


def _missing_in_array(array: npt.NDArray[Any]) -> Bools | None:
    kind = array.dtype.kind
    if kind == "O" or (kind == "T" and hasattr(array.dtype, "na_object")):
        return _missing_in_objects(array.tolist()) if array.ndim == 1 else None
    if kind not in "fcmM" or not array.size:
        return None
    if kind == "f" and not np.isnan(array.min()):
        return None
    missing = np.isnan(array)
    return missing if missing.any() else None


def _missing_in_objects(labels: list[Any]) -> Bools | None:
    if NEVER_MISSING.issuperset(map(type, labels)):
        return None
    try:
        if not any(map(is_missing_label, dict.fromkeys(labels))):
            return None
    except TypeError:  # a label that cannot be hashed, which is refused where labels are read
        return None
    return np.fromiter(map(is_missing_label, labels), bool, len(labels))


def _either(a: Bools | None, b: Bools | None) -> Bools | None:
    if a is None or b is None:
        return a if b is None else b
    return a | b
