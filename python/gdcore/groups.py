"""One model a group of rows: labels to groups, arrays and data frames to fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, Never

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.advice import reject
from gdcore.data.columns import refuse_as_feature
from gdcore.data.labels import Ints, group_rows
from gdcore.data.memmap import watched
from gdcore.data.problem import check_names, make_problem
from gdcore.fitting import Method, checked_sgd, fit_problems, warn_of_many
from gdcore.kernels import Floats, Reduction
from gdcore.results.fit import Fits
from gdcore.sgd import SGD
from gdcore.solvers.many import Problems
from gdcore.solvers.method import settled, warn_of_ignored
from gdcore.solvers.options import Options
from gdcore.solvers.progress import reporting
from gdcore.status import DataLostError, FitInterrupted


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
    reduction: Reduction = "mean",
    tol: float | Floats | None = 1e-6,
    stop: Literal["gradient", "loss_equal"] = "gradient",
    method: Method = "auto",
    rcond: float | None = None,
    history: int = 0,
    progress: bool | Callable[[int, int, float], None] = False,
    n_threads: int | None = None,
    **unknown: Never,
) -> Any:
    """Fit a linear model to each group of rows, all in one call.

    Every group ends with the bits of fitting its rows alone with `fit`.

    Parameters
    ----------
    X : array_like, shape (n, d), or data frame
        A frame of pandas, polars, Arrow or any other library that narwhals knows may come with
        `target`, `features` and `by` in place of y and groups.
    y : array_like, shape (n,) or (n, t)
    groups : array_like, shape (n,)
        Label of each row: numbers, strings, dates or any hashable objects, in any order. Missing
        labels (NaN, NaT, NA, None, also in a tuple) are refused.
    sgd : SGD, optional
        Its lr and weight_decay may be arrays with one entry a group, in the order of
        ``Fits.groups``.
    offsets : array_like of int, shape (count + 1,), optional
        In place of `groups`, for rows that lie together: group i has rows
        ``offsets[i]`` to ``offsets[i + 1] - 1``.
    target, features, by : str, list of str, str or list of str
        Columns of the frame: what is predicted, from what, and what tells the groups. Columns
        whose names are numbers go by the number or by its text.
    offset, sample_weight : array_like, shape (n,), optional
        One a row; see `fit`.
    epochs, batch_size, shuffle, seed, fit_intercept, standardize, init : optional
    reduction, tol, stop, method, rcond : optional
        See `fit`. A group with fewer rows than `batch_size` takes all of them at once.
    history : int
        Record the losses every so many epochs; 0 records nothing.
    progress : bool or callable
        A callable gets (groups done, groups, NaN).
    n_threads : int, optional

    Returns
    -------
    Fits
        With the labels, as they were given and sorted where they can be, in `groups`.
        For a frame, a frame of the same library with one row a group: the columns of `by`,
        ``weight_<feature>``, ``intercept``, ``loss``, ``n`` and ``status``.

    Raises
    ------
    ValueError
        If lengths differ, a label is missing, offsets do not rise from 0 to n, or a column of the
        frame is not there, named twice, not numeric or has missing values.
    TypeError
        If a label cannot be hashed.
    ImportError
        If a frame comes without the extra "frames" (narwhals) installed.

    Warns
    -----
    FitWarning
        Once, of all groups that are singular, empty or invalid, or whose descent diverged or
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
        from gdcore.data import frames

        table = frames.read(X, target, features, by)
        X, y, groups = table.X, table.y, table.codes
    elif y is None:
        raise ValueError("y is missing; a data frame needs target=, features= and by= instead.")
    if (groups is None) == (offsets is None):
        raise ValueError("pass either groups, a label for each row, or offsets.")
    options = Options(
        epochs, batch_size, shuffle, seed, tol, stop, method, history, n_threads, standardize, rcond
    )
    options = settled(sgd, options, init)
    sgd = checked_sgd(sgd, method)
    given = {"X": X, "y": y, "groups": groups, "offset": offset, "sample_weight": sample_weight}
    with watched(**given), reporting(progress, epochs), _core.FpEnv():
        assert y is not None
        one = make_problem(X, y, offset, sample_weight, fit_intercept, reduction)
        name = getattr(groups, "name", None)
        refuse_as_feature(one.X, one.feature_names, name, groups, "groups")
        order = None
        if offsets is not None:
            starts = checked_offsets(offsets, one.n)
            labels: Any = np.arange(len(starts) - 1)
        else:
            labels, starts, order = group_rows(groups, one.n, n_threads or 0)
        _check_labels(init, labels)
        if isinstance(init, Fits):
            check_names(init, one)
        names: dict[str, Any] = {"feature_names": one.feature_names, "target_name": one.target_name}
        data = (one.X, one.y, one.offset, one.sample_weight)
        problems = Problems(
            *data,
            one.fit_intercept,
            reduction,
            one.several,
            starts=starts,
            order=order,
            labels=labels,
        )
        try:
            fits = fit_problems(problems, sgd, options, init, progress, None)
        except (DataLostError, FitInterrupted) as error:
            if isinstance(error.fit, Fits):
                error.fit = replace(error.fit, groups=labels, **names)
            raise
    fits = replace(fits, groups=labels, **names)
    warn_of_ignored(options)
    warn_of_many(fits, options)
    return fits if table is None else table.answer(fits)


def _check_labels(init: Any, labels: Any) -> None:
    known = init.groups if isinstance(init, Fits) else None
    if known is not None and known.tolist() != labels.tolist():
        raise ValueError(
            "init holds fits of other groups; pass init=(weights, intercept) with one row a group."
        )


def checked_offsets(given: npt.ArrayLike, n: int) -> Ints:
    """Return offsets as int64; ValueError unless they rise from 0 to n."""
    offsets = np.asarray(given)
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
