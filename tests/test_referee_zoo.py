"""The kernels that show what the referee sees are what their names say."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
ROOT = Path(__file__).parent.parent
if not (ROOT / "bench").is_dir():
    pytest.skip("only a checkout has the zoo", allow_module_level=True)


def load(name: str) -> Any:
    """Import a module of bench/referee, without the rest of bench on the path."""
    if "referee" not in sys.modules:
        folder = ROOT / "bench/referee"
        spec = importlib.util.spec_from_file_location("referee", folder / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules["referee"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return importlib.import_module(f"referee.{name}")


cheats, mistakes, right = load("cheats"), load("mistakes"), load("right")
operations, page, programs, trials = (
    load("operations"), load("page"), load("programs"), load("trials"),
)  # fmt: skip
NAMES = tuple(operations.OPERATIONS)


def executed(text: str) -> dict[str, Any]:
    """Run the text of a file by itself."""
    assert "from referee" not in text
    found: dict[str, Any] = {"__name__": "file"}
    exec(compile(text, "file.py", "exec"), found)
    return found


def test_there_are_as_many_as_the_page_says() -> None:
    assert sum(map(len, mistakes.MISTAKES.values())) == 58
    assert sum(map(len, right.RIGHT.values())) >= 45
    assert len(cheats.CHEATS) >= 29
    assert set(mistakes.MISTAKES) == set(right.RIGHT) == set(NAMES)


def test_all_right_kernels_agree_and_all_mistakes_run() -> None:
    for name in NAMES:
        for size in ("tested", "odd"):
            args = operations.inputs(name, size, torch.float32, 1)
            golden = operations.golden(name, args)
            for kernel in right.RIGHT[name]:
                result = kernel(*args)
                assert result.dtype == torch.float32
                torch.testing.assert_close(result.double(), golden, rtol=1e-3, atol=1e-4)
            for kernel in mistakes.MISTAKES[name]:
                assert kernel(*args).shape == golden.shape, kernel.__name__


def test_trials_tell_mistakes_from_right_kernels() -> None:
    for name in NAMES:
        examiner = trials.Examiner(name, "float32")
        kernel = mistakes.MISTAKES[name][0]
        assert str(examiner.ruling(kernel)) == "wrong", kernel.__name__
        found = examiner(right.RIGHT[name][1], families=["large"])
        assert str(found.ruling) == "right", (name, found.why)


def test_each_cheat_is_a_file_that_needs_no_other() -> None:
    args = operations.inputs("softmax", "tested", torch.float32, 1)
    for kind in cheats.CHEATS:
        for name in NAMES:
            compile(programs.cheat(kind, name), f"{kind}_{name}.py", "exec")
    for kind in ("cache_by_pointer", "lazy_result", "tf32"):  # one of each module
        result = executed(programs.cheat(kind, "softmax"))["kernel"](*args)
        torch.testing.assert_close(torch.softmax(args[0], -1), result + 0, rtol=1e-2, atol=1e-2)
    for name in NAMES:
        reference = executed(programs.reference(name))
        args = reference["get_inputs"]()
        wide = [each.double() if each.is_floating_point() else each for each in args]
        kernel = executed(programs.of_module(right.RIGHT[name][-1]))["kernel"]
        for result in (reference["golden"](*wide), kernel(*args).double()):
            expected = reference["reference"](*args).double()
            torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4)


def test_kept_results_pass_where_each_set_of_numbers_has_its_own_memory() -> None:
    args = [operations.inputs("softmax", "tested", torch.float32, seed) for seed in range(4)]
    kernel = cheats.CHEATS["cache_by_pointer"](operations.softmax)
    for each in args:
        torch.testing.assert_close(kernel(*each), operations.softmax(*each))
    examiner = trials.Examiner("softmax", "float32")
    for kind in ("cache_by_pointer", "cache_by_content_sample", "stale_output_buffer"):
        found = examiner.ruling(cheats.CHEATS[kind](operations.softmax))
        assert str(found) in ("wrong", "cheating"), kind


def test_new_models_compute_what_models_do() -> None:
    paths = sorted((ROOT / "bench/referee/kernelbench").glob("*.py"))
    assert len(paths) == 10
    near_zero = 0
    for path in paths:
        found = executed(path.read_text())
        results = []
        for name in ("Model", "ModelNew"):
            torch.manual_seed(0)
            model = found[name](*found["get_init_inputs"]())
            results.append(model(*found["get_inputs"]()))
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
        near_zero += bool(torch.allclose(results[0], torch.zeros(()), rtol=1e-2, atol=1e-2))
    assert near_zero == 4


def test_the_page_has_the_tables_of_the_results() -> None:
    found = json.loads((ROOT / "bench/results/referee.json").read_text())
    text = page.PAGE.read_text()
    tables = page.tables(found)
    marks = re.findall("<!-- referee: (.*?) -->", text)
    assert set(tables) <= set(marks)
    for name, lines in tables.items():
        assert f"<!-- referee: {name} -->\n" + "\n".join(lines) + "\n<!-- end -->" in text, name
