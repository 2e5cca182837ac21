"""Condense what was measured into bench/results/summary.json.

    python bench/summary.py [REPORT.json ...]

Without arguments it reads the reports and large.json in bench/raw, which bench/run writes and git
ignores. A race that two reports hold is taken from the later one. Of each race the summary keeps
the status, the median, the quartiles of the rounds and the ratio with its interval; where calls
were timed one by one also their number, mean, median and worst; of each run the environment and the
limits of the machine. bench/tables.py makes the tables of the pages from it.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

from gdcore.bench import Report, Row
from gdcore.bench.results import Key

ROOT = Path(__file__).parent.parent
RAW = ROOT / "bench/raw"
SUMMARY = ROOT / "bench/results/summary.json"
ENVIRONMENT = (
    *("date", "git", "cpu", "caches", "cpus_usable", "memory_bytes", "system", "python", "numpy"),
    *("load_before", "load_after"),
)
DIGITS = 4


def run_of(report: Report) -> dict[str, Any]:
    """Return where and with what a report was measured."""
    found = {name: report.environment.get(name) for name in ENVIRONMENT}
    built = report.environment["gdcore"]
    found |= {name: built[name] for name in ("isa", "compiler", "threads")}
    found["libraries"] = {
        name: next(iter(versions.values()))["version"]
        for name, versions in report.environment["libraries"].items()
    }
    found["limits"] = {
        str(limits.threads): {
            "peak_gflops": {dtype: rounded(peak / 1e9) for dtype, peak in limits.peak.items()},
            "read_gbs": {level.name: rounded(level.read / 1e9) for level in limits.levels},
            "copy_gbs": {level.name: rounded(level.copy / 1e9) for level in limits.levels},
        }
        for limits in report.limits
    }
    return found


def race_of(key: Key, rows: list[Row], run: str, baseline: str) -> dict[str, Any]:
    """Return one line of the summary: what all libraries took for one case."""
    race: dict[str, Any] = {**key._asdict(), "run": run}
    ours = next((row for row in rows if row.library == baseline), None)
    if ours is not None and ours.rounds:
        race |= {name: rounded(getattr(ours, name)) for name in ("gflops", "gbs", "percent")}
    race["libraries"] = {row.library: entry_of(row) for row in rows}
    return race


def entry_of(row: Row) -> dict[str, Any]:
    """Return what is kept of one library in one race."""
    if not row.rounds:
        return {"status": row.status}
    low, _, high = statistics.quantiles(row.rounds, n=4)
    entry: dict[str, Any] = {
        "status": row.status,
        "seconds": [rounded(value) for value in (row.seconds, low, high)],
    }
    if row.share > 1:
        entry["share"] = row.share
    if row.calls:
        entry["calls"] = [row.calls.number, *map(rounded, row.calls[1:])]
    if row.ratio:
        value, *interval, verdict = row.ratio
        entry["ratio"] = [*map(rounded, (value, *interval)), str(verdict)]
    return entry


def large_of(found: dict[str, Any]) -> dict[str, Any]:
    """Return what bench/large.py measured, without its rounds."""
    files = {
        name: {each: value[each] for each in ("seconds", "peak_bytes")}
        for name, value in found["files"].items()
    }
    where = {name: found["environment"].get(name) for name in ("date", "git", "cpu")}
    return {**where, **{k: found[k] for k in ("gigabytes", "shares", "memory")}, "files": files}


def rounded(value: float) -> float | None:
    """Return a number to a few digits."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def summarise(paths: list[Path], large: Path | None) -> dict[str, Any]:
    """Return the summary of some reports, later ones before earlier ones."""
    runs: dict[str, Any] = {}
    races: dict[Key, dict[str, Any]] = {}
    for path in paths:
        report = Report.from_json(path.read_text(encoding="utf-8"))
        runs[path.stem] = run_of(report)
        for key, rows in report.races():
            races[key] = race_of(key, rows, path.stem, report.baseline)
    summary: dict[str, Any] = {"schema": 1, "runs": runs, "races": list(races.values())}
    if large is not None and large.exists():
        summary["large"] = large_of(json.loads(large.read_text(encoding="utf-8")))
    return summary


def text_of(summary: dict[str, Any]) -> str:
    """Return JSON with one race a line."""
    races = ",\n".join(f"  {json.dumps(race)}" for race in summary["races"])
    rest = {name: value for name, value in summary.items() if name != "races"}
    lines = [f' "{name}": {json.dumps(value)}' for name, value in rest.items() if name != "runs"]
    runs = ",\n".join(f'  "{name}": {json.dumps(run)}' for name, run in summary["runs"].items())
    blocks = [*lines, f' "runs": {{\n{runs}\n }}', f' "races": [\n{races}\n ]']
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def write(reports: list[Path], keeping: tuple[str, ...] = ()) -> None:
    """Write the summary of some reports, with some entries of the last one."""
    large = next((path for path in reports if path.stem == "large"), None)
    found = summarise([path for path in reports if path != large], large)
    last = json.loads(SUMMARY.read_text(encoding="utf-8")) if keeping else {}
    kept = {name: last[name] for name in keeping if name in last and name not in found}
    SUMMARY.write_text(text_of(found | kept), encoding="utf-8")


def main() -> None:
    """Read the reports and write the summary."""
    given = [Path(argument) for argument in sys.argv[1:]]
    write(given or sorted(RAW.glob("*.json"), key=lambda path: path.stat().st_mtime))


if __name__ == "__main__":
    main()
