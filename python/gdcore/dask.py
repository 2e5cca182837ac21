"""Fits of Dask's arrays and frames and of xarray's datasets (extra "dask").

`fit` sums every partition where its rows are, and adds the sums up in a tree. `fit_groups` brings
the rows of a group together by Dask's shuffle. `fit_map` fits a model a pixel.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import gdcore as gd
from gdcore.advice import listed
from gdcore.data.exact_sums import ExactSums
from gdcore.data.problem import make_problem

try:
    import dask.array as da
    import dask.dataframe as dd
    import pandas as pd
except ImportError as error:
    raise ImportError(
        "gdcore.dask needs Dask with arrays and data frames: pip install 'gdcore[dask]'."
    ) from error

if TYPE_CHECKING:
    from gdcore.sgd import SGD

__all__ = ["fit", "fit_groups", "fit_map"]

BRANCHES = 8  # sums that one task of the tree adds up
PLACE = "_gdcore_place"  # the column of the rows' order


def fit(
    X: Any,
    y: Any = None,
    sgd: SGD | None = None,
    *,
    target: str | None = None,
    features: Sequence[str] | None = None,
    offset: Any = None,
    sample_weight: Any = None,
    **options: Any,
) -> gd.Fit:
    """Fit one linear model to all rows of a Dask array or data frame.

    Each partition becomes its second moments, which are added without rounding errors: no bit of
    the answer depends on the partitions, their order, the workers or the scheduler. Workers send
    each other sums of products, about 15 (d + 2)**2 bytes at a time, and no rows.

    Parameters
    ----------
    X : dask.array.Array, shape (n, d), or dask.dataframe.DataFrame
    y : dask.array.Array, shape (n,) or (n, t), or Series
        Chunks of an array are made to match those of X. Leave it out if `target` names it.
    sgd : SGD, optional
        Descend on the moments; the least-squares solution without it.
    target, features : str, list of str, optional
        Columns of a data frame; the features are all other columns by default.
    offset, sample_weight : dask.array.Array, Series or str, optional
        One entry a row, or the name of a column.
    **options
        As for `gdcore.Moments.fit`: `epochs`, `fit_intercept`, `standardize`, `init`, `tol`,
        `method`, ...

    Returns
    -------
    Fit
        With the names of a data frame's columns.

    Raises
    ------
    TypeError
        If X is neither an array nor a data frame of Dask.
    ValueError
        If lengths or partitions differ, rows hold NaN or infinity, or an option is out of range.

    Examples
    --------
    >>> import dask.array as da
    >>> import gdcore.dask
    >>> X = da.arange(6.0, chunks=2)[:, None]
    >>> fit = gdcore.dask.fit(X, 2 * X[:, 0] + 1)
    >>> print(fit.status, fit.weights.round(3), fit.intercept.round(3))
    CONVERGED [2.] 1.0
    """
    if isinstance(X, dd.DataFrame):
        parts, d, t = _sums_of_frame(X, y, target, features, offset, sample_weight)
    elif isinstance(X, da.Array):
        if y is None or target is not None or features is not None:
            raise ValueError("X is a Dask array; pass y, and neither target= nor features=.")
        parts, d, t = _sums_of_array(X, y, offset, sample_weight)
    else:
        raise TypeError(
            f"X is {type(X).__name__}; pass a Dask array or data frame, or use gdcore.fit for rows "
            "in memory."
        )
    with warnings.catch_warnings():  # wrong options are refused before the rows are read
        warnings.simplefilter("ignore")
        gd.Moments(d, t).fit(sgd, **options | {"progress": False})
    total = np.asarray(parts.sum(split_every=BRANCHES).compute(), object).item()
    return gd.Moments.of(total.statistics()).fit(sgd, **options)


def fit_groups(
    frame: Any,
    sgd: SGD | None = None,
    *,
    target: str,
    features: str | Sequence[str],
    by: str | Sequence[str],
    offset: str | None = None,
    sample_weight: str | None = None,
    **options: Any,
) -> Any:
    """Fit a linear model to each group of rows of a Dask data frame.

    Dask's shuffle brings the rows of a group together, and each partition is one call of
    `gdcore.fit_groups`. Every group has the bits of that call on all rows in memory. A partition of
    the shuffled rows must fit into a worker's memory, and so must the largest group.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
    sgd : SGD, optional
        The least-squares solution without it.
    target : str
    features, by : str or list of str
        Columns: the features, and the ones whose labels form the groups.
    offset, sample_weight : str, optional
        Columns with one entry a row.
    **options
        As for `gdcore.fit_groups`. `n_threads` is 1 by default, as Dask has threads of its own.

    Returns
    -------
    dask.dataframe.DataFrame
        One row a group, in no order: the columns of `by`, ``weight_<feature>``, ``intercept``,
        ``loss``, ``rows`` and ``status``. Bad groups are known by their status: workers do not
        warn.

    Raises
    ------
    TypeError
        If the frame is not one of Dask.
    ValueError
        If a column is not there, or an option is out of range; in a worker, if a label is missing.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> import gdcore.dask
    >>> rows = {"sensor": list("abab"), "x": [0.0, 0.0, 1.0, 1.0], "y": [1.0, 5.0, 3.0, 5.0]}
    >>> frame = dd.from_dict(rows, npartitions=2)
    >>> answer = gdcore.dask.fit_groups(frame, target="y", features="x", by="sensor")
    >>> answer.compute().sort_values("sensor")[["sensor", "weight_x"]].round(3).values.tolist()
    [['a', 2.0], ['b', 0.0]]
    """
    if not isinstance(frame, dd.DataFrame):
        raise TypeError(
            f"frame is {type(frame).__name__}; pass a Dask data frame, or use gdcore.fit_groups "
            "for rows in memory."
        )
    columns = _Columns(target, _names(features), _names(by), offset, sample_weight)
    columns.check("by")
    _check_columns(frame, columns.all())
    frame, how = frame[columns.all()], {"sgd": sgd, "n_threads": 1} | options
    meta = _fit_rows(_with_place(frame._meta), columns, how)  # which also checks the options
    rows = frame.map_partitions(_with_place, meta=_with_place(frame._meta))
    rows = rows.shuffle(on=list(columns.by))
    return rows.map_partitions(_fit_rows, columns, how, meta=meta)


def fit_map(
    dataset: Any,
    sgd: SGD | None = None,
    *,
    target: str,
    features: str | Sequence[str],
    dim: str = "time",
    offset: str | None = None,
    sample_weight: str | None = None,
    **options: Any,
) -> Any:
    """Fit a linear model along one dimension of an xarray dataset, at each point of all others.

    Datasets in chunks are fitted chunk by chunk by Dask when the answer is computed, each with the
    bits of the same dataset in memory.

    Parameters
    ----------
    dataset : xarray.Dataset
        Chunks may cut every dimension; those along `dim` are joined.
    sgd : SGD, optional
        The least-squares solution without it.
    target : str
        Variable to predict, with the dimension `dim`.
    features : str or list of str
        Variables or coordinates with the dimension `dim`. One without other dimensions, such as a
        trend or a season, is shared by all points.
    dim : str
        Dimension of the rows.
    offset, sample_weight : str, optional
        Variables with the dimension `dim`.
    **options
        As for `gdcore.fit` of many problems.

    Returns
    -------
    xarray.Dataset
        ``weights`` with the new dimension ``feature``, ``intercept``, ``loss``, ``status`` (the
        attributes flag_values and flag_meanings explain its codes) and ``rank`` (-1 after a
        descent). A point with NaN or infinity is INVALID, has weights NaN and spoils no other.

    Raises
    ------
    ImportError
        If xarray is not installed.
    TypeError
        If the dataset is not one of xarray.
    ValueError
        If a variable is not there or has no dimension `dim`, or an option is out of range.

    Examples
    --------
    >>> import xarray as xr
    >>> import gdcore.dask
    >>> t = xr.DataArray([0.0, 1.0, 2.0], dims="time")
    >>> slope = xr.DataArray([1.0, -2.0], dims="x")
    >>> answer = gdcore.dask.fit_map(
    ...     xr.Dataset({"t": t, "y": slope * t + 3}), target="y", features="t"
    ... )
    >>> answer.weights.values.round(3).tolist(), answer.status.values.tolist()
    ([[1.0], [-2.0]], [0, 0])
    """
    try:
        import xarray as xr
    except ImportError:
        raise ImportError("fit_map needs xarray: pip install 'gdcore[dask]'.") from None
    if not isinstance(dataset, xr.Dataset):
        raise TypeError(f"dataset is {type(dataset).__name__}; pass an xarray.Dataset.")
    columns = _Columns(target, _names(features), (), offset, sample_weight)
    columns.check()
    names = [target, *columns.features, *columns.extra().values()]
    for name in names:
        if name not in dataset.variables:
            raise ValueError(f"dataset has no variable {name!r}; it has {listed(dataset)}.")
        if dim not in dataset[name].dims:
            raise ValueError(
                f"{name!r} has the dimensions {listed(dataset[name].dims)}; it needs {dim!r}: pass "
                "dim=, or a variable with it."
            )
    arrays = [dataset[name].reset_coords(drop=True) for name in names]
    is_lazy = any(array.chunks for array in arrays)
    how, d = {"sgd": sgd} | options, len(columns.features)
    if is_lazy:
        arrays = [array.chunk({dim: -1}) if array.chunks else array for array in arrays]
        how = {"n_threads": 1} | how
        # wrong options are refused now
        _fit_points(*[np.empty((0, 1))] * len(names), columns=columns, how=how, is_quiet=True)
    dtype = _float_type(*(array.dtype for array in arrays))
    weights, *others = xr.apply_ufunc(
        partial(_fit_points, columns=columns, how=how, is_quiet=is_lazy),
        *arrays,
        input_core_dims=[[dim]] * len(arrays),
        output_core_dims=[["feature"], [], [], [], []],
        output_dtypes=[dtype, dtype, dtype, np.int8, np.int64],
        dask="parallelized",
        dask_gufunc_kwargs={"output_sizes": {"feature": d}},
    )
    named = dict(zip(("intercept", "loss", "status", "rank"), others, strict=True))
    answer = xr.Dataset({"weights": weights} | named, {"feature": list(columns.features)})
    answer.status.attrs["flag_values"] = [status.code for status in gd.Status]
    answer.status.attrs["flag_meanings"] = " ".join(gd.Status)
    return answer


class _Columns(NamedTuple):
    """Names of the columns that a fit reads."""

    target: str
    features: tuple[str, ...]
    by: tuple[str, ...]
    offset: str | None
    sample_weight: str | None

    def all(self) -> list[str]:
        """Return the names in this order, each once."""
        names = (self.target, *self.features, *self.by, self.offset, self.sample_weight)
        return [name for name in dict.fromkeys(names) if name is not None]

    def extra(self) -> dict[str, str]:
        """Return the names of the offset and the sample weight, as far as there are any."""
        both = {"offset": self.offset, "sample_weight": self.sample_weight}
        return {argument: name for argument, name in both.items() if name is not None}

    def check(self, *needed: str) -> None:
        """Raise ValueError if names are needed, or one is there twice."""
        for argument in ("features", *needed):
            if not getattr(self, argument):
                raise ValueError(f"{argument} is empty; name at least one column.")
        names = [self.target, *self.features, *self.by]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"{name!r} is there twice among target, features and by; name it once."
                )


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _check_columns(frame: Any, names: Sequence[str]) -> None:
    for name in names:
        if name not in frame.columns:
            raise ValueError(f"the frame has no column {name!r}; it has {listed(frame.columns)}.")


def _sums_of_array(X: Any, y: Any, offset: Any, sample_weight: Any) -> tuple[Any, int, int | None]:
    """Return the sums of each chunk of rows in a Dask array, d, and t."""
    if X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}; it must have two dimensions, (n, d).")
    y, offset, weight = (
        _in_chunks_of(X, name, array)
        for name, array in (("y", y), ("offset", offset), ("sample_weight", sample_weight))
    )
    operands = [X.rechunk({1: -1}), "ix"]
    for array, column in ((y, "y"), (offset, "o"), (weight, "w")):
        operands += [array, None if array is None else ("i", "i" + column)[array.ndim - 1]]
    sums = da.blockwise(
        *(_sum_rows, "i", *operands),
        adjust_chunks={"i": 1},
        align_arrays=False,
        concatenate=True,  # a task gets arrays: there are chunks of rows alone
        meta=np.empty(0, object),
    )
    return sums, X.shape[1], y.shape[1] if y.ndim == 2 else None


def _in_chunks_of(X: Any, name: str, given: Any) -> Any:
    """Return an array in the chunks of X's rows; ValueError if it has other rows."""
    if given is None:
        return None
    array = given.to_dask_array() if isinstance(given, dd.Series) else da.asarray(given)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {array.shape}; it must have one entry for each row.")
    rows, wanted = array.shape[0], X.shape[0]
    if np.isnan(rows + wanted):
        if array.numblocks[0] == X.numblocks[0]:
            return array.rechunk({1: -1}) if array.ndim == 2 else array
        raise ValueError(
            f"{name} has {array.numblocks[0]} chunks of rows and X {X.numblocks[0]}, whose sizes "
            "are not known; call compute_chunk_sizes() on both, or pass a data frame and target=."
        )
    if rows != wanted:
        raise ValueError(f"{name} has {rows} rows and X {wanted}; they must have the same.")
    return array.rechunk((X.chunks[0], -1)[: array.ndim])


