"""The code of docs/oracle.md runs, top to bottom, as a reader would run it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gdcore import oracle
from test_readme import ROOT, absent_imports, readme_block

PAGE = ROOT / "docs/oracle.md"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    ran, missing = 0, set()
    for block in readme_block.fenced_blocks(PAGE.read_text(encoding="utf-8")):
        if block.language == "cpp":
            Path("kernel.cpp").write_text(block.text)
        elif block.language == "sh" and block.text.startswith("c++"):
            if shutil.which("c++") is None:
                pytest.skip("needs c++")
            subprocess.run(block.text.split(), check=True)
        elif block.language == "python":
            if absent := absent_imports(block.text):
                missing |= absent
                continue
            exec(compile("\n" * (block.line - 1) + block.text, PAGE, "exec"), namespace)
            ran += 1
    assert ran >= 3
    verdict = namespace["verdict"]
    assert isinstance(verdict, oracle.Verdict)
    assert verdict.worst_status is oracle.Status.WRONG
    if missing:
        pytest.skip(f"blocks that import {', '.join(sorted(missing))} did not run: not installed")
