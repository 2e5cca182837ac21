"""Run suites: every library checked, then timed in turns."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from gdcore.bench import machine, suites, timing
from gdcore.bench.case import Array, Case, Expected, Work
from gdcore.bench.check import exactly, find_fault
from gdcore.bench.libraries.registry import BUILT_IN, find_peers, supports
from gdcore.bench.pool import WorkerError, WorkerProcess, usable_cpus
from gdcore.bench.probe import Limits
from gdcore.bench.report import Report
from gdcore.bench.results import Key, Row, counted
from gdcore.bench.verdict import FEWEST, judge

DTYPES = ("float32", "float64")
BASELINE = "gdcore"
TIMEOUT = 120.0  # seconds for one request: the slowest honest one, compiling too, takes a tenth
_SLOW = 2.0  # seconds of a round of all, from which on there are only as many as a verdict needs


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


FULL = Effort(round=0.004, race=1.5, fewest=9, most=51, probe=0.1)
QUICK = Effort(round=0.001, race=0.1, fewest=FEWEST, most=11, probe=0.02)


def run(
    suite: str = "all",
    *,
    against: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    dtypes: Sequence[str] = DTYPES,
    quick: bool = False,
    large: bool = False,
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
    large : bool
        Use the sizes that need 16 GB of memory and many minutes instead of a suite's usual ones.
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
        If a name is not known, there are fewer CPUs than threads, or no large sizes.
    ChildProcessError
        If gdcore itself does not start, or the machine cannot be probed.
    """
    names = suites.NAMES if suite == "all" else (suite,)
    _check_choices("suite", names, (*suites.NAMES, "all"))
    files = find_peers(Path(peers) if peers else None)
    known = [name for name in (*BUILT_IN, *files) if name != BASELINE]
    wanted = known if against is None else against
    _check_choices("peer", wanted, (BASELINE, *known))
    _check_choices("dtype", dtypes, DTYPES)
    cases = [case for name in names for case in suites.cases(name, quick=quick, large=large)]
    if not cases:
        raise ValueError(f"the suite {suite!r} has no large sizes; choose fit.")
    if quick and large:
        raise ValueError("a run is either quick or large; choose one.")
    jobs = {case.job for case in cases}
    chosen = [
        name
        for name in dict.fromkeys(wanted)
        if name != BASELINE and supports(name, files.get(name), jobs)
    ]
    counts = sorted(set(threads or (1, len(usable_cpus()))))
    _check_threads(counts)
    if not timeout > 0:
        raise ValueError(f"timeout is {timeout}; give the seconds a library may take to answer.")
    session = _Session(
        QUICK if quick else FULL, progress or (lambda text: None), tuple(dict.fromkeys(dtypes))
    )
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        workers = [
            stack.enter_context(closing(WorkerProcess(name, files.get(name), count, timeout)))
            for count in counts
            for name in (BASELINE, *chosen)
        ]
        session.open(workers)
        session.probe()
        for case in cases:
            session.hold(case)
        session.probe()
        session.report.partial = False
    return session.finish()


@dataclass
class _Session:
    """The workers that are there, and the report so far."""

    effort: Effort
    progress: Callable[[str], None]
    dtypes: tuple[str, ...]
    workers: list[WorkerProcess] = field(default_factory=list)
    limits: dict[int, Limits] = field(default_factory=dict)
    jobs: dict[WorkerProcess, Sequence[str]] = field(default_factory=dict)
    closed_forms: dict[WorkerProcess, Sequence[str]] = field(default_factory=dict)
    work: dict[Key, Work] = field(default_factory=dict)
    report: Report = field(init=False)

    def __post_init__(self) -> None:
        environment = machine.environment() | {"libraries": {}}
        self.report = Report(BASELINE, environment, partial=True)

    def open(self, workers: Iterable[WorkerProcess]) -> None:
        """Wait for the libraries."""
        self.progress("starting the libraries")
        libraries = self.report.environment["libraries"]
        for worker in workers:
            try:
                about = worker.opened()
            except WorkerError as refusal:
                if worker.library == BASELINE:
                    raise ChildProcessError(f"{BASELINE} does not start: {refusal}.") from None
                absent = Row("", "", "", 0, worker.library, refusal.status, str(refusal))
                if absent not in self.report.rows:
                    self.report.rows.append(absent)
                continue
            self.jobs[worker] = about.pop("jobs")
            self.closed_forms[worker] = about.pop("closed_forms")
            libraries.setdefault(worker.library, {})[str(worker.threads)] = about
            self.workers.append(worker)

    def probe(self) -> None:
        """Measure the machine's limits, and keep the best so far: a busy machine hides them."""
        for worker in self.workers:
            if worker.library == BASELINE:
                self.progress(f"probing the machine, threads: {worker.threads}")
                before = self.limits.get(worker.threads)
                try:
                    found = worker.ask("limits", DTYPES, self.effort.probe)
                except WorkerError as refusal:
                    if before is None:
                        raise ChildProcessError(f"cannot probe the machine: {refusal}.") from None
                    self.report.remarks.append(
                        "the second probe of the machine failed with "
                        f"{counted(worker.threads)}: {refusal}; the limits are those of the first."
                    )
                    continue
                self.limits[worker.threads] = found.best(before) if before else found

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
            work, tasks = case.work(dtype), _Tasks(case, dtype)
            for threads in self.limits:
                key = Key(case.suite, case.name, dtype, threads)
                self.work[key] = work
                blank = Row(*key, "", "timed", flops=work.flops, bytes=work.bytes)
                race = _Race(blank)
                for worker in self.workers:
                    if worker.threads == threads and case.job in self.jobs[worker]:
                        race.enter(worker, tasks.of(worker, case.job in self.closed_forms[worker]))
                try:
                    if whole:
                        race.check_whole(exact, whole, dtype)
                    race.load(dtype)
                    race.start(self.effort)
                    race.check_last()
                    race.unload()
                finally:
                    self.report.rows += race.rows()


