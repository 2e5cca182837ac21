"""Compare functions of one's own, in this process."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

import gdcore as gd
from gdcore.bench import bounds, machine, probe, timing
from gdcore.bench.case import Array, Expected, Work
from gdcore.bench.check import as_arrays, awaited, exactly, find_device, find_fault, wait
from gdcore.bench.libraries import repeating
from gdcore.bench.report import Report, Row
from gdcore.bench.verdict import MARGIN, Ratio, Verdict, judge

_ROUND = 0.002  # seconds
_FEWEST, _MOST = 9, 51
_PROBE = 0.05  # seconds
_ROUNDINGS = 8  # at least, when nobody says how many
_UNTIMED = "interrupted", "the run ended before its first complete round"

Function = Callable[..., Any]


@dataclass
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
        Arguments; NumPy arrays among them must not be changed.
    flops, bytes : float, optional
        What one call has to compute and to move at the least, for the columns GFLOP/s, GB/s and
        percent of this machine's limit.
    reference : callable, array or tuple of arrays
        What has to come out. A callable gets the inputs in the next wider type: float64 for
        float32, the long double for float64.
    bound : callable, array or tuple of arrays, optional
        How far each element may lie from the reference; a callable gets the inputs, as
        `gdcore.bench.bounds.matmul` does. By default ``gamma(k) * max|reference|`` for each
        output, k being the flops (or the elements of the inputs) for each of its elements:
        as if every operation were rounded once.
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
        How long to measure, about.
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
        If there is no contestant, or nothing to check results against.

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
    args = tuple(inputs)
    dtype = _dtype(args)
    threads = gd.get_num_threads() if threads is None else threads
    baseline = next(iter(contestants))
    environment = machine.environment() | {"openmp": machine.openmp_runtimes()}
    report = Comparison(baseline, environment, partial=True, margin=margin)
    blank = Row("compare", name or _shapes(args), dtype, threads, "", *_UNTIMED)
    rows = {each: replace(blank, library=each) for each in contestants}
    try:
        expected = None if reference is None else _expected(args, dtype, reference, bound, flops)
        judges = {"": _Judge(args, expected, check)}
        if whole is not None:
            exact = exactly(_expected(tuple(whole), dtype, reference, None, flops))
            judges = {"on whole numbers, ": _Judge(tuple(whole), exact, None)} | judges
        blank = _with_limit(blank, report, flops, bytes)
        for each, function in contestants.items():
            rows[each] = _checked(replace(blank, library=each), function, judges)
        race = _Race(rows, judges[""])
        for each, function in contestants.items():
            if rows[each].status == "timed":
                race.enter(each, function)
        race.start(seconds)
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
        args: tuple[Any, ...],
        expected: Sequence[Expected] | None,
        check: Callable[[Any], Any] | None,
    ) -> None:
        self.args, self.expected, self.check = args, expected, check
        self.before = [arg.copy() if isinstance(arg, np.ndarray) else None for arg in args]

    def first(self, row: Row, function: Function, when: str) -> Row:
        """Call a function once; return its row with what is wrong with it, if anything."""
        try:
            result = wait(function(*self.args))
        except Exception as error:
            return replace(row, status="failed", note=when + _said(error))
        finally:
            changed = self.restore()
        if changed:
            return replace(row, status="failed", note=f"{when}it changed its inputs")
        return self.judged(row, result, when)

    def judged(self, row: Row, result: Any, when: str) -> Row:
        """Return a row as it is, or withdrawn if a result is not right."""
        status, note = self._status(result)
        if status == "timed":
            return replace(row, status=status, note="")
        return _withdrawn(row, status, when + note)

    def restore(self) -> bool:
        """Put back inputs that differ from what they were; return whether any did."""
        changed = False
        for arg, old in zip(self.args, self.before, strict=True):
            if old is not None and arg.tobytes() != old.tobytes():
                arg[...] = old
                changed = True
        return changed

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
        if self.expected is not None and (fault := find_fault(outputs, self.expected)):
            return "wrong", fault
        try:
            verdict = self.check(result) if self.check is not None else None
        except AssertionError as error:
            return "wrong", str(error).strip().split("\n")[0] or "the check says so"
        except Exception as error:
            return "failed", f"in the check, {_said(error)}"
        return ("timed", "") if verdict is None or verdict else ("wrong", "the check says so")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _withdrawn(row: Row, status: str, note: str) -> Row:
    """Return a row without its figures."""
    return replace(row, status=status, note=note, rounds=(), repeats=0)


class _Race:
    """The contestants that are still in: each that raises or writes to its inputs is withdrawn."""

    def __init__(self, rows: dict[str, Row], judge_of: _Judge) -> None:
        self.rows, self.judge = rows, judge_of
        self.runs: dict[str, timing.Kept] = {}
        self.lasts: dict[str, float] = {}

    def enter(self, name: str, function: Function) -> None:
        """Find out how many calls of a contestant make a round."""
        try:
            call = awaited(partial(function, *self.judge.args))
            self.runs[name] = timing.Kept(repeating(call))
            repeats, self.lasts[name] = timing.calibrate(self.runs[name], _ROUND)
            self.rows[name] = replace(self.rows[name], repeats=repeats)
        except Exception as error:
            self._drop(name, f"on a later call, {_said(error)}")
        if self.judge.restore():
            self._drop(name, "on a later call, it changed its inputs")

    def start(self, seconds: float) -> None:
        """Take rounds in turns, and keep each that all have completed; check the last results."""
        total = sum(self.rows[name].repeats * self.lasts[name] for name in self.runs)
        rounds = min(max(round(seconds / total), _FEWEST), _MOST) if total else 0
        faults: dict[str, Row] = {}
        for left in reversed(range(rounds)):
            lap = {}
            for name in list(self.runs):
                lap[name] = self._round(name)
                if not left and name in self.runs:  # at once: they may share the array they return
                    result = self.runs[name].result
                    faults[name] = self.judge.judged(self.rows[name], result, "after timing, ")
            for name in self.runs:
                row = self.rows[name]
                self.rows[name] = replace(row, rounds=(*row.rounds, lap[name]))
        self.rows |= {name: row for name, row in faults.items() if row.status != "timed"}
        if self.judge.restore():
            for name in list(self.runs):
                self._drop(name, "its inputs were changed during the rounds, by it or by another")

    def _round(self, name: str) -> float:
        try:
            return timing.timed_round(self.runs[name], self.rows[name].repeats, self.lasts[name])
        except Exception as error:
            self._drop(name, f"on a later call, {_said(error)}")
            return math.nan
        finally:
            timing.settle()

    def _drop(self, name: str, note: str) -> None:
        self.rows[name] = _withdrawn(self.rows[name], "failed", note)
        self.runs.pop(name, None)


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


def _expected(
    args: tuple[Any, ...], dtype: str, reference: Any, bound: Any, flops: float | None
) -> list[Expected]:
    """Return what each output has to be."""
    value = reference(*map(_widened, args)) if callable(reference) else reference
    values = as_arrays(value)
    if bound is None:
        limits = [_default_bound(each, args, dtype, flops) for each in values]
    else:
        limits = as_arrays(bound(*args) if callable(bound) else bound)
        if len(limits) != len(values):
            raise ValueError(f"there are {len(limits)} bounds for {len(values)} results.")
    names = ["result"] if len(values) == 1 else [f"result {i}" for i in range(len(values))]
    return [Expected(*each) for each in zip(names, values, limits, strict=True)]


def _default_bound(value: Array, args: tuple[Any, ...], dtype: str, flops: float | None) -> Array:
    """Bound a result by its largest element and the number of operations for each of them."""
    if not value.size:
        return np.zeros(())
    work = flops or sum(arg.size for arg in args if isinstance(arg, np.ndarray))
    known = dtype if dtype in ("float32", "float64") else "float64"
    roundings = max(_ROUNDINGS, work / value.size)
    return np.asarray(bounds.gamma(roundings, known) * np.max(np.abs(value)))


def _widened(arg: Any) -> Any:
    """Return an array of floats in the next wider type, and anything else as it is."""
    if isinstance(arg, np.ndarray) and arg.dtype in (np.float32, np.float64):
        return arg.astype(bounds.wider(arg.dtype))
    return arg


def _dtype(args: tuple[Any, ...]) -> str:
    """Return the dtype of the arrays of floats, or of all arrays."""
    dtypes = [arg.dtype for arg in args if isinstance(arg, np.ndarray)]
    floats = [dtype for dtype in dtypes if dtype.kind == "f"]
    return str(np.result_type(*(floats or dtypes))) if dtypes else ""


def _shapes(args: tuple[Any, ...]) -> str:
    return " ".join(
        "x".join(map(str, arg.shape)) or "1" for arg in args if isinstance(arg, np.ndarray)
    )
