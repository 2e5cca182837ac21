"""One fit for each window of rows."""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import Any, Literal, Never

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.advice import reject
from gdcore.data import slices
from gdcore.data.columns import refuse_as_feature
from gdcore.data.device import place_of
from gdcore.data.home import from_device
from gdcore.data.memmap import guard
from gdcore.data.problem import make_problem
from gdcore.data.times import read_times
from gdcore.data.windows import MOST, check_extent, make_series, make_windows
from gdcore.errors import FitWarning, RollingInterrupted, stacklevel
from gdcore.results.rolling import RollingFit
from gdcore.sgd import SGD
from gdcore.solvers.learning_rate import warn_of_divergence
from gdcore.solvers.method import settled, warn_of_ignored
from gdcore.solvers.options import Options, check_sgd
from gdcore.solvers.rolling import RollingTask, check_known, check_method
from gdcore.solvers.start import initial_state
from gdcore.status import deserve_a_look
from gdcore.typing import Missing, Reduction, Stop


def fit_rolling(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    window: float | timedelta | np.timedelta64 | None,
    sgd: SGD | None = None,
    *,
    step: int = 1,
    groups: npt.ArrayLike | None = None,
    times: npt.ArrayLike | None = None,
    min_rows: int | None = None,
    half_life: float | timedelta | np.timedelta64 | None = None,
    align: bool = False,
    epochs: int = 1000,
    fit_intercept: bool = True,
    standardize: bool = False,
    init: Any = None,
    offset: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    missing: Missing = "error",
    reduction: Reduction = "mean",
    tol: float | None = 1e-6,
    stop: Stop = "gradient",
    method: Literal["auto", "gram", "exact"] = "auto",
    rcond: float | None = None,
    covariance: Literal["ols"] | None = None,
    n_threads: int | None = None,
    device: Any = None,
    **unknown: Never,
) -> RollingFit:
    """Fit each window of rows by itself: rolling, expanding, or exponentially weighted.

    Windows end at row ``min_rows - 1`` and at every `step`-th row after it, in each group. Second
    moments of a window are derived from the last window's: rows that enter are added, rows that
    leave are subtracted. They are summed again from all rows before rounding errors exceed the
    bound in docs/numerics.md. Without `sgd`, each window gets the least-squares solution, from its
    own rows where columns are nearly dependent; with it, every window descends from `init` as by
    ``gdcore.fit(method="gram")``.

    Parameters
    ----------
    X : array_like, shape (n, d), or data frame
    y : array_like, shape (n,) or (n, t)
    window : int, length of time, or None
        Rows of a window; or with `times` how far it reaches back: the window that ends at row i has
        the rows up to i whose times are in (t_i - window, t_i], as pandas' ``rolling("30D")``. A
        length of time is a `datetime.timedelta`, `numpy.timedelta64` or `pandas.Timedelta`; with
        `times` that are numbers, it is a number in their unit. None expands from the first row.
    sgd : SGD, optional
        As for `gdcore.fit`, but lr is a number or "auto".
    step : int
        Rows between the ends of two windows.
    groups : array_like, shape (n,), optional
        Label of each row, as for `fit_groups`. A window has rows of one group, in their order;
        windows of a group follow each other in the result, unless `align`. Each group has the bits
        of fitting it alone.
    times : array_like, shape (n,), optional
        Time of each row: dates, in a time zone or not, or numbers. They must not fall within a
        group; rows may share a time.
    min_rows : int, optional
        A window with fewer rows is EMPTY, with weights NaN. By default `window`, if that is rows,
        else 1. A window with fewer rows than parameters is SINGULAR: for windows that expand or
        reach back in time, pass the number of parameters.
    half_life : float or length of time, optional
        A row weighs half as much for each half-life that it is older than the last of its window:
        rows, or with `times` a length of time. With ``window=None`` that is recursive least squares
        with forgetting. Rows older than 100 half-lives, whose weight is below 1e-30, are left out.
    align : bool
        Return an entry for each row: that of the window that ends there, NaN if none does.
    missing : {"error", "drop"}
        "drop" leaves out rows with NaN in X, y, offset or sample_weight. They still count as rows
        of `window`, `step` and `half_life`, but not of `min_rows`, as in pandas. Rows without a
        label in `groups` are in no window.
    covariance : "ols", optional
        Also estimate the covariance of the weights of each window, by the closed form.
    method : {"auto", "gram", "exact"}
        "auto" without `sgd` is "exact", with it "gram".
    epochs, fit_intercept, standardize, init, offset, sample_weight, reduction, tol, stop : optional
    rcond, n_threads, device : optional
        As for `gdcore.fit`. With `half_life` the rows of a GPU come to the host.

    Returns
    -------
    RollingFit
        `weights` and `intercept` are of X's library, as those of `gdcore.fit`.

    Raises
    ------
    ValueError
        If shapes do not fit, the data holds NaN or infinity, times fall, an option is out of range,
        or the squares of a window's rows leave the range of the dtype.
    TypeError
        If a dtype is not real, lr is a schedule, or a length of time is not one.
    RuntimeError, MemoryError
        As for `gdcore.fit`, of a CUDA device.
    RollingInterrupted
        On Ctrl-C, with the windows done.

    Warns
    -----
    LearningRateWarning
        If lr is above the stability limit of some window.
    FitWarning
        If some window diverged, stalled, is singular or empty, or did not converge by its `tol`.

    Examples
    --------
    >>> import numpy as np, gdcore as gd
    >>> x = np.arange(8.0)
    >>> y = np.where(x < 4, x, 2 * x)
    >>> gd.fit_rolling(x[:, None], y, 3).weights[:, 0].round(2)
    array([1. , 1. , 3. , 3.5, 2. , 2. ])
    >>> gd.fit_rolling(x[:, None], y, None, min_rows=6, half_life=1).weights[:, 0].round(2)
    array([2.55, 2.4 , 2.26])
    """
    reject(fit_rolling, unknown)
    options = Options(
        epochs=epochs,
        tol=tol,
        stop=stop,
        method=method,
        n_threads=n_threads,
        standardize=standardize,
        rcond=rcond,
        missing=missing,
        covariance=covariance,
    )
    options = settled(sgd, options, init)
    if options.method == "stream":
        raise ValueError("method is 'stream'; windows share their moments: use 'gram' or 'exact'.")
    sgd = check_sgd(sgd, options.method)
    sgd.check_for_one()
    if not isinstance(align, bool | np.bool_):
        raise ValueError(f"align is {align!r}; it must be True or False.")
    place = place_of(device)
    given = {"X": X, "y": y, "offset": offset, "sample_weight": sample_weight}
    with guard(**given), _core.FpEnv():
        how = fit_intercept, reduction
        problem = make_problem(
            X, y, offset, sample_weight, *how, place=place, missing=missing, keep_gaps=True
        )
        shape = problem.shape
        options.check(shape.n)
        check_method(sgd, options, shape, half_life)
        clock = None
        if times is not None:
            clock = read_times(from_device(times, "times"), shape.n, window, half_life)
        most = shape.n if groups is None and min_rows is None and not align else MOST
        extent = check_extent(most, window, step, min_rows, half_life, clock)
        check_known(problem)
        named = getattr(groups, "name", None)
        refuse_as_feature(problem.rows.X, shape.feature_names, named, groups, "groups")
        series = make_series(shape.n, groups, missing, options.threads)
        plan = make_windows(series, extent, clock, problem.known)
        start = initial_state(init, shape, None)
        task = RollingTask(shape, sgd, options, plan, clock, align)
        rolling = task.begin(problem, start.params)
        try:
            slices.run(lambda seconds: rolling.advance(seconds, options.threads))
        except KeyboardInterrupt:
            raise RollingInterrupted(task.result(rolling, interrupted=True)) from None
    if rolling.out_of_range:
        raise ValueError(task.out_of_range(rolling.done))
    result = task.result(rolling)
    warn_of_ignored(options)
    _warn(sgd, options, result)
    return result


def _warn(sgd: SGD, options: Options, result: RollingFit) -> None:
    """Warn once of rates that cannot converge, and once of windows that deserve a look."""
    if sgd.lr != "auto" and (above := result.lr > result.stability_limit).any():
        warn_of_divergence(sgd.lr, 0, float(result.stability_limit[above].min()), sgd)
    if deserve_a_look(result.status[result.has_fit], options.expects_convergence):
        warnings.warn(result.message, FitWarning, stacklevel=stacklevel())
