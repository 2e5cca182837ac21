"""Labels of groups: columns of X, or given beside it; and the group that each row belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import narwhals.stable.v1 as nw  # scikit-learn needs it, too
import numpy as np
import numpy.typing as npt
from sklearn.utils import assert_all_finite

from gdcore.advice import listed
from gdcore.data.labels import as_labels, factorize
from gdcore.data.missing_labels import labelled, refuse_missing
from gdcore.results import lookup
from gdcore.results.lookup import Place
from gdcore.results.prediction import UNKNOWN
from gdcore.typing import Ints


def is_frame(X: Any) -> bool:
    """Whether X is a data frame of a library that narwhals knows."""
    return bool(nw.dependencies.is_into_dataframe(X)) and not isinstance(X, np.ndarray)


def _table(X: Any) -> Any:
    return nw.from_native(X, eager_only=True)


def as_list(groups: Any) -> list[Any]:
    """Return one column, or several, as a list."""
    one = isinstance(groups, str) or not isinstance(groups, Sequence | np.ndarray)
    return [groups] if one else list(groups)


def positions_of(groups: Any, X: Any) -> list[int]:
    """Return the positions of the columns with the labels; ValueError names one that is not there.

    Text is a name and a whole number a position, as in ``sklearn.compose.ColumnTransformer``.
    """
    names = list(map(str, _table(X).columns)) if is_frame(X) else None
    count, found = X.shape[1], []
    for column in as_list(groups):
        if isinstance(column, str):
            if names is None:
                raise ValueError(
                    f"groups names the column {column!r}, and X is an array without names; pass "
                    "the number of the column, or a data frame."
                )
            if column not in names:
                raise ValueError(f"X has no column {column!r}; it has {listed(tuple(names))}.")
            found.append(names.index(column))
        elif isinstance(column, bool | np.bool_) or not isinstance(column, int | np.integer):
            raise TypeError(
                f"groups holds {column!r}; name columns of X by text or by whole numbers."
            )
        elif not -count <= column < count:
            raise ValueError(f"groups names column {column}; X has {count} columns.")
        else:
            found.append(int(column) % count)
    if len(set(found)) < len(found) or not found:
        raise ValueError(f"groups is {groups!r}; name at least one column, and each once.")
    return found


def split(X: Any, columns: list[int]) -> tuple[Any, list[Any]]:
    """Return the columns of X that are features, and those that hold the labels."""
    if not is_frame(X):
        return np.delete(X, columns, axis=1), [X[:, j] for j in columns]
    table = _table(X)
    found = [table[:, j].to_native() for j in columns]
    keep = [j for j in range(X.shape[1]) if j not in columns]
    if not keep:  # a frame without columns forgets its rows
        return np.empty((len(X), 0)), found
    return table[:, keep].to_native(), found


def checked(given: Any, n: int, may_miss: bool) -> Any:
    """Return a column of labels; errors name a missing one, infinity and what has no hash.

    With `may_miss`, labels may be missing, but as scikit-learn demands not in an array of floats.
    """
    is_series = nw.dependencies.is_into_series(given)  # reading it as it is costs less
    column = given if is_series or isinstance(given, np.ndarray) else as_labels(given)
    shape = (len(column),) if is_series else column.shape
    if shape != (n,):
        raise ValueError(
            f"groups has shape {shape}; it must be ({n},), one label for each row of X."
        )
    if not is_series and column.dtype.kind == "f":
        assert_all_finite(column, input_name="groups")
    if not may_miss:
        refuse_missing(column, n, "give them a label of their own")
    if not is_series and column.dtype.kind == "O":
        try:
            set(column.tolist())
        except TypeError as error:
            raise TypeError(
                f"groups holds a label that cannot be hashed ({error}); a label in this argument "
                "must be a string, a number or another hashable object."
            ) from None
    return column


def as_array(column: Any) -> npt.NDArray[Any]:
    """Return a column of labels as an array."""
    return column if isinstance(column, np.ndarray) else as_labels(column)


def row_labels(columns: list[Any], n: int) -> Any:
    """Return the label of each row: that of the column, or a tuple of those of several."""
    if len(columns) == 1:
        return columns[0]
    labels, codes = distinct(columns, n)
    return labels[codes]


def distinct(columns: list[Any], n: int) -> tuple[npt.NDArray[Any], Ints]:
    """Return the different labels of rows, and for each row the number of its label."""
    labels, codes = factorize(columns[0], n)
    if len(columns) == 1:
        return labels, codes
    levels, parts = [labels], [codes]
    for column in columns[1:]:
        level, part = factorize(column, n)
        levels.append(level)
        parts.append(part)
        codes = np.unique(codes * max(len(level), 1) + part, return_inverse=True)[1]
    rows = np.unique(codes, return_index=True)[1]  # the first one of each label
    tuples = np.empty(len(rows), object)
    parts_of = [lev[p[rows]].tolist() for lev, p in zip(levels, parts, strict=True)]
    tuples[:] = list(zip(*parts_of, strict=True))
    return tuples, codes


def find(
    places: Place, groups: npt.NDArray[Any], columns: list[Any], n: int
) -> tuple[Ints, npt.NDArray[Any]]:
    """Return the number of each row's group, `UNKNOWN` if there is none, and the unknown labels."""
    gaps = [rows for column in columns if (rows := labelled(column, n)[1]) is not None]
    rows = reduce(np.intersect1d, gaps) if gaps else np.arange(n)
    if gaps:
        columns = [as_array(column)[rows] for column in columns]
    labels, codes = distinct(columns, len(rows))
    of_label = lookup.find(groups, places, labels)
    at = np.full(n, UNKNOWN)
    at[rows] = of_label[codes]
    return at, labels[of_label == UNKNOWN]
