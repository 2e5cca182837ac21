"""Whether a kernel gives what a golden function gives, on data of many families and sizes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gdcore.oracle.trials.findings import Finding, Ruling
from gdcore.oracle.trials.golden import NoGoldenError
from gdcore.oracle.trials.operand import Operand
from gdcore.oracle.trials.plan import Plan, Reference, plan_of, wide, with_domains
from gdcore.oracle.trials.rounds import OTHER_CALL, Seen, Trial
from gdcore.oracle.trials.runner import Runner
from gdcore.oracle.trials.sizes import Size
from gdcore.oracle.trials.template import Argument, arguments_of
from gdcore.oracle.trials.units import Yardstick

SEED_OF_FAMILY = 1000
LEAST_DRAWS = 3
FEW_FAMILIES = 3  # what a fault has in common with others of its kind
FINDINGS_KEPT = 40
REMEMBERED = 1 << 20  # golden numbers of a trial; caches of larger results are rare
RAISED_IN_A_ROW = 6
GRAVITY = (
    Ruling.CHEATING,
    Ruling.WRONG,
    Ruling.SUSPICIOUS,
    Ruling.NOT_DECIDED,
    Ruling.RIGHT,
)


@dataclass(frozen=True)
class Examination:
    """What trials of a kernel came to.

    Attributes
    ----------
    ruling : Ruling
    why : str
        The ruling in a sentence.
    findings : tuple of Finding
        The gravest first; at most 40.
    worst : Finding or None
        The element furthest off, also if it is right.
    tried, not_tried : tuple of str
        Families at sizes; those that could not be, with the reason.
    notes : tuple of str
        What else the reader should know.
    calls : int
        Results that were judged.
    seconds : float
    """

    ruling: Ruling
    why: str
    findings: tuple[Finding, ...] = ()
    worst: Finding | None = None
    tried: tuple[str, ...] = ()
    not_tried: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    calls: int = 0
    seconds: float = 0.0


def examine(
    candidate: Runner,
    golden: Runner,
    eager: Runner | None,
    template: Sequence[Operand],
    *,
    dtype: str | None = None,
    families: str | Sequence[str] = "all",
    sizes: str | Sequence[str] | None = None,
    seed: int = 0,
    grads: bool = False,
    draws: int = 8,
    seconds: float = 60.0,
) -> Examination:
    """Try a kernel on data of many families and sizes.

    Parameters
    ----------
    candidate : Runner
        The kernel.
    golden : Runner
        The right function; it gets contiguous float64. Its results must not be views of its
        inputs (`arrays.copying`).
    eager : Runner or None
        What the kernel replaces; None: golden in the kernel's dtype.
    template : sequence of Operand
        Inputs of the user's own.
    dtype : str, optional
        Of all floating-point inputs; None: their own.
    families, sizes : str or sequence of str
        See `families.FAMILIES` and `sizes.NAMES`; "all": all of them.
    seed : int
    grads : bool
        Whether all three are a `Pullback`.
    draws : int
        How many times inputs are moved for the units.
    seconds : float
        When to stop; what was left out is said.

    Raises
    ------
    ValueError
        If there is no such family or size.
    """
    start = time.monotonic()
    reference = Reference(golden, eager, grads)
    arguments = arguments_of(template, dtype)
    try:
        arguments = with_domains(reference, arguments)
        plan = plan_of(reference, arguments, families, sizes)
        in_place = _changed_by(reference, arguments)
    except NoGoldenError as error:
        why = f"The reference does not take the inputs given: {error}"
        return Examination(Ruling.NOT_DECIDED, why, seconds=time.monotonic() - start)
    progress = _Progress(plan, candidate, reference, seed, draws, in_place)
    progress.run(start + seconds)
    progress.confirm()
    return progress.examination(time.monotonic() - start)


def _changed_by(reference: Reference, arguments: Sequence[Argument]) -> frozenset[int]:
    """Return the arguments that the reference changes itself."""
    literal = reference.completed([tuple(a.operand for a in arguments)], 0)[0]
    runs = [reference.golden.run([wide(literal)])]
    if reference.eager is not None:
        runs.append(reference.eager.run([literal]))
    return frozenset(argument for outcome in runs for _, argument in outcome.changed)


class _Progress:
    """Runs the trials of a plan and gathers what they show."""

    def __init__(
        self,
        plan: Plan,
        candidate: Runner,
        reference: Reference,
        seed: int,
        draws: int,
        in_place: frozenset[int],
    ) -> None:
        self.plan, self.candidate, self.reference = plan, candidate, reference
        self.seed, self.draws, self.in_place = seed, draws, in_place
        self.findings: list[Finding] = []
        self.tried: list[tuple[str, Size]] = []
        self.not_tried = list(plan.not_tried)
        self.notes: Counter[str] = Counter()
        self.worst: Finding | None = None
        self.worst_share = -1.0
        self.calls = 0
        self.varies = False
        self.earlier: list[Yardstick] = []

    def run(self, deadline: float) -> None:
        """Run the trials until there is no more time."""
        raised = 0
        for number, (family, size) in enumerate(self.plan.trials):
            if time.monotonic() > deadline:
                left = self.plan.trials[number:]
                self.not_tried.append(f"{self.labels(left)}: the time was up")
                return
            seen = self.trial(family, size, self.seed + SEED_OF_FAMILY * number)
            if seen is None:
                continue
            raised = raised + 1 if seen.raised else 0
            if seen.fatal or raised >= RAISED_IN_A_ROW:
                left = self.plan.trials[number + 1 :]
                if left:
                    self.not_tried.append(f"{self.labels(left)}: it failed before")
                return

    def trial(self, family: str, size: Size, seed: int) -> Seen | None:
        """Run one trial; None if the reference cannot be asked."""
        label = f"{family}, {size.label(self.plan.arguments)}"
        draws = self.draws if size.name != "given" or not size.lengths else LEAST_DRAWS
        trial = Trial(family, size, self.plan.arguments, seed, draws, self.in_place)
        try:
            seen = trial.run(self.candidate, self.reference, self.earlier)
        except NoGoldenError as error:
            self.not_tried.append(f"{label}: {error}")
            return None
        if not seen.judged:
            self.not_tried.append(f"{label}: golden is NaN or out of range everywhere")
        else:
            self.tried.append((family, size))
        if sum(s.golden.size for y in seen.yards for s in y.scales) < REMEMBERED:
            self.earlier += seen.yards[:2]
        self.findings += seen.findings
        self.calls += seen.calls
        self.varies = self.varies or seen.varies
        self.notes.update(seen.notes)
        if seen.worst is not None and seen.worst_share > self.worst_share:
            self.worst, self.worst_share = seen.worst, seen.worst_share
        return seen

    def confirm(self) -> None:
        """See whether results of other calls come again with other data: then it is a habit."""
        suspects = [f for f in self.findings if f.kind == OTHER_CALL]
        if not suspects:
            return
        places = {(f.family, f.size, f.seed) for f in suspects}
        if len(places) == 1:
            first = suspects[0]
            size = next(
                s
                for f, s in self.tried
                if f == first.family and s.label(self.plan.arguments) == first.size
            )
            seen = self.trial(first.family, size, first.seed + 1)
            again = seen is not None and any(f.kind == OTHER_CALL for f in seen.findings)
            if not again:
                return
        self.findings = [
            replace(f, ruling=Ruling.CHEATING) if f.kind == OTHER_CALL else f for f in self.findings
        ]

    def labels(self, trials: Sequence[tuple[str, Size]]) -> str:
        """Return families and sizes, shortened."""
        names = sorted({size.label(self.plan.arguments) for _, size in trials})
        families = list(dict.fromkeys(family for family, _ in trials))
        shown = ", ".join(families[:4]) + (", ..." if len(families) > 4 else "")
        return f"{shown} at {', '.join(names)}"

    def examination(self, seconds: float) -> Examination:
        """Return the whole."""
        ruling = min((f.ruling for f in self.findings), key=GRAVITY.index, default=Ruling.RIGHT)
        why = self.why(ruling)
        if ruling in (Ruling.RIGHT, Ruling.SUSPICIOUS):
            if not self.calls or not self.tried:
                ruling, why = Ruling.NOT_DECIDED, "The reference could not be asked about any data."
            elif not self.varies:
                ruling = Ruling.NOT_DECIDED
                why = "No input moves the reference's result, so that a constant would pass."
        return Examination(
            ruling,
            why,
            tuple(_gravest(self.findings)),
            self.worst,
            tuple(f"{f}, {s.label(self.plan.arguments)}" for f, s in self.tried),
            tuple(self.not_tried),
            tuple(f"{note} ({count} times)" for note, count in self.notes.items()),
            self.calls,
            seconds,
        )

    def why(self, ruling: Ruling) -> str:
        """Return the ruling in a sentence, with what all faults have in common."""
        if ruling is Ruling.RIGHT:
            families = len({f for f, _ in self.tried})
            sizes = len({s.label(self.plan.arguments) for _, s in self.tried})
            of = f"{families} families" if families > 1 else "one family"
            at = f"{sizes} sizes" if sizes > 1 else "one size"
            return (
                f"All {self.calls} results are within rounding errors of the reference, in "
                f"{of} of data at {at}."
            )
        faults = [f for f in self.findings if f.ruling is ruling]
        kinds = Counter(f.kind for f in faults)
        kind = kinds.most_common(1)[0][0]
        first = next(f for f in _gravest(faults) if f.kind == kind)
        where = self.common(faults)
        return f"{kind.capitalize()}{where}. {first.sentence}"

    def common(self, faults: Sequence[Finding]) -> str:
        """Return what is common to all data with a fault, and to no other."""
        bad = {(f.family, f.size) for f in faults}
        all_of = {(f, s.label(self.plan.arguments)) for f, s in self.tried} | bad
        families, sizes = {f for f, _ in bad}, {s for _, s in bad}
        told = f" on {len(bad)} of {len(all_of)} kinds of data"
        if len(families) <= FEW_FAMILIES < len({f for f, _ in all_of}):
            told += f", only with {', '.join(sorted(families))}"
        if len(sizes) < len({s for _, s in all_of}):
            told += f", only at size {', '.join(sorted(sizes))}"
        return told


def _gravest(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings by gravity, one of each kind at each kind of data, the largest."""
    best: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        key = (finding.kind, finding.family, finding.size)
        if key not in best or finding.units > best[key].units:
            best[key] = finding
    ordered = sorted(best.values(), key=lambda f: GRAVITY.index(f.ruling))
    return ordered[:FINDINGS_KEPT]
