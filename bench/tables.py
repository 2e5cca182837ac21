"""Put the tables of bench/results where README.md and docs/performance.md have marks.

A mark is a pair of comments, ``<!-- bench: NAME -->`` and ``<!-- end -->``; NAME is ``scores``,
``targets``, ``large`` or a suite.
"""

import json
import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gdcore.bench.case import Work
from gdcore.bench.results import Key, Report, Row
from gdcore.bench.suites import NAMES

ROOT = Path(__file__).parent.parent
REPORT = Report.from_json((ROOT / "bench/results/bench.json").read_text())
FITS = ROOT / "bench/results/fits.json"  # of a run of the suite fit alone, if it is newer
MILLION = ROOT / "bench/results/million.json"  # of a run of its own, which takes long
TARGETS = ROOT / "bench/results/targets.json"  # of fits in float32 on all threads alone, if newer
LARGE: dict[str, Any] = json.loads((ROOT / "bench/results/large.json").read_text())
MARK = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

MANY = "10,000 of 64 4, 100 epochs"
GROUPS = "1,000,000 groups of 5 to 100 4"
SOME_GROUPS = "100,000 groups of 5 to 100 4"
ROLLING = "10,000 4, windows of 250"
OTHERS_OF_GROUPS = (("polars-ols", 20), ("polars-ds", 20), ("sklearn", 500))
RACES = [  # work, a case of the suite fit, ours, peers and how many times as long they should take
    ("10 000 problems of 64 x 4, 100 epochs", f"{MANY}, gram", "gdcore", (("torch", 100),)),
    ("", f"{MANY}, gram", "gdcore", (("torch-solve", 1),)),
    ("the same by `exact`", f"{MANY}, gram", "exact", (("torch-solve", 1),)),
    ("the same by `stream`", MANY, "gdcore", (("torch", 40),)),
    ("1 000 000 groups of 5 to 100 rows, d = 4", GROUPS, "gdcore", OTHERS_OF_GROUPS),
    ("the same by `exact`", GROUPS, "exact", OTHERS_OF_GROUPS),
    ("100 000 of them", SOME_GROUPS, "gdcore", OTHERS_OF_GROUPS),
    ("the same by `exact`", SOME_GROUPS, "exact", OTHERS_OF_GROUPS),
    ("windows of 250 of 10 000 rows, d = 4", ROLLING, "gdcore", (("statsmodels", 1),)),
    ("7500 x 2, 1000 epochs, `gram`", "7,500 2, 1,000 epochs, gram", "gdcore", (("torch", 1000),)),
    ("x + 1 = 3, 10 000 steps, `stream`", "x + 1 = 3, 10,000 steps", "gdcore", (("torch", 2000),)),
]


def table(header: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    rule = ["---"] * len(header)
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, rule, *lines])


def report_of(suite: str) -> Report:
    """Return the run that measured a suite last."""
    return Report.from_json(FITS.read_text()) if suite == "fit" and FITS.exists() else REPORT


def scores() -> str:
    """Geometric means of the ratios for each suite and library."""
    found = {
        (score.suite, score.library): score
        for name in NAMES
        for score in report_of(name).scores()
        if score.suite == name
    }
    suites = list(dict.fromkeys(suite for suite, _ in found))
    libraries = list(dict.fromkeys(library for _, library in found))

    def cell(suite: str, library: str) -> str:
        score = found.get((suite, library))
        if score is None:
            return ""
        slow = score.verdicts.get("SLOW", 0)
        return f"{score.mean:.2f} ({slow} of {sum(score.verdicts.values())} slower)"

    lines = [[library, *(cell(suite, library) for suite in suites)] for library in libraries]
    return table(["takes, times as long as gdcore", *suites], lines)


def suite(name: str) -> str:
    """Percent of the machine's limit, and each library's ratio, case by case.

    Cases that other libraries do have a table of their own.
    """
    blocks: dict[tuple[str, ...], list[tuple[Key, dict[str, Row]]]] = {}
    for key, rows in report_of(name).races():
        if key.suite == name:
            found = {row.library: row for row in rows}
            blocks.setdefault(tuple(found), []).append((key, found))

    def cell(row: Row) -> str:
        if not row.ratio:
            return row.status
        return f"{row.ratio.value:.2f}" + " *" * (row.share > 1)

    def block(libraries: tuple[str, ...], races: list[tuple[Key, dict[str, Row]]]) -> str:
        lines = []
        for key, rows in races:
            ours = rows["gdcore"]
            speed = f"{ours.gflops:.3g}", f"{ours.gbs:.3g}", f"{ours.percent:.0f} %"
            others = (cell(rows[each]) for each in libraries if each != "gdcore")
            lines.append([key.case, key.dtype, str(key.threads), *speed, *others])
        names = [each for each in libraries if each != "gdcore"]
        return table(["case", "dtype", "threads", "GFLOP/s", "GB/s", "limit", *names], lines)

    text = "\n".join(block(*each) for each in blocks.items())
    scaled = any(
        row.share > 1 for races in blocks.values() for _, rows in races for row in rows.values()
    )
    return text + "\n\\* timed on a part of the problems or epochs, and scaled.\n" * scaled


