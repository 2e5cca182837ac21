"""Many fits as a data frame: one row a problem."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from itertools import product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gdcore.data.columns import narwhals
from gdcore.typing import Ints, Names

LIBRARIES = ("pandas", "polars", "pyarrow")
Library = Literal["pandas", "polars", "pyarrow"]
Columns = dict[str, Any]


def rows_of(frame: Any, at: Ints) -> Any:
    """Return some rows of a frame, in its library."""
    nw = narwhals()
    table = nw.from_native(frame, eager_only=True)
    return nw.to_native(nw.maybe_reset_index(table[at]))


def parameter_columns(kind: str, names: Iterable[Any], values: npt.NDArray[Any]) -> Columns:
    """Return a column for each named parameter; of several targets, one for each of them.

    The values have shape (count, p) or (count, p, t). A name is all of the column's without a kind.
    """
    named = [f"{kind}_{name}" if kind else name for name in names]
    if values.ndim == 3:
        named = [f"{name}_{j}" for name, j in product(named, range(values.shape[2]))]
        values = values.reshape(len(values), -1)
    return dict(zip(named, values.T, strict=True))


def status_column(statuses: npt.NDArray[Any]) -> npt.NDArray[np.str_]:
    """Return the names of statuses, as text even if there are none."""
    return np.array([status.name for status in statuses.tolist()], np.str_)


def refuse_two_intercepts(fit: Any) -> None:
    """Raise ValueError if two standard errors of a fit have one name."""
    has_both = fit.fit_intercept and "intercept" in (fit.feature_names or ())
    if has_both and fit.inference is not None:
        raise ValueError(
            "the feature 'intercept' and the intercept both have a column 'stderr_intercept'; "
            "rename the feature before the fit."
        )


def columns_of_labels(
    labels: npt.NDArray[Any] | None, names: Names | None, numbers: Ints
) -> Columns:
    """Return the columns that name the problems: their labels, or else their numbers."""
    if labels is None:
        return {"problem": numbers}
    if names is None or len(names) == 1:
        return {"group" if names is None else names[0]: labels}
    parts = zip(*labels.tolist(), strict=True) if len(numbers) else ([],) * len(names)
    return {name: list(part) for name, part in zip(names, parts, strict=True)}


def table_of(keys: Any, results: Columns, library: str | None) -> Any:
    """Return a frame of keys, then of results.

    The keys are a frame, whose dtypes and library are kept, or columns by name.
    """
    if library not in (None, *LIBRARIES):
        raise ValueError(f"library is {library!r}; it must be one of {', '.join(LIBRARIES)}.")
    nw = narwhals()
    if isinstance(keys, dict):
        library = library or LIBRARIES[0]
        module = _module(library)
        table = nw.from_dict({n: _column(n, keys[n], library) for n in keys}, backend=module)
    else:
        table = _in_library(nw.from_native(keys, eager_only=True), library)
    clash = [name for name in table.columns if name in results]
    if clash:
        raise ValueError(
            f"the column {clash[0]!r} of by has the name of a result; rename it before the fit."
        )
    backend = nw.get_native_namespace(table)
    made = (nw.new_series(name, values, backend=backend) for name, values in results.items())
    return nw.to_native(table.with_columns(*made))


def _in_library(table: Any, library: str | None) -> Any:
    """Return a frame of narwhals as one of a library."""
    if library is None or library == table.implementation.value:
        return table
    _module(library)
    convert = {"pandas": "to_pandas", "polars": "to_polars", "pyarrow": "to_arrow"}[library]
    try:
        converted = getattr(table, convert)()
    except Exception as error:  # libraries raise many kinds
        raise TypeError(f"{library} cannot hold the labels ({error}); leave library out.") from None
    return narwhals().from_native(converted, eager_only=True)


def _module(library: str) -> Any:
    try:
        return import_module(library)
    except ImportError:
        others = " or ".join(repr(name) for name in LIBRARIES if name != library)
        raise ImportError(
            f"the package {library} is not there: pip install {library}, or pass library={others}."
        ) from None


def _column(name: str, labels: Any, library: str) -> Any:
    """Return labels as a series of narwhals."""
    if isinstance(labels, np.ndarray):
        kind = labels.dtype.kind
        unit = np.datetime_data(labels.dtype)[0] if kind in "mM" else ""
        if unit not in ("", "ms", "us", "ns") and (kind, unit) != ("M", "D"):
            whole_days = kind == "M" and unit in "YMW"
            labels = labels.astype(f"{kind}8[{'D' if whole_days else 'ms'}]")
        labels = labels.tolist() if kind == "O" else labels
    try:
        return narwhals().new_series(name, labels, backend=_module(library))
    except Exception as error:  # libraries raise many kinds
        raise TypeError(
            f"{library} cannot hold the labels in one column ({error}); pass library='pandas'."
        ) from None
