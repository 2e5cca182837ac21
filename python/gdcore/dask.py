"""Fits of Dask's arrays and frames and of xarray's datasets (extra "dask").

`fit` sums every partition where its rows are, and adds the sums up in a tree. `fit_groups` brings
the rows of a group together by Dask's shuffle. `fit_map` fits a model a pixel.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

import gdcore as gd
from gdcore.advice import listed
from gdcore.data.exact_sums import ExactSums
from gdcore.data.missing import check_missing
from gdcore.data.problem import make_problem
from gdcore.typing import Missing

try:
    import dask.array as da
    import dask.dataframe as dd
    import pandas as pd
    import xarray as xr
except ImportError as error:
    raise ImportError("gdcore.dask needs Dask and xarray: pip install 'gdcore[dask]'.") from error

__all__ = ["fit", "fit_groups", "fit_map"]

PLACE = "_gdcore_place"  # the column of the rows' order


def fit(
    X: Any,
    y: Any = None,
    sgd: gd.SGD | None = None,
    *,
    target: str | None = None,
    features: Sequence[str] | None = None,
    offset: Any = None,
    sample_weight: Any = None,
    missing: Missing = "error",
    **options: Any,
) -> gd.Fit:
    """Fit one linear model to all rows of a Dask array or data frame.

    Each partition becomes its second moments, which are added without rounding errors: no bit of
    the answer depends on the partitions, their order, the workers or the scheduler. Workers send
    each other sums of products, 13 to 20 times (d + 2)**2 bytes, and no rows.

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
    missing : {"error", "drop"}
        With "drop", a row that holds NaN or a null does not count.
    **options
        As for `gdcore.Moments.fit`: `epochs`, `fit_intercept`, `standardize`, `init`, `tol`,
        `method`, ``covariance="ols"``, ...

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
    check_missing(missing)
    given = {"y": target if y is None else y, "offset": offset, "sample_weight": sample_weight}
    if isinstance(X, dd.DataFrame) and (y is None) != (target is None):
        parts, d, t = _sums_of_frame(X, features, given, missing)
    elif isinstance(X, da.Array) and y is not None and target is None and features is None:
        parts, d, t = _sums_of_array(X, given, missing)
    else:
        raise TypeError(
            f"X is {type(X).__name__} and y {type(y).__name__}; pass Dask arrays X and y, or a "
            "Dask data frame X with either target= or a Series y. gdcore.fit takes rows in memory."
        )
    with warnings.catch_warnings(action="ignore"):  # wrong options are refused before reading
        gd.Moments(d, t).fit(sgd, **options | {"progress": False})
    total = np.asarray(parts.sum(split_every=8).compute(), object).item()
    return gd.Moments.of(total.statistics()).fit(sgd, **options)


