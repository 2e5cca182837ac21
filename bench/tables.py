"""Put the tables of bench/results/bench.json where README.md and docs/performance.md have marks.

A mark is a pair of comments, ``<!-- bench: NAME -->`` and ``<!-- end -->``; NAME is ``scores`` or a
suite.
"""

import re
from pathlib import Path

from gdcore.bench.report import Report, Row

ROOT = Path(__file__).parent.parent
REPORT = Report.from_json((ROOT / "bench/results/bench.json").read_text())
MARK = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(header: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    rule = ["---"] * len(header)
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, rule, *lines])


def scores() -> str:
    """Geometric means of the ratios for each suite and library."""
    found = {(score.suite, score.library): score for score in REPORT.scores()}
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
    """Percent of the machine's limit, and each library's ratio, case by case."""
    races = [
        (key, {row.library: row for row in rows})
        for key, rows in REPORT.races()
        if key.suite == name
    ]
    libraries = list(dict.fromkeys(each for _, rows in races for each in rows if each != "gdcore"))

    def cell(row: Row | None) -> str:
        if row is None:
            return ""
        return f"{row.ratio.value:.2f}" if row.ratio else row.status

    lines = []
    for key, rows in races:
        ours = rows["gdcore"]
        speed = f"{ours.gflops:.3g}", f"{ours.gbs:.3g}", f"{ours.percent:.0f} %"
        others = (cell(rows.get(library)) for library in libraries)
        lines.append([key.case, key.dtype, str(key.threads), *speed, *others])
    return table(["case", "dtype", "threads", "GFLOP/s", "GB/s", "limit", *libraries], lines)


for page in (ROOT / "README.md", ROOT / "docs/performance.md"):
    text = page.read_text()
    page.write_text(
        MARK.sub(lambda m: m[1] + (scores() if m[2] == "scores" else suite(m[2])) + m[3], text)
    )
