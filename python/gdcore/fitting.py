"""Fit a linear model by gradient descent."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, Never

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.advice import reject
from gdcore.chunks.source import require_chunks
from gdcore.data.memmap import watched
from gdcore.data.problem import Problem, check_names, make_problem
from gdcore.kernels import Floats, Reduction
from gdcore.results.fit import Fit, Fits
from gdcore.results.state import FitState
from gdcore.sgd import SGD
from gdcore.solvers.descent import descend, fit_at
from gdcore.solvers.exact import solve_exact
from gdcore.solvers.many import Problems, fit_many, stacked, start_of
from gdcore.solvers.method import settled, warn_of_ignored
from gdcore.solvers.options import Options
from gdcore.solvers.progress import reporting
from gdcore.status import FitWarning, Status, advises

Method = Literal["auto", "stream", "gram", "exact"]
DEFAULT = SGD()
DESERVE_A_LOOK = {
    Status.DIVERGED,
    Status.STALLED,
    Status.SINGULAR,
    Status.EMPTY,
    Status.INVALID,
}


def fit(
    X: Any,
    y: npt.ArrayLike | None = None,
    sgd: SGD | None = None,
    *,
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
    history: int = 1,
    progress: bool | Callable[[int, int, float], None] = False,
    checkpoint: str | os.PathLike[str] | None = None,
    n_threads: int | None = None,
    **unknown: Never,
) -> Fit:
    """Fit a linear model to the squared error: least squares, or by gradient descent.

    Without `sgd` the answer is the least-squares solution; with it, what that descent comes to.
    The same call gives the same bits on any thread count and instruction set.

    Parameters
    ----------
    X : array_like, shape (n, d) or (count, n, d), or chunks of rows
        Rows of one problem, or of many that are fitted one by one as if alone. Without y, chunks
        ``(X, y)``, ``(X, y, sample_weight)`` or ``(X, y, sample_weight or None, offset)``: an
        iterable of them, a function that returns one, or `read_chunks`. Only a few are in memory
        at a time. "exact" and "gram", which descent is by default, read them once; "stream" and
        mini-batches read them once more every epoch. The columns of a data frame (extra "frames")
        keep their names, in `Fit.feature_names`, by which `Fit.predict` goes.
    y : array_like, shape (n,) or (n, t); (count, n) or (count, n, t)
        One target, or several fitted side by side.
    sgd : SGD, optional
        Learning rate, momentum, weight decay: descend. Without it the answer is that of
        ``method="exact"``, unless "gram", "stream", `batch_size` or `checkpoint` ask for descent,
        which ``SGD()`` (lr="auto") then describes; `init`, `epochs`, `tol` and `stop` alone do not,
        and a warning says that they had no effect.
    epochs : int
        Passes over the data, at most; on a warm start, further ones.
    batch_size : int, optional
        Rows of a mini-batch, 1 to n; None takes all rows at once. The last batch may be shorter.
    shuffle : bool
        Give mini-batches another order of rows every epoch, a function of `seed` and epoch alone.
    seed : int, 0 to 2**64 - 1
    fit_intercept : bool
    standardize : bool
        Fit the model of the standardised columns: lr and its limit, weight decay and the stopping
        rule refer to them. The weights returned are those of the columns as given.
    init : Fit, array_like or (weights, intercept), optional
        Start; zeros by default, the same one for all of many problems, or one each. A Fit goes on
        where it ended, velocity too.
    offset : array_like, optional
        Fixed term of the prediction, broadcast to y's shape.
    sample_weight : array_like, shape (n,) or (count, n), optional
        Weight of each row's squared error, 0 or larger.
    reduction : {"mean", "sum", "half_mean", "half_sum"}
    tol : float, ndarray of one for each of many problems, or None
        Stop once the predictions are within `tol` standard deviations of y, root mean square, of
        those that fit best: CONVERGED (docs/numerics.md). None runs every epoch.
    stop : {"gradient", "loss_equal"}
        "gradient" stops by `tol` alone. "loss_equal" also stops when an epoch's loss equals the
        last one's.
    method : {"auto", "stream", "gram", "exact"}
        "stream" descends, reading the data every epoch. "gram" descends as well, but reads the
        data once: X^T X, X^T y and y^T y, summed in float64 (float64 data: without rounding
        errors), are all that the squared error depends on. "exact" solves in closed form.
        "auto" without `sgd` is "exact", with it the cheaper of the other two; `Fit.method_reason`
        says why.
    rcond : float, optional
        In closed form, columns count as dependent where what is left of one is at most this part
        of its length; the default (docs/numerics.md) is about 1e-13 for float64 and 3e-7 for
        float32.
    history : int
        Record every so many epochs; 0 records nothing.
    progress : bool or callable
        True shows a bar on stderr; a callable gets (epoch, epochs, loss), of many problems
        (done, count, NaN), ten times a second or more often, also before the first epoch.
    checkpoint : path-like, optional
        File that keeps the state while fitting. If it exists, the fit goes on from it, to the
        same bits as if it had never stopped. Of chunks, it is kept between epochs; the first
        reading is done anew.
    n_threads : int, optional
        Threads to use; `get_num_threads()` by default.

    Returns
    -------
    Fit
        Of many problems a `Fits`: the same attributes with the problems as first dimension. A bad
        problem has a status of its own, raises nothing and changes no bit of the others.

    Raises
    ------
    ValueError
        If shapes do not fit, the data holds NaN or infinity, an option is out of range, or the
        checkpoint is another problem's.
    ChunkError
        If a chunk is at fault; it says which, and keeps what was done.
    TypeError
        If a dtype is not real.
    DataLostError
        If X or y map a file (`numpy.memmap`) that shrinks meanwhile, with the weights before that.
    FitInterrupted
        On Ctrl-C, with the weights so far.

    Warns
    -----
    LearningRateWarning
        If lr is above the stability limit, before the first step; of many problems, afterwards, if
        some diverged for that reason.
    FitWarning
        If the fit diverged, stalled, is singular or empty, or ends with its epochs before `tol` is
        met; that is said before the first step where it is known. Of many problems, once for all
        that did. Also if options had no effect.

    Examples
    --------
    >>> import gdcore as gd
    >>> fit = gd.fit([[1.0], [2.0], [3.0]], [3.0, 5.0, 7.0])
    >>> print(fit.status, fit.weights.round(3), fit.intercept.round(3))
    CONVERGED [2.] 1.0
    >>> fit = gd.fit([[1.0], [2.0], [3.0]], [3.0, 5.0, 7.0], gd.SGD(momentum=0.5))
    >>> print(fit.method, fit.epochs > 0, fit.weights.round(3), fit.intercept.round(3))
    stream True [2.] 1.0
    """
    reject(fit, unknown)
    if isinstance(y, SGD):
        raise TypeError("y is SGD; of chunks, which bring y along, pass it by name: sgd=.")
    if checkpoint is not None and method == "exact":
        raise ValueError("method='exact' takes no steps that a checkpoint keeps; leave it out.")
    options = Options(
        epochs, batch_size, shuffle, seed, tol, stop, method, history, n_threads, standardize, rcond
    )
    options = settled(sgd, options, init, checkpoint)
    sgd = checked_sgd(sgd, method)
    if y is None:
        sgd.alone()
        from gdcore.chunks.fit import fit_chunks

        require_chunks(X)
        for name, value in (
            ("offset", offset),
            ("sample_weight", sample_weight),
        ):
            if value is not None:
                raise ValueError(
                    f"chunks take no {name}=; put it into the chunks: (X, y, sample_weight) or "
                    "(X, y, sample_weight or None, offset)."
                )
        with reporting(progress, epochs, init):
            result = fit_chunks(
                X, sgd, options, fit_intercept, init, reduction, progress, checkpoint
            )
        warn_of_ignored(options)
        warn_of_end(result, options)
        return result
    given = {"X": X, "y": y, "offset": offset, "sample_weight": sample_weight}
    if _axes(X) == 3:
        with watched(**given), reporting(progress, epochs, init), _core.FpEnv():
            many = stacked(X, y, offset, sample_weight, fit_intercept, reduction)
            fits = fit_problems(many, sgd, options, init, progress, checkpoint)
        warn_of_ignored(options)
        warn_of_many(fits, options)
        return fits
    sgd.alone()
    with watched(**given), reporting(progress, epochs, init), _core.FpEnv():
        problem = make_problem(X, y, offset, sample_weight, fit_intercept, reduction)
        options.check(problem.n)
        start = start_from(init, problem, batch_size)
        if problem.n == 0 or problem.weightless:
            result = empty_fit(problem, start)
        elif options.method == "exact":
            result = solve_exact(problem, sgd, options)
        else:
            result = descend(problem, sgd, options, start, progress, checkpoint)
    warn_of_ignored(options)
    warn_of_end(result, options)
    return result


def warn_of_end(result: Fit, options: Options) -> None:
    """Warn the caller's caller of a fit that deserves a look.

    One that ran all its epochs does if a `tol` said when to stop, unless that was said before.
    """
    short = result.status is Status.MAX_EPOCHS and options.tol is not None and options.epochs > 0
    if result.status in DESERVE_A_LOOK or (short and not advises(result.detail)):
        warnings.warn(result.message, FitWarning, stacklevel=3)


def warn_of_many(fits: Fits, options: Options) -> None:
    """Warn the caller's caller, once, of all fits that deserve a look."""
    if deserve_a_look(fits.status, options):
        warnings.warn(fits.message, FitWarning, stacklevel=3)