def fit_groups(
    frame: Any,
    sgd: gd.SGD | None = None,
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
        One row a group, in no order: the columns of `Fits.to_frame`, which are those of `by`,
        ``weight_<feature>``, ``intercept``, ``loss``, ``rows`` and ``status``, and with
        ``covariance=`` the standard errors. Bad groups are known by their status: workers do not
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
        raise TypeError(f"frame is {type(frame).__name__}; pass a Dask data frame.")
    frame = frame[_known(frame.columns, target, features, by, offset, sample_weight)]
    how = {"target": target, "features": features, "by": by, "sgd": sgd, "n_threads": 1} | options
    extra = {"offset": offset, "sample_weight": sample_weight}
    how |= {argument: str(name) for argument, name in extra.items() if name is not None}
    labels = _names(by)
    like = _with_place(frame._meta, labels)
    meta = _fit_rows(like, how)  # wrong options are refused now
    rows = frame.map_partitions(_with_place, labels, meta=like).shuffle(on=labels)
    return rows.map_partitions(_fit_rows, how, meta=meta)


def fit_map(
    dataset: Any,
    sgd: gd.SGD | None = None,
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
        As for `gdcore.fit` of many problems, but `covariance`.

    Returns
    -------
    xarray.Dataset
        ``weights`` with the new dimension ``feature``, ``intercept``, ``loss``, ``status`` (the
        attributes flag_values and flag_meanings explain its codes) and ``rank`` (-1 after a
        descent). A point with NaN or infinity is INVALID, has weights NaN and spoils no other.

    Raises
    ------
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
    if not isinstance(dataset, xr.Dataset):
        raise TypeError(f"dataset is {type(dataset).__name__}; pass an xarray.Dataset.")
    extra = {"offset": offset, "sample_weight": sample_weight}
    extra = {argument: name for argument, name in extra.items() if name is not None}
    features = _names(features)
    if not features or options.get("covariance") is not None:
        raise ValueError("fit_map needs a name in features, and takes no covariance=.")
    _known(dataset.variables, features, target, list(extra.values()))
    names = [*features, target, *extra.values()]
    arrays = [dataset[name].reset_coords(drop=True) for name in names]
    for array in arrays:
        if dim not in array.dims:
            raise ValueError(f"{array.name!r} has no dimension {dim!r}; pass dim= or drop it.")
    is_lazy = any(array.chunks for array in arrays)
    how = {"sgd": sgd} | ({"n_threads": 1} if is_lazy else {}) | options
    fit_points = partial(_fit_points, d=len(features), extra=extra, how=how, is_quiet=is_lazy)
    if is_lazy:
        arrays = [array.chunk({dim: -1}) if array.chunks else array for array in arrays]
        fit_points(*[np.empty((0, 1))] * len(names))  # wrong options are refused now
    dtype = np.result_type(np.float32, *(a.dtype if a.dtype.kind == "f" else float for a in arrays))
    found = xr.apply_ufunc(
        fit_points,
        *arrays,
        input_core_dims=[[dim]] * len(arrays),
        output_core_dims=[["feature"], [], [], [], []],
        output_dtypes=[dtype, dtype, dtype, np.int8, np.int64],
        dask="parallelized",
        dask_gufunc_kwargs={"output_sizes": {"feature": len(features)}},
    )
    named = zip(("weights", "intercept", "loss", "status", "rank"), found, strict=True)
    answer = xr.Dataset(dict(named), {"feature": features})
    answer.status.attrs["flag_values"] = [status.code for status in gd.Status]
    answer.status.attrs["flag_meanings"] = " ".join(gd.Status)
    return answer


def _names(given: Any) -> list[Any]:
    if isinstance(given, set | frozenset):
        raise TypeError(f"{given!r} is a set, which has no order; pass a list of names.")
    return [] if given is None else [given] if isinstance(given, str | int) else list(given)


def _known(known: Any, *given: Any) -> list[Any]:
    """Return names, each once; ValueError if one is not known."""
    names = list(dict.fromkeys(chain(*map(_names, given))))
    for name in names:
        if name not in known:
            raise ValueError(f"there is no column {name!r}; there are {listed(known)}.")
    return names


def _sums_of_array(X: Any, given: dict[str, Any], missing: str) -> tuple[Any, int, int | None]:
    """Return the sums of each chunk of rows in a Dask array, d, and t."""
    if X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}; it must have two dimensions, (n, d).")
    operands = [X.rechunk({1: -1}), "ix"]
    y, *_ = arrays = [_in_chunks_of(X, name, array) for name, array in given.items()]
    for array, column in zip(arrays, "yow", strict=True):
        operands += [array, None if array is None else ("i", "i" + column)[array.ndim - 1]]
    sums = da.blockwise(
        *(_sum_rows, "i", *operands, missing, None),
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
    if array.shape[0] == X.shape[0]:
        return array.rechunk((X.chunks[0], -1)[: array.ndim])
    if np.isnan(array.shape[0] + X.shape[0]) and array.numblocks[0] == X.numblocks[0]:
        return array.rechunk(dict.fromkeys(range(1, array.ndim), -1))
    raise ValueError(
        f"{name} has {array.shape[0]} rows in {array.numblocks[0]} chunks and X {X.shape[0]} in "
        f"{X.numblocks[0]}; give them the same rows. Where numbers are nan, compute_chunk_sizes() "
        "finds them."
    )


def _sums_of_frame(
    X: Any, features: Any, given: dict[str, Any], missing: str
) -> tuple[Any, int, int | None]:
    """Return the sums of each partition of a data frame in a Dask array, d, and t."""
    named = [name for name in given.values() if isinstance(name, str)]
    if features is None:
        features = [name for name in X.columns if name not in named]
    _known(X.columns, features, named)
    columns = {k: X[name] if isinstance(name, str) else name for k, name in given.items()}
    for argument, column in columns.items():
        if column is not None and getattr(column, "divisions", None) != X.divisions:
            raise ValueError(
                f"{argument} is not a Series in X's partitions; make it a column and pass its name."
            )
    frame, meta = X[_names(features)], pd.Series([], dtype=object)
    sums = frame.map_partitions(_sum_frame, *columns.values(), missing, meta=meta)
    parts = sums.to_dask_array(lengths=[1] * X.npartitions)
    return parts, len(frame.columns), len(y.columns) if (y := columns["y"]).ndim == 2 else None


def _sum_rows(X: Any, y: Any, offset: Any, sample_weight: Any, missing: str) -> Any:
    """Return the sums of rows in memory, in an array of one object."""
    how = True, "mean", None, True, None, missing
    sums = np.empty(1, object)
    sums[0] = ExactSums.of(make_problem(X, y, offset, sample_weight, *how))
    return sums


def _sum_frame(*columns: Any) -> Any:
    return pd.Series(_sum_rows(*columns))


def _with_place(rows: Any, by: list[Any], partition_info: Any = None) -> Any:
    """Return rows with the order that a shuffle does not keep, and labels as it can hash them."""
    first = 0 if partition_info is None else partition_info["number"] << 40
    rows = rows.assign(**{PLACE: np.arange(first, first + len(rows), dtype=np.int64)})
    for name in by:
        if rows[name].dtype.kind == "f":
            rows[name] += 0.0  # -0.0 is 0.0, with a hash of its own in older versions of pandas
    return rows


def _fit_rows(rows: Any, how: dict[str, Any]) -> Any:
    """Fit the groups of one shuffled partition, in memory; return one row a group."""
    rows = rows.sort_values(PLACE).drop(columns=PLACE)
    most = int(max(rows.groupby(_names(how["by"]), observed=True).size(), default=0))
    if isinstance(how.get("batch_size"), int) and how["batch_size"] > most:
        how = how | {"batch_size": most or None}  # other partitions may have larger groups
    with warnings.catch_warnings(action="ignore", category=gd.FitWarning):
        return gd.fit_groups(rows, **how).to_frame().astype({"status": "str"})


def _fit_points(*arrays: Any, d: int, extra: Any, how: dict[str, Any], is_quiet: bool) -> Any:
    """Fit a model at each point of a chunk; the last dimension of the arrays has the rows."""
    *points, n = shape = np.broadcast_shapes(*(array.shape for array in arrays))
    count = math.prod(points)
    shared = all(array.ndim == 1 for array in arrays[:d])  # one X, which is not copied
    features = np.stack([a if shared else np.broadcast_to(a, shape) for a in arrays[:d]], -1)
    X = np.broadcast_to(features, (count, n, d)) if shared else features.reshape(count, n, d)
    y, *more = (np.broadcast_to(array, shape).reshape(count, n) for array in arrays[d:])
    with warnings.catch_warnings():
        if is_quiet:
            warnings.simplefilter("ignore", gd.FitWarning)
        fits: Any = gd.fit(X, y, **dict(zip(extra, more, strict=True)), **how)
    status = np.array([status.code for status in fits.status.tolist()], np.int8)
    rank = np.full(count, -1) if fits.rank is None else fits.rank
    others = (array.reshape(points) for array in (fits.intercept, fits.loss, status, rank))
    return fits.weights.reshape(*points, d), *others
