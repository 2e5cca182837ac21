"""Run suites: every library checked, then timed in turns with the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gdcore.bench import machine, suites
from gdcore.bench.case import Array, Case, Expected, Work
from gdcore.bench.check import exactly, find_fault
from gdcore.bench.crew import Member, Refusal, usable_cpus
from gdcore.bench.libraries import BUILT_IN, find_peers
from gdcore.bench.probe import Limits
from gdcore.bench.report import Key, Report, Row, counted
from gdcore.bench.verdict import judge

DTYPES = ("float32", "float64")
BASELINE = "gdcore"
TIMEOUT = 120.0  # seconds for one request: the slowest honest one, compiling too, takes a tenth


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Parameters
    ----------
    round : float
        Seconds of a round of one library, at least.
    race : float
        Seconds of all rounds of all libraries on one case, about.
    fewest, most : int
        Rounds, whatever `race` says.
    probe : float
        Seconds of each probe of the machine's limits.
    """

    round: float
    race: float
    fewest: int
    most: int
    probe: float


FULL = Effort(round=0.004, race=1.5, fewest=9, most=31, probe=0.1)
QUICK = Effort(round=0.001, race=0.1, fewest=5, most=11, probe=0.02)


def run(
    suite: str = "all",
    *,
    against: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    dtypes: Sequence[str] = DTYPES,
    quick: bool = False,
    peers: str | os.PathLike[str] | None = None,
    timeout: float = TIMEOUT,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Measure gdcore beside other libraries, each in a process of its own.

    Ctrl-C ends the run; the report then has what was measured, and is marked partial.

    Parameters
    ----------
    suite : {"all", "matmul", "mse", "gradient", "operands", "fit"}
    against : sequence of str, optional
        Libraries; by default all that are known, those of `peers` too.
    threads : sequence of int, optional
        Thread counts; by default one, and as many as there are CPUs.
    dtypes : sequence of {"float32", "float64"}
    quick : bool
        A few small sizes and few rounds.
    peers : path-like, optional
        Folder of further libraries: see docs/bench.md.
    timeout : float
        Seconds that a library may take to start, to compute a case once, or for one round. One
        that takes longer is killed, and fails in the rest of the run.
    progress : callable, optional
        Gets a line of text before each step.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If a name is not known or there are fewer CPUs than threads.
    ChildProcessError
        If gdcore itself does not start, or the machine cannot be probed.
    """
    names = suites.NAMES if suite == "all" else (suite,)
    _check_choices("suite", names, (*suites.NAMES, "all"))
    files = find_peers(Path(peers) if peers else None)
    known = [name for name in (*BUILT_IN, *files) if name != BASELINE]
    wanted = known if against is None else against
    chosen = [name for name in dict.fromkeys(wanted) if name != BASELINE]
    _check_choices("peer", chosen, known)
    _check_choices("dtype", dtypes, DTYPES)
    counts = sorted(set(threads or (1, len(usable_cpus()))))
    _check_threads(counts)
    if not timeout > 0:
        raise ValueError(f"timeout is {timeout}; give the seconds a library may take to answer.")
    contest = _Contest(
        QUICK if quick else FULL, progress or (lambda text: None), tuple(dict.fromkeys(dtypes))
    )
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        members = [
            stack.enter_context(closing(Member(name, files.get(name), count, timeout)))
            for count in counts
            for name in (BASELINE, *chosen)
        ]
        contest.open(members)
        contest.probe()
        for case in [case for name in names for case in suites.cases(name, quick=quick)]:
            contest.hold(case)
        contest.probe()
        contest.report.partial = False
    return contest.finish()


@dataclass
class _Contest:
    """The members that are there, and the report so far."""

    effort: Effort
    progress: Callable[[str], None]
    dtypes: tuple[str, ...]
    members: list[Member] = field(default_factory=list)
    limits: dict[int, Limits] = field(default_factory=dict)
    suites: dict[Member, Sequence[str]] = field(default_factory=dict)
    work: dict[Key, Work] = field(default_factory=dict)
    report: Report = field(init=False)

    def __post_init__(self) -> None:
        environment = machine.environment() | {"libraries": {}}
        self.report = Report(BASELINE, environment, partial=True)

    def open(self, members: Iterable[Member]) -> None:
        """Wait for the libraries."""
        self.progress("starting the libraries")
        libraries = self.report.environment["libraries"]
        for member in members:
            try:
                about = member.opened()
            except Refusal as refusal:
                if member.library == BASELINE:
                    raise ChildProcessError(f"{BASELINE} does not start: {refusal}.") from None
                absent = Row("", "", "", 0, member.library, refusal.status, str(refusal))
                if absent not in self.report.rows:
                    self.report.rows.append(absent)
                continue
            self.suites[member] = about.pop("suites")
            libraries.setdefault(member.library, {})[str(member.threads)] = about
            self.members.append(member)

    def probe(self) -> None:
        """Measure the machine's limits, and keep the best so far: a busy machine hides them."""
        for member in self.members:
            if member.library == BASELINE:
                self.progress(f"probing the machine, threads: {member.threads}")
                before = self.limits.get(member.threads)
                try:
                    found = member.ask("limits", self.dtypes, self.effort.probe)
                except Refusal as refusal:
                    if before is None:
                        raise ChildProcessError(f"cannot probe the machine: {refusal}.") from None
                    self.report.remarks.append(
                        "the second probe of the machine failed with "
                        f"{counted(member.threads)}: {refusal}; the limits are those of the first."
                    )
                    continue
                self.limits[member.threads] = found.best(before) if before else found

    def finish(self) -> Report:
        """Return the report, each row with its limit."""
        report = self.report
        report.environment["load_after"] = os.getloadavg()
        report.limits = list(self.limits.values())
        for i, row in enumerate(report.rows):
            if row.suite:
                floor, roof = self.limits[row.threads].floor(self.work[row.key], row.dtype)
                report.rows[i] = replace(row, floor=floor, roof=roof)
        return report

    def hold(self, case: Case) -> None:
        """Race all libraries on a case, in each dtype and thread count."""
        whole = case.whole()  # float32 holds them too, and its reference is the fastest
        exact = exactly(whole.expected(whole.inputs("float32"))) if whole else []
        for dtype in self.dtypes:
            self.progress(f"{case.suite} {case.name}, {dtype}")
            work, expected = case.work(dtype), case.expected(case.inputs(dtype))
            for threads in self.limits:
                key = Key(case.suite, case.name, dtype, threads)
                self.work[key] = work
                blank = Row(*key, "", "timed", flops=work.flops, bytes=work.bytes)
                runners = (each for each in self.members if each.threads == threads)
                race = _Race(blank, [each for each in runners if case.suite in self.suites[each]])
                try:
                    if whole:
                        race.check("on small whole numbers, ", exact, "load", whole, dtype)
                    race.check("", expected, "load", case, dtype)
                    race.start(self.effort)
                    race.check("after timing, ", expected, "last")
                    race.unload()
                finally:
                    self.report.rows += race.rows()


class _Race:
    """Some members on one case: who may run, and the laps so far."""

    def __init__(self, blank: Row, members: Sequence[Member]) -> None:
        self.blank = blank
        self.running = list(members)
        self.ended: dict[str, Row] = {}
        self.order = [member.library for member in members]
        self.repeats: dict[str, int] = {}
        self.laps: dict[str, list[float]] = {}

    def check(self, when: str, expected: list[Expected], method: str, *arguments: Any) -> None:
        """Keep those members whose outputs, the answer to a request, are right."""
        for member in list(self.running):
            outputs: list[Array] | None = self._ask(member, method, *arguments)
            fault = find_fault(outputs, expected) if outputs is not None else None
            if fault:
                self._drop(member, "wrong", when + fault)

    def start(self, effort: Effort) -> None:
        """Run rounds in turns until they have taken the time that was set."""
        total = 0.0
        for member in list(self.running):
            found = self._ask(member, "calibrate", effort.round)
            if found is not None:
                self.repeats[member.library], seconds = found
                self.laps[member.library] = []
                total += found[0] * seconds
        rounds = round(effort.race / total) if total else 0
        for lap in range(min(max(rounds, effort.fewest), effort.most)):
            for member in list(self.running)[:: -1 if lap % 2 else 1]:
                seconds = self._ask(member, "round", self.repeats[member.library])
                if seconds is not None:
                    self.laps[member.library].append(seconds)

    def unload(self) -> None:
        """Let every member forget the case."""
        for member in list(self.running):
            self._ask(member, "unload")

    def rows(self) -> list[Row]:
        """Return a row for each member, cut to the rounds that all of them completed."""
        complete = min((len(self.laps.get(each.library, ())) for each in self.running), default=0)
        timed = {
            member.library: replace(
                self.blank,
                library=member.library,
                rounds=tuple(self.laps[member.library][:complete]),
                repeats=self.repeats[member.library],
            )
            for member in self.running
            if complete
        }
        if ours := timed.get(BASELINE):
            for name, theirs in timed.items():
                if name != BASELINE:
                    timed[name] = replace(theirs, ratio=judge(ours.rounds, theirs.rounds))
        found = timed | self.ended
        return [found[name] for name in self.order if name in found]

    def _ask(self, member: Member, method: str, *arguments: Any) -> Any:
        """Return a member's answer, or None if it is out of the race."""
        try:
            return member.ask(method, *arguments)
        except Refusal as refusal:
            self._drop(member, refusal.status, str(refusal))
            return None

    def _drop(self, member: Member, status: str, note: str) -> None:
        self.running.remove(member)
        name = member.library
        self.ended[name] = replace(self.blank, library=name, status=status, note=note)
        if status == "wrong":
            with suppress(Refusal):
                member.ask("unload")


def _check_choices(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"there is no {what} {name!r}; choose from {', '.join(known)}.")


def _check_threads(counts: Sequence[int]) -> None:
    usable = len(usable_cpus())
    for count in counts:
        if not 1 <= count <= usable:
            raise ValueError(
                f"cannot measure {count} threads: this process may run on {usable} CPUs."
            )
