"""Measure what the pages show, and another build beside it, in minutes and in one run.

    python bench/targets.py [PART ...] [--before PYTHON] [--dtype float32,float64]

A part is ``kernels``, ``fits`` or ``rest``; without any, all are measured. PYTHON is the
interpreter of an environment with the build to compare with. Each part goes to bench/raw/PART.json,
which git ignores; bench/results/summary.json and the tables of the pages are written from all parts
there, and before and after are printed as a table.

There are fewer and shorter rounds than in bench/run, which measures everything in an hour.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import summary

from gdcore.bench import Report, suites
from gdcore.bench.case import Case
from gdcore.bench.pool import usable_cpus
from gdcore.bench.race import TIMEOUT, measure
from gdcore.bench.race import Session as Measurement
from gdcore.bench.suites.fit import FullBatch, MiniBatch
from gdcore.bench.suites.many import Groups, Stack
from gdcore.bench.suites.matmul import Matmul
from gdcore.bench.turns import Effort
from gdcore.bench.verdict import FEWEST

EFFORT = Effort(round=0.004, race=0.4, fewest=FEWEST, most=11, probe=0.05, calls=6)


class Part(NamedTuple):
    """Some cases, and the libraries that do them too."""

    cases: Sequence[Case]
    against: Sequence[str]


PARTS = {
    "kernels": Part(
        (
            *suites.cases("matmul"),
            *(Matmul(1, 5, 2, 50_000), Matmul(4000, 17, 17, 17), Matmul(1000, 33, 33, 33)),
            *suites.cases("mse"),
            *suites.cases("gradient"),
        ),
        ("numpy", "torch", "jax"),
    ),
    "fits": Part(
        (
            FullBatch(1_000_000, 8, 1000, "gram"),
            FullBatch(1_000_000, 64, 10, "gram"),
            MiniBatch(100_000, 16, 64),
            Stack(10_000, 64, 4, 100),
            Stack(10_000, 64, 4, 100, "gram"),
            Groups(100_000, 4),
            Groups(100_000, 1),
        ),
        (
            *("exact", "numpy", "torch", "jax", "torch-solve", "sklearn", "duckdb"),
            *("polars", "polars-ols", "polars-ds", "polars-statistics"),
        ),
    ),
    "rest": Part(suites.cases("rest"), ("torch",)),
}


def measured(part: Part, dtypes: tuple[str, ...], before: str | None) -> Report:
    """Return the report of a part."""
    session = Measurement(EFFORT, lambda text: print(text, file=sys.stderr), dtypes)
    counts = sorted({1, len(usable_cpus())})
    return measure(session, part.cases, ("gdcore", *part.against), counts, {}, before, TIMEOUT)


def changes(reports: Sequence[Report]) -> str:
    """Return a table of before and after: times, and how many times as long it took before."""
    lines = [
        "| case | dtype | threads | before | after | before / after |",
        "|---|---|---|---|---|---|",
    ]
    for report in reports:
        for key, rows in report.races():
            found = {row.library: row for row in rows if row.rounds}
            for ours, theirs in (("gdcore", "before"), ("exact", "before-exact")):
                if not (ours in found and theirs in found):
                    continue
                after, then = (mean_of(found[name]) for name in (ours, theirs))
                name = f"{key.suite} {key.case}" + ", exact" * (ours == "exact")
                shown = (f"{1e6 * then:.4g} µs", f"{1e6 * after:.4g} µs", f"{then / after:.3g}")
                lines.append("| " + " | ".join((name, key.dtype, str(key.threads), *shown)) + " |")
    return "\n".join(lines)


def mean_of(row: Any) -> float:
    """Return the mean of calls that were timed one by one, or else the median of the rounds."""
    return float(row.calls.mean if row.calls else row.seconds)


def main() -> None:
    """Measure, and write everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--before", metavar="PYTHON", help="Python with the build to compare with")
    parser.add_argument("--dtype", default="float32", help="float32 or float32,float64")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"there is no part {min(unknown)!r}; choose from {', '.join(PARTS)}.")
    summary.RAW.mkdir(exist_ok=True)
    for name in given.parts or PARTS:
        begin = time.monotonic()
        report = measured(PARTS[name], tuple(given.dtype.split(",")), given.before)
        report.to_json(summary.RAW / f"{name}.json")
        print(f"{name}: {time.monotonic() - begin:.0f} s", file=sys.stderr)
        if report.partial:
            sys.exit(130)
    paths = [path for name in PARTS if (path := summary.RAW / f"{name}.json").exists()]
    summary.write(paths, keeping=("large",))
    reports = [Report.from_json(path.read_text(encoding="utf-8")) for path in paths]
    print(changes(reports))
    import tables  # reads the summary

    tables.main()


if __name__ == "__main__":
    main()
