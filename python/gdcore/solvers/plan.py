"""What a descent is going to do, settled before its first step."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.data.problem import Problem, diagnose
from gdcore.results.state import FitState
from gdcore.sgd import SGD, LearningRate
from gdcore.solvers.learning_rate import auto_lr, curvature_of, stability_limit, warn_of_divergence
from gdcore.solvers.method import moments_of
from gdcore.solvers.options import Options
from gdcore.status import NO_EPOCHS, FitWarning, Status, epochs_in_words, stacklevel

MOST_JUDGED = 1024  # parameters: beyond, the minimiser costs more than it is worth
MOST_SPECTRUM = _core.Outlook.most_parameters
NEVER = 10**12  # epochs
LITTLE = 1e-6  # of R^2
JUDGED = (Status.CONVERGED, Status.MAX_EPOCHS, Status.STALLED)
UNKNOWN = "How far that is from the best fit is not known: {}"
UNSUMMED = (
    "it would take the second moments of the rows, which are summed for up to 1024 parameters and "
    "as many epochs."
)
OUT_OF_RANGE = (
    "the squares of the data overflow or underflow {}; scale the columns of X and y by powers of "
    "ten first."
)
UNRESOLVED = "rounding errors hide which columns of X are dependent."


NO_SPECTRUM = (
    f"momentum='auto' needs the Hessian's spectrum, which is found for up to {MOST_SPECTRUM} "
    "parameters of data whose squares are in range; pass a momentum, for example 0.9."
)


@dataclass(frozen=True)
class Plan:
    """A problem in the coordinates that descent works in, and how it descends there.

    `judge` are the moments that tell when it has arrived, None if nothing does; `shortfall` says
    what keeps it from arriving, if that is known before the first step.
    """

    problem: Problem
    sgd: SGD
    start: FitState
    rate: LearningRate
    limit: float
    judge: _core.Moments | None
    outlook: _core.Outlook | None
    on_moments: bool  # they stand for the rows too
    shortfall: str = ""
    unjudged: str = UNSUMMED  # why there is no judge, if so

    def account(self, status: Status, options: Options, r2_lost: float) -> str:
        """Say how far the end is from the best fit, and what keeps it there."""
        if options.tol is None or status not in JUDGED:
            return ""
        if self.outlook is None or not self.outlook.known:
            reason = self.unjudged if self.outlook is None else UNRESOLVED
            return "" if status is Status.CONVERGED else UNKNOWN.format(reason)
        rank, size = self.outlook.rank, self.problem.size // self.problem.t
        if status is Status.CONVERGED:
            if options.stop == "loss_equal" and r2_lost > LITTLE:
                return f"The loss stays the same, and R^2 is {r2_lost:.2g} below the best fit's."
            return f"Rank {rank} of {size}: other weights fit as well." if rank < size else ""
        lost = (
            "y is constant, so that R^2 is not defined."
            if math.isnan(r2_lost)
            else f"R^2 is {r2_lost:.2g} below that of the best fit."
        )
        return f"{lost} {self.shortfall}".rstrip()


def judges(size: int, options: Options, sgd: SGD) -> bool:
    """Whether rows that are read every epoch are worth a pass more, to know when to stop."""
    return (
        options.tol is not None
        and not sgd.maximize
        and size <= MOST_JUDGED
        and options.epochs >= size
    )


def make_plan(
    problem: Problem,
    sgd: SGD,
    options: Options,
    start: FitState,
    moments: _core.Moments | None,
    threads: int,
) -> Plan:
    """Settle how to descend, on moments in place of the rows or on rows; warn of bad prospects."""
    judge, size = moments, problem.size // problem.t
    needed = options.standardize or sgd.momentum == "auto" or judges(size, options, sgd)
    if judge is None and needed:
        judge = moments_of(problem.core, threads)
    unjudged = UNSUMMED
    if judge is not None and not _usable(judge, problem):
        _refuse(problem, options, judge)
        judge, unjudged = None, OUT_OF_RANGE.format(problem.dtype)
    if options.standardize:
        assert judge is not None
        single = problem.dtype == np.float32
        problem = problem.scaled(_core.scaling_of(judge, problem.fit_intercept, single))
    start = problem.at(start)
    outlook = _outlook(problem, sgd, options, start, judge)
    given = sgd
    if sgd.momentum == "auto":
        sgd, start = _heavy_ball(sgd, options, start, outlook)
    curvature, error = curvature_of(problem, threads, moments)
    limit = _limit(sgd, problem, options, curvature, outlook)
    rate = auto_lr(sgd, problem, options, curvature + error) if sgd.lr == "auto" else sgd.lr
    warn_of_divergence(rate, start.epoch, limit, sgd)
    on_moments = moments is not None
    plan = Plan(problem, sgd, start, rate, limit, judge, outlook, on_moments, unjudged=unjudged)
    return replace(plan, shortfall=_shortfall(plan, given, options))


def _usable(judge: _core.Moments, problem: Problem) -> bool:
    """Whether sums of squares are known: float32 squares are sums of doubles, never too large."""
    return judge.finite() and (problem.dtype == np.float32 or judge.in_range(False))


def _refuse(problem: Problem, options: Options, judge: _core.Moments) -> None:
    """Raise ValueError if something was asked for that needs the moments."""
    if not judge.finite():
        diagnose(problem)
    if options.standardize:
        raise ValueError(
            f"the squares of the data overflow or underflow {problem.dtype}, so that its columns "
            "cannot be standardised; scale the columns of X and y by powers of ten first."
        )


def _outlook(
    problem: Problem, sgd: SGD, options: Options, start: FitState, judge: _core.Moments | None
) -> _core.Outlook | None:
    """Return what the spectrum says; None if it does not matter, or is too large to be found."""
    wanted = options.tol is not None or sgd.momentum == "auto"
    if judge is None or not wanted or sgd.maximize or problem.size // problem.t > MOST_JUDGED:
        return None
    return _core.Outlook(
        problem.core,
        judge,
        start.params,
        _core.SgdOptions(weight_decay=float(sgd.weight_decay), decay_intercept=sgd.decay_intercept),
        tol=0.0 if options.tol is None else float(options.tol),
    )


def _heavy_ball(
    sgd: SGD, options: Options, start: FitState, outlook: _core.Outlook | None
) -> tuple[SGD, FitState]:
    """Return rates for momentum="auto", those of the state if they suit the data, and the state."""
    if outlook is None or not outlook.spectrum:
        raise ValueError(NO_SPECTRUM)
    lr, momentum = outlook.heavy_ball(int(options.epochs), start.lr, start.momentum)
    return replace(sgd, lr=lr, momentum=momentum), replace(start, momentum=momentum)


def _limit(
    sgd: SGD, problem: Problem, options: Options, curvature: float, outlook: _core.Outlook | None
) -> float:
    if sgd.decay_intercept or not problem.fit_intercept:
        return stability_limit(sgd, problem, options, curvature)
    # The Hessian of a penalty that spares the intercept is not H + weight_decay.
    plain = replace(sgd, weight_decay=0.0)
    if outlook is not None and outlook.spectrum:
        curvature = outlook.largest
    return stability_limit(plain, problem, options, curvature)


def _shortfall(plan: Plan, sgd: SGD, options: Options) -> str:
    """Say, and warn, that the epochs will not do; "" if they will or nobody knows."""
    outlook, rate = plan.outlook, plan.rate
    full = options.batch_size is None and options.stop == "gradient" and options.epochs > 0
    if outlook is None or not full or options.tol is None or not isinstance(rate, float | int):
        return ""
    if not outlook.spectrum or rate > plan.limit:
        return ""
    steps = float(rate), _steps(plan.sgd)
    if 0 <= outlook.epochs(*steps) <= options.epochs:
        return ""
    lost = outlook.r2_lost_after(int(options.epochs), *steps)
    ends = "ends" if options.epochs == 1 else "end"
    short = "short of" if math.isnan(lost) else f"with R^2 about {lost:.2g} below that of"
    detail = f"{_needs(plan, sgd, options)}; {NO_EPOCHS}"
    warnings.warn(
        f"{epochs_in_words(options.epochs)} of this descent {ends} {short} the best fit. {detail}",
        FitWarning,
        stacklevel=stacklevel(),
    )
    return detail


def _needs(plan: Plan, sgd: SGD, options: Options) -> str:
    """Say how many epochs this descent and better ones take."""
    assert plan.outlook is not None
    words = [f"this descent takes {_epochs(_needed(plan.outlook, sgd, options))}"]
    ball = replace(sgd, lr="auto", momentum="auto", dampening=0.0, nesterov=False)
    scaled = None if options.standardize else _standardized(plan, sgd, options)
    if scaled is not None:
        words.append(f"standardize=True {_epochs(_needed(scaled, sgd, options))}")
    if sgd.momentum != "auto":
        words.append(f"momentum='auto' {_epochs(_needed(plan.outlook, ball, options))}")
    if sgd.momentum != "auto" and scaled is not None:
        words.append(f"both {_epochs(_needed(scaled, ball, options))}")
    condition = f"The condition number is {plan.outlook.condition:.2g}"
    return f"{condition}: {', '.join(words)}"


def _epochs(count: int) -> str:
    if not 0 <= count <= NEVER:
        return "too many epochs to arrive"
    return f"about {count:.2g} epochs" if count >= 1000 else epochs_in_words(count)


def _standardized(plan: Plan, sgd: SGD, options: Options) -> _core.Outlook | None:
    """Return the outlook from the same start on standardised columns."""
    assert plan.judge is not None
    single = plan.problem.dtype == np.float32
    scaling = _core.scaling_of(plan.judge, plan.problem.fit_intercept, single)
    problem = plan.problem.scaled(scaling)
    return _outlook(problem, sgd, options, problem.at(plan.start), plan.judge)


def _needed(outlook: _core.Outlook, sgd: SGD, options: Options) -> int:
    """Return the epochs that a descent takes; below 0 if it does not arrive."""
    if not outlook.spectrum:
        return -1
    if sgd.momentum == "auto":
        return _needed_by_heavy_ball(outlook, int(options.epochs))
    rate: Any = sgd.lr
    if rate == "auto":
        limit = replace(sgd, weight_decay=0.0).stability_limit(outlook.largest)
        rate = min(1 / outlook.largest, limit / 2) if outlook.largest > 0 else 1.0
    return outlook.epochs(float(rate), _steps(sgd))


def _needed_by_heavy_ball(outlook: _core.Outlook, epochs: int) -> int:
    """Return the epochs that momentum="auto" takes, given so many or else enough."""

    def taken(given: int) -> int:
        lr, momentum = outlook.heavy_ball(given)
        return outlook.epochs(lr, _core.SgdOptions(momentum=momentum))

    needed = taken(epochs)
    return needed if 0 <= needed <= epochs else taken(NEVER)


def _steps(sgd: SGD) -> _core.SgdOptions:
    return _core.SgdOptions(
        momentum=sgd.given_momentum, dampening=sgd.dampening, nesterov=sgd.nesterov
    )