def targets() -> str:
    """What was asked for, and what was measured: float32, all threads."""
    report = report_of("fit")
    most = max(each.threads for each in report.limits)
    others = [Report.from_json(each.read_text()) for each in (MILLION, TARGETS) if each.exists()]
    rows = {
        (row.case, row.library): row
        for row in [*report.rows, *(row for other in others for row in other.rows)]
        if row.suite == "fit" and (row.dtype, row.threads) == ("float32", most)
    }
    lines = [*_races(rows), *_limits(rows, report.limits_of(most)), *_large()]
    return table(["work", "target", "measured", ""], lines)


def _races(rows: dict[tuple[str, str], Row]) -> Iterator[list[str]]:
    for work, case, ours, peers in RACES:
        for i, (peer, times) in enumerate(peers):
            asked = f"≥ {times} x {peer}" if times > 1 else f"faster than {peer}"
            line = [work if i == 0 else "", asked]
            yield [*line, *_race(rows.get((case, ours)), rows.get((case, peer)), times)]


def _race(ours: Row | None, theirs: Row | None, times: float) -> list[str]:
    if ours is None or theirs is None or not (ours.rounds and theirs.rounds):
        return [theirs.status if theirs else "not measured", ""]
    if theirs.ratio is None or ours.library != "gdcore":
        pairs = sorted(b / a for a, b in zip(ours.rounds, theirs.rounds, strict=True))
        value, low, high = statistics.median(pairs), pairs[0], pairs[-1]
    else:
        value, low, high, _ = theirs.ratio
    scaled = f", on 1/{theirs.share} of it" * (theirs.share > 1)
    measured = f"{_times(value)} ({_times(low)} to {_times(high)}{scaled})"
    return [measured, _met(low >= times, high < times)]


def _limits(rows: dict[tuple[str, str], Row], limits: Any) -> Iterator[list[str]]:
    def line(work: str, case: str, asked: str, measure: Callable[[Row], tuple[str, bool]]) -> Any:
        row = rows.get((case, "gdcore"))
        if row is None or not row.rounds:
            return [work, asked, "not measured", ""]
        measured, met = measure(row)
        return [work, asked, measured, _met(met)]

    def reads(row: Row) -> tuple[str, bool]:
        seconds, level = limits.moving(Work(0, row.bytes, 0, row.bytes))
        times = row.seconds / seconds
        return f"{times:.2f} x (of {level})", times <= 1.5

    def peak(row: Row) -> tuple[str, bool]:
        share = 100 * 1e9 * row.gflops / limits.peak["float64"]
        return f"{share:.0f} %", share >= 70

    case = "1,000,000 8, 1,000 epochs, gram"
    yield line("1 000 000 x 8, 1000 epochs, `gram`", case, "≤ 1.5 x one read of X", reads)
    case = "1,000,000 64, 10 epochs, gram"
    yield line("1 000 000 x 64, `gram`, the whole call", case, "≥ 70 % of the float64 peak", peak)


def _large() -> Iterator[list[str]]:
    where = f", {LARGE['gigabytes']:g} GB, d = 16"
    for what, share in LARGE["shares"].items():
        name, than = what.split(", beside ")
        met = _met(share >= 0.8)
        yield [f"{name}{where}", f"≥ 80 % of {than}", f"{100 * share:.0f} %", met]
    for name in ("parquet", "memmap"):
        peak = LARGE["files"][f"{name}_fit"]["peak_bytes"] / 1e6
        met = _met(peak <= 500)
        yield [
            "" if name == "memmap" else "their memory",
            f"{name} ≤ 500 MB",
            f"{peak:.0f} MB",
            met,
        ]
    for name in ("4 000 000 x 64, gram", "500 000 of 64 x 4, gram"):
        ratio = LARGE["memory"][name]["ratio"]
        yield [f"memory of {name}", "≤ 1.05 x the input", f"{ratio:.3f} x", _met(ratio <= 1.05)]


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} x" if ratio >= 100 else f"{ratio:.3g} x"


def _met(met: bool, missed: bool = True) -> str:
    """Return what became of a target; the noise of races may leave that open."""
    return "met" if met else "**missed**" if missed else "within the noise"


def large() -> str:
    """Time and memory of fits of files, and memory of fits of arrays."""
    files = [
        [
            name.replace("_", ", "),
            f"{found['seconds']:.2f} s",
            f"{found['peak_bytes'] / 1e6:.0f} MB",
        ]
        for name, found in LARGE["files"].items()
    ]
    memory = [
        [name, f"{found['input_bytes'] / 1e6:.0f} MB", f"{found['ratio']:.3f} x"]
        for name, found in LARGE["memory"].items()
    ]
    return (
        table([f"{LARGE['gigabytes']:g} GB in a file", "time", "memory above the import's"], files)
        + "\n"
        + table(["fit of arrays", "input", "peak memory, of the input"], memory)
    )


TABLES = {"scores": scores, "targets": targets, "large": large}


def main() -> None:
    """Fill the marks."""
    for page in (ROOT / "README.md", ROOT / "docs/performance.md"):
        text = page.read_text()
        page.write_text(
            MARK.sub(lambda m: m[1] + TABLES.get(m[2], lambda: suite(m[2]))() + m[3], text)
        )


if __name__ == "__main__":
    main()
