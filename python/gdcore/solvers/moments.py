"""Fits from moments, out of which rows may have been taken."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.data.moment_problem import MomentProblem, make_moment_problem
from gdcore.data.statistics import Statistics
from gdcore.data.sums import in_range, out_of_range, table_of
from gdcore.errors import FitWarning, stacklevel
from gdcore.results.fit import Fit, empty_fit
from gdcore.results.inference import Inference
from gdcore.sgd import SGD
from gdcore.solvers.descent import descend
from gdcore.solvers.exact import exact_options, solve_moments
from gdcore.solvers.inference import (
    ROUNDING,
    inferred,
    not_inferred,
    with_inference,
)
from gdcore.solvers.learning_rate import underflow
from gdcore.solvers.options import DEFAULT, Options
from gdcore.solvers.start import initial_state
from gdcore.typing import Bools, Floats, Show

# The largest allowed ratio of rounding errors, from rows taken out, to the squares that are left.
# The bound for float32 rows is about fifty times the measured errors (docs/numerics.md).
MOST_NOISE = {np.dtype(np.float32): 2.0**-14, np.dtype(np.float64): 2.0**-20}
LEAST_RCOND = {np.dtype(np.float32): 2.0**-20, np.dtype(np.float64): 2.0**-42}
SURE = 2.0**7  # squares of residuals are known if they are as many times their bound of errors
DEPENDENT = 2.0**-40  # an eigenvalue that may be 0, of columns of length 1


def fit_moments(
    statistics: Statistics,
    sgd: SGD,
    options: Options,
    fit_intercept: bool,
    reduction: str,
    init: Any,
    progress: Show,
) -> Fit:
    """Fit the rows behind closed statistics."""
    problem = make_moment_problem(statistics, fit_intercept, reduction)
    options.check(problem.shape.n)
    start = initial_state(init, problem.shape, None)
    moments = statistics.total()
    if problem.is_weightless:
        fit = empty_fit(problem.shape, start, options.method)
        return with_inference_of_moments(fit, problem, moments, sgd, options)
    _check_squares(problem, moments)
    if options.method == "exact":
        options = replace(options, rcond=_rcond(problem, options.rcond))
        fit = solve_moments(problem, moments, sgd, options)
    else:
        how = replace(options, method="gram")
        fit = descend(problem, sgd, how, start, progress, None, moments)
    fit = with_inference_of_moments(fit, problem, moments, sgd, options)
    return _with_known_loss(fit, problem)


def with_inference_of_moments(
    fit: Fit,
    problem: MomentProblem,
    moments: _core.Moments,
    sgd: SGD,
    options: Options,
    read: Callable[[_core.Inference], None] | None = None,
) -> Fit:
    """Return the fit with what `options.covariance` asks for; `read` is for kinds of rows."""

    def infer() -> Inference:
        how = exact_options(DEFAULT, options)
        found = _core.infer_moments(problem.core, moments, how, problem.rows_that_count)
        inference = inferred(found, problem.shape, options, read)
        if inference.reason or options.covariance != "ols" or not _is_noise(inference):
            return inference
        return not_inferred(problem, options, ROUNDING)

    def _is_noise(inference: Inference) -> bool:
        """Whether some residuals are so small that the sums do not know their squares."""
        statistics = problem.statistics
        if statistics.columns.dtype == np.float64 and not statistics.gone.any():
            return False  # pairs know them, if they are not 0
        squares = np.atleast_1d(inference.sigma2) * inference.df_resid
        return bool((squares <= SURE * _noise_of_squares(fit, problem)).any())

    return with_inference(fit, problem, sgd, options, infer)


def _check_squares(problem: MomentProblem, moments: _core.Moments) -> None:
    """Raise ValueError unless the sums determine the fit."""
    statistics, shape = problem.statistics, problem.shape
    if statistics.gone.any():
        lost = _lost(statistics, shape.columns)
        if lost.any():
            raise ValueError(
                f"only rounding errors are left of {statistics.columns.name(lost)}, whose large "
                "rows were taken out; sum the rows that are left again."
            )
    if not in_range(moments, shape.dtype):
        raise ValueError(f"{out_of_range(shape.dtype)}.")
    if ((statistics.squares() == 0) & (statistics.filled > 0))[: shape.d].any():
        raise ValueError(underflow(shape.dtype))


def _lost(statistics: Statistics, p: int) -> Bools:
    """Return the columns of [X 1 y] of which too little is left to fit the first p.

    ValueError if no rows have such sums.
    """
    d, most = statistics.d, MOST_NOISE[statistics.columns.dtype]
    squares, noise = statistics.squares(), statistics.noise()
    touched = squares + 2 * statistics.gone
    lost: Bools = ~(noise <= most * squares)
    if lost.any():
        return lost
    share = _share(noise, squares)
    length = np.sqrt(np.where(squares > 0, squares, 1))
    products = table_of(statistics.hi, d) / length / length[: d + 1, None]
    values = np.linalg.eigvalsh(products[:p, :p], UPLO="U") if p else np.zeros(0)
    noise_of_all, rounding = share[:p].sum(), (p + 1) * 2.0**-50
    least = -max(noise_of_all, rounding)
    if (values < least).any() or (np.abs(products) > 1 + rounding + share.max()).any():
        raise ValueError(
            "the rows taken out were never put in: no rows have the sums that are left."
        )
    dependent = max(min(noise_of_all, DEPENDENT), rounding)
    hidden = (values > dependent) & (most * values < noise_of_all)
    # Errors that `fit_rolling` tolerates are not a reason to refuse.
    if hidden.any() and (touched > 4 * squares).any():
        lost[np.argmax(share[:p])] = True
    return lost


def _share(noise: Floats, squares: Floats) -> Floats:
    """Return noise / squares; 0 for columns of zeros, which have no noise."""
    return np.divide(noise, squares, out=np.zeros_like(noise), where=squares > 0)


def _rcond(problem: MomentProblem, rcond: float | None) -> float | None:
    """Return the part of a column's length that may be rounding errors of rows taken out."""
    statistics, shape = problem.statistics, problem.shape
    if rcond is not None or not statistics.gone.any():
        return rcond
    share = _share(statistics.noise(), statistics.squares())[: shape.columns]
    return max(LEAST_RCOND[shape.dtype], float(np.sqrt(share.sum())))


