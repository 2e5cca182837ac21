"""Kernels written on the spot, in sandboxes of which nothing may be left."""

from __future__ import annotations

import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gdcore.oracle.trials.operand import Operand
from gdcore.oracle.trials.runner import Outcome
from gdcore.referee import confined
from gdcore.referee.family import can_look
from gdcore.referee.process import Sandbox

X = Operand.of(np.arange(12.0).reshape(3, 4), "float32")
Y = Operand.of(np.arange(12.0).reshape(3, 4) ** 2, "float32", order=(1, 0))
LOADER = """
import runpy
def load(path, role, options):
    return runpy.run_path(path)[options.get("name", "kernel")]
"""
SLACK = 8.0  # seconds; 2 on a machine that does nothing else
needs_proc = pytest.mark.skipif(not can_look(), reason="processes are found through /proc")


class Bench:
    """Makes sandboxes of kernels written on the spot, and sees that nothing of them is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "loader.py").write_text(LOADER)
        self.count = 0

    def sandbox(self, text: str, **options: object) -> Sandbox:
        self.count += 1
        path = self.folder / f"kernel{self.count}.py"
        path.write_text("import os, sys, time\nimport numpy as np\n" + textwrap.dedent(text))
        settings = {"arrays": "numpy", "timeout": 20.0} | options
        return Sandbox(path, loader=f"{self.folder}/loader.py:load", **settings)  # type: ignore[arg-type]

    def outcomes(self, kernels: dict[str, float], **options: object) -> dict[str, Outcome]:
        """Run kernels once each, with time-outs, after they were loaded side by side."""
        found = {}
        names = list(kernels)
        for group in (names[i : i + 6] for i in range(0, len(names), 6)):
            boxes = [self.sandbox(text, **options) for text in group]
            for text, sandbox in zip(group, boxes, strict=True):
                assert sandbox.ready() == ""
                sandbox.end_within(kernels[text])
                begin = time.perf_counter()
                found[text] = sandbox.run([[X]])
                sandbox.close()
                assert time.perf_counter() - begin < kernels[text] + SLACK, found[text]
        assert not left_over()
        return found


def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Yield what a fixture named `bench` gives, and see afterwards that nothing is left."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield Bench(tmp_path)
    assert not left_over()


def left_over() -> list[str]:
    """Return processes that were given one of our folders, and such folders."""
    here = tempfile.gettempdir()
    found = [str(path) for path in Path(here).glob("gdcore-*")]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if here.encode() in environment and state not in "ZX":
            found.append(entry.name)
    return found


def without_namespaces(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have the keeper find that the system allows no namespaces."""
    here = folder / "without"
    here.mkdir()
    for name in ("keeper.py", "worker.py"):
        text = (confined._HERE / name).read_text()
        (here / name).write_text(text.replace('_libc("unshare",', '_libc("unshare", -1 |'))
    monkeypatch.setattr(confined, "_HERE", here)


def values(outcome: Outcome, call: int = 0) -> list[list[float]]:
    assert not outcome.error, outcome
    result: list[list[float]] = outcome.results[call].operands[0].values().tolist()
    return result