def deserve_a_look(statuses: npt.NDArray[np.object_], options: Options) -> bool:
    """Whether some of many fits deserve a look."""
    counted = options.tol is not None and options.epochs > 0
    deserve = DESERVE_A_LOOK | {Status.MAX_EPOCHS} if counted else DESERVE_A_LOOK
    return bool(deserve & set(statuses.tolist()))


def checked_sgd(sgd: SGD | None, method: str) -> SGD:
    """Return the options, the default ones for None; TypeError and ValueError if they are none."""
    sgd = DEFAULT if sgd is None else sgd
    if not isinstance(sgd, SGD):
        hint = f"SGD(lr={sgd!r})" if isinstance(sgd, float) else "SGD(lr=..., momentum=...)"
        raise TypeError(f"sgd is {type(sgd).__name__}; pass gdcore.{hint}.")
    if sgd.maximize and method == "exact":
        raise ValueError("method='exact' has no maximum to find; drop maximize=True.")
    return sgd


def _axes(X: Any) -> int:
    """Return the dimensions of X as far as NumPy can read them; the rest is named later."""
    if hasattr(type(X), "columns"):  # of a data frame, which NumPy would convert first
        return 2
    try:
        return np.ndim(X)
    except (TypeError, ValueError, RuntimeError):
        return 0


