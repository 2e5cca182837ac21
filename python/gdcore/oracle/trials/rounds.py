"""One trial: a family of data at a size, in two runs that caches and stale results show in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gdcore.oracle.trials.causes import cause_of
from gdcore.oracle.trials.families import GIVEN, make, near_copy
from gdcore.oracle.trials.findings import Finding, Ruling
from gdcore.oracle.trials.operand import Operand
from gdcore.oracle.trials.plan import Reference
from gdcore.oracle.trials.runner import Outcome, Returned, Runner
from gdcore.oracle.trials.scale import precision
from gdcore.oracle.trials.sizes import Size
from gdcore.oracle.trials.template import Argument, Role
from gdcore.oracle.trials.units import Assessment, Yardstick

# Families of continuous numbers, so that a result is right for one set of them only.
TELLING = (
    GIVEN,
    "normal",
    "small",
    "large",
    "offset",
    "spread",
    "transposed views",
    "sliced views",
)
CHANCE = 1e-5  # of a result that is right for other data by accident
_CALL = re.compile(r"^call \d+: ")  # what another process says before an exception
REFUSALS = ("ValueError", "TypeError", "AssertionError", "NotImplementedError")
MASKS = "-inf masks"  # a sum of these is no mask, and compensated sums of them are NaN
VIEWS = ("transposed views", "sliced views")
ORDER = ((0, 1), (2, 0))  # sets of data in the two calls of each run
SEED_STEP = 7919

OTHER_CALL = "result of another call"
OVERWRITTEN = "overwritten by a later call"
CHANGES_INPUTS = "changes its inputs"
UNWRITTEN = "output not written"
NOT_REPEATABLE = "not repeatable"
WRONG_KIND = "wrong kind of result"
RAISES = "raises"
REFUSES = "refuses these inputs"
DIES = "dies or hangs"


@dataclass
class Seen:
    """What one trial showed.

    Attributes
    ----------
    findings : list of Finding
    calls : int
        Results that were judged.
    worst : Finding or None
        Of the element furthest off.
    worst_share : float
        How much of its limit that takes.
    varies : bool
        Whether golden differs between the sets of data.
    judged : bool
        Whether there was an element to judge.
    fatal : bool
        Whether the kernel's process is gone.
    raised : bool
    notes : list of str
    yards : list of Yardstick
        Of the sets of data, if they tell results apart.
    """

    findings: list[Finding] = field(default_factory=list)
    calls: int = 0
    worst: Finding | None = None
    worst_share: float = -1.0
    varies: bool = False
    judged: bool = False
    fatal: bool = False
    raised: bool = False
    notes: list[str] = field(default_factory=list)
    yards: list[Yardstick] = field(default_factory=list)


@dataclass(frozen=True)
class Trial:
    """A family of data at a size.

    Attributes
    ----------
    family : str
    size : Size
    arguments : sequence of Argument
    seed : int
    draws : int
        How often golden's inputs are moved.
    in_place : frozenset of int
        Arguments that the reference changes too.
    """

    family: str
    size: Size
    arguments: Sequence[Argument]
    seed: int
    draws: int
    in_place: frozenset[int] = frozenset()

    def sets(self) -> list[tuple[Operand, ...]]:
        """Return three sets of inputs; the third is nearly the first."""
        first = make(self.family, self.arguments, self.size, seed=self.seed)
        if self.family == GIVEN and not self.size.lengths:
            first = tuple(a.operand for a in self.arguments)
        other = make(self.family, self.arguments, self.size, seed=self.seed + SEED_STEP)
        third = near_copy(first, self.arguments, self.seed)
        if third is None:
            third = make(self.family, self.arguments, self.size, seed=self.seed + 2 * SEED_STEP)
        return [first, other, third]

    @property
    def telling(self) -> bool:
        """Whether a result is right for one set of data only."""
        if self.family == GIVEN:
            return all(
                2 * np.unique(a.operand.values()).size > a.operand.size
                for a in self.arguments
                if a.role is Role.DATA
            )
        return self.family in TELLING

    def run(
        self, candidate: Runner, reference: Reference, earlier: Sequence[Yardstick] = ()
    ) -> Seen:
        """Return what the kernel did.

        `earlier` are the yardsticks of data that it got before.

        Raises
        ------
        NoGoldenError
            If the reference does not take this data.
        """
        sets = reference.completed(self.sets(), self.seed)
        yards = Yardstick.measure(
            reference.golden,
            reference.eager,
            sets,
            draws=self.draws,
            seed=self.seed,
            infinite=self.family != MASKS,
        )
        seen = Seen(varies=_differ(yards[0], yards[1]))
        if self.telling:
            seen.yards = yards
        observer = _Observer(self, sets, yards, reference, seen, earlier)
        seen.judged = any((s.judged | s.infinite).any() for y in yards for s in y.scales)
        for which in ORDER:
            outcome = candidate.run([sets[k] for k in which])
            seen.notes += outcome.notes
            if outcome.error:
                observer.failed(outcome)
                return seen
            observer.results(which, outcome)
        observer.repeated()
        return seen


def _differ(one: Yardstick, other: Yardstick) -> bool:
    return any(
        not np.array_equal(a.golden, b.golden, equal_nan=a.golden.dtype.kind == "f")
        for a, b in zip(one.scales, other.scales, strict=True)
    )


class _Observer:
    """Turns what came back into findings."""

    def __init__(
        self,
        trial: Trial,
        sets: list[tuple[Operand, ...]],
        yards: list[Yardstick],
        reference: Reference,
        seen: Seen,
        earlier: Sequence[Yardstick],
    ) -> None:
        self.trial, self.sets, self.yards = trial, sets, yards
        self.reference, self.seen, self.earlier = reference, seen, earlier
        self.firsts: list[tuple[Returned, Assessment]] = []  # of the first set, in each run
        self.asked: set[int] = set()  # sets of the calls so far
        self.overwrites = False

    def note(self, kind: str, ruling: Ruling, sentence: str, found: Assessment | None) -> None:
        self.seen.findings.append(self.finding(kind, ruling, sentence, found))

    def finding(
        self, kind: str, ruling: Ruling, sentence: str, found: Assessment | None
    ) -> Finding:
        trial = self.trial
        at = found or Assessment(ruling)
        return Finding(
            kind,
            ruling,
            sentence,
            trial.family,
            trial.size.label(trial.arguments),
            precision(self.sets[0]),
            trial.seed,
            at.element,
            at.value,
            at.golden,
            at.units if found else float("nan"),
        )

    def failed(self, outcome: Outcome) -> None:
        """Note a call that raised, or a process that died."""
        self.seen.fatal = outcome.fatal
        self.seen.raised = True
        error = _CALL.sub("", outcome.error)
        name = error.split(":")[0].strip()
        special = bool(self.trial.size.lengths) or self.trial.family in VIEWS
        if outcome.fatal:
            self.note(DIES, Ruling.WRONG, error, None)
        elif special and name in REFUSALS:
            self.note(REFUSES, Ruling.SUSPICIOUS, error, None)
        else:
            self.note(RAISES, Ruling.WRONG, f"The reference takes it: {error}", None)

    def results(self, which: Sequence[int], outcome: Outcome) -> None:
        """Note what is wrong with the results of one run."""
        for argument in sorted({a for _, a in outcome.changed} - self.trial.in_place):
            told = f"Argument {argument} had other bytes after the call; the reference keeps it."
            self.note(CHANGES_INPUTS, Ruling.WRONG, told, None)
        for i, (k, result) in enumerate(zip(which, outcome.results, strict=True)):
            found = self.yards[k].check(result)
            self.seen.calls += 1
            self.judged(k, result, found, which[i + 1 :])
            self.asked.add(k)
            if k == 0:
                self.firsts.append((result, found))

    def judged(self, k: int, result: Returned, found: Assessment, later: Sequence[int]) -> None:
        """Note one result unless it is right."""
        if found.wrong_kind:
            self.note(WRONG_KIND, Ruling.WRONG, found.sentence, None)
            return
        if found.share > self.seen.worst_share:
            self.seen.worst_share = found.share
            self.seen.worst = self.finding(str(found.ruling), found.ruling, found.sentence, found)
        if found.ruling is Ruling.SUSPICIOUS:
            self.note("suspicious", Ruling.SUSPICIOUS, found.sentence, found)
        if found.ruling is not Ruling.WRONG:
            return
        other = self.right_for(k, result)
        if other in later and (self.overwrites or other not in self.asked):
            self.overwrites = True  # a cache cannot know what it has not been asked yet
            told = "It holds the result of a later call, which wrote over it."
            self.note(OVERWRITTEN, Ruling.WRONG, f"{told} {found.sentence}", found)
        elif other is not None:
            told = "It is right for the data of another call, as if they had not changed."
            self.note(OTHER_CALL, Ruling.WRONG, f"{told} {found.sentence}", found)
        elif found.unwritten:
            told = "Its memory still holds what lay there before, or it is a view of an input."
            self.note(UNWRITTEN, Ruling.WRONG, f"{told} {found.sentence}", found)
        else:
            cause = self.cause(k, result, found)
            told = f"{found.sentence} Seen: {cause}." if cause else found.sentence
            self.note("wrong", Ruling.WRONG, told, found)

    def right_for(self, k: int, result: Returned) -> int | None:
        """Return other data for which a wrong result is right, and not by chance.

        Data of earlier trials are numbered after those of this one.
        """
        if not self.trial.telling:
            return None
        mine = self.yards[k].scales
        for number, yard in enumerate((*self.yards, *self.earlier)):
            if number == k or yard.check(result).ruling is not Ruling.RIGHT:
                continue
            pairs = zip(mine, yard.scales, strict=True)
            if min(scale.chance(theirs) for scale, theirs in pairs) < CHANCE:
                return number
        return None

    def cause(self, k: int, result: Returned, found: Assessment) -> str:
        operand, scale = result.operands[found.output], self.yards[k].scales[found.output]
        if operand.dtype not in ("float64", "float32", "float16", "bfloat16"):
            return ""
        return cause_of(operand, scale, self.sets[k], self.reference.golden, found.output)

    def repeated(self) -> None:
        """Compare the results of two calls with the same data at two addresses."""
        (one, first), (two, second) = self.firsts
        if first.wrong_kind or second.wrong_kind or same_bits(one, two):
            return
        told = "The same data at another address gave other bits."
        if Ruling.WRONG in (first.ruling, second.ruling):
            worse = first if first.ruling is Ruling.WRONG else second
            self.note(NOT_REPEATABLE, Ruling.WRONG, f"{told} {worse.sentence}", worse)
        else:
            self.seen.notes.append(
                f"Not repeatable: {told[0].lower()}{told[1:-1]}, within its rounding errors."
            )


def same_bits(one: Returned, two: Returned) -> bool:
    """Whether two results have the same numbers, NaN being the same as NaN."""
    return all(
        np.array_equal(a.values(), b.values(), equal_nan=a.is_float)
        for a, b in zip(one.operands, two.operands, strict=True)
    )
