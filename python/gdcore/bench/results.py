"""What a run found: rows, limits, environment; as an object and as JSON."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

import gdcore as gd
from gdcore.bench.probe import Level, Limits
from gdcore.bench.verdict import MARGIN, Ratio, Verdict

SCHEMA = 1
_QUIET = 0.5  # load for each CPU
ABOVE = 105  # percent of the limit that noise alone does not explain


class Key(NamedTuple):
    """What has to be the same for two times to be compared."""

    suite: str
    case: str
    dtype: str
    threads: int


class Calls(NamedTuple):
    """Calls that were timed one by one: how many, and their mean, median and worst in seconds."""

    number: int
    mean: float
    median: float
    worst: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Self:
        """Return the figures of some calls."""
        mean, median = statistics.fmean(seconds), statistics.median(seconds)
        return cls(len(seconds), mean, median, max(seconds))


@dataclass(frozen=True)
class Row:
    """One library on one case.

    Attributes
    ----------
    suite, case, dtype, threads : str, str, str, int
        The key: only rows that share it were measured in turns. For a library that is not there
        they are empty and 0.
    library : str
    status : {"timed", "wrong", "failed", "unsupported", "missing", "interrupted"}
        Only what returned the right numbers was timed.
    note : str
        Why it was not timed.
    rounds : tuple of float
        Seconds of a call, one for each round.
    repeats : int
        Calls in a round.
    share : int
        Of how many parts of the case it did one: then `rounds` are scaled to all of them.
    flops, bytes : float
        The least work and memory traffic of one call.
    floor, roof : float, str
        The least seconds this machine needs for that, and the limit that sets them.
    ratio : Ratio or None
        How many times as long as the baseline it takes; the verdict is the baseline's.
    calls : Calls or None
        Where calls are timed one by one; then each of `rounds` is a mean.
    """

    suite: str
    case: str
    dtype: str
    threads: int
    library: str
    status: str
    note: str = ""
    rounds: tuple[float, ...] = field(default=(), repr=False)
    repeats: int = 0
    share: int = 1
    flops: float = math.nan
    bytes: float = math.nan
    floor: float = math.nan
    roof: str = ""
    ratio: Ratio | None = None
    calls: Calls | None = None

    @property
    def key(self) -> Key:
        """The suite, case, dtype and thread count."""
        return Key(self.suite, self.case, self.dtype, self.threads)

    @property
    def contestant(self) -> str:
        """The library, and what part of the case it did if not all."""
        return self.library + (f" (1/{self.share}, scaled)" if self.share > 1 else "")

    @property
    def seconds(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.rounds) if self.rounds else math.nan

    @property
    def gflops(self) -> float:
        """Billions of operations a second."""
        return self.flops / self.seconds / 1e9

    @property
    def gbs(self) -> float:
        """Billions of bytes a second."""
        return self.bytes / self.seconds / 1e9

    @property
    def percent(self) -> float:
        """Percent of what this machine can do."""
        return 100 * self.floor / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """Return everything there is to know, in plain values."""
        derived = ("seconds", "gflops", "gbs", "percent")
        row = asdict(self) | {name: getattr(self, name) for name in derived}
        calls, ratio = self.calls and self.calls._asdict(), self.ratio and self.ratio._asdict()
        return row | {"ratio": ratio, "calls": calls}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Return the row that `as_dict` described."""
        known = {each.name: row[each.name] for each in fields(cls) if each.name in row}
        for name in ("flops", "bytes", "floor"):
            known[name] = math.nan if row[name] is None else row[name]
        if calls := row.get("calls"):
            known["calls"] = Calls(**calls)
        if ratio := row["ratio"]:
            known["ratio"] = Ratio(**ratio | {"verdict": Verdict(ratio["verdict"])})
        return cls(**known | {"rounds": tuple(row["rounds"])})


class Score(NamedTuple):
    """How the baseline did against one library in one suite."""

    suite: str
    library: str
    mean: float
    verdicts: dict[str, int]


