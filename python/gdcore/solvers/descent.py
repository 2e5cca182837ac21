"""Gradient descent: the loop around the C++ steps."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gdcore._core as _core
from gdcore.data.memmap import check, lost, watching
from gdcore.data.problem import Problem, diagnose
from gdcore.kernels import Floats
from gdcore.results.fit import Fit, Start, history_of
from gdcore.results.state import FitState, Unsaved
from gdcore.sgd import SGD, rate_at
from gdcore.solvers.method import choose
from gdcore.solvers.options import BLOCK_SECONDS, Options
from gdcore.solvers.plan import Plan, make_plan
from gdcore.solvers.progress import Progress
from gdcore.status import DataLostError, FitInterrupted, FitWarning, Status, stacklevel

SCHEDULE_BLOCK = 64  # epochs whose lr is asked for ahead
RECORD_BYTES = 64 << 20  # the most that recorded weights may take
STILL, NO_EPOCH = SGD(lr=1.0), Options(0, None, False, 0, None, "gradient", "auto", 0, None)

_STATUS = {
    "running": Status.MAX_EPOCHS,
    "max_epochs": Status.MAX_EPOCHS,
    "converged": Status.CONVERGED,
    "diverged": Status.DIVERGED,
    "stalled": Status.STALLED,
}


def descend(
    problem: Problem,
    sgd: SGD,
    options: Options,
    start: FitState,
    progress: bool | Callable[[int, int, float], None],
    checkpoint: str | os.PathLike[str] | None,
    given: _core.Moments | None = None,
) -> Fit:
    """Fit by descent from `start`, in blocks between which Python looks after the rest.

    On `given` moments no row is read.
    """
    threads = options.n_threads or 0
    moments, reason = choose(problem, options) if given is None else (given, "given moments.")
    method = "gram" if moments else "stream"
    plan = make_plan(problem, sgd, options, start, moments, threads)
    problem, start, rate = plan.problem, plan.start, plan.rate
    target = start.epoch + options.epochs
    saved = open_checkpoint(checkpoint, problem, sgd, options, start, method)
    state = start if saved.state is None else saved.state
    descent = make_descent(problem, plan.sgd, options, state, target, plan.judge, plan)
    if not callable(rate):
        descent.set_constant_lr(float(rate))

    outcome: _core.Outcome = "running"
    reached = state

    def result() -> Fit:
        fit = result_of(plan, options, descent, saved, outcome)
        return replace(fit, method=method, method_reason=reason)

    try:
        with Progress.make(progress, start.epoch, target) as bar:
            while outcome == "running":
                if callable(rate):
                    epochs = range(descent.epoch, min(descent.epoch + SCHEDULE_BLOCK, target))
                    descent.set_schedule(descent.epoch, [rate_at(rate, e) for e in epochs])
                outcome = descent.advance(BLOCK_SECONDS, threads)
                if watching():
                    check()
                    reached = _state_of(plan, options, descent)
                bar.update(descent.epoch, descent.last_loss)
                saved.save(descent, force=outcome != "running")
    except DataLostError as error:
        error.fit = fit_at(problem, start, reached)
        raise
    except KeyboardInterrupt:
        gone = lost()
        if gone is not None:
            gone.fit = fit_at(problem, start, reached)
            raise gone from None
        saved.save(descent, force=True)
        fit = result()
        raise FitInterrupted(fit) from None
    if outcome == "diverged":
        diagnose(problem)
        if math.isnan(descent.lr):  # before any step
            raise ValueError(
                f"the squared errors at the start overflow {problem.dtype}; "
                "scale y, or start from smaller weights."
            )
    return result()


def open_checkpoint(
    path: str | os.PathLike[str] | None,
    problem: Problem,
    sgd: SGD,
    options: Options,
    start: FitState,
    method: str,
) -> Unsaved:
    """Return what keeps the state of a fit, and where an earlier process left it."""
    if path is None:
        return Unsaved()
    from gdcore.results.archive import Checkpoint

    return Checkpoint.open(path, problem, sgd, options, start, method)


def make_descent(
    problem: Problem,
    sgd: SGD,
    options: Options,
    state: FitState,
    target: int,
    moments: _core.Moments | None,
    plan: Plan | None = None,
) -> _core.Descent:
    """Return a descent that has not begun.

    Moments tell when it has arrived, and stand for the rows if the method says so.
    """
    start = state if plan is None else plan.start
    records = options.epochs // options.history if options.history else 0
    settings = _core.DescentOptions(
        sgd=_core.SgdOptions(**sgd.options, decay_intercept=sgd.decay_intercept),
        batch_size=options.batch_size or 0,
        shuffle=options.shuffle,
        seed=int(options.seed),
        tol=-1.0 if options.tol is None else float(options.tol),
        stop_on_equal_loss=options.stop == "loss_equal",
        history=int(options.history),
        record_params=records * problem.size * problem.dtype.itemsize <= RECORD_BYTES,
    )
    from_rows = plan is not None and not plan.on_moments
    core = problem.core
    descent = _core.Descent(core, state.as_dict(), target, settings, moments, from_rows)
    descent.set_start(start.epoch, start.params)
    return descent


def loss_at(
    problem: Problem, params: Floats, options: Options, moments: _core.Moments | None = None
) -> Any:
    """Loss over all the rows, or their moments, at some parameters: a descent of no epochs."""
    descent = make_descent(problem, STILL, NO_EPOCH, FitState(params=params), 0, moments)
    while descent.advance(BLOCK_SECONDS, options.n_threads or 0) == "running":
        check()
    return problem.dtype.type(descent.least_known_loss if descent.loss_doubtful else descent.loss)


def _most_loss(descent: _core.Descent) -> float:
    """Return the most that a loss too small for the moments can be, and warn."""
    loss = descent.least_known_loss
    warnings.warn(
        f"the loss is too small a part of the squares of y for their moments to tell: it is "
        f"{loss:.3g} or less; gdcore.mse(fit.predict(X), y) on the rows would tell.",
        FitWarning,
        stacklevel=stacklevel(),
    )
    return loss


def _state_of(plan: Plan, options: Options, descent: _core.Descent) -> FitState:
    return FitState(
        **descent.state(),
        momentum=plan.start.momentum,
        rows=plan.problem.n,
        batch_size=options.batch_size or 0,
        scaling=plan.start.scaling,
    )


def fit_at(problem: Problem, start: FitState, state: FitState) -> Fit:
    """Return the fit of a state without reading any rows: its loss is the one measured last."""
    weights, intercept = problem.unpack(state.params)
    return Fit(
        weights=weights,
        intercept=intercept,
        loss=problem.dtype.type(state.last_loss),
        epochs=state.epoch,
        status=Status.MAX_EPOCHS,
        lr=state.lr,
        history=history_of(problem),
        fit_intercept=problem.fit_intercept,
        feature_names=problem.feature_names,
        target_name=problem.target_name,
        start=Start(*problem.unpack(start.params), start.epoch),
        state=state,
    )


def result_of(
    plan: Plan,
    options: Options,
    descent: _core.Descent,
    saved: Unsaved,
    outcome: _core.Outcome,
) -> Fit:
    """Return what a descent has come to."""
    problem, start, rate, limit = plan.problem, plan.start, plan.rate, plan.limit
    state = _state_of(plan, options, descent)
    status = _STATUS[outcome]
    used = descent.lr
    if math.isnan(used) and not callable(rate):  # no step was due
        used = float(rate)
    if outcome == "max_epochs" and used > limit and not descent.loss <= state.first_loss:
        status = Status.DIVERGED  # on its way, though still finite
    weights, intercept = problem.unpack(state.params)
    if outcome == "running":
        loss = descent.last_loss
    elif descent.loss_doubtful and not problem.rowless:
        loss = loss_at(problem, state.params, options)
    elif descent.loss_doubtful and outcome != "diverged":
        loss = _most_loss(descent)
    else:
        loss = descent.loss
    return Fit(
        weights=weights,
        intercept=intercept,
        loss=problem.dtype.type(loss),
        epochs=state.epoch,
        status=status,
        lr=used,
        history=history_of(problem, saved.history(descent)),
        stability_limit=limit,
        fit_intercept=problem.fit_intercept,
        feature_names=problem.feature_names,
        target_name=problem.target_name,
        start=Start(*problem.unpack(start.params), start.epoch),
        state=state,
        momentum=plan.sgd.momentum,
        r2_lost=(lost := descent.r2_lost),
        detail=plan.account(status, options, lost),
    )
