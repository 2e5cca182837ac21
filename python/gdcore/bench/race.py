"""Run suites: every library checked, then timed in turns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from gdcore.bench import machine, suites
from gdcore.bench.case import Case, Work
from gdcore.bench.check import exactly
from gdcore.bench.libraries.registry import BUILT_IN, find_peers, supports
from gdcore.bench.pool import WorkerError, WorkerProcess, usable_cpus
from gdcore.bench.probe import Limits
from gdcore.bench.report import Report
from gdcore.bench.results import Key, Row, counted
from gdcore.bench.turns import BASELINE, Effort, Race, Tasks, take_calls
from gdcore.bench.verdict import FEWEST

DTYPES = ("float32", "float64")
TIMEOUT = 120.0  # seconds for one request: the slowest honest one, compiling too, takes a tenth
FULL = Effort(round=0.004, race=1.5, fewest=9, most=51, probe=0.1, calls=12)
QUICK = Effort(round=0.001, race=0.1, fewest=FEWEST, most=11, probe=0.02, calls=3)


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
    suite : {"all", "matmul", "mse", "gradient", "operands", "fit", "rest"}
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
            tasks = Tasks(case, dtype)
            races = [self._enter(tasks, threads) for threads in self.limits]
            together = [races] if case.situation else [[race] for race in races]
            for some in together:
                try:
                    for race in some:
                        if whole:
                            race.check_whole(exact, whole, dtype)
                        race.load(dtype)
                    if case.situation:
                        take_calls(some, case.situation, self.effort)
                    else:
                        some[0].start(self.effort)
                    for race in some:
                        race.check_last()
                        race.unload()
                finally:
                    for race in some:
                        self.report.rows += race.rows()

    def _enter(self, tasks: Tasks, threads: int) -> Race:
        """Return the race of the workers with that many threads that do a case."""
        case, dtype = tasks.case, tasks.dtype
        key, work = Key(case.suite, case.name, dtype, threads), case.work(dtype)
        self.work[key] = work
        race = Race(Row(*key, "", "timed", flops=work.flops, bytes=work.bytes))
        for worker in self.workers:
            if worker.threads == threads and case.job in self.jobs[worker]:
                race.enter(worker, tasks.of(worker, case.job in self.closed_forms[worker]))
        return race


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