def _sums_of_frame(
    X: Any, y: Any, target: Any, features: Any, offset: Any, sample_weight: Any
) -> tuple[Any, int, int | None]:
    """Return the sums of each partition of a data frame in a Dask array, d, and t."""
    if (y is None) == (target is None):
        raise ValueError("pass the Series y, or target=, the name of a column of X.")
    given = {"y": target if y is None else y, "offset": offset, "sample_weight": sample_weight}
    named = [value for value in given.values() if isinstance(value, str)]
    features = [c for c in X.columns if c not in named] if features is None else _names(features)
    _check_columns(X, [*features, *named])
    columns = [X[a] if isinstance(a, str) else a for a in given.values()]
    for name, column in zip(given, columns, strict=True):
        if column is not None and getattr(column, "divisions", None) != X.divisions:
            raise ValueError(
                f"{name} is not a Series in X's partitions; make it a column of X and pass the "
                "column's name."
            )
    sums = X[list(features)].map_partitions(_sum_frame, *columns, meta=pd.Series([], dtype=object))
    t = len(y.columns) if isinstance(y, dd.DataFrame) else None
    return sums.to_dask_array(lengths=[1] * X.npartitions), len(features), t


def _sum_rows(X: Any, y: Any, offset: Any, sample_weight: Any) -> Any:
    """Return the sums of rows in memory, in an array of one object."""
    sums = np.empty(1, object)
    sums[0] = ExactSums.of(make_problem(X, y, offset, sample_weight, True, "mean", part=True))
    return sums


