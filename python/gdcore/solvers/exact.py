"""The closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.data.memmap import check
from gdcore.data.problem import Problem, diagnose
from gdcore.kernels import Floats
from gdcore.results.fit import Fit, history_of
from gdcore.sgd import SGD
from gdcore.solvers.descent import loss_at
from gdcore.solvers.method import in_range, moments_of, solvable
from gdcore.solvers.options import BLOCK_SECONDS, Options
from gdcore.status import Status


def solve_exact(problem: Problem, sgd: SGD, options: Options) -> Fit:
    """Return the minimiser of loss + weight_decay / 2 |params|^2."""
    how = exact_options(sgd, options)
    if solvable(problem.n, problem):
        moments = moments_of(problem.core, options.n_threads or 0)
        fit = solve_normal(problem, moments, how, options)
        if fit is not None:
            return fit
    exact = _core.Exact(problem.core, how)
    while not exact.advance(BLOCK_SECONDS):
        check()
    params, rank = exact.solve()
    check_range(problem, params)
    return solution(problem, params, rank, loss_at(problem, params, options), options)


def solve_normal(
    problem: Problem, moments: _core.Moments, how: _core.ExactOptions, options: Options
) -> Fit | None:
    """Return the minimiser if float64 moments know it to all of float32's digits."""
    if not in_range(problem, moments):
        return None
    found = _core.solve_normal(problem.core, moments, how)
    if found is None:
        return None
    params, loss = found
    if loss is None:
        loss = loss_at(problem, params, options, moments if problem.rowless else None)
    rank = problem.size // problem.t
    return solution(problem, params, rank, problem.dtype.type(loss), options)


def solve_moments(problem: Problem, moments: _core.Moments, sgd: SGD, options: Options) -> Fit:
    """Return the minimiser where there are no rows."""
    params, rank = _core.solve_moments(problem.core, moments, exact_options(sgd, options))
    check_range(problem, params)
    return solution(problem, params, rank, loss_at(problem, params, options, moments), options)


def exact_options(sgd: SGD, options: Options) -> _core.ExactOptions:
    """Return what the closed form minimises; of many problems, their weight decay goes apart."""
    decay = sgd.weight_decay
    return _core.ExactOptions(
        weight_decay=0.0 if isinstance(decay, np.ndarray) else float(decay),
        decay_intercept=sgd.decay_intercept,
        standardize=options.standardize,
        rcond=-1.0 if options.rcond is None else float(options.rcond),
    )


def reason_of(options: Options) -> str:
    """Why the closed form."""
    if options.exact_by_default:
        return "without sgd, the answer is the least-squares solution."
    return "method='exact' was asked for."


def check_range(problem: Problem, params: Floats) -> None:
    """Raise ValueError if the data, or the weights that fit it best, are not finite."""
    if not np.isfinite(params).all():
        diagnose(problem)
        raise ValueError(
            f"the weights that fit best leave the range of {problem.dtype}; scale the columns of X "
            "and y."
        )


def solution(problem: Problem, params: Floats, rank: int, loss: Any, options: Options) -> Fit:
    """Return the fit of a solution."""
    weights, intercept = problem.unpack(params)
    singular = rank < problem.size // problem.t
    return Fit(
        weights=weights,
        intercept=intercept,
        loss=loss,
        epochs=0,
        status=Status.SINGULAR if singular else Status.CONVERGED,
        lr=math.nan,
        history=history_of(problem),
        method="exact",
        method_reason=reason_of(options),
        fit_intercept=problem.fit_intercept,
        feature_names=problem.feature_names,
        target_name=problem.target_name,
        rank=rank,
    )
