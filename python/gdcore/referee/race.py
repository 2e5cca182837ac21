"""How many times as fast a kernel is: rounds in turns, each with data that nobody has seen.

A round is a few calls in a row, each with data of its own; its seconds are those from the request
to the answer, by the clock of this process. Every result of the kernel is compared with golden,
outside of that time, and one that is wrong ends the race. What goes on before and after the calls
of a round is not subtracted: there are as many calls in a round as make it small, and it is said
where it is not.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from gdcore.bench.verdict import FEWEST, MARGIN, judge
from gdcore.bench.verdict import Verdict as Label
from gdcore.oracle.trials.findings import Finding, Ruling
from gdcore.oracle.trials.golden import ROUNDING, SMALLEST, NoGoldenError, results_of
from gdcore.oracle.trials.operand import Operand
from gdcore.oracle.trials.plan import wide
from gdcore.oracle.trials.runner import Outcome, Returned, Runner
from gdcore.oracle.trials.scale import FLOOR, NARROW, precision
from gdcore.oracle.trials.units import Yardstick
from gdcore.referee.evidence import enough, is_unfinished
from gdcore.referee.problem import Problem, fault_of
from gdcore.referee.verdict import Speed

Call = tuple[Operand, ...]

KERNEL = "kernel"
TIMED = "wrong while timed"
_MOST = 60  # rounds
_CALLS = 32  # in a round
_SHARE = 0.05  # of a round, that what is not a call may take
_TOLD = 0.1  # from which share on it is said
_HALF = 0.5  # from which share on equal times do not mean equal kernels
_BYTES = 64 << 20  # of inputs in a round
_DRAWS = 2  # times that inputs are moved to find the unit of a timed result


@dataclass
class Race:
    """What came of a race.

    Attributes
    ----------
    speed : tuple of Speed
        Empty if a timed result was wrong.
    finding : Finding or None
        What withdrew the kernel.
    asked : list of lists of int
        Seeds of all calls of the kernel, run by run, up to the one that withdrew it.
    limits : list of str
        What the figures do not cover.
    calls : int
        Timed results that were compared with golden.
    notes : dict of str to None
        Of the kernel's process.
    share : float
        Of a timed call, what is not the kernel's.
    count : int
        Calls in a round.
    """

    speed: tuple[Speed, ...] = ()
    finding: Finding | None = None
    asked: list[list[int]] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    calls: int = 0
    notes: dict[str, None] = field(default_factory=dict)
    share: float = 0.0
    count: int = 0

    def told(self) -> list[str]:
        """Return what the figures do not cover, in sentences."""
        told = list(dict.fromkeys(self.limits))
        if self.share > _TOLD:
            told.append(
                f"About {self.share:.0%} of a timed call is the referee's own work, the same for "
                "all; ratios are nearer to 1 than without it."
            )
        if self.speed:
            told.append(
                f"Speed is of {self.count} {'calls' if self.count > 1 else 'call'} a round at this "
                f"size, on this machine, with its load; less than {MARGIN:.0%} is not called "
                "faster. Threads that a kernel starts of its own are timed with it; the reference "
                "has one."
            )
        return told

    def followed_by(self, other: Race) -> Race:
        """Return what came of two races of the same process."""
        return Race(
            self.speed + other.speed,
            other.finding,
            self.asked + other.asked,
            self.limits + other.limits,
            self.calls + other.calls,
            self.notes | other.notes,
            max(self.share, other.share),
            max(self.count, other.count),
        )


class Undone(Exception):
    """A race cannot go on; the sentence says why."""


class _Course:
    """The contestants of a race, and their seconds a call, round by round."""

    def __init__(
        self,
        kernel: Runner,
        others: Mapping[str, Runner],
        judges: tuple[Runner, Runner],
        problem: Problem,
        seed: int,
    ) -> None:
        self.kernel, self.others = kernel, dict(others)
        self.golden, self.eager = judges
        self.problem, self.seed = problem, seed
        self.race = Race()
        self.rounds: dict[str, list[float]] = {name: [] for name in (KERNEL, *others)}

    def sets(self, count: int) -> tuple[list[int], list[Call]]:
        """Return new seeds, and the data made from them."""
        seeds = [self.seed + i for i in range(count)]
        self.seed += count
        return seeds, [self.problem.draw(seed) for seed in seeds]

    def turn(self, count: int) -> dict[str, float]:
        """Let everybody run some calls with the same new data; return seconds of all of them."""
        seeds, sets = self.sets(count)
        seconds, order = {}, [KERNEL, *self.others]
        self.race.asked.append(seeds)
        own = Outcome()
        for name in random.sample(order, len(order)):
            outcome = self.kernel.run(sets) if name == KERNEL else self.others[name].run(sets)
            seconds[name] = outcome.seconds
            if name == KERNEL:
                own = outcome
            elif fault := fault_of(outcome):
                self.drop(name, fault)
                del seconds[name]
        usual = max(seconds[name] for name in self.others)
        if is_unfinished(own.error, enough(usual)):
            self.race.limits.append(f"The race was not finished: {own.error}.")
            raise Undone(own.error)
        found = wrong_of(own, sets, seeds, self.golden, self.eager)
        if found:
            self.race.finding = found
            raise Undone(found.sentence)
        self.race.calls += len(sets)
        self.race.notes |= dict.fromkeys(own.notes)
        return seconds

    def drop(self, name: str, fault: str) -> None:
        """Go on without a contestant."""
        del self.others[name], self.rounds[name]
        self.race.limits.append(f"No time was taken against {name}: {fault}")
        if not self.others:
            raise Undone(fault)


def wrong_of(
    outcome: Outcome,
    sets: Sequence[Call],
    seeds: Sequence[int],
    golden: Runner,
    eager: Runner,
) -> Finding | None:
    """Return what is wrong with the results of timed calls, if anything is."""
    if outcome.error:
        return Finding(
            TIMED, Ruling.WRONG, f"While timed: {outcome.error.rstrip('.')}.", seed=seeds[0]
        )
    if outcome.changed:
        call, argument = outcome.changed[0]
        sentence = f"While timed, it changed argument {argument}."
        return Finding(TIMED, Ruling.WRONG, sentence, seed=seeds[call])
    try:
        truths = results_of(golden, [wide(each) for each in sets])
        left = [
            i
            for i, returned in enumerate(outcome.results)
            if not _is_near(returned, truths[i], precision(sets[i]))
        ]
        yards = Yardstick.measure(
            golden, eager, [sets[i] for i in left], draws=_DRAWS, seed=seeds[0]
        )
    except NoGoldenError as error:
        raise Undone(f"The timed results could not be checked: {error}") from None
    for i, yard in zip(left, yards, strict=True):
        found = yard.check(outcome.results[i])
        if found.ruling is Ruling.WRONG:
            return Finding(
                TIMED,
                Ruling.WRONG,
                f"A timed result is wrong. {found.sentence}",
                family="normal",
                size="given",
                dtype=precision(sets[i]),
                seed=seeds[i],
                element=found.element,
                value=found.value,
                golden=found.golden,
                units=found.units,
            )
    return None


def _is_near(returned: Returned, truth: Sequence[Operand], dtype: str) -> bool:
    """Whether results are as near to golden as any unit allows; else they are looked at closely.

    A unit is at least a rounding of the golden value, and at least the smallest normal number. What
    all errors of a row have in common counts too with 16 bits, so those are looked at closely.
    """
    if returned.fault or len(returned.operands) != len(truth) or dtype in NARROW:
        return False
    for operand, golden in zip(returned.operands, truth, strict=True):
        if operand.shape != golden.shape or operand.dtype != dtype:
            return False
        values, wanted = operand.values(), golden.values()
        with np.errstate(all="ignore"):
            limit = FLOOR * np.maximum(ROUNDING[dtype] * np.abs(wanted), SMALLEST[dtype])
            near = (np.abs(values - wanted) <= limit) & np.isfinite(wanted)
        if not near.all():
            return False
    return True


def take_rounds(
    kernel: Runner,
    others: Mapping[str, Runner],
    judges: tuple[Runner, Runner],
    problem: Problem,
    *,
    seed: int,
    seconds: float,
    deadline: float,
    idle: Runner | None = None,
) -> Race:
    """Race a kernel with others.

    Parameters
    ----------
    kernel : Runner
    others : mapping of str to Runner
        Such as "eager" and "compiled".
    judges : pair of Runner
        Golden and eager functions, which the timed results are compared with.
    problem : Problem
    seed : int
        Of the first call's data.
    seconds : float
        For all rounds, with the comparisons.
    deadline : float
        Of `time.monotonic`, when to stop after fewer.
    idle : Runner, optional
        Does nothing with the same arguments, to find out what a call costs besides the kernel.
    """
    course = _Course(kernel, others, judges, problem, seed)
    try:
        count = _calibrate(course)
        begin = time.monotonic()
        for done in range(_MOST):
            now = time.monotonic()
            spent = (now - begin) / max(done, 1)
            if done and now + 1.5 * spent > deadline:
                break
            if done >= FEWEST and now - begin + spent > seconds:
                break
            for name, taken in course.turn(count).items():
                course.rounds[name].append(taken / count)
    except Undone:
        return course.race
    overhead = _overhead(course, idle, count) if idle is not None else 0.0
    _compare(course, overhead, count)
    return course.race


def _calibrate(course: _Course) -> int:
    """Return how many calls make a round, so that all else takes little of it."""
    course.turn(1)  # the first call loads and compiles
    one = min(median_of(course.turn(1) for _ in range(3)).values())
    several = course.turn(4)
    each = min((taken - one) / 3 for taken in several.values())
    size = sum(len(operand.raw) for operand in course.problem.draw(course.seed))
    most = max(1, min(_CALLS, _BYTES // max(1, size)))
    if each <= 0:
        return most
    return max(2 if most > 1 else 1, min(most, round((one - each) / (_SHARE * each))))


def median_of(turns: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the median seconds of each contestant over turns."""
    taken = list(turns)
    return {name: median(turn[name] for turn in taken if name in turn) for name in taken[-1]}