def _sum_frame(*columns: Any) -> Any:
    return pd.Series(_sum_rows(*columns))


def _with_place(rows: Any, partition_info: Any = None) -> Any:
    """Return rows with the order that a shuffle does not keep."""
    first = 0 if partition_info is None else partition_info["number"] << 40
    return rows.assign(**{PLACE: np.arange(first, first + len(rows), dtype=np.int64)})


def _fit_rows(rows: Any, columns: _Columns, how: dict[str, Any]) -> Any:
    """Fit the groups of one shuffled partition, in memory; return one row a group."""
    rows, by = rows.sort_values(PLACE), list(columns.by)
    if rows[by].isna().any(axis=None):
        raise ValueError(f"a label is missing in {listed(by)}; drop or fill such rows.")
    codes = rows.groupby(by, sort=True, observed=True).ngroup().to_numpy()
    extra = {argument: rows[name] for argument, name in columns.extra().items()}
    most = int(np.bincount(codes).max(initial=0))
    if isinstance(how.get("batch_size"), int) and how["batch_size"] > most:
        how = how | {"batch_size": most or None}  # other partitions may have larger groups
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gd.FitWarning)
        X, y = rows[list(columns.features)], rows[columns.target]
        fits = gd.fit_groups(X, y, codes, **extra, **how)
    answer = rows[by].iloc[np.unique(codes, return_index=True)[1]].reset_index(drop=True)
    for name, weights in zip(columns.features, fits.weights.T, strict=True):
        answer[f"weight_{name}"] = weights
    status = pd.Series([str(status) for status in fits.status], dtype="str")
    return answer.assign(intercept=fits.intercept, loss=fits.loss, rows=fits.rows, status=status)


