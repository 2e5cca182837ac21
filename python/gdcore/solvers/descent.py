"""Gradient descent: the loop around the C++ steps."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import gdcore._core as _core
from gdcore.data import slices
from gdcore.data.memmap import is_guarded, lost_error
from gdcore.data.problem import Problem
from gdcore.errors import DataLostError, FitInterrupted, FitWarning, stacklevel
from gdcore.results.checkpoint import Checkpoint, Unsaved
from gdcore.results.fit import Fit, History, Start, fit_at, history_of, model_of
from gdcore.results.state import FitState
from gdcore.sgd import SGD, rate_at
from gdcore.solvers.method import choose
from gdcore.solvers.options import Options
from gdcore.solvers.plan import Plan, make_plan
from gdcore.solvers.progress import Progress
from gdcore.status import Status
from gdcore.typing import Floats, Show

SCHEDULE_BLOCK = 64  # epochs for which a schedule is called ahead
RECORD_BYTES = 64 << 20  # the most that recorded weights may take

Pause = Callable[[History], int]
_pause: ContextVar[Pause | None] = ContextVar("_pause", default=None)

_STATUS = {
    "running": Status.MAX_EPOCHS,
    "max_epochs": Status.MAX_EPOCHS,
    "converged": Status.CONVERGED,
    "diverged": Status.DIVERGED,
    "stalled": Status.STALLED,
}


@contextmanager
def pausing(call: Pause) -> Iterator[None]:
    """Have descents of one problem pause, in this thread, and call this, at first before a step.

    It gets what was recorded since the last pause, and returns how many epochs are to follow before
    the next one; 0 ends the descent. Pauses change no bits.
    """
    token = _pause.set(call)
    try:
        yield
    finally:
        _pause.reset(token)


def descend(
    problem: Problem,
    sgd: SGD,
    options: Options,
    start: FitState,
    progress: Show,
    checkpoint: str | os.PathLike[str] | None,
    given: _core.Moments | None = None,
) -> Fit:
    """Fit by descent from `start`, a slice of work at a time.

    With `given` moments no row is read.
    """
    moments, reason = choose(problem, options) if given is None else (given, "given moments.")
    method = "gram" if moments else "stream"
    plan = make_plan(problem, sgd, options, start, moments)
    problem, start, rate = plan.problem, plan.start, plan.rate
    target = start.epoch + options.epochs
    saved = open_checkpoint(checkpoint, problem, sgd, options, start, method)
    state = start if saved.state is None else saved.state
    pause = _pause.get()
    block = options.epochs if pause is None else pause(history_of(problem.shape))
    until = min(state.epoch + block, target)
    descent = _begin_block(plan, options, state, until)

    outcome: _core.Outcome = "running"
    reached = state

    try:
        with Progress.make(progress, start.epoch, target) as bar:
            while outcome == "running":
                if callable(rate):
                    epochs = range(descent.epoch, min(descent.epoch + SCHEDULE_BLOCK, target))
                    descent.set_schedule(descent.epoch, [rate_at(rate, e) for e in epochs])
                outcome = descent.advance(slices.SECONDS, options.threads)
                if is_guarded():
                    slices.look()
                    reached = _state_of(plan, options, descent)
                bar.update(descent.epoch, descent.last_loss)
                saved.save(descent, force=outcome != "running")
                if pause is not None and outcome != "running":
                    block = pause(history_of(problem.shape, descent.history()))
                    # A descent that stalled there, and not only looks so at its last epoch, does so
                    # again before it takes a step.
                    at_pause = outcome in ("max_epochs", "stalled") and descent.epoch == until
                    if at_pause and until < target and block:
                        until = min(until + block, target)
                        state = _state_of(plan, options, descent)
                        descent, outcome = _begin_block(plan, options, state, until), "running"
    except DataLostError as error:
        error.fit = fit_at(problem.shape, start, reached)
        raise
    except KeyboardInterrupt:
        lost = lost_error()
        if lost is not None:
            lost.fit = fit_at(problem.shape, start, reached)
            raise lost from None
        saved.save(descent, force=True)
        fit = result_of(plan, options, descent, saved, outcome, method, reason)
        raise FitInterrupted(fit) from None
    if outcome == "diverged":
        problem.check_finite()
        if math.isnan(descent.lr):  # before any step
            raise ValueError(
                f"the squared errors at the start overflow {problem.shape.dtype}; "
                "scale y, or start from smaller weights."
            )
    return result_of(plan, options, descent, saved, outcome, method, reason)


def open_checkpoint(
    path: str | os.PathLike[str] | None,
    problem: Problem,
    sgd: SGD,
    options: Options,
    start: FitState,
    method: str,
) -> Unsaved:
    """Return the checkpoint of a fit, with the state that an earlier process left in it."""
    if path is None:
        return Unsaved()
    settings = {
        "sgd": sgd.options | {"lr": "a schedule" if callable(sgd.lr) else sgd.lr},
        "decay_intercept": sgd.decay_intercept,
        "method": method,
        "batch_size": options.batch_size,
        "shuffle": bool(options.shuffle),
        "seed": int(options.seed),
        "history": int(options.history),
        "standardize": bool(options.standardize),
    }
    return Checkpoint.open(path, problem.fingerprint(), settings, start)


def make_descent(plan: Plan, options: Options, state: FitState, target: int) -> _core.Descent:
    """Return a descent that has not begun."""
    shape, sgd, start = plan.problem.shape, plan.sgd, plan.start
    records = options.epochs // options.history if options.history else 0
    settings = _core.DescentOptions(
        sgd=_core.SgdOptions(**sgd.options, decay_intercept=sgd.decay_intercept),
        batch_size=options.batch_size or 0,
        shuffle=options.shuffle,
        seed=int(options.seed),
        tol=-1.0 if options.tol is None else float(options.tol),
        stop_on_equal_loss=options.stop == "loss_equal",
        history=int(options.history),
        record_params=records * shape.size * shape.dtype.itemsize <= RECORD_BYTES,
    )
    how = settings, plan.judge, not plan.on_moments
    descent = _core.Descent(plan.problem.core, state.as_dict(), target, *how)
    descent.set_start(start.epoch, start.params)
    return descent


def _begin_block(plan: Plan, options: Options, state: FitState, until: int) -> _core.Descent:
    """Return a descent to the next pause, or to its end."""
    if _pause.get() is not None:  # what may be recorded is a matter of the block alone
        options = replace(options, epochs=until - state.epoch)
    descent = make_descent(plan, options, state, until)
    if not callable(plan.rate):
        descent.set_constant_lr(float(plan.rate))
    return descent


def loss_at(
    problem: Problem, params: Floats, options: Options, moments: _core.Moments | None = None
) -> Any:
    """Return the loss over all rows, or their moments: that of a descent of no epochs."""
    descent = _core.Descent.of_no_epochs(problem.core, params, moments)
    slices.run(lambda seconds: descent.advance(seconds, options.threads) != "running")
    return problem.shape.dtype.type(
        descent.least_known_loss if descent.loss_doubtful else descent.loss
    )


def _most_loss(descent: _core.Descent) -> float:
    """Return the upper bound of a loss that is too small for the moments to tell, and warn."""
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
        rows=plan.problem.shape.n,
        batch_size=options.batch_size or 0,
        scaling=plan.start.scaling,
    )


def result_of(
    plan: Plan,
    options: Options,
    descent: _core.Descent,
    saved: Unsaved,
    outcome: _core.Outcome,
    method: str,
    reason: str,
) -> Fit:
    """Return the fit that a descent has reached."""
    problem, shape, start = plan.problem, plan.problem.shape, plan.start
    state = _state_of(plan, options, descent)
    status = _STATUS[outcome]
    used = descent.lr
    if math.isnan(used) and not callable(plan.rate):  # no step was due
        used = float(plan.rate)
    if outcome == "max_epochs" and used > plan.limit and not descent.loss <= state.first_loss:
        status = Status.DIVERGED  # still finite, but above the limit and not falling
    if outcome == "running":
        loss = descent.last_loss
    elif descent.loss_doubtful and problem.has_rows:
        loss = loss_at(problem, state.params, options)
    elif descent.loss_doubtful and outcome != "diverged":
        loss = _most_loss(descent)
    else:
        loss = descent.loss
    r2_lost = descent.r2_lost
    return Fit(
        **model_of(shape, state.params),
        loss=shape.dtype.type(loss),
        epochs=state.epoch,
        status=status,
        lr=used,
        history=history_of(shape, saved.history(descent)),
        stability_limit=plan.limit,
        start=Start(*shape.unpack(start.params), start.epoch),
        state=state,
        momentum=plan.sgd.momentum,
        r2_lost=r2_lost,
        detail=plan.detail(status, options, r2_lost),
        method=method,
        method_reason=reason,
    )
