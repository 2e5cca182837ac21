"""Write the tables of README.md and docs/performance.md from bench/results/summary.json.

    python bench/tables.py

A table stands between two comments, ``<!-- bench: NAME -->`` and ``<!-- end -->``. NAME is
``speed``, ``means``, ``cases``, ``rest`` or ``large``. bench/summary.py writes the summary.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs/performance.md")
SUMMARY: dict[str, Any] = json.loads(
    (ROOT / "bench/results/summary.json").read_text(encoding="utf-8")
)
RACES = {
    (race["suite"], race["case"], race["dtype"], race["threads"]): race for race in SUMMARY["races"]
}
MARK = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

SUITES = {
    "matmul": "`matmul`",
    "mse": "`mse_value_and_grad`",
    "gradient": "`linear_mse_value_and_grad`",
    "fit": "`fit`",
}
LIBRARIES = {  # the columns of the table of means
    "numpy": "NumPy",
    "torch": "PyTorch",
    "jax": "JAX",
    "eigen": "Eigen",
    "libxsmm": "libxsmm",
}
SPEED = (  # the table of README.md: work, suite, case (None: the mean of all), ours, libraries
    ("`matmul`, {matmul} shapes", "matmul", None, "gdcore", ("numpy", "torch", "jax")),
    ("loss and gradient, {gradient} shapes", "gradient", None, "gdcore", ("numpy", "torch", "jax")),
    (
        *("one fit of 1 000 000 x 8, 1000 epochs", "fit", "1,000,000 8, 1,000 epochs, gram"),
        *("gdcore", ("numpy", "torch")),
    ),
    (
        *("10 000 fits of 64 x 4, 100 epochs", "fit", "10,000 of 64 4, 100 epochs, gram"),
        *("gdcore", ("numpy", "torch", "jax", "torch-solve")),
    ),
    (
        *("100 000 groups of 5 to 100 rows, exact", "fit", "100,000 groups of 5 to 100 4"),
        *("exact", ("sklearn", "polars-ols", "polars-ds")),
    ),
)
NAMES = LIBRARIES | {
    "sklearn": "scikit-learn",
    "torch-solve": "torch.linalg.solve",
    "torch-lstsq": "torch.linalg.lstsq",
    "torch-vmap": "torch.func.vmap",
    "scipy": "SciPy lstsq",
    "exact": '`method="exact"`',
}
RESTED = ("gdcore", "torch")
SITUATION = re.compile(r"(.*), ((?:in a loop|after).*)")
THREADS = 2  # in the columns that show one thread count


def table(header: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    rule = ["---"] * len(header)
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, rule, *lines])


def cases_of(suite: str) -> list[str]:
    """Return the cases of a suite, in the order of the run."""
    return list(dict.fromkeys(race["case"] for race in SUMMARY["races"] if race["suite"] == suite))


def ratio(race: dict[str, Any], library: str, ours: str = "gdcore") -> float | None:
    """Return how many times as long as ours a library takes, if it was timed."""
    found = race["libraries"].get(library, {})
    if ours != "gdcore":
        return found["seconds"][0] / race["libraries"][ours]["seconds"][0]
    return found["ratio"][0] if "ratio" in found else None


def mean(suite: str, library: str, threads: int | None = None) -> float | None:
    """Return the geometric mean of a library's ratios in a suite."""
    found = [
        value
        for (of, _, dtype, count), race in RACES.items()
        if of == suite and (threads is None or (dtype, count) == ("float32", threads))
        if (value := ratio(race, library)) is not None
    ]
    return math.exp(statistics.fmean(map(math.log, found))) if found else None


