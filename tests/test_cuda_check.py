"""bench/cuda_check: a step that fails, hangs or cannot run costs that step alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "bench" / "cuda"
if not FOLDER.is_dir():
    pytest.skip("needs a checkout", allow_module_level=True)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import check

    return check


def outcome(check: ModuleType, out: Path, step: Any, seconds: float = 60) -> dict[str, Any]:
    """Run one step and return what it wrote."""
    ends = time.monotonic() + 100
    run = check.Check(out, None, None, installed=True, emulated=True, ends=ends)
    run.step_trial = step.__get__(run)
    check.run(run, "trial", seconds)
    return dict(json.loads((out / "trial.json").read_text()))


def test_a_step_that_is_done(check: ModuleType, tmp_path: Path) -> None:
    def step(self: Any, deadline: float) -> Any:
        return check.last_json(
            self.python("trial", ["-c", "print('x'); print('[1, 2]')"], deadline)
        )

    wrote = outcome(check, tmp_path, step)
    assert (wrote["state"], wrote["result"]) == ("done", [1, 2])


def test_a_step_that_fails(check: ModuleType, tmp_path: Path) -> None:
    def step(self: Any, deadline: float) -> Any:
        self.python("trial", ["-c", "print('the reason'); raise SystemExit(3)"], deadline)

    wrote = outcome(check, tmp_path, step)
    assert wrote["state"] == "FAILED"
    assert "exit status 3" in wrote["why"]
    assert wrote["log"][-1] == "the reason"


def test_a_step_that_hangs(check: ModuleType, tmp_path: Path) -> None:
    """It is killed with its children."""
    marker = tmp_path / "child"
    child = f"import time; time.sleep(6); open({str(marker)!r}, 'w')"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"

    def step(self: Any, deadline: float) -> Any:
        self.python("trial", ["-c", parent], deadline)

    wrote = outcome(check, tmp_path, step, seconds=4)
    assert (wrote["state"], wrote["why"]) == ("FAILED", "TimeoutError: the time was over")
    time.sleep(3)
    assert not marker.exists()


def test_a_step_that_cannot_run(check: ModuleType, tmp_path: Path) -> None:
    def step(self: Any, deadline: float) -> Any:
        raise check.Skipped("there is no GPU")

    wrote = outcome(check, tmp_path, step)
    assert (wrote["state"], wrote["why"]) == ("skipped", "there is no GPU")


def test_the_table(tmp_path: Path) -> None:
    step = {"step": "selftest", "state": "done", "seconds": 3.0, "result": {"said": "same bits"}}
    (tmp_path / "selftest.json").write_text(json.dumps(step))
    figures = {"ours_ms": 2.0, "theirs_ms": 1.0, "ratio": 0.5, "tflops": 3.0}
    races = [
        {"name": "copy", "bandwidth": 4e12},
        {"name": "bad", "why": "WRONG: 7 times the allowed error"},
        {"name": "good", **figures, "share_of_bandwidth": 0.25, "target": "x", "met": False},
    ]
    (tmp_path / "timings.jsonl").write_text("\n".join(map(json.dumps, races)))
    subprocess.run([sys.executable, str(FOLDER / "table.py"), str(tmp_path)], check=True)
    table = (tmp_path / "table.md").read_text()
    assert '| selftest | done | 3.0 | {"said": "same bits"} |' in table
    assert "Copy: 4.00 TB/s" in table
    assert "| bad | WRONG: 7 times the allowed error |" in table
    assert "| good | 2 | 1 | 0.5 | 3 | 25% | x | NO |" in table