def _fit_points(*arrays: Any, columns: _Columns, how: dict[str, Any], is_quiet: bool) -> Any:
    """Fit a model at each point of a chunk; the last dimension of the arrays has the rows."""
    shape, d = np.broadcast_shapes(*(array.shape for array in arrays)), len(columns.features)
    *points, n = shape
    count = math.prod(points)
    y, *more = (np.broadcast_to(a, shape).reshape(count, n) for a in (arrays[0], *arrays[d + 1 :]))
    shared = all(array.ndim == 1 for array in arrays[1 : d + 1])  # one X, which is not copied
    features = np.stack([a if shared else np.broadcast_to(a, shape) for a in arrays[1 : d + 1]], -1)
    X = np.broadcast_to(features, (count, n, d)) if shared else features.reshape(count, n, d)
    how = dict(zip(columns.extra(), more, strict=True)) | how
    with warnings.catch_warnings():
        if is_quiet:
            warnings.simplefilter("ignore", gd.FitWarning)
        fits: Any = gd.fit(X, y, **how)
    status = np.array([status.code for status in fits.status.tolist()], np.int8)
    rank = np.full(count, -1) if fits.rank is None else fits.rank
    weights = fits.weights.reshape(*points, d)
    return weights, *(a.reshape(points) for a in (fits.intercept, fits.loss, status, rank))


def _float_type(*dtypes: Any) -> Any:
    """Return the dtype of a fit to arrays of these dtypes."""
    return np.result_type(np.float32, *(t if t.kind == "f" else np.float64 for t in dtypes))