@dataclass
class Results:
    """What a run found.

    Attributes
    ----------
    baseline : str
        The contestant that the ratios and verdicts are about.
    rows : list of Row
    limits : list of Limits
        What this machine can do, for each thread count.
    environment : dict
        Processor, libraries, load, revision, date.
    partial : bool
        Whether the run was interrupted.
    margin : float
        How much faster counts as faster.
    remarks : list of str
        Sentences on what went wrong beside the rows.
    """

    baseline: str
    environment: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    limits: list[Limits] = field(default_factory=list)
    partial: bool = False
    margin: float = MARGIN
    remarks: list[str] = field(default_factory=list)

    def races(self) -> Iterator[tuple[Key, list[Row]]]:
        """Yield the rows that were measured in turns, in the order of the run."""
        races: dict[Key, list[Row]] = {}
        for row in self.rows:
            races.setdefault(row.key, []).append(row)
        yield from ((key, rows) for key, rows in races.items() if key.suite)

    def absent(self) -> list[Row]:
        """Return the rows of the libraries that took no part: not installed, or not started."""
        return [row for row in self.rows if not row.suite]

    @property
    def notes(self) -> list[str]:
        """What to know before reading on: who is missing, what was in the way."""
        return [f"{row.library}: {row.note}." for row in self.absent()] + self.warnings

    @property
    def warnings(self) -> list[str]:
        """What to know of the measurements."""
        notes = []
        load, cpus = self.environment["load_before"][0], self.environment["cpus_usable"]
        if load > _QUIET * cpus:
            notes.append(
                f"The load was {load:.1f} on {cpus} CPUs before the run began: other processes "
                "were in the way, above all where threads wait for each other."
            )
        if above := sum(row.percent > ABOVE for row in self.rows if not row.calls):
            notes.append(
                f"{above} of {len(self.rows)} rows are above {ABOVE} % of the limit. The limit is "
                "the best that short probes reached before and after the run: they may have been "
                "disturbed, or a nearer cache may hold more of the data than its size promises. "
                "Read such a row as: at the limit."
            )
        notes += self.remarks
        if self.partial:
            measured = any(row.rounds for row in self.rows)
            what = "these are the rows measured" if measured else "nothing was measured"
            notes.append(f"Interrupted: {what} until then.")
        return notes

    def scores(self) -> list[Score]:
        """Return for each suite and library the geometric mean of the ratios, and the verdicts."""
        ratios: dict[tuple[str, str], list[Ratio]] = {}
        for row in self.rows:
            if row.ratio:
                ratios.setdefault((row.suite, row.library), []).append(row.ratio)
        return [
            Score(
                *pair,
                math.exp(statistics.fmean(math.log(each.value) for each in found)),
                dict(Counter(str(each.verdict) for each in found)),
            )
            for pair, found in ratios.items()
        ]

    def over_one_thread(self, row: Row) -> float:
        """Return the mean of a row's calls over that of the same library on one thread, or NaN."""
        alone = row.key._replace(threads=1)
        ones = (one.calls for one in self.rows if (one.key, one.library) == (alone, row.library))
        one = next(ones, None)
        if row.threads == 1 or row.calls is None or one is None:
            return math.nan
        return row.calls.mean / one.mean

    def thread_costs(self) -> dict[tuple[str, str, int], list[float]]:
        """Return `over_one_thread` of all rows by suite, library and thread count."""
        costs: dict[tuple[str, str, int], list[float]] = {}
        for row in self.rows:
            if not math.isnan(over := self.over_one_thread(row)):
                costs.setdefault((row.suite, row.library, row.threads), []).append(over)
        return costs

    def limits_of(self, threads: int) -> Limits | None:
        """Return the limits of this machine for a number of threads."""
        return next((each for each in self.limits if each.threads == threads), None)

    def to_json(self, path: str | Path | None = None) -> str:
        """Return everything as JSON, and write it to a file if one is given.

        NaN and infinity become null; keys are added, never removed.
        """
        report = {
            "schema": SCHEMA,
            "gdcore": gd.__version__,
            "partial": self.partial,
            "margin": self.margin,
            "remarks": self.remarks,
            "baseline": self.baseline,
            "environment": self.environment,
            "limits": [asdict(each) for each in self.limits],
            "scores": [each._asdict() for each in self.scores()],
            "rows": [row.as_dict() for row in self.rows],
        }
        text = json.dumps(_plain(report), indent=1, allow_nan=False) + "\n"
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the report that `to_json` wrote."""
        report = json.loads(text)
        if report.get("schema") != SCHEMA:
            raise ValueError(f"not a report of schema {SCHEMA}: {report.get('schema')!r}.")
        return cls(
            baseline=report["baseline"],
            environment=report["environment"],
            rows=[Row.from_dict(row) for row in report["rows"]],
            limits=[_limits(each) for each in report["limits"]],
            partial=report["partial"],
            margin=report.get("margin", MARGIN),
            remarks=report.get("remarks", []),
        )


def counted(threads: int) -> str:
    """Return a number of threads in words.

    Examples
    --------
    >>> counted(1), counted(2)
    ('1 thread', '2 threads')
    """
    return f"{threads} thread{'s' * (threads != 1)}"


def _limits(found: Mapping[str, Any]) -> Limits:
    levels: Sequence[Mapping[str, Any]] = found["levels"]
    finite = ({**each, "capacity": each["capacity"] or math.inf} for each in levels)
    return Limits(found["threads"], found["peak"], tuple(Level(**each) for each in finite))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
