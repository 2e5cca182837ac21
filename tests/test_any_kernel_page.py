"""The files and commands of docs/any_kernel.md do what the page says, on fewer data."""

from __future__ import annotations

import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gdcore import referee
from gdcore.referee import Ruling, Verdict, judge, testing
from test_readme import ROOT, absent_imports, readme_block

PAGE = ROOT / "docs/any_kernel.md"
BLOCKS = readme_block.fenced_blocks(PAGE.read_text(encoding="utf-8"))
FILES = {
    name[1]: block.text for block in BLOCKS if (name := re.match(r"# (\w+\.py)\n", block.text))
}
COMMANDS = [
    block.text for block in BLOCKS if block.language == "sh" and block.text.startswith("gdcore")
]
FEW = {"families": ["normal", "large"], "sizes": ["given"]}
QUICK = FEW | {"race": False, "timeout": 900.0, "seed": 7}


@pytest.fixture(autouse=True)
def in_a_folder_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text.replace("(256, 1024)", "(8, 16)"))


def test_the_commands_give_what_the_page_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("typer")
    pytest.importorskip("torch")
    from typer.testing import CliRunner

    from gdcore.cli import build_app

    def quick(*files: str, **options: Any) -> Verdict:
        return judge(*files, **(options | QUICK))

    monkeypatch.setattr(referee, "judge", quick)
    shown = [block.text for block in BLOCKS if block.language == "text"]
    heads, found = [], {}
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        if any(absent_imports(FILES[word.partition(":")[0]]) for word in words[1:3]):
            continue
        result = CliRunner().invoke(build_app(), words)
        heads.append(result.output.partition("\n")[0])
        found[words[1]] = (result.exit_code, " ".join(result.output.split()))
    for text in shown:
        assert text.partition("\n")[0] in heads
        assert all(len(line) <= 100 for line in text.splitlines())
    codes = {name: code for name, (code, _) in found.items()}
    expected = {"softmax.py": 1, "shifted.py": 0, "answer.py": 0, "reference.py:reference": 1}
    if "scale.py:kernel" in codes:
        expected["scale.py:kernel"] = 0
    assert codes == expected, found
    assert "NaN where golden is not" in found["softmax.py"][1]
    assert "It calls aten::softmax, which is forbidden" in found["reference.py:reference"][1]


def test_the_tests_and_the_notebook_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = []

    def fake(kernel: str, reference: str, **options: Any) -> Verdict:
        given.append((kernel, reference, options.get("families", "all")))
        return Verdict(Ruling.RIGHT)

    monkeypatch.setattr(testing, "judge", fake)
    monkeypatch.setattr(testing, "like", partial(testing.like, **FEW))
    page: dict[str, Any] = {"__name__": "test_kernels"}
    exec(FILES["test_kernels.py"], page)
    page["test_by_powers_of_two"]()
    page["test_in_a_process_of_its_own"]()
    page["test_with_the_fixture"](referee.assert_kernel)
    assert given == [
        ("shifted.py", "reference.py", "all"),
        ("shifted.py", "reference.py", ["normal", "large"]),
    ]
    exec(FILES["notebook.py"], {"__name__": "notebook"})
    assert capsys.readouterr().out == "right True\n"


def test_the_table_names_every_ruling_with_its_exit_code() -> None:
    rows = dict(re.findall(r"^\| ([a-z ]+) \| (\d) \|", PAGE.read_text("utf-8"), re.MULTILINE))
    assert rows == {
        "right": "0", "suspicious": "3", "wrong": "1", "cheating": "1", "not decided": "3"
    }  # fmt: skip
    assert set(rows) == set(Ruling)