class _Task(NamedTuple):
    """What a worker does of a case, what has to come out, and whether that is by a closed form."""

    case: Case
    share: int
    expected: list[Expected]
    in_closed_form: bool


class _Tasks:
    """The tasks of one case and dtype, each made when it is first wanted."""

    def __init__(self, case: Case, dtype: str) -> None:
        self.case, self.dtype = case, dtype
        self.made: dict[tuple[int, bool], _Task] = {}

    def of(self, worker: WorkerProcess, in_closed_form: bool) -> _Task:
        """Return the task of a worker."""
        share = self.case.shares.get(worker.library, 1)
        if (share, in_closed_form) not in self.made:
            case = self.case if share == 1 else self.case.part(share)
            inputs = case.inputs(self.dtype)
            expected = case.solved(inputs) if in_closed_form else case.expected(inputs)
            self.made[share, in_closed_form] = _Task(case, share, expected, in_closed_form)
        return self.made[share, in_closed_form]


class _Race:
    """Some workers on one case: who may run, and the rounds so far."""

    def __init__(self, blank: Row) -> None:
        self.blank = blank
        self.tasks: dict[WorkerProcess, _Task] = {}
        self.running: list[WorkerProcess] = []
        self.ended: dict[str, Row] = {}
        self.repeats: dict[str, int] = {}
        self.rounds: dict[str, list[float]] = {}

    def enter(self, worker: WorkerProcess, task: _Task) -> None:
        """Let a worker take part."""
        self.tasks[worker] = task
        self.running.append(worker)

    def check_whole(self, exact: list[Expected], whole: Case, dtype: str) -> None:
        """Keep those who are exact on whole numbers; what is divided by no power of two is not."""
        for worker in list(self.running):
            if not self.tasks[worker].in_closed_form:
                self._check(worker, "on small whole numbers, ", exact, "load", whole, dtype)

    def load(self, dtype: str) -> None:
        """Keep those who are right on the numbers that will be timed."""
        for worker in list(self.running):
            task = self.tasks[worker]
            self._check(worker, "", task.expected, "load", task.case, dtype)

    def check_last(self) -> None:
        """Keep those whose last timed call was right."""
        for worker in list(self.running):
            self._check(worker, "after timing, ", self.tasks[worker].expected, "last")

    def _check(
        self,
        worker: WorkerProcess,
        when: str,
        expected: list[Expected],
        method: str,
        *arguments: Any,
    ) -> None:
        outputs: list[Array] | None = self._ask(worker, method, *arguments)
        fault = find_fault(outputs, expected) if outputs is not None else None
        if fault:
            self._drop(worker, "wrong", when + fault)

    def start(self, effort: Effort) -> None:
        """Run rounds in turns until they have taken the time that was set."""
        found = {}
        for worker in list(self.running):
            answer = self._ask(worker, "calibrate", effort.round)
            if answer is not None:
                found[worker.library] = answer
                self.rounds[worker.library] = []
        self.repeats = timing.equal_repeats(found)
        total = sum(self.repeats[name] * seconds for name, (_, seconds) in found.items())
        rounds = round(effort.race / total) if total else 0
        fewest = effort.fewest if total < _SLOW else FEWEST
        order = list(self.running)
        for turn in range(min(max(rounds, fewest), effort.most)):
            order = order[::-1] if turn % 2 else random.sample(self.running, len(self.running))
            for worker in [each for each in order if each in self.running]:
                seconds = self._ask(worker, "round", self.repeats[worker.library])
                if seconds is not None:
                    self.rounds[worker.library].append(seconds * self.tasks[worker].share)

    def unload(self) -> None:
        """Let every worker forget the case."""
        for worker in list(self.running):
            self._ask(worker, "unload")

    def rows(self) -> list[Row]:
        """Return a row for each worker, cut to the rounds that all of them completed."""
        complete = min((len(self.rounds.get(each.library, ())) for each in self.running), default=0)
        timed = {
            worker.library: replace(
                self.blank,
                library=worker.library,
                rounds=tuple(self.rounds[worker.library][:complete]),
                repeats=self.repeats[worker.library],
                share=self.tasks[worker].share,
            )
            for worker in self.running
            if complete
        }
        if ours := timed.get(BASELINE):
            for name, theirs in timed.items():
                if name != BASELINE:
                    timed[name] = replace(theirs, ratio=judge(ours.rounds, theirs.rounds))
        found = timed | self.ended
        return [found[each.library] for each in self.tasks if each.library in found]

    def _ask(self, worker: WorkerProcess, method: str, *arguments: Any) -> Any:
        """Return a worker's answer, or None if it is out of the race."""
        try:
            return worker.ask(method, *arguments)
        except WorkerError as refusal:
            self._drop(worker, refusal.status, str(refusal))
            return None

    def _drop(self, worker: WorkerProcess, status: str, note: str) -> None:
        self.running.remove(worker)
        name = worker.library
        self.ended[name] = replace(self.blank, library=name, status=status, note=note)
        if status == "wrong":
            with suppress(WorkerError):
                worker.ask("unload")


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