def times(value: float | None) -> str:
    """Return a ratio as text."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def speed() -> str:
    """Return how many times as long others take, float32 and two threads: five lines."""
    counts = {name: len(cases_of(name)) for name in ("matmul", "gradient")}
    lines = []
    for text, suite, case, ours, libraries in SPEED:
        found = {
            library: mean(suite, library, THREADS)
            if case is None
            else ratio(RACES[suite, case, "float32", THREADS], library, ours)
            for library in libraries
        }
        others = ", ".join(
            f"{NAMES.get(name, name)} {times(value)}" for name, value in found.items()
        )
        lines.append([text.format(**counts), others])
    return table(["work", "how many times as long others take"], lines)


def means() -> str:
    """Return the geometric means of the ratios, over cases, dtypes and thread counts."""
    lines = []
    for suite, name in SUITES.items():
        verdicts = [
            entry["ratio"][3]
            for (of, *_), race in RACES.items()
            if of == suite
            for library, entry in race["libraries"].items()
            if library in LIBRARIES and "ratio" in entry
        ]
        found = [times(mean(suite, library)) for library in LIBRARIES]
        lines.append([name, *found, f"{verdicts.count('SLOW')} of {len(verdicts)}"])
    return table(["", *LIBRARIES.values(), "gdcore slower in"], lines)


def cases() -> str:
    """Return the time and the percent of the machine's limit, case by case."""
    lines = [
        line for suite in SUITES for case in cases_of(suite) if (line := _case_line(suite, case))
    ]
    percents = ["f32, 1", "f32, 2", "f64, 1", "f64, 2"]
    return table(["case", "time", *percents, "others, the fastest three"], lines)


def _case_line(suite: str, case: str) -> list[str] | None:
    race = RACES.get((suite, case, "float32", THREADS))
    if race is None or "percent" not in race:
        return None
    percents = [
        f"{found['percent']:.0f} %" if (found := RACES.get((suite, case, dtype, threads))) else ""
        for dtype in ("float32", "float64")
        for threads in (1, 2)
    ]
    others = {
        library: value
        for library in race["libraries"]
        if library not in ("gdcore", "gdcore-c++", "contiguous")
        if (value := ratio(race, library)) is not None
    }
    text = ", ".join(
        f"{NAMES.get(library, library)} {times(value)}"
        for library, value in sorted(others.items(), key=lambda pair: pair[1])[:3]
    )
    name = f"{suite} {case}"
    return [name, _duration(race["libraries"]["gdcore"]["seconds"][0]), *percents, text]


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def rest() -> str:
    """Return the mean of calls on two threads over that on one, by situation: gdcore, PyTorch."""
    found: dict[str, dict[str, dict[tuple[str, int], float]]] = {}
    for (suite, case, dtype, threads), race in RACES.items():
        if suite == "rest" and dtype == "float32" and (named := SITUATION.fullmatch(case)):
            means = found.setdefault(named[2], {}).setdefault(named[1], {})
            for library, entry in race["libraries"].items():
                if "calls" in entry:
                    means[library, threads] = entry["calls"][1]
    works = list(dict.fromkeys(work for means in found.values() for work in means))
    heads = [work.removesuffix(" epochs") for work in works]
    lines = [
        [situation, *(_over_one(by_work.get(work, {})) for work in works)]
        for situation, by_work in found.items()
    ]
    return table(["calls", *heads], lines)


def _over_one(means: dict[tuple[str, int], float]) -> str:
    pairs = [(means.get((library, THREADS)), means.get((library, 1))) for library in RESTED]
    return ", ".join(f"{two / one:.2f}" for two, one in pairs if two and one)


def large() -> str:
    """Return time and memory of fits of files, and memory of fits of arrays."""
    found = SUMMARY["large"]
    files = [
        [name.replace("_", ", "), f"{each['seconds']:.2f} s", f"{each['peak_bytes'] / 1e6:.0f} MB"]
        for name, each in found["files"].items()
    ]
    memory = [
        [name, f"{each['input_bytes'] / 1e6:.0f} MB", f"{each['ratio']:.2f}"]
        for name, each in found["memory"].items()
    ]
    return (
        table([f"{found['gigabytes']:g} GB in a file", "time", "memory above the import's"], files)
        + "\n"
        + table(["fit of arrays", "input", "peak memory over the input"], memory)
    )


TABLES: dict[str, Callable[[], str]] = {
    "speed": speed,
    "means": means,
    "cases": cases,
    "rest": rest,
    "large": large,
}


def main() -> None:
    """Fill the marks."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(MARK.sub(lambda m: m[1] + TABLES[m[2]]() + m[3], text), encoding="utf-8")


if __name__ == "__main__":
    main()
