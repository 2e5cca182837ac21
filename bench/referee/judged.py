"""Files through `gdcore.referee.judge`: cheats at ten operations, races, KernelBench's form.

Rulings are saved one by one, so that an interrupted run can resume.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from gdcore.referee import Verdict, judge, judging
from gdcore.referee.judgement import Judgement
from gdcore.referee.process import Sandbox
from gdcore.referee.source import Entry
from referee import programs
from referee.cheats import CHEATS
from referee.operations import OPERATIONS
from referee.right import RIGHT

Say = Callable[[str], None]
CLOCKS = ("patches_clocks", "hides_its_time")
LIBRARY = "falls_back_to_library"
# What shows a kind is enough for it; whoever is left gets all families, sizes and the race.
NORMAL: dict[str, Any] = {"families": ["normal"], "sizes": ["given"], "race": False}
LATER = NORMAL | {"families": ["normal", "large", "offset", "spread", "sorted"]}
SHOWN_BY: dict[str, dict[str, Any]] = {
    "only_the_tested_shape": NORMAL | {"sizes": ["odd"]},
    "skips_tail_columns": NORMAL | {"sizes": ["odd"]},
    "ignores_strides": NORMAL | {"families": ["transposed views", "sliced views"]},
    "nan_for_infinite": NORMAL | {"families": ["infinite"]},
    "cache_by_identity": LATER,
    "batches_ahead": LATER,
    "right_only_while_tested": LATER,
    "loses_digits_later": LATER,
}
FULL: dict[str, Any] = {"seconds": 2.0, "against": ("eager",), "timeout": 300.0}
PROBLEMS = Path(__file__).parent / "kernelbench"
ZEROS = """

class ModelNew(Model):
    def forward(self, *args):
        return torch.zeros_like(super().forward(*args))
"""
NEAR_ZERO = ("softmax", "frobenius_norm", "l2_norm", "min_over_axis")


class Resumed(Judgement):
    """A judgement that asks the processes of the reference that an earlier one has started.

    They import torch, which takes longer than what they are asked. Candidates and contestants of a
    race are new processes here, too.
    """

    kept: ClassVar[dict[tuple[str, str], Sandbox]] = {}

    def start(self, entry: Entry) -> Sandbox:
        if entry.role not in ("reference", "golden"):
            return super().start(entry)
        key = (entry.path, entry.role)
        if key not in self.kept or self.kept[key].ready():
            self.kept[key] = super().start(entry)
            self.stack = ExitStack()  # which would close it
        self.kept[key].end_within(self.left)
        return self.kept[key]


@contextmanager
def resuming() -> Iterator[None]:
    """Let judgements of one reference have the same processes of it."""
    judging.Judgement = Resumed  # type: ignore[misc]
    try:
        yield
    finally:
        judging.Judgement = Judgement  # type: ignore[misc]
        for sandbox in Resumed.kept.values():
            sandbox.close()
        Resumed.kept.clear()


def ruled(verdict: Verdict, seconds: float) -> dict[str, Any]:
    """Return what is kept of a verdict."""
    findings = list(dict.fromkeys(each.kind for each in verdict.findings))
    speed = [
        {"against": each.against, "label": each.label}
        | {"ratio": round(each.ratio, 3), "low": round(each.low, 3), "high": round(each.high, 3)}
        for each in verdict.speed
    ]
    return {
        "ruling": str(verdict.ruling),
        "findings": findings[:4],
        "why": verdict.why.split(". ")[0][:120],
        "speed": speed,
        "library": list(verdict.library_calls[:6]),
        "seconds": round(seconds, 1),
    }


def judged(candidate: Path, reference: Path, **settings: Any) -> dict[str, Any]:
    """Judge a file."""
    begin = time.monotonic()
    verdict = judge(str(candidate), str(reference), **settings)
    return ruled(verdict, time.monotonic() - begin)


def is_caught(kind: str, row: dict[str, Any]) -> bool:
    """Return whether a cheat got nothing from it.

    A cheat of the clock may be right, but must not be FAST; who lets the library work may be right,
    but the library's operations must be listed.
    """
    if row["ruling"] in ("wrong", "cheating"):
        return True
    if kind in CLOCKS:
        return bool(row["speed"]) and all(each["label"] != "FAST" for each in row["speed"])
    return kind == LIBRARY and bool(row["library"])


def in_turns() -> Iterator[tuple[str, str]]:
    """Yield kinds and operations so that a part of a run has met all kinds."""
    names = list(OPERATIONS)
    for turn in range(len(names)):
        for place, kind in enumerate(CHEATS):
            yield kind, names[(place + turn) % len(names)]


def cheats(say: Say, kept: Path, names: list[str]) -> list[dict[str, Any]]:
    """Judge each kind of cheat at each operation; return rows."""
    rows = read(kept)
    done = {(row["kind"], row["operation"]) for row in rows}
    with tempfile.TemporaryDirectory() as folder, resuming():
        for kind, name in in_turns():
            if (kind, name) in done or name not in names:
                continue
            reference = programs.write(Path(folder), f"{name}_reference", programs.reference(name))
            candidate = programs.write(Path(folder), f"{kind}_{name}", programs.cheat(kind, name))
            row = judged(candidate, reference, **SHOWN_BY.get(kind, NORMAL))
            if not is_caught(kind, row):
                row = judged(candidate, reference, **FULL)
            row = {"kind": kind, "operation": name, "caught": is_caught(kind, row)} | row
            append(kept, row)
            rows.append(row)
            say(f"{kind} {name}: {row['ruling']}, caught {row['caught']}, {row['why']}")
    return rows


def races(say: Say, kept: Path, names: list[str], count: int = 20) -> list[dict[str, Any]]:
    """Race a right kernel with itself, and return rows."""
    rows = read(kept)
    with tempfile.TemporaryDirectory() as folder, resuming():
        for number in range(len(rows), count):
            name = names[number % len(names)]
            reference = programs.write(
                Path(folder), f"{name}_reference", programs.reference(name, "timed")
            )
            candidate = programs.write(Path(folder), name, programs.of_module(RIGHT[name][0]))
            settings = FULL | {"families": ["normal"], "sizes": ["given"]}
            row = {"operation": name} | judged(candidate, reference, **settings)
            append(kept, row)
            rows.append(row)
            say(f"{name}: {row['ruling']}, {row['speed']}")
    return rows


def problems(say: Say, kept: Path) -> list[dict[str, Any]]:
    """Judge ten models in KernelBench's form, and zeros where they are near."""
    rows = read(kept)
    done = {row["problem"] for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(PROBLEMS.glob("*.py")):
            if path.stem in done:
                continue
            row: dict[str, Any] = {"problem": path.stem}
            row["new"] = judged(Path(f"{path}:ModelNew"), path, **FULL)
            if path.stem in NEAR_ZERO:
                zeros = programs.write(Path(folder), f"{path.stem}_zeros", path.read_text() + ZEROS)
                row["zeros"] = judged(zeros, path, **NORMAL)
            append(kept, row)
            rows.append(row)
            say(f"{path.stem}: {row['new']['ruling']}, zeros {row.get('zeros', {}).get('ruling')}")
    return rows


def read(path: Path) -> list[dict[str, Any]]:
    """Return rows that an earlier run kept."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, row: dict[str, Any]) -> None:
    """Keep a row."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