def _noise_of_squares(fit: Fit, problem: MomentProblem) -> Floats:
    """Return how far the squares of each target's residuals may be off."""
    d, root = problem.shape.d, np.sqrt(problem.statistics.closed().noise())
    weights = np.abs(fit.weights.astype(float).reshape(d, -1))
    errors = root[:d] @ weights + root[d] * np.abs(fit.intercept)
    noise: Floats = (errors + root[d + 1 :]) ** 2
    return noise


def _with_known_loss(fit: Fit, problem: MomentProblem) -> Fit:
    """Return a fit whose loss is not below the rounding errors of rows taken out."""
    statistics, shape = problem.statistics, problem.shape
    if not statistics.gone.any():
        return fit
    divisor = 1.0 if shape.is_sum else statistics.total_weight() * shape.t
    divisor *= 2 if shape.reduction.startswith("half") else 1
    bound = float(_noise_of_squares(fit, problem).sum()) / divisor
    if not fit.loss <= bound:
        return fit
    loss = shape.dtype.type(fit.loss + bound)
    if fit.method != "exact":
        warnings.warn(
            "the loss is no more than the rounding errors of rows that were taken out: it is "
            f"{loss:.3g} or less; gdcore.mse(fit.predict(X), y) on the rows tells it.",
            FitWarning,
            stacklevel=stacklevel(),
        )
    return replace(fit, loss=loss)
