"""What a descent will do, decided before its first step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.data.problem import Problem
from gdcore.data.sums import moments_of, out_of_range
from gdcore.errors import warn_of_fit
from gdcore.results.state import FitState
from gdcore.sgd import SGD
from gdcore.solvers.learning_rate import auto_lr, curvature_of, stability_limit, warn_of_divergence
from gdcore.solvers.options import Options
from gdcore.solvers.start import in_coordinates_of
from gdcore.status import NO_EPOCHS, Status, epochs_in_words
from gdcore.typing import LearningRate

MOST_JUDGED = 1024  # parameters; for more the minimiser costs more than it saves
MOST_SPECTRUM = _core.Outlook.most_parameters
NEVER = 10**12  # epochs
LITTLE = 1e-6  # of R^2
JUDGED = (Status.CONVERGED, Status.MAX_EPOCHS, Status.STALLED)
UNKNOWN = "How far that is from the best fit is not known: {}"
UNSUMMED = (
    "that takes second moments of the rows, which are summed for up to 1024 parameters and at "
    "least as many epochs."
)
UNRESOLVED = "rounding errors hide which columns of X are dependent."
NO_SPECTRUM = (
    f"momentum='auto' needs the Hessian's spectrum, which is found for up to {MOST_SPECTRUM} "
    "parameters of data whose squares are in range; pass a momentum, for example 0.9."
)


@dataclass
class Plan:
    """A problem in the coordinates that descent works in, and how it descends there.

    `judge` are the moments that tell when it has converged, or None; `shortfall` says what keeps it
    from converging, if that is known before the first step.
    """

    problem: Problem
    sgd: SGD
    start: FitState
    rate: LearningRate
    limit: float
    judge: _core.Moments | None
    outlook: _core.Outlook | None
    on_moments: bool  # epochs use the judge's moments in place of the rows
    shortfall: str = ""
    unjudged: str = UNSUMMED  # why there is no judge, if there is none

    def detail(self, status: Status, options: Options, r2_lost: float) -> str:
        """Return how far the end is from the best fit, and what keeps it there."""
        if options.tol is None or status not in JUDGED:
            return ""
        if self.outlook is None or not self.outlook.known:
            reason = self.unjudged if self.outlook is None else UNRESOLVED
            return "" if status is Status.CONVERGED else UNKNOWN.format(reason)
        rank, size = self.outlook.rank, self.problem.shape.columns
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
    """Whether one pass more over the rows is worth it, to know when to stop."""
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
) -> Plan:
    """Decide how to descend, on moments in place of the rows if given; warn of bad prospects."""
    judge, shape = moments, problem.shape
    needed = options.standardize or sgd.momentum == "auto" or judges(shape.columns, options, sgd)
    if judge is None and needed:
        judge = moments_of(problem.core, options.threads)
    unjudged = UNSUMMED
    if judge is not None and not _usable(judge, problem):
        if not judge.finite():
            problem.check_finite()
        if options.standardize:
            raise ValueError(f"{out_of_range(shape.dtype)}.")
        judge, unjudged = None, f"{out_of_range(shape.dtype)}."
    if options.standardize:
        assert judge is not None
        problem = _standardized(problem, judge)
    start = in_coordinates_of(problem.shape, start)
    outlook = _outlook(problem, sgd, options, start, judge)
    given = sgd
    if sgd.momentum == "auto":
        sgd, start = _heavy_ball(sgd, options, start, outlook)
    curvature, error = curvature_of(problem, options.threads, moments)
    limit = _limit(sgd, problem, options, curvature, outlook)
    rate = sgd.lr
    if rate == "auto":
        rate = auto_lr(sgd, problem, options.batch_size, curvature + error)
    warn_of_divergence(rate, start.epoch, limit, sgd)
    on_moments = moments is not None
    plan = Plan(problem, sgd, start, rate, limit, judge, outlook, on_moments, unjudged=unjudged)
    plan.shortfall = _shortfall(plan, given, options)
    return plan


def _usable(judge: _core.Moments, problem: Problem) -> bool:
    """Whether sums of squares are known: float32 squares are sums of doubles, never too large."""
    return judge.finite() and (problem.shape.dtype == np.float32 or judge.in_range(False))


def _standardized(problem: Problem, judge: _core.Moments) -> Problem:
    shape = problem.shape
    single = shape.dtype == np.float32
    return problem.scaled(_core.scaling_of(judge, shape.fit_intercept, single))


def _outlook(
    problem: Problem, sgd: SGD, options: Options, start: FitState, judge: _core.Moments | None
) -> _core.Outlook | None:
    """Return what the spectrum says; None if it does not matter or has too many parameters."""
    wanted = options.tol is not None or sgd.momentum == "auto"
    if judge is None or not wanted or sgd.maximize or problem.shape.columns > MOST_JUDGED:
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
    """Return rates for momentum="auto", and the state with them; a state's own are kept if good."""
    if outlook is None or not outlook.spectrum:
        raise ValueError(NO_SPECTRUM)
    lr, momentum = outlook.heavy_ball(int(options.epochs), start.lr, start.momentum)
    return replace(sgd, lr=lr, momentum=momentum), replace(start, momentum=momentum)


