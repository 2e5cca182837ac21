"""Compare functions of one's own, in this process."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter  # a contestant may change the module
from types import GeneratorType
from typing import Any

import numpy as np

import gdcore as gd
from gdcore.bench import layout, machine, probe, timing
from gdcore.bench.case import Expected, Work
from gdcore.bench.check import (
    as_arrays,
    exactly,
    find_device,
    find_fault,
    is_awaited,
    names_of,
    wait,
)
from gdcore.bench.libraries.base import Run, repeating
from gdcore.bench.reference import dtype_of, evaluate
from gdcore.bench.report import Report
from gdcore.bench.results import Row
from gdcore.bench.stale import find_stale
from gdcore.bench.verdict import MARGIN, Ratio, Verdict, check_margin, judge

_ROUND = 0.002  # seconds
_FEWEST, _MOST = 9, 201
_PROBE = 0.05  # seconds
_LAYOUTS = 8  # in a round
_CHANGED = "it changed its inputs"
_UNTIMED = "interrupted", "the run ended before its first complete round"

Function = Callable[..., Any]


@dataclass(repr=False)
class Comparison(Report):
    """What `compare` found: a report, and verdicts between any two contestants."""

    def ratio(self, name: str, than: str) -> Ratio:
        """Return how many times as long `than` takes as `name`, and the verdict for `name`."""
        ours, theirs = self._timed(name), self._timed(than)
        return judge(ours.rounds, theirs.rounds, self.margin)

    def verdict(self, name: str, than: str) -> Verdict:
        """Return whether `name` is FAST or SLOW beside `than`, the SAME, or AMBG: too noisy to say.

        Raises
        ------
        ValueError
            If there is no such contestant, or it was not timed.
        """
        return self.ratio(name, than).verdict

    def assert_not_slow(self, name: str, than: str) -> None:
        """Fail if `name` is slower than `than` beyond doubt: on SLOW, never on AMBG.

        Raises
        ------
        AssertionError
            If the verdict is SLOW.
        ValueError
            If there is no such contestant, or it was not timed.
        """
        ratio = self.ratio(name, than)
        if ratio.verdict is Verdict.SLOW:
            raise AssertionError(
                f"{name} is SLOW: {than} takes only {ratio.value:.3g} x as long "
                f"(95 % confidence: {ratio.low:.3g} to {ratio.high:.3g})."
            )

    def _timed(self, name: str) -> Row:
        row = next((row for row in self.rows if row.library == name), None)
        if row is None:
            names = ", ".join(row.library for row in self.rows)
            raise ValueError(f"there is no contestant {name!r}; there are {names}.")
        if not row.rounds:
            raise ValueError(f"{name} was not timed; it is {row.status}: {row.note}.")
        return row


def compare(
    contestants: Mapping[str, Function],
    inputs: Sequence[Any],
    *,
    flops: float | None = None,
    bytes: float | None = None,
    reference: Any = None,
    bound: Any = None,
    check: Callable[[Any], Any] | None = None,
    whole: Sequence[Any] | None = None,
    name: str | None = None,
    threads: int | None = None,
    seconds: float = 1.0,
    margin: float = MARGIN,
) -> Comparison:
    """Check functions that should return the same, then time them in turns.

    Parameters
    ----------
    contestants : dict of str to callable
        Each is called with the inputs. The first is the baseline of the table. A result that
        offers ``block_until_ready()``, as JAX's do, is awaited in every call; one on another device
        is refused, as the call may return before it is there.
    inputs : sequence
        Arguments, which must not be changed. Each round is called with copies of them at other
        addresses; what a function takes from elsewhere stays where it is. Of more than 256 MB there
        is one copy.
    flops, bytes : float, optional
        The least work and memory traffic of one call, for the columns GFLOP/s, GB/s and
        percent of this machine's limit.
    reference : callable, array, or tuple, list or dict of arrays
        What has to come out: real or complex numbers. A callable gets the inputs in the next wider
        type: float64 for float32, the long double for float64. Where it takes none of these, as
        LAPACK and torch take no long double, it gets the widest that it takes, and the report says
        so.
    bound : callable, array or tuple of arrays, optional
        How far each element may lie from the reference; a callable gets the inputs, as
        `gdcore.bench.bounds.matmul` does. By default, what every usual order of operations stays
        within: a reference that is a function is called some 25 times more, with inputs that
        are changed a little, to see how many of them each element depends on, and how strongly. An
        infinity or a NaN has to be there exactly, and widens nothing. After the last round, a
        function is called with other floats at the same addresses: a result that was kept is wrong,
        and so is one that does not depend on the inputs at all.
    check : callable, optional
        Gets the result of a call; a result is wrong if it returns False or raises AssertionError.
        Instead of `reference`, or beside it.
    whole : sequence, optional
        Further inputs, whole numbers so small that every order of summation gives the same: with
        them each result has to be exactly that of `reference`, a callable.
    name : str, optional
        What the case is called; by default the shapes of the inputs.
    threads : int, optional
        How many threads the contestants use, for the limit; `gdcore.get_num_threads()` by default.
    seconds : float
        How long to measure, about; there are at least 9 rounds.
    margin : float
        How much faster counts as faster.

    Returns
    -------
    Comparison
        Ctrl-C ends the measurement early, and marks it partial: the last results are not checked
        then, and a contestant without a complete round is ``interrupted``.

    Raises
    ------
    ValueError
        If there is no contestant, nothing to check results against, or a setting makes no sense.

    Examples
    --------
    >>> import gdcore.bench, numpy as np
    >>> def einsum(a, b):
    ...     return np.einsum("ik,kj->ij", a, b)
    >>> def forgetful(a, b):
    ...     return a[:, :-1] @ b[:-1]
    >>> a = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    >>> report = gdcore.bench.compare(
    ...     {"matmul": np.matmul, "einsum": einsum, "forgetful": forgetful},
    ...     (a, a),
    ...     flops=2 * 32**3,
    ...     bytes=3 * a.nbytes,
    ...     reference=np.matmul,
    ...     bound=gdcore.bench.bounds.matmul,
    ...     seconds=0.1,
    ... )
    >>> [(row.library, row.status) for row in report.rows]
    [('matmul', 'timed'), ('einsum', 'timed'), ('forgetful', 'wrong')]
    >>> report.verdict("matmul", than="einsum") in gdcore.bench.Verdict
    True
    """
    if not contestants:
        raise ValueError("there are no contestants; pass a dict of names and functions.")
    if reference is None and check is None:
        raise ValueError("nothing to check the results against: pass reference= or check=.")
    if whole is not None and not callable(reference):
        raise ValueError("whole= needs a reference that is a function, to be called with them.")
    if not (isinstance(seconds, int | float) and 0 < seconds < math.inf):
        raise ValueError(f"seconds is {seconds!r}; give how long to measure, a number above 0.")
    check_margin(margin)
    args = tuple(inputs)
    if any(isinstance(each, GeneratorType) for each in args):
        raise ValueError("an input is a generator; a generator can be read only once; pass a list.")
    dtype = dtype_of(args)
    threads = gd.get_num_threads() if threads is None else threads
    baseline = next(iter(contestants))
    environment = machine.environment() | {"openmp": machine.openmp_runtimes()}
    report = Comparison(baseline, environment, partial=True, margin=margin)
    blank = Row("compare", name or _shapes(args), dtype, threads, "", *_UNTIMED)
    rows = {each: replace(blank, library=each) for each in contestants}
    try:
        rng, expected = np.random.default_rng(), None
        if reference is not None:
            expected, remark = evaluate(args, reference, bound, flops)
            report.remarks += [remark] * bool(remark)
        judges = {"": _Judge(layout.Inputs(args, rng), expected, check)}
        if whole is not None:
            exact = exactly(evaluate(tuple(whole), reference, None, flops).expected)
            judges = {
                "on whole numbers, ": _Judge(layout.Inputs(tuple(whole), rng), exact, None)
            } | judges
        blank = _with_limit(blank, report, flops, bytes)
        for each, function in contestants.items():
            rows[each] = _checked(replace(blank, library=each), function, judges)
        race = _Race(rows, judges[""])
        for each, function in contestants.items():
            if rows[each].status == "timed":
                race.enter(each, function)
        race.start(seconds)
        if callable(reference):
            race.find_stale(contestants, args, reference)
        report.partial = False
    except KeyboardInterrupt:
        pass
    report.rows = _judged(rows, baseline, margin)
    report.environment["load_after"] = os.getloadavg()
    return report


def _checked(row: Row, function: Function, judges: Mapping[str, _Judge]) -> Row:
    """Return a contestant's row after the first judge who finds a fault, or after all."""
    for when, judge_of in judges.items():
        row = judge_of.first(row, function, when)
        if row.status != "timed":
            break
    return row


