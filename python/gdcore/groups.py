"""One model a group of rows: labels to groups, arrays and data frames to fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Never

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.advice import reject
from gdcore.data.columns import refuse_as_feature
from gdcore.data.device import place_of
from gdcore.data.frames import read_groups
from gdcore.data.home import from_device
from gdcore.data.labels import label_rows
from gdcore.data.memmap import guard
from gdcore.data.missing_labels import label_known_rows
from gdcore.data.problem import make_problem
from gdcore.data.problems import make_groups
from gdcore.results.fits import Fits, warn_of_ends
from gdcore.sgd import SGD
from gdcore.solvers.many import fit_many
from gdcore.solvers.method import settled, warn_of_ignored
from gdcore.solvers.options import Options, check_sgd
from gdcore.solvers.progress import reporting
from gdcore.typing import Covariance, Floats, Ints, Method, Missing, Reduction, Show, Stop


def fit_groups(
    X: Any,
    y: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    sgd: SGD | None = None,
    *,
    offsets: npt.ArrayLike | None = None,
    target: str | int | None = None,
    features: str | int | Sequence[str | int] | None = None,
    by: str | int | Sequence[str | int] | None = None,
    epochs: int = 1000,
    batch_size: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    fit_intercept: bool = True,
    standardize: bool = False,
    init: Any = None,
    offset: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    missing: Missing = "error",
    reduction: Reduction = "mean",
    tol: float | Floats | None = 1e-6,
    stop: Stop = "gradient",
    method: Method = "auto",
    rcond: float | None = None,
    covariance: Covariance | None = None,
    history: int = 0,
    progress: Show = False,
    n_threads: int | None = None,
    device: Any = None,
    **unknown: Never,
) -> Fits:
    """Fit a linear model to each group of rows, all in one call.

    Every group has the bits of fitting its rows with `fit`.

    Parameters
    ----------
    X : array_like, shape (n, d), or data frame
        A frame of pandas, polars, Arrow or any other library that narwhals knows takes `target`,
        `features` and `by` in place of y and groups. So do polars' lazy frames and anything with
        ``__arrow_c_stream__``, such as DuckDB's relations: only the columns named are read, once.
    y : array_like, shape (n,) or (n, t)
    groups : array_like, shape (n,)
        Label of each row: numbers, strings, dates or any hashable objects, in any order. Missing
        labels are NaN, NaT, NA or None, also in a tuple.
    sgd : SGD, optional
        Its lr and weight_decay may be arrays with one entry a group, in the order of
        ``Fits.groups``.
    offsets : array_like of int, shape (count + 1,), optional
        In place of `groups`, for rows that are already grouped: group i has rows
        ``offsets[i]`` to ``offsets[i + 1] - 1``.
    target, features, by : str, list of str, str or list of str
        Columns of the frame: the one to predict, the features, and the ones whose labels form the
        groups. A column whose name is a number is found by the number or by its text.
    offset, sample_weight : array_like, shape (n,), or str, optional
        One for each row, see `fit`; or the name of a column of the frame.
    epochs, batch_size, shuffle, seed, fit_intercept, standardize, init : optional
    missing, reduction, tol, stop, method, rcond, covariance : optional
        See `fit`. A group with fewer rows than `batch_size` takes all of them at once. With
        ``missing="drop"``, rows without a label are in no group; a group whose rows all have
        other gaps stays, EMPTY.
    history : int
        Record the losses every `history` epochs; 0 records nothing.
    progress : bool or callable
        A callable gets (groups done, groups, NaN).
    n_threads, device : optional
        See `fit`. Labels are sorted on the CPU, wherever they and the rows are.

    Returns
    -------
    Fits
        With the labels in `groups`, sorted if they can be; an array of NumPy. `weights`,
        `intercept` and predictions are of X's library, as those of `fit`.
        For a frame, `groups` is what the column `by` gives as an array, and `group_names` keeps
        its name; several columns `by` make tuples. `Fits.to_frame` gives a data frame.

    Raises
    ------
    ValueError
        If lengths differ, offsets do not rise from 0 to n, a column of the frame is not there,
        named twice or not numeric, or a label or value is missing.
    TypeError
        If a label cannot be hashed.
    RuntimeError, MemoryError
        As for `fit`, of a CUDA device. If the rows of a lazy frame or a stream cannot be read; the
        cause is the library's own error.
    ImportError
        If a frame comes without the extra "frames" (narwhals) installed.

    Warns
    -----
    FitWarning
        Once, for all groups that are singular, empty or invalid, or whose descent diverged or
        stalled.

    Examples
    --------
    >>> import gdcore as gd
    >>> X, y = [[0.0], [0.0], [1.0], [1.0]], [1.0, 5.0, 3.0, 5.0]
    >>> fits = gd.fit_groups(X, y, ["a", "b", "a", "b"])
    >>> fits.groups, fits.weights.round(3), fits.intercept.round(3)
    (array(['a', 'b'], dtype='<U1'), array([[2.],
           [0.]]), array([1., 5.]))
    """
    reject(fit_groups, unknown)
    table = None
    if target is not None or features is not None or by is not None:
        if y is not None or groups is not None or offsets is not None:
            raise ValueError(
                "a data frame takes target=, features= and by=; leave out y, groups and offsets."
            )
        table = read_groups(X, target, features, by, offset, sample_weight, missing)
        X, y, offset, sample_weight = table.X, table.y, table.offset, table.sample_weight
    else:
        _refuse_names(y=y, groups=groups, offset=offset, sample_weight=sample_weight)
    if y is None:
        raise ValueError("y is missing; a data frame needs target=, features= and by= instead.")
    if table is None and (groups is None) == (offsets is None):
        raise ValueError("pass either groups, a label for each row, or offsets.")
    options = Options(
        epochs=epochs,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        tol=tol,
        stop=stop,
        method=method,
        history=history,
        n_threads=n_threads,
        standardize=standardize,
        rcond=rcond,
        missing=missing,
        covariance=covariance,
    )
    options = settled(sgd, options, init)
    sgd = check_sgd(sgd, method)
    place = place_of(device)
    given = {"X": X, "y": y, "groups": groups, "offset": offset, "sample_weight": sample_weight}
    with guard(**given), reporting(progress, epochs), _core.FpEnv():
        assert y is not None
        how = fit_intercept, reduction
        rows = make_problem(
            X, y, offset, sample_weight, *how, place=place, missing=missing, keep_gaps=True
        )
        if table is not None:
            rows = rows.named(table.features, table.target)
        shape, name = rows.shape, getattr(groups, "name", None)
        refuse_as_feature(rows.rows.X, shape.feature_names, name, groups, "groups")
        of_groups: Any
        if table is not None:
            labels, keys, of_groups = table.groups(missing, options.threads)
        elif offsets is not None:
            starts = _checked_offsets(offsets, shape.n)
            labels, of_groups = np.arange(len(starts) - 1), (starts, None)
        elif missing == "drop":
            known = from_device(groups, "groups")
            labels, of_groups = label_known_rows(known, shape.n, options.threads)
        else:
            labels, of_groups = label_rows(from_device(groups, "groups"), shape.n)
        _check_labels(init, labels)
        problems = make_groups(rows, labels, of_groups, options.threads)
        if table is not None:
            problems = replace(problems, group_names=table.by, group_keys=keys)
        fits = fit_many(problems, sgd, options, init, progress)
    warn_of_ignored(options)
    warn_of_ends(fits, options.expects_convergence)
    return fits


def _refuse_names(**given: Any) -> None:
    """Raise TypeError if an argument is a text, perhaps the name of a column."""
    for name, value in given.items():
        if isinstance(value, str):
            entry = "label" if name == "groups" else "number"
            raise TypeError(
                f"{name} is {value!r}; pass a list, one {entry} for each row, or name all columns "
                "of a data frame: target=, features= and by=."
            )


def _check_labels(init: Any, labels: Any) -> None:
    known = init.groups if isinstance(init, Fits) else None
    if known is not None and known.tolist() != labels.tolist():
        raise ValueError(
            "init holds fits of other groups; pass init=(weights, intercept) with one row a group."
        )


def _checked_offsets(given: npt.ArrayLike, n: int) -> Ints:
    """Return offsets as int64; ValueError unless they rise from 0 to n."""
    offsets = np.asarray(from_device(given, "offsets"))
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or not len(offsets):
        raise ValueError(
            f"offsets has shape {offsets.shape} and dtype {offsets.dtype}; "
            "it must be whole numbers, one more than there are groups."
        )
    falls = np.flatnonzero(offsets[1:] < offsets[:-1])
    if offsets[0] != 0 or offsets[-1] != n or len(falls):
        where = f"falls after entry {falls[0]}" if len(falls) else f"ends at {offsets[-1]}"
        raise ValueError(
            f"offsets starts at {offsets[0]} and {where}; it must rise from 0 to the {n} rows of X."
        )
    return np.ascontiguousarray(offsets, np.int64)
