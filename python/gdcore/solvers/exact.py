"""The closed form."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.data import slices
from gdcore.data.problem import Problem
from gdcore.data.sums import in_range, moments_of
from gdcore.results.fit import Fit, history_of, model_of
from gdcore.results.inference import Inference
from gdcore.sgd import SGD
from gdcore.solvers.descent import loss_at
from gdcore.solvers.inference import inferred, reader, with_inference
from gdcore.solvers.method import moments_suffice
from gdcore.solvers.options import DEFAULT, Options
from gdcore.status import Status
from gdcore.typing import Floats


def solve_exact(problem: Problem, sgd: SGD, options: Options) -> Fit:
    """Return the minimiser of loss + weight_decay / 2 |params|^2."""
    how = exact_options(sgd, options)
    if moments_suffice(problem.shape):
        moments = moments_of(problem.core, options.threads)
        fit = solve_normal(problem, moments, how, options)
        if fit is not None and options.covariance is None:
            return fit
        if fit is not None:
            return with_inference(
                fit,
                problem,
                sgd,
                options,
                lambda: _of_rows(_core.infer_normal(problem.core, moments, how), problem, options),
            )
    exact = _core.Exact(problem.core, how)
    slices.run(exact.advance)
    params, rank = exact.solve()
    fit = solution(problem, params, rank, finite_loss(problem, params, options), options)
    return with_inference(
        fit, problem, sgd, options, lambda: _of_rows(exact.inference(), problem, options)
    )


def solve_normal(
    problem: Problem, moments: _core.Moments, how: _core.ExactOptions, options: Options
) -> Fit | None:
    """Return the minimiser, or None if float64 moments do not tell all of float32's digits."""
    if not in_range(moments, problem.shape.dtype):
        return None
    found = _core.solve_normal(problem.core, moments, how)
    if found is None:
        return None
    params, loss = found
    if loss is None:
        loss = loss_at(problem, params, options, None if problem.has_rows else moments)
    loss = problem.shape.dtype.type(loss)
    return solution(problem, params, problem.shape.columns, loss, options)


def solve_moments(problem: Problem, moments: _core.Moments, sgd: SGD, options: Options) -> Fit:
    """Return the minimiser, without reading rows."""
    params, rank = _core.solve_moments(problem.core, moments, exact_options(sgd, options))
    loss = finite_loss(problem, params, options, moments)
    return solution(problem, params, rank, loss, options)


def _of_rows(found: _core.Inference | None, problem: Problem, options: Options) -> Inference:
    assert found is not None
    return inferred(found, problem.shape, options, reader(problem, options))


def inference_of_rows(problem: Problem, options: Options) -> Inference:
    """Return that of the least-squares solution, which a descent may have found."""
    inference = solve_exact(problem, DEFAULT, replace(options, method="exact")).inference
    assert inference is not None
    return inference


def exact_options(sgd: SGD, options: Options) -> _core.ExactOptions:
    """Return what the closed form minimises; arrays of weight decay are passed separately."""
    decay = sgd.weight_decay
    return _exact_options(
        0.0 if isinstance(decay, np.ndarray) else float(decay),
        bool(sgd.decay_intercept),
        bool(options.standardize),
        -1.0 if options.rcond is None else float(options.rcond),
        options.covariance,
    )


@lru_cache(64)
def _exact_options(
    weight_decay: float,
    decay_intercept: bool,
    standardize: bool,
    rcond: float,
    covariance: str | None,
) -> _core.ExactOptions:
    return _core.ExactOptions(
        weight_decay=weight_decay,
        decay_intercept=decay_intercept,
        standardize=standardize,
        rcond=rcond,
        covariance=covariance,
    )


def reason_of(options: Options) -> str:
    """Return why the closed form was used."""
    if options.exact_by_default:
        return "without sgd, the answer is the least-squares solution."
    return "method='exact' was asked for."


def finite_loss(
    problem: Problem, params: Floats, options: Options, moments: _core.Moments | None = None
) -> Any:
    """Return the loss; ValueError if the data, or the weights that fit it best, are not finite."""
    loss = loss_at(problem, params, options, moments)
    if not math.isfinite(loss) and not np.isfinite(params).all():  # either alone takes longer
        problem.check_finite()
        raise ValueError(
            f"the weights that fit best leave the range of {problem.shape.dtype}; scale the "
            "columns of X and y."
        )
    return loss


def solution(problem: Problem, params: Floats, rank: int, loss: Any, options: Options) -> Fit:
    """Return the fit of a solution."""
    shape = problem.shape
    return Fit(
        **model_of(shape, params),
        loss=loss,
        epochs=0,
        status=Status.SINGULAR if rank < shape.columns else Status.CONVERGED,
        lr=math.nan,
        history=history_of(shape),
        method="exact",
        method_reason=reason_of(options),
        rank=rank,
    )