class _Judge:
    """What inputs have to stay, and what has to come out of them."""

    def __init__(
        self,
        inputs: layout.Inputs,
        expected: Sequence[Expected] | None,
        check: Callable[[Any], Any] | None,
    ) -> None:
        self.inputs, self.expected, self.check = inputs, expected, check

    def first(self, row: Row, function: Function, when: str) -> Row:
        """Call a function once; return its row with what is wrong with it, if anything."""
        args = self.inputs.place()
        try:
            result = wait(function(*args))
        except Exception as error:
            self.find_change()
            return replace(row, status="failed", note=when + _said(error))
        if note := self.find_change():
            return replace(row, status="failed", note=when + note)
        return self.judged(row, result, when)

    def find_change(self) -> str:
        """Return what the last call did to its inputs, in words; nothing if they are the same."""
        return _CHANGED if self.inputs.are_touched() or self.inputs.are_changed() else ""

    def judged(self, row: Row, result: Any, when: str) -> Row:
        """Return a row as it is, or withdrawn if a result is not right."""
        status, note = self._status(result)
        if status == "timed":
            return replace(row, status=status, note="")
        return _withdrawn(row, status, when + note)

    def _status(self, result: Any) -> tuple[str, str]:
        if device := find_device(result):
            return "failed", (
                f"its result is on the device {device}, which may still be at work when the call "
                "returns; synchronise inside the function, and return the result on the CPU"
            )
        try:
            outputs = as_arrays(result) if self.expected is not None else []
        except Exception as error:
            return "failed", _said(error)
        if self.expected is not None:
            names, right = names_of(result), [each.name for each in self.expected]
            if len(names) == len(right) and names != right:
                return "wrong", f"it returns {', '.join(names)} instead of {', '.join(right)}"
            if fault := find_fault(outputs, self.expected):
                return "wrong", fault
        try:
            verdict = self.check(result) if self.check is not None else None
        except AssertionError as error:
            return "wrong", str(error).strip().split("\n")[0] or "the check says so"
        except Exception as error:
            return "failed", f"in the check, {_said(error)}"
        return ("timed", "") if verdict is None or verdict else ("wrong", "the check says so")


