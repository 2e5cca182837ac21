"""`fit`: one problem, a stack of them, or rows in chunks."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Never, Unpack, overload

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.advice import reject
from gdcore.data.device import place_of
from gdcore.data.memmap import guard
from gdcore.data.problem import RowProblem, make_problem
from gdcore.results.fit import Fit, empty_fit, warn_of_end
from gdcore.results.state import FitState
from gdcore.sgd import SGD
from gdcore.solvers.descent import descend
from gdcore.solvers.exact import inference_of_rows, solve_exact
from gdcore.solvers.inference import with_inference
from gdcore.solvers.method import settled, warn_of_ignored
from gdcore.solvers.options import Options, check_sgd
from gdcore.solvers.progress import reporting
from gdcore.solvers.start import initial_state
from gdcore.typing import (
    Covariance,
    FitOptions,
    Floats,
    Method,
    Missing,
    Reduction,
    Show,
    Stack,
    Stop,
)

if TYPE_CHECKING:
    from gdcore.results.fits import Fits


# Type checkers read the dimensions of X. Where they are not known it may be a stack, and a `Fits`
# is a `Fit`.
@overload
def fit(
    X: Stack, y: npt.ArrayLike, sgd: SGD | None = None, **options: Unpack[FitOptions]
) -> Fits: ...
@overload
def fit(
    X: Any, y: npt.ArrayLike | None = None, sgd: SGD | None = None, **options: Unpack[FitOptions]
) -> Fit: ...
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
    missing: Missing = "error",
    reduction: Reduction = "mean",
    tol: float | Floats | None = 1e-6,
    stop: Stop = "gradient",
    method: Method = "auto",
    rcond: float | None = None,
    covariance: Covariance | None = None,
    history: int = 1,
    progress: Show = False,
    checkpoint: str | os.PathLike[str] | None = None,
    n_threads: int | None = None,
    device: Any = None,
    **unknown: Never,
) -> Fit:
    """Fit a linear model to the squared error: least squares, or by gradient descent.

    Without `sgd` the answer is the least-squares solution; with it, the result of that descent.
    The same call gives the same bits with any number of threads and any instruction set.

    Parameters
    ----------
    X : array_like, shape (n, d) or (count, n, d), or chunks of rows
        Rows of one problem, or of many that are fitted one by one as if alone. Without y, chunks
        ``(X, y)``, ``(X, y, sample_weight)`` or ``(X, y, sample_weight or None, offset)``: an
        iterable of them, a function that returns one, or `read_chunks`. Only a few are in memory
        at a time. "exact" and "gram", the default of descent, read them once; "stream" and
        mini-batches read them again every epoch. `Fit.feature_names` keeps the names of a data
        frame's columns (extra "frames"), and `Fit.predict` finds columns by them.
    y : array_like, shape (n,) or (n, t); (count, n) or (count, n, t)
        One target, or several fitted side by side.
    sgd : SGD, optional
        Learning rate, momentum, weight decay: descend. Without it ``method="exact"`` gives the
        answer. "gram", "stream", `batch_size` or `checkpoint` ask for descent by ``SGD()``
        (lr="auto"); `init`, `epochs`, `tol` and `stop` alone do not, and a warning says that they
        had no effect.
    epochs : int
        Passes over the data, at most; on a warm start, further ones.
    batch_size : int, optional
        Rows of a mini-batch, 1 to n; None takes all rows at once. The last batch may be shorter.
    shuffle : bool
        Reorder the rows for mini-batches every epoch; `seed` and the epoch determine the order.
    seed : int, 0 to 2**64 - 1
    fit_intercept : bool
    standardize : bool
        Fit the model of the standardised columns: lr and its limit, weight decay and the stopping
        rule refer to them. The weights returned are those of the columns as given.
    init : Fit, array_like or (weights, intercept), optional
        Start; zeros by default. Many problems share it, or have one each. A Fit continues from its
        end, with its velocity.
    offset : array_like, optional
        Fixed term of the prediction, broadcast to y's shape.
    sample_weight : array_like, shape (n,) or (count, n), optional
        Weight of each row's squared error, 0 or larger.
    missing : {"error", "drop"}
        With "drop", a row that holds NaN or a null in X, y, sample_weight or offset does not count:
        the bits are those of the rows that are kept, and `Fit.rows` is their number. Targets whose
        gaps are in different rows are fitted one by one (docs/guide.md). Infinity is always an
        error.
    reduction : {"mean", "sum", "half_mean", "half_sum"}
    tol : float, ndarray of one for each of many problems, or None
        Stop once the predictions are within `tol` standard deviations of y, root mean square, of
        the best fit's: CONVERGED (docs/numerics.md). None runs every epoch.
    stop : {"gradient", "loss_equal"}
        "gradient" stops by `tol` alone. "loss_equal" also stops when an epoch's loss equals the
        last one's.
    method : {"auto", "stream", "gram", "exact"}
        "stream" descends, reading the data every epoch. "gram" descends as well, but reads the
        data once: X^T X, X^T y and y^T y, summed in float64 (float64 data: without rounding
        errors), are all that the squared error depends on. "exact" solves in closed form.
        "auto" without `sgd` is "exact", with it the cheaper of the other two: `Fit.method_reason`
        says why.
    rcond : float, optional
        In closed form, a column counts as dependent if its remainder, after the other columns are
        projected out, is at most this part of its length. The default (docs/numerics.md) is about
        1e-13 for float64 and 3e-7 for float32.
    covariance : {"ols", "hc0", "hc1", "hc2", "hc3"}, optional
        Estimate the covariance of the weights: "ols" if all rows have errors of one variance, the
        others (White's, and MacKinnon and White's) if not. `Fit.summary` and its attributes
        `stderr`, `tvalues`, `pvalues` read it.
    history : int
        Record every `history` epochs; 0 records nothing.
    progress : bool or callable
        True shows a bar on stderr; a callable gets (epoch, epochs, loss), or for many problems
        (done, count, NaN), ten times a second or more often, also before the first epoch.
    checkpoint : path-like, optional
        File that keeps the state while fitting. If it exists, the fit continues from it, to the
        same bits as if it had never stopped. With chunks it is written between epochs, and the
        first reading is repeated.
    n_threads : int, optional
        Threads to use; `get_num_threads()` by default.
    device : {"cpu", "cuda", "cuda:1", ...}, optional
        Where to compute; by default where the arrays are. "cuda" copies arrays that are in the
        host's memory to the GPU, one chunk at a time if they come in chunks.

    Returns
    -------
    Fit
        Its `weights`, `intercept` and predictions are of X's library and on X's device if X is of
        a library with DLPack, such as torch, CuPy or JAX, whose arrays are read where they are,
        without a copy. All else, also in `Fit.state`, pickles and files, is NumPy's and Python's.
        For many problems a `Fits`: the same attributes with the problems as first dimension. A bad
        problem has its own status, raises no error and changes no bit of another.

    Raises
    ------
    ValueError
        If shapes do not fit, the data holds NaN or infinity, an option is out of range, or the
        checkpoint is another problem's. If arrays are in several places, or not on `device`.
    RuntimeError
        If there is no GPU to compute on; the error says why.
    MemoryError
        If the GPU has no room for the arrays, or for what the fit needs beside them.
    ChunkError
        If a chunk is at fault; the error names it and keeps what was fitted before.
    TypeError
        If a dtype is not real.
    DataLostError
        If X or y map a file (`numpy.memmap`) that shrinks meanwhile, with the weights before that.
    FitInterrupted
        On Ctrl-C, with the weights so far.

    Warns
    -----
    LearningRateWarning
        If lr is above the stability limit, before the first step; for many problems, afterwards,
        if some diverged for that reason.
    FitWarning
        If the fit diverged, stalled, is singular or empty, or ran out of epochs before `tol` was
        met (where that is known, before the first step); for many problems, once for all of them.
        Also if options had no effect.

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
        raise TypeError("y is an SGD object; with chunks pass it as sgd=...")
    if checkpoint is not None and method == "exact":
        raise ValueError("method='exact' takes no steps that a checkpoint keeps; leave it out.")
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
    options = settled(sgd, options, init, checkpoint)
    sgd = check_sgd(sgd, method)
    place = place_of(device)
    how = fit_intercept, reduction
    if y is None:
        from gdcore.chunks.fit import fit_chunks
        from gdcore.chunks.source import require_chunks

        sgd.check_for_one()
        require_chunks(X)
        for name, value in (("offset", offset), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(
                    f"chunks take no {name}=; put it into the chunks: (X, y, sample_weight) or "
                    "(X, y, sample_weight or None, offset)."
                )
        with reporting(progress, epochs, init):
            result = fit_chunks(
                X, sgd, options, fit_intercept, init, reduction, progress, checkpoint, place
            )
    elif _axes(X) == 3:
        from gdcore.data.problems import make_problems
        from gdcore.results.fits import warn_of_ends
        from gdcore.solvers.many import fit_many

        with (
            guard(X=X, y=y, offset=offset, sample_weight=sample_weight),
            reporting(progress, epochs, init),
            _core.FpEnv(),
        ):
            many = make_problems(X, y, offset, sample_weight, *how, place, missing)
            fits = fit_many(many, sgd, options, init, progress, checkpoint)
        warn_of_ignored(options)
        warn_of_ends(fits, options.expects_convergence)
        return fits
    else:
        sgd.check_for_one()
        with (
            guard(X=X, y=y, offset=offset, sample_weight=sample_weight),
            reporting(progress, epochs, init),
            _core.FpEnv(),
        ):
            problem = make_problem(X, y, offset, sample_weight, *how, place=place, missing=missing)
            options.check(problem.shape.n)
            start = initial_state(init, problem.shape, options.batch_size)
            how_to = sgd, options, progress, checkpoint
            if problem.is_ragged:
                from gdcore.solvers.targets import fit_targets

                fit_one = partial(_fit_rows, how=how_to)
                result = fit_targets(problem, options, start, checkpoint, fit_one)
            else:
                result = _fit_rows(problem, start, how_to)
    warn_of_ignored(options)
    warn_of_end(result, options.expects_convergence)
    return result


def _fit_rows(problem: RowProblem, start: FitState, how: tuple[SGD, Options, Show, Any]) -> Fit:
    sgd, options, progress, checkpoint = how
    if problem.is_weightless:
        result = empty_fit(problem.shape, start, options.method)
    elif options.method == "exact":
        result = solve_exact(problem, sgd, options)
    else:
        result = descend(problem, sgd, options, start, progress, checkpoint)
    if options.covariance is None or result.inference is not None:
        return result
    return with_inference(
        result, problem, sgd, options, lambda: inference_of_rows(problem, options)
    )


def _axes(X: Any) -> int:
    """Return the dimensions of X as far as NumPy can read them; `make_problem` names faults."""
    kind = type(X)
    if kind is np.ndarray:
        return X.ndim  # type: ignore[no-any-return]
    # NumPy would convert a data frame first, or a stream's rows.
    if hasattr(kind, "columns") or hasattr(kind, "__arrow_c_stream__"):
        return 2
    try:
        return np.ndim(X)
    except (TypeError, ValueError, RuntimeError):
        return 0
