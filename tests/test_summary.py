"""The summary of what was measured, and the tables made from it."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gdcore.bench import Report, Row, Verdict
from gdcore.bench.probe import Level, Limits
from gdcore.bench.results import Calls
from gdcore.bench.verdict import Ratio

ROOT = Path(__file__).parent.parent
if not (ROOT / "bench").is_dir():
    pytest.skip("only a checkout has the summary", allow_module_level=True)

KEY = ("matmul", "1 2 2 2", "float32", 1)
ROUNDS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "bench" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


summary, tables = load_script("summary"), load_script("tables")
targets = load_script("targets")


def report(*rows: Row) -> Report:
    libraries = {row.library: {"1": {"version": "9"}} for row in rows}
    built = {"isa": "avx2", "compiler": "gcc", "threads": 1}
    environment = {"date": "today", "gdcore": built, "libraries": libraries}
    memory = Level("memory", math.inf, 8e9, 7e9, 6e9)
    limits = [Limits(1, {"float32": 1e9, "float64": 5e8}, (memory,))]
    return Report("gdcore", environment, list(rows), limits)


def test_a_race_keeps_median_quartiles_ratio_and_status(tmp_path: Path) -> None:
    ours = Row(*KEY, "gdcore", "timed", rounds=ROUNDS, flops=8e9, bytes=4e9, floor=2.0)
    ratio = Ratio(2.34567, 2.1, 2.5, Verdict.FAST)
    theirs = Row(*KEY, "numpy", "timed", rounds=ROUNDS, share=10, ratio=ratio)
    wrong = Row(*KEY, "torch", "wrong", "off by 1")
    absent = Row("", "", "", 0, "jax", "missing")
    path = tmp_path / "run.json"
    report(ours, theirs, wrong, absent).to_json(path)
    found = summary.summarise([path], None)
    assert found["races"] == [
        {
            **dict(zip(("suite", "case", "dtype", "threads"), KEY, strict=True)),
            **{"run": "run", "gflops": 2.0, "gbs": 1.0, "percent": 50.0},
            "libraries": {
                "gdcore": {"status": "timed", "seconds": [4.0, 2.0, 6.0]},
                "numpy": {
                    **{"status": "timed", "seconds": [4.0, 2.0, 6.0], "share": 10},
                    "ratio": [2.346, 2.1, 2.5, "FAST"],
                },
                "torch": {"status": "wrong"},
            },
        }
    ]
    run = found["runs"]["run"]
    assert (run["isa"], run["date"], run["libraries"]["numpy"]) == ("avx2", "today", "9")
    assert run["limits"]["1"]["peak_gflops"]["float32"] == 1.0
    assert run["limits"]["1"]["read_gbs"]["memory"] == 8.0
    assert json.loads(summary.text_of(found)) == found


def test_of_two_reports_the_later_one_counts(tmp_path: Path) -> None:
    paths = [tmp_path / "old.json", tmp_path / "new.json"]
    other = ("matmul", "1 3 3 3", "float32", 1)
    report(*(Row(*key, "gdcore", "timed", rounds=ROUNDS) for key in (KEY, other))).to_json(paths[0])
    report(Row(*KEY, "gdcore", "timed", rounds=tuple(2 * each for each in ROUNDS))).to_json(
        paths[1]
    )
    found = summary.summarise(paths, None)["races"]
    seconds = {
        (race["case"], race["run"]): race["libraries"]["gdcore"]["seconds"] for race in found
    }
    assert seconds == {("1 2 2 2", "new"): [8.0, 4.0, 12.0], ("1 3 3 3", "old"): [4.0, 2.0, 6.0]}


def test_calls_are_summarised_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    means = {("gdcore", 1): 1e-4, ("torch", 1): 9e-4, ("gdcore", 2): 7e-5, ("torch", 2): 3.6e-3}
    name = "matmul 1 9 9 9, after 20 ms, beside 1 busy"
    rows = [
        Row("rest", name, "float32", threads, library, "timed", rounds=(mean,) * 6,
            calls=Calls(100, mean, 6e-5, 2e-2))
        for (library, threads), mean in means.items()
    ]  # fmt: skip
    report(*rows).to_json(tmp_path / "rest.json")
    found = summary.summarise([tmp_path / "rest.json"], None)
    assert found["races"][1]["libraries"]["gdcore"]["calls"] == [100, 7e-5, 6e-5, 2e-2]
    races = {tuple(race[k] for k in ("suite", "case", "dtype", "threads")): race
             for race in found["races"]}  # fmt: skip
    monkeypatch.setattr(tables, "RACES", races)
    assert tables.rest() == tables.table(
        ["calls", "matmul 1 9 9 9"], [["after 20 ms, beside 1 busy", "0.70, 4.00"]]
    )


def test_a_summary_keeps_what_was_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "SUMMARY", tmp_path / "summary.json")
    (tmp_path / "summary.json").write_text('{"large": {"gigabytes": 8}, "races": [1]}')
    path = tmp_path / "run.json"
    report(Row(*KEY, "gdcore", "timed", rounds=ROUNDS)).to_json(path)
    summary.write([path], keeping=("large", "other"))
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["large"] == {"gigabytes": 8}
    assert [race["case"] for race in found["races"]] == ["1 2 2 2"]


def test_before_and_after() -> None:
    rows = [
        Row(*KEY, library, "timed", rounds=(seconds,) * 6)
        for library, seconds in (("gdcore", 1e-6), ("before", 2e-6), ("exact", 5e-6))
    ]
    line = "| matmul 1 2 2 2 | float32 | 1 | 2 µs | 1 µs | 2 |"
    assert targets.changes([report(*rows)]).splitlines()[2:] == [line]
    rows.append(Row(*KEY, "before-exact", "timed", rounds=(1e-5,) * 6))
    line = "| matmul 1 2 2 2, exact | float32 | 1 | 10 µs | 5 µs | 2 |"
    assert targets.changes([report(*rows)]).splitlines()[3:] == [line]


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_the_pages_show_the_tables_of_the_summary(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    marks = list(tables.MARK.finditer(text))
    assert marks
    for mark in marks:
        assert mark[0] == mark[1] + tables.TABLES[mark[2]]() + mark[3]


def test_how_long_the_pages_may_be() -> None:
    most = {"README.md": 135, "docs/performance.md": 185, "bench/results/summary.json": 1500}
    lines = {name: (ROOT / name).read_text(encoding="utf-8").count("\n") for name in most}
    assert not {name: lines[name] for name in most if lines[name] > most[name]}
