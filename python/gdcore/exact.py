"""The closed form, and the loss at given parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gdcore import _core
from gdcore.kernels import Floats
from gdcore.options import BLOCK_SECONDS, Options
from gdcore.problem import Problem, diagnose
from gdcore.result import Fit, history_of
from gdcore.sgd import SGD
from gdcore.state import FitState
from gdcore.status import Status


def solve_exact(problem: Problem, sgd: SGD, options: Options) -> Fit:
    """Return the minimiser of loss + weight_decay / 2 |params|^2."""
    exact = _core.Exact(problem.core, sgd.weight_decay)
    while not exact.advance(BLOCK_SECONDS):
        pass
    params, rank = exact.solve()
    if not np.isfinite(params).all():
        diagnose(problem)
    weights, intercept = problem.unpack(params)
    singular = rank < problem.size // problem.t
    return Fit(
        weights=weights,
        intercept=intercept,
        loss=loss_at(problem, params, options),
        epochs=0,
        status=Status.SINGULAR if singular else Status.CONVERGED,
        lr=math.nan,
        history=history_of(problem),
        method="exact",
        method_reason="method='exact' was asked for.",
        fit_intercept=problem.fit_intercept,
    )


def loss_at(problem: Problem, params: Floats, options: Options) -> Any:
    """Loss over all the data at some parameters: a descent of no epochs."""
    descent = _core.Descent(
        problem.core,
        FitState(params=params).as_dict(),
        0,
        **SGD(lr=1.0).options,
        batch_size=0,
        shuffle=False,
        seed=0,
        tol=-1.0,
        stop_on_equal_loss=False,
        history=0,
        record_params=False,
    )
    while descent.advance(BLOCK_SECONDS, options.n_threads or 0) == "running":
        pass
    return problem.dtype.type(descent.loss)
