"""The closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gdcore import _core
from gdcore.descent import loss_at
from gdcore.kernels import Floats
from gdcore.mapped import check
from gdcore.method import in_range, moments_of, solvable
from gdcore.options import BLOCK_SECONDS, Options
from gdcore.problem import Problem, diagnose
from gdcore.result import Fit, history_of
from gdcore.sgd import SGD
from gdcore.status import Status


def solve_exact(problem: Problem, sgd: SGD, options: Options) -> Fit:
    """Return the minimiser of loss + weight_decay / 2 |params|^2."""
    if solvable(problem.n, problem):
        moments = moments_of(problem.core, options.n_threads or 0)
        fit = solve_moments(problem, moments, sgd.weight_decay, options)
        if fit is not None:
            return fit
    exact = _core.Exact(problem.core, float(sgd.weight_decay))
    while not exact.advance(BLOCK_SECONDS):
        check()
    params, rank = exact.solve()
    check_range(problem, params)
    return solution(problem, params, rank, loss_at(problem, params, options))


def solve_moments(
    problem: Problem, moments: _core.Moments, weight_decay: Any, options: Options
) -> Fit | None:
    """Return the minimiser if the rows' moments tell it."""
    if not in_range(problem, moments):
        return None
    found = _core.solve_normal(problem.core, moments, float(weight_decay))
    if found is None:
        return None
    params, loss = found
    if loss is None:
        loss = loss_at(problem, params, options, moments if problem.rowless else None)
    return solution(problem, params, problem.size // problem.t, problem.dtype.type(loss))


def check_range(problem: Problem, params: Floats) -> None:
    """Raise ValueError if the data, or the weights that fit it best, are not finite."""
    if not np.isfinite(params).all():
        diagnose(problem)
        raise ValueError(
            f"the weights that fit best leave the range of {problem.dtype}; scale the columns of X "
            "and y."
        )


def solution(problem: Problem, params: Floats, rank: int, loss: Any) -> Fit:
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
        method_reason="method='exact' was asked for.",
        fit_intercept=problem.fit_intercept,
        feature_names=problem.feature_names,
        target_name=problem.target_name,
    )