class _Changed(Exception):
    """A contestant wrote to its inputs."""


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _withdrawn(row: Row, status: str, note: str) -> Row:
    """Return a row without its figures."""
    return replace(row, status=status, note=note, rounds=(), repeats=0)


class _Runner:
    """A contestant: how it is called, and what its last round returned."""

    def __init__(self, function: Function, args: tuple[Any, ...]) -> None:
        self.function = function
        result = wait(function(*args))
        self.waits = is_awaited(result)
        del result  # its memory is free for the next
        self.repeats, self.seconds = timing.calibrate(self._run(args), _ROUND)
        self.kept: timing.Kept | None = None

    @property
    def parts(self) -> int:
        """How many layouts a round has."""
        return min(self.repeats, _LAYOUTS)

    def round(self, args: tuple[Any, ...]) -> float:
        """Return the seconds of a call."""
        self.kept = timing.Kept(self._run(args))
        return timing.timed_round(self.kept, self.repeats // self.parts, self.seconds)

    def take(self) -> Any:
        """Return what the last round returned, and forget it, so that its memory is free."""
        kept, self.kept = self.kept, None
        return kept and kept.result

    def _run(self, args: tuple[Any, ...]) -> Run:
        call = partial(self.function, *args)
        return repeating((lambda: wait(call())) if self.waits else call)


class _Race:
    """The contestants that are still in: each that raises or writes to its inputs is withdrawn."""

    def __init__(self, rows: dict[str, Row], judge_of: _Judge) -> None:
        self.rows, self.judge, self.inputs = rows, judge_of, judge_of.inputs
        self.heap = layout.Heap(self.inputs.rng)
        self.runners: dict[str, _Runner] = {}

    def enter(self, name: str, function: Function) -> None:
        """Find out how many calls of a contestant make a round."""
        with self._withdrawing(name):
            self.runners[name] = _Runner(function, self.inputs.place())

    def start(self, seconds: float) -> None:
        """Take rounds in turns, and keep each that all have completed; check the last results."""
        found = {name: (each.repeats, each.seconds) for name, each in self.runners.items()}
        for name, repeats in timing.equal_repeats(found).items():
            self.runners[name].repeats = repeats
            self.rows[name] = replace(self.rows[name], repeats=repeats)
        order, begin = list(self.runners), perf_counter()
        self._take_round(order)
        rounds_due = round(seconds / (perf_counter() - begin))
        for left in reversed(range(min(max(rounds_due, _FEWEST), _MOST) - 1)):
            order = order[::-1] if left % 2 else self.inputs.rng.permutation(order).tolist()
            self._take_round(order, last=not left)

    def find_stale(
        self, contestants: Mapping[str, Function], args: tuple[Any, ...], reference: Function
    ) -> None:
        """Withdraw each contestant that returns what it kept of an earlier call."""
        for name in [] if self.inputs.stays else list(self.runners):
            if note := find_stale(contestants[name], args, reference):
                self._withdraw(_withdrawn(self.rows[name], "wrong", f"after timing, {note}"))

    def _take_round(self, order: Sequence[str], last: bool = False) -> None:
        running = [name for name in order if name in self.runners]
        seconds = {name: self._round(name, last) for name in running}
        for name in self.runners:
            row = self.rows[name]
            self.rows[name] = replace(row, rounds=(*row.rounds, seconds[name]))

    def _round(self, name: str, last: bool) -> float:
        """Return the seconds of a call, the middle of several layouts of all data."""
        runner, parts = self.runners[name], []
        with self._withdrawing(name):
            for left in reversed(range(runner.parts)):
                self.heap.shake()
                parts.append(runner.round(self.inputs.place()))
                result = runner.take()
                if self.inputs.are_changed():
                    raise _Changed
                if last and not left:  # at once: they may share the array they return
                    self._withdraw(self.judge.judged(self.rows[name], result, "after timing, "))
        timing.settle()
        return timing.midmean(parts) if parts else math.nan

    @contextmanager
    def _withdrawing(self, name: str) -> Iterator[None]:
        """Withdraw a contestant that raises or changes its inputs."""
        note = ""
        try:
            yield
        except _Changed:
            note = _CHANGED
        except Exception as error:
            note = _said(error)
        note = self.judge.find_change() or note
        if note:
            note = f"on a later call, {note}"
            self._withdraw(_withdrawn(self.rows[name], "failed", note))

    def _withdraw(self, row: Row) -> None:
        if row.status != "timed":
            self.rows[row.library] = row
            self.runners.pop(row.library, None)


def _judged(rows: Mapping[str, Row], baseline: str, margin: float) -> list[Row]:
    """Return the rows with ratios to the baseline, if it was timed."""
    rows = {
        name: _withdrawn(row, *_UNTIMED) if row.status == "timed" and not row.rounds else row
        for name, row in rows.items()
    }
    ours = rows[baseline].rounds
    return [
        replace(row, ratio=judge(ours, row.rounds, margin))
        if ours and row.rounds and row.library != baseline
        else row
        for row in rows.values()
    ]


def _with_limit(row: Row, report: Report, flops: float | None, size: float | None) -> Row:
    """Return a row with its work, and its limit where this machine's is known for its dtype."""
    if flops is not None:
        row = replace(row, flops=flops)
    if size is not None:
        row = replace(row, bytes=size)
    if (flops is None and size is None) or row.dtype not in ("float32", "float64"):
        return row
    limits = probe.measured(row.threads, (row.dtype,), _PROBE)
    report.limits.append(limits)
    floor, roof = limits.floor(Work(flops or 0, size or 0, 0, size or 0), row.dtype)
    return replace(row, floor=floor, roof=roof)


def _shapes(args: tuple[Any, ...]) -> str:
    return " ".join(
        "x".join(map(str, arg.shape)) or "1" for arg in args if isinstance(arg, np.ndarray)
    )