def _overhead(course: _Course, idle: Runner, count: int) -> float:
    """Return the seconds a call that go to what is not the kernel."""
    taken = []
    for _ in range(4):
        outcome = idle.run(course.sets(count)[1])
        if outcome.error:
            return 0.0
        taken.append(outcome.seconds / count)
    return min(taken)


def _compare(course: _Course, overhead: float, count: int) -> None:
    ours, race = course.rounds[KERNEL], course.race
    if not ours:
        race.limits.append("No time was taken: there was not enough of it left.")
        return
    share = overhead / median(ours)
    race.share, race.count = share, count
    speed = []
    for name, theirs in course.rounds.items():
        if name == KERNEL or not theirs:
            continue
        found = judge(ours, theirs)
        label = found.verdict
        if label is Label.SAME and share > _HALF:
            label = Label.AMBG  # what they share hides how they differ
        speed.append(
            Speed(
                name,
                found.value,
                found.low,
                found.high,
                str(label),
                median(ours),
                median(theirs),
                min(len(ours), len(theirs)),
                _shapes(course.problem.template),
            )
        )
    race.speed = tuple(speed)
    if len(ours) < FEWEST:
        race.limits.append(
            f"Only {len(ours)} rounds were taken, too few to decide; give more seconds or timeout."
        )


def _shapes(template: Sequence[Operand]) -> str:
    return " ".join("x".join(map(str, each.shape)) or "1" for each in template)