def fit_problems(
    problems: Problems,
    sgd: SGD,
    options: Options,
    init: Any,
    progress: bool | Callable[[int, int, float], None],
    checkpoint: Any,
) -> Fits:
    """Fit many problems, their options checked."""
    if checkpoint is not None:
        raise ValueError("checkpoint keeps one problem's state; leave it out for many problems.")
    options.check(int(problems.n.max(initial=0)), problems.count)
    return fit_many(problems, sgd, options, start_of(init, problems), progress)


def start_from(init: Any, problem: Problem, batch_size: int | None) -> FitState:
    """Return the state to start from, its parameters checked against the problem's shapes."""
    epoch = 0
    if isinstance(init, Fit):
        epoch = init.epochs
        check_names(init, problem)
        if init.weights.shape != problem.weights_shape:
            raise ValueError(
                f"init is a fit with weights of shape {init.weights.shape}; this problem's have "
                f"shape {problem.weights_shape}."
            )
        state = init.state
        if state is not None and state.fits(problem.size, problem.dtype):
            fresh = state.elsewhere()
            if (state.rows, state.batch_size) == (problem.n, batch_size or 0):
                return fresh
            return replace(fresh, step=0, epoch_sums=None)  # an epoch broken off begins anew
        weights, intercept = init.weights, init.intercept
    elif isinstance(init, tuple) and len(init) == 2:
        weights, intercept = init
    elif init is None:
        weights, intercept = np.zeros(problem.weights_shape), 0.0
    else:
        weights, intercept = init, 0.0
    (weights, intercept) = _core.prepare(("init weights", weights), ("init intercept", intercept))
    if weights.shape != problem.weights_shape:
        raise ValueError(
            f"init has weights of shape {weights.shape}; "
            f"they must have shape {problem.weights_shape}."
        )
    if intercept.shape not in ((), problem.weights_shape[1:]):
        raise ValueError(
            f"init has an intercept of shape {intercept.shape}; "
            f"it must have shape {problem.weights_shape[1:]}."
        )
    if not (np.isfinite(weights).all() and np.isfinite(intercept).all()):
        raise ValueError("init holds NaN or infinity; pass finite weights and intercept.")
    if not problem.fit_intercept and np.any(intercept):
        raise ValueError(
            "init has an intercept but fit_intercept is False; pass it as offset to keep it fixed."
        )
    parts = [weights.ravel()]
    if problem.fit_intercept:
        parts.append(np.broadcast_to(intercept, (problem.t,)))
    return FitState(params=np.concatenate(parts).astype(problem.dtype), epoch=epoch)


def empty_fit(problem: Problem, start: FitState) -> Fit:
    """Return the fit of no rows: the start."""
    return replace(
        fit_at(problem, start, start),
        loss=problem.dtype.type(math.nan),
        status=Status.EMPTY,
        lr=math.nan,
        method_reason="there is nothing to read.",
    )
