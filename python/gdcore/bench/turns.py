"""The libraries that take turns on one case: what each does of it, and the times so far."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from statistics import fmean
from typing import Any, NamedTuple

from gdcore.bench import timing
from gdcore.bench.busy import busy_processes
from gdcore.bench.case import Array, Case, Expected, Situation
from gdcore.bench.check import find_fault
from gdcore.bench.pool import WorkerError, WorkerProcess, usable_cpus
from gdcore.bench.results import Calls, Row
from gdcore.bench.verdict import FEWEST, judge

BASELINE = "gdcore"
_SLOW = 2.0  # seconds of a round of all, from which on there are only as many as a verdict needs
_LOOP = 10  # times as long as other rounds: calls in a loop, one of which may lose a time slice


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
    calls : int
        Calls in a round of those that are timed one by one after a rest.
    """

    round: float
    race: float
    fewest: int
    most: int
    probe: float
    calls: int


class Task(NamedTuple):
    """What a worker does of a case, what has to come out, and whether that is by a closed form."""

    case: Case
    share: int
    expected: list[Expected]
    in_closed_form: bool


class Tasks:
    """The tasks of one case and dtype, each made when it is first wanted."""

    def __init__(self, case: Case, dtype: str) -> None:
        self.case, self.dtype = case, dtype
        self.made: dict[tuple[int, bool], Task] = {}

    def of(self, worker: WorkerProcess, in_closed_form: bool) -> Task:
        """Return the task of a worker."""
        share = self.case.shares.get(worker.library, 1)
        if (share, in_closed_form) not in self.made:
            case = self.case if share == 1 else self.case.part(share)
            inputs = case.inputs(self.dtype)
            expected = case.solved(inputs) if in_closed_form else case.expected(inputs)
            self.made[share, in_closed_form] = Task(case, share, expected, in_closed_form)
        return self.made[share, in_closed_form]


class Race:
    """Some workers on one case: who may run, and the rounds so far."""

    def __init__(self, blank: Row) -> None:
        self.blank = blank
        self.tasks: dict[WorkerProcess, Task] = {}
        self.running: list[WorkerProcess] = []
        self.ended: dict[str, Row] = {}
        self.repeats: dict[str, int] = {}
        self.rounds: dict[str, list[float]] = {}
        self.calls: dict[str, list[list[float]]] = {}  # where they are timed one by one

    def enter(self, worker: WorkerProcess, task: Task) -> None:
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

    def time_calls(self, worker: WorkerProcess, pause: float) -> None:
        """Run a round of calls that are timed one by one, if a worker is still in the race."""
        if worker not in self.running:
            return
        count = self.repeats[worker.library]
        seconds = self._ask(worker, "calls", count, pause, usable_cpus())
        if seconds is not None:
            self.calls.setdefault(worker.library, []).append(seconds)
            self.rounds.setdefault(worker.library, []).append(fmean(seconds))

    def count_calls(self, effort: Effort, pause: float) -> None:
        """Find out how many calls of each worker make a round."""
        for worker in list(self.running):
            answer = None if pause else self._ask(worker, "calibrate", _LOOP * effort.round)
            self.repeats[worker.library] = answer[0] if answer else effort.calls

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
                calls=self._calls(worker, complete),
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

    def _calls(self, worker: WorkerProcess, complete: int) -> Calls | None:
        rounds = self.calls.get(worker.library)
        return Calls.of(list(chain.from_iterable(rounds[:complete]))) if rounds else None

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


def take_calls(races: Sequence[Race], situation: Situation, effort: Effort) -> None:
    """Let the workers of some races take turns at calls that are timed one by one.

    The races are those of all thread counts, so that these can be compared too.
    """
    for race in races:
        race.count_calls(effort, situation.pause)
    entries = [(race, worker) for race in races for worker in race.running]
    with busy_processes(situation.busy):
        for _ in range(effort.fewest):
            for race, worker in random.sample(entries, len(entries)):
                race.time_calls(worker, situation.pause)
