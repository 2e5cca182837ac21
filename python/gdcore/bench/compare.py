"""Compare functions of one's own, in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

import gdcore as gd
from gdcore.bench import bounds, machine, probe, timing
from gdcore.bench.case import Array, Expected, Work
from gdcore.bench.check import as_arrays, find_fault
from gdcore.bench.libraries import repeating
from gdcore.bench.report import Report, Row
from gdcore.bench.verdict import MARGIN, Ratio, Verdict, judge

_ROUND = 0.002  # seconds
_FEWEST, _MOST = 9, 51
_PROBE = 0.05  # seconds
_ROUNDINGS = 8  # at least, when nobody says how many

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
    name: str | None = None,
    threads: int | None = None,
    seconds: float = 1.0,
    margin: float = MARGIN,
) -> Comparison:
    """Check functions that should return the same, then time them in turns.

    Parameters
    ----------
    contestants : dict of str to callable
        Each is called with the inputs. The first is the baseline of the table.
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
        Ctrl-C ends the measurement early, and marks it partial.

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
    args = tuple(inputs)
    dtype = _dtype(args)
    expected = None if reference is None else _expected(args, dtype, reference, bound, flops)
    threads = gd.get_num_threads() if threads is None else threads
    baseline = next(iter(contestants))
    environment = machine.environment() | {"openmp": machine.openmp_runtimes()}
    report = Comparison(baseline, environment, partial=True, margin=margin)
    blank = Row("compare", name or _shapes(args), dtype, threads, "", "timed")
    blank = _with_limit(blank, report, flops, bytes)
    rows: dict[str, Row] = {}
    running: dict[str, Function] = {}
    for each, function in contestants.items():
        status, note = _try(function, args, expected, check)
        rows[each] = replace(blank, library=each, status=status, note=note)
        if status == "timed":
            running[each] = function
    try:
        _time(rows, running, args, seconds)
        report.partial = False
    except KeyboardInterrupt:
        pass
    report.rows = _judged(rows, baseline, margin)
    report.environment["load_after"] = os.getloadavg()
    return report


def _try(
    function: Function,
    args: tuple[Any, ...],
    expected: Sequence[Expected] | None,
    check: Callable[[Any], Any] | None,
) -> tuple[str, str]:
    """Call a function once; return its status, and why it is not to be timed."""
    before = [arg.copy() if isinstance(arg, np.ndarray) else None for arg in args]
    try:
        result = function(*args)
        outputs = as_arrays(result) if expected is not None else []
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        changed = _restore(args, before)
    if changed:
        return "failed", "it changed its inputs"
    if expected is not None and (fault := find_fault(outputs, expected)):
        return "wrong", fault
    try:
        verdict = check(result) if check is not None else None
        if verdict is not None and not verdict:
            return "wrong", "the check says so"
    except AssertionError as error:
        return "wrong", str(error).strip().split("\n")[0] or "the check says so"
    except Exception as error:
        return "failed", f"in the check, {type(error).__name__}: {error}".splitlines()[0]
    return "timed", ""


def _restore(args: tuple[Any, ...], before: Sequence[Array | None]) -> bool:
    """Put back inputs that differ from what they were; return whether any did."""
    changed = False
    for arg, old in zip(args, before, strict=True):
        if old is not None and arg.tobytes() != old.tobytes():
            arg[...] = old
            changed = True
    return changed


def _time(
    rows: dict[str, Row], running: Mapping[str, Function], args: tuple[Any, ...], seconds: float
) -> None:
    """Take rounds in turns, and keep in `rows` each round that all have completed."""
    runs = {name: repeating(partial(function, *args)) for name, function in running.items()}
    lasts = {}
    for name, run in runs.items():
        repeats, lasts[name] = timing.calibrate(run, _ROUND)
        rows[name] = replace(rows[name], repeats=repeats)
    total = sum(rows[name].repeats * last for name, last in lasts.items())
    rounds = min(max(round(seconds / total), _FEWEST), _MOST) if total else 0
    for _ in range(rounds):
        lap = {}
        for name, run in runs.items():
            lap[name] = timing.timed_round(run, rows[name].repeats, lasts[name])
            timing.settle()
        for name, last in lap.items():
            rows[name] = replace(rows[name], rounds=(*rows[name].rounds, last))


def _judged(rows: Mapping[str, Row], baseline: str, margin: float) -> list[Row]:
    """Return the rows with ratios to the baseline, if it was timed."""
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