def _limit(
    sgd: SGD, problem: Problem, options: Options, curvature: float, outlook: _core.Outlook | None
) -> float:
    shape, batch_size = problem.shape, options.batch_size
    if sgd.decay_intercept or not shape.fit_intercept:
        return stability_limit(sgd, shape, batch_size, curvature)
    # The Hessian of a penalty that spares the intercept is not H + weight_decay.
    plain = replace(sgd, weight_decay=0.0)
    if outlook is not None and outlook.spectrum:
        curvature = outlook.largest
    return stability_limit(plain, shape, batch_size, curvature)


def _shortfall(plan: Plan, sgd: SGD, options: Options) -> str:
    """Warn and return that the epochs are too few; "" if they are enough or that is not known."""
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
    warn_of_fit(
        f"{epochs_in_words(options.epochs)} of this descent {ends} {short} the best fit. {detail}"
    )
    return detail


def _needs(plan: Plan, sgd: SGD, options: Options) -> str:
    """Return how many epochs this descent and better ones take."""
    assert plan.outlook is not None
    words = [f"this descent takes {_epochs(_needed(plan.outlook, sgd, options))}"]
    ball = replace(sgd, lr="auto", momentum="auto", dampening=0.0, nesterov=False)
    scaled = None if options.standardize else _outlook_if_standardized(plan, sgd, options)
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
        return "too many epochs to converge"
    return f"about {count:.2g} epochs" if count >= 1000 else epochs_in_words(count)


def _outlook_if_standardized(plan: Plan, sgd: SGD, options: Options) -> _core.Outlook | None:
    """Return the outlook from the same start on standardised columns."""
    assert plan.judge is not None
    problem = _standardized(plan.problem, plan.judge)
    start = in_coordinates_of(problem.shape, plan.start)
    return _outlook(problem, sgd, options, start, plan.judge)


def _needed(outlook: _core.Outlook, sgd: SGD, options: Options) -> int:
    """Return the epochs that a descent takes; below 0 if it does not converge."""
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
    """Return the epochs that momentum="auto" takes with `epochs`, or else with enough of them."""

    def taken(given: int) -> int:
        lr, momentum = outlook.heavy_ball(given)
        return outlook.epochs(lr, _core.SgdOptions(momentum=momentum))

    needed = taken(epochs)
    return needed if 0 <= needed <= epochs else taken(NEVER)


def _steps(sgd: SGD) -> _core.SgdOptions:
    return _core.SgdOptions(
        momentum=sgd.given_momentum, dampening=sgd.dampening, nesterov=sgd.nesterov
    )
