"""A judgement under way: its processes, and what has been found so far."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from gdcore.bench import machine
from gdcore.oracle.trials.examine import Examination, examine
from gdcore.oracle.trials.findings import Finding, Ruling
from gdcore.oracle.trials.rounds import OTHER_CALL
from gdcore.referee import evidence, pack
from gdcore.referee.problem import Problem, Undecided, UsageError
from gdcore.referee.process import NO_CARD, Sandbox
from gdcore.referee.race import Race
from gdcore.referee.source import Entry
from gdcore.referee.verdict import Verdict

_USAGE = ("NoSuchName", "NoInputs")  # errors of `gdcore.referee.source`, as sentences have them
_SHARE = 0.6  # of the time that the examination may take
START = 3.0  # seconds that processes of a race may take to start, besides what was seen
_CPU_ONLY = "Nothing was run on a GPU: streams, caches and clocks of a card were not tried."
_STARTS = 2  # times what the reference takes to start, until what does not is called hanging
_MORE = "It hangs, or is too slow for this timeout: give more."
_UNLISTED = (
    "Operations are listed in its own process: what its threads and compiled code call is not seen."
)
_SHORT = "The time was over before this could be done again in a fresh process."


class Judgement:
    """The processes of one judgement, and what has been found so far.

    Parameters
    ----------
    ours, theirs : Entry
        Candidate and reference.
    seed : int
        Of all data; no process is given it.
    timeout : float
        Seconds for everything.
    memory, device : str
        See `Sandbox`.
    """

    def __init__(
        self, ours: Entry, theirs: Entry, seed: int, timeout: float, memory: str, device: str
    ) -> None:
        self.begin = time.monotonic()
        self.seed = seed
        self.deadline = self.begin + timeout
        self.ours, self.theirs = ours, theirs
        self.memory, self.device = memory, device
        self.stack = ExitStack()
        self.ruling, self.why = Ruling.NOT_DECIDED, ""
        self.findings: list[Finding] = []
        self.examination: Examination | None = None
        self.raced = Race()
        self.calls: tuple[str, ...] = ()
        self.limits: dict[str, None] = {}
        self.started = 0.0

    def __enter__(self) -> Judgement:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    @property
    def ok(self) -> bool:
        """Whether the candidate is right or suspicious, so far."""
        return self.ruling in (Ruling.RIGHT, Ruling.SUSPICIOUS)

    @property
    def left(self) -> float:
        """Seconds until the time is over."""
        return max(0.05, self.deadline - time.monotonic())

    def start(self, entry: Entry) -> Sandbox:
        """Start a process that will be ready later."""
        sandbox = Sandbox(
            entry.path,
            entry.role,
            entry.options(),
            timeout=self.left,
            memory=self.memory,
            arrays=entry.framework,
            device=self.device,
        )
        self.stack.callback(sandbox.close)
        sandbox.end_within(self.left)
        return sandbox

    def pose(self, dtype: str | None) -> None:
        """Start the reference and golden, and find out what the problem is; start the candidate."""
        text = Path(self.theirs.path).read_bytes()  # what is imported is not part of its memory
        self.theirs = replace(self.theirs, framework="torch" if b"torch" in text else "numpy")
        self.eager = self.start(self.theirs)
        self.golden = self.start(replace(self.theirs, role="golden"))
        self._await_reference(self.eager)
        self.started = time.monotonic() - self.begin
        self.problem = Problem.of(self.eager, self.eager.about, dtype)
        self.candidate_entry = self.problem.entry_for(self.ours, self._state_file())
        self.candidate = self.start(self.candidate_entry)
        self._await_reference(self.golden)
        if self.golden.about["digest"] != self.eager.about["digest"]:
            raise Undecided(
                "The reference's model has other parameters each time it is made; "
                "make them with torch's random numbers, which are seeded."
            )
        self.problem = self.problem.checked(self.golden, self.eager, self.seed)
        calls = [self.problem.draw(self.seed)] * 2
        self.usual = min(self.eager.run(calls).seconds for _ in range(3))
        self._await_candidate(self.candidate)
        confined = [each for each in self.candidate.limits if each != NO_CARD]
        self.limits |= dict.fromkeys(f"In its process: {each}." for each in confined)
        self.started = time.monotonic() - self.begin

    def _await_reference(self, sandbox: Sandbox) -> None:
        if reason := sandbox.ready():
            kind, _, sentence = reason.partition(": ")
            if kind in _USAGE:
                raise UsageError(sentence)
            raise Undecided(f"The reference cannot be called. {sentence or reason}")

    def _await_candidate(self, sandbox: Sandbox) -> None:
        if reason := sandbox.ready():
            kind, _, sentence = reason.partition(": ")
            if kind in _USAGE:
                raise UsageError(sentence)
            if kind == "OtherParameters":
                raise Undecided(sentence)
            if evidence.is_unfinished(reason, _STARTS * self.started):
                raise Undecided(f"The candidate did not start: {reason}. {_MORE}")
            told = sentence if kind in ("DoesNotImport", "BadModel") else reason
            self.ruling = Ruling.WRONG
            self.findings = [Finding("does not start", Ruling.WRONG, told)]

    def _state_file(self) -> str:
        if not self.problem.held:
            return ""
        folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="gdcore-"))
        path = Path(folder) / "state.npz"
        pack.save(path, self.problem.held)
        return str(path)

    def examine(
        self, families: str | Sequence[str], sizes: Sequence[str] | None, reserve: float
    ) -> None:
        """Compare the candidate's results with golden."""
        if self.findings:
            return
        self.families, self.sizes = families, sizes
        self.candidate.end_within(self.left - min(1.0, self.left / 5))  # time to ask the reference
        budget = max(self.left * _SHARE, self.left - 2 * reserve - self.started - START)
        found = self._examination(self.candidate, families, budget)
        self.examination = found
        self.ruling, self.why = found.ruling, found.why
        self.findings = list(found.findings)
        self.limits |= dict.fromkeys(evidence.ordinary(found.notes))
        self._check_patience()
        self.suspect(evidence.outliving(found.notes))
        if any(each.kind == OTHER_CALL for each in self.findings):
            self._confirm_cache()

    def _check_patience(self) -> None:
        """Raise `Undecided` if it gave no answer, and the machine may be what is slow."""
        grave = [each for each in self.findings if each.ruling is Ruling.WRONG]
        if not grave or not all(evidence.is_unfinished(each.sentence, inf) for each in grave):
            return
        now = self.eager.run([self.problem.draw(self.seed)] * 2)
        usual = inf if now.error else max(now.seconds, self.usual)
        if all(evidence.is_unfinished(each.sentence, evidence.enough(usual)) for each in grave):
            raise Undecided(f"It {grave[0].sentence.removeprefix('it ')}. {_MORE}")

    def suspect(self, found: Sequence[Finding]) -> None:
        """Add findings that make what was right suspicious."""
        self.findings += found
        if found and self.ruling is Ruling.RIGHT:
            self.ruling, self.why = Ruling.SUSPICIOUS, found[0].sentence

    def _examination(
        self, candidate: Sandbox, families: str | Sequence[str], budget: float
    ) -> Examination:
        return examine(
            candidate,
            self.golden,
            self.eager,
            self.problem.template,
            dtype=self.problem.dtype,
            families=families,
            sizes=self.sizes,
            seed=self.seed,
            grads=self.ours.grads,
            seconds=min(budget, self.left),
        )

    def fresh(self) -> Sandbox | None:
        """Return another process of the candidate, or None if there is no time for it."""
        if self.left < self.started + 1.0:
            self.limits[_SHORT] = None
            return None
        sandbox = self.start(self.candidate_entry)
        return None if sandbox.ready() else sandbox

    def _confirm_cache(self) -> None:
        """Call it cheating if a fresh process returns results of other calls too, else wrong."""
        self.findings = [
            replace(each, ruling=Ruling.WRONG) if each.kind == OTHER_CALL else each
            for each in self.findings
        ]
        self.ruling = Ruling.WRONG
        first = next(each for each in self.findings if each.kind == OTHER_CALL)
        if (again := self.fresh()) is None:
            return
        found = self._examination(again, [first.family], self.left / 2)
        if any(each.kind == OTHER_CALL for each in found.findings):
            self.convict(first)

    def convict(self, finding: Finding) -> None:
        """Put a finding that repeats before all others."""
        self.findings = [
            replace(finding, ruling=Ruling.CHEATING),
            *(each for each in self.findings if not _is_same(each, finding)),
        ]
        self.ruling = Ruling.CHEATING
        self.why = f"{finding.sentence} A fresh process did so again."

    def gather(self, forbid: Sequence[str]) -> None:
        """List the library's operations, and look for what a candidate does besides computing."""
        sets = [self.problem.draw(self.seed ^ 0xF0F0)]
        if forbid:
            self.limits[_UNLISTED] = None
        own, notes = self._trace(self.candidate, sets)
        theirs, _ = self._trace(self.eager, sets)
        self.calls = evidence.counted(own)
        share = evidence.library_share(own, theirs)
        found = evidence.tamperings(notes) + evidence.breaches(own, forbid, theirs)
        if found and (again := self.fresh()) is not None:
            own, notes = self._trace(again, sets)
            kinds = {
                each.kind
                for each in evidence.tamperings(notes) + evidence.breaches(own, forbid, theirs)
            }
            for each in found:
                if each.kind in kinds:
                    self.convict(each)
        if self.ok:
            fallbacks = evidence.fallback(notes, share)
            self.suspect(fallbacks)
            if share and not fallbacks:
                self.why = f"{self.why} {share}".strip()

    def _trace(self, sandbox: Sandbox, sets: Sequence[Any]) -> tuple[tuple[str, ...], list[str]]:
        outcome = sandbox.run(sets, trace=True)
        return outcome.library_calls, list(outcome.notes)

    def verdict(self) -> Verdict:
        """Return what was found."""
        found = self.examination
        if self.device == "cpu" and found:
            self.limits[_CPU_ONLY] = None
        why = self.why or (self.findings[0].sentence if self.findings else "")
        return Verdict(
            self.ruling,
            candidate=_name_of(self.ours),
            reference=_name_of(self.theirs),
            why=_sentence(why),
            findings=tuple(self.findings),
            worst=found.worst if found else None,
            speed=self.raced.speed if self.ok else (),
            tried=found.tried if found else (),
            not_tried=found.not_tried if found else (),
            library_calls=self.calls,
            limits=tuple(self.limits),
            calls=(found.calls if found else 0) + self.raced.calls,
            seconds=time.monotonic() - self.begin,
            environment=machine.environment() | {"seed": self.seed},
        )


def _is_same(one: Finding, other: Finding) -> bool:
    return (one.kind, one.family, one.size, one.seed) == (
        other.kind,
        other.family,
        other.size,
        other.seed,
    )


def _sentence(text: str) -> str:
    """Return it with a capital and a full stop."""
    text = text.strip()
    stop = "" if not text or text.endswith((".", "!", "?")) else "."
    return f"{text[:1].upper()}{text[1:]}{stop}"


def _name_of(entry: Entry) -> str:
    name = Path(entry.path).name
    return f"{name}:{entry.name}" if entry.name else name
