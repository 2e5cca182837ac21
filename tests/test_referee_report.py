"""What the referee prints, writes and returns: screen, page, JSON, exit codes, tests of kernels."""

from __future__ import annotations

import json
import pickle
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdcore import referee
from gdcore.oracle import OracleWarning, like
from gdcore.referee import Finding, Ruling, Speed, UsageError, Verdict, testing

pytest_plugins = "pytester"

EVIL = "<script>alert('x')</script>"
FINDINGS = tuple(
    Finding(
        f"kind {i % 7} {EVIL}",
        Ruling.WRONG,
        f"Element [0, {i}] is nan; golden has {i}. " + "Because of the data. " * 30,
        "large",
        "given (64x128)",
        "float32",
        i,
        (0, i),
    )
    for i in range(40)
)
WRONG = Verdict(
    Ruling.WRONG,
    candidate=f"{EVIL}.py",
    reference="reference.py",
    why=FINDINGS[0].sentence,
    findings=FINDINGS,
    worst=FINDINGS[0],
    tried=tuple(f"family {i}, {size}" for i in range(18) for size in ("given", "odd", "long")),
    not_tried=tuple(f"family {i}, long: too large to check each element" for i in range(40)),
    library_calls=tuple(f"aten::operation_{i} x {i}" for i in range(50)),
    limits=("Nothing was run on a GPU.", "In its process: no network to take away."),
    calls=100,
    seconds=12.5,
    environment={"seed": 7, "path": Path("x")},
)
RIGHT = Verdict(
    Ruling.RIGHT,
    candidate="shifted.py",
    why="All 100 results are within rounding errors of the reference.",
    speed=(
        Speed("eager", 1.5, 1.4, 1.6, "FAST", 2e-4, 3e-4, 11, "64x128"),
        Speed("compiled", 0.9, 0.8, 1.1, "AMBG", 2e-4, 1.8e-4, 11, "64x128"),
    ),
    tried=("normal, given",),
    calls=100,
)
EXIT = {
    Ruling.RIGHT: 0,
    Ruling.WRONG: 1,
    Ruling.CHEATING: 1,
    Ruling.SUSPICIOUS: 3,
    Ruling.NOT_DECIDED: 3,
}


class Page(HTMLParser):
    """Which elements are open, and how many scripts there are."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.scripts += tag == "script"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_screen_is_one_screen_and_says_nothing_twice() -> None:
    for verdict in (WRONG, RIGHT, Verdict(Ruling.NOT_DECIDED)):
        lines = str(verdict).splitlines()
        assert len(lines) <= 30
        assert all(len(line) <= 100 for line in lines), max(lines, key=len)
    text = " ".join(str(WRONG).split())
    assert text.count("Element [0, 0] is nan") == 1
    assert "kind 0" in text
    assert "[large, given (64x128), float32, seed 0]" in text
    assert "4 more kinds" in text
    assert "34 more" in text
    text = " ".join(str(RIGHT).split())
    assert "FAST, 1.5 x eager [1.4, 1.6] in 11 rounds of 64x128: 200 us a call, 300 us" in text
    assert "Evidence" not in text


def test_the_page_is_html_that_runs_no_name(tmp_path: Path) -> None:
    for verdict in (WRONG, RIGHT, Verdict(Ruling.NOT_DECIDED)):
        text = verdict.to_html(tmp_path / "page.html")
        assert (tmp_path / "page.html").read_text(encoding="utf-8") == text
        page = Page()
        page.feed(text)
        page.close()
        assert page.open == []
        assert page.scripts == 1
        assert EVIL not in text
        assert "http" not in text  # it needs no network
        assert "$" not in text
        data = text.partition('id="verdict">')[2].partition("</script>")[0]
        assert json.loads(data)["ruling"] == verdict.ruling
        assert 'srcdoc="&lt;!doctype html' in verdict._repr_html_()


def test_json_has_everything_and_null_for_nan(tmp_path: Path) -> None:
    text = WRONG.to_json(tmp_path / "verdict.json")
    found = json.loads((tmp_path / "verdict.json").read_text())
    assert found == json.loads(text)
    assert found["worst"]["golden"] is None
    assert found["worst"]["element"] == [0, 0]
    assert found["ruling"] == "wrong"
    assert len(found["findings"]) == 40
    assert found["environment"]["path"] == "x"


def test_a_verdict_is_true_if_the_kernel_is_right_and_can_be_sent_elsewhere() -> None:
    for ruling in Ruling:
        verdict = Verdict(ruling, "softmax.py")
        assert bool(verdict) is (ruling == "right")
        assert verdict.ok is (ruling in ("right", "suspicious"))
        assert repr(verdict) == f"<Verdict: softmax.py is {ruling}>"
    again = pickle.loads(pickle.dumps(WRONG))
    assert str(again) == str(WRONG)


def test_exit_codes_and_outputs_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from gdcore.cli import build_app

    given: dict[str, Any] = {}
    verdicts: list[Verdict] = []

    def judge(candidate: str, reference: str, **options: Any) -> Verdict:
        given.update(options, candidate=candidate, reference=reference)
        if not verdicts:
            raise UsageError("k.py has no function f.")
        return verdicts[0]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(referee, "judge", judge)

    def call(*words: str) -> Any:
        return CliRunner().invoke(build_app(), ["referee", "k.py:f", "r.py", *words])

    found = call()
    assert found.exit_code == 2
    assert "has no function f." in found.output
    for ruling, code in EXIT.items():
        verdicts[:] = [Verdict(ruling, "k.py")]
        found = call("--families", "normal,-inf masks", "--forbid", "exp, aten::mm")
        assert found.exit_code == code
        assert found.output.startswith(f"{ruling.upper()}: k.py")
    assert given["families"] == ["normal", "-inf masks"]
    assert given["forbid"] == ["exp", "aten::mm"]
    assert (given["candidate"], given["reference"]) == ("k.py:f", "r.py")
    verdicts[:] = [WRONG]
    assert json.loads(call("--json").output)["ruling"] == "wrong"
    found = call("verdict.json", "--json", "--html", "page.html")
    assert (found.exit_code, found.output) == (1, "")
    assert json.loads(Path("verdict.json").read_text())["ruling"] == "wrong"
    assert Path("page.html").read_text().startswith("<!doctype html>")
    given.clear()
    for words, said in (
        (("verdict.json",), "write --json"),
        (("--html", "nowhere/page.html"), "cannot write"),
        (("--html", "r.py"), "overwrite"),
        (("--timeout", "0"), "timeout"),
    ):
        found = call(*words)
        assert found.exit_code == 2
        assert said in " ".join(found.output.split())
    assert not given  # found before anything runs


def test_mistakes_in_options_and_files_are_said_at_once(tmp_path: Path) -> None:
    file = tmp_path / "kernel.py"
    file.write_text("def kernel(x):\n    return x\n")
    (tmp_path / "notes.txt").write_text("x")
    for kernel, options, said in (
        (file, {"families": ["nonsense"]}, "use some of as given, normal"),
        (file, {"against": ["nonsense"]}, "give some of"),
        (file, {"dtype": "double"}, "give one of"),
        (file, {"seconds": 0}, "give more than 0"),
        (file, {"sizes": ["nonsense"]}, "use some of given"),
        (tmp_path / "other.py", {}, "is not a file; give a Python file"),
        (f"{file}x:kernel", {}, "is not a file; give a Python file"),
        (tmp_path / "notes.txt", {}, "its name is to end in .py"),
        (lambda x: x, {}, "define it with `def` at the top of a file"),
    ):
        with pytest.raises(UsageError, match=r"[.]$") as error:
            referee.judge(kernel, file, **options)
        assert said in str(error.value)


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_tests_of_kernels_compare_functions_here_and_files_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick = {"inputs": [(4, 8)], "sizes": ["given"], "families": ["normal", "large"]}

    @referee.kernel_test(softmax, **quick)
    def test_right(x: Any) -> Any:
        return softmax(x)

    @referee.kernel_test(softmax, **quick)
    def test_wrong() -> Any:
        return lambda x: 1.001 * softmax(x)

    test_right()
    with pytest.raises(AssertionError, match=r"^wrong: "):
        test_wrong()
    assert "<pre>right: " in like(softmax, softmax, **quick)._repr_html_()

    given: dict[str, Any] = {}
    ruling = Ruling.RIGHT

    def judge(kernel: Any, reference: Any, **options: Any) -> Verdict:
        given.update(options, kernel=kernel)
        return Verdict(ruling, "k.py", why="So it is.")

    monkeypatch.setattr(testing, "judge", judge)
    test_file = referee.kernel_test("r.py", seed=3)(lambda: "k.py")
    test_file()
    assert given == {"seed": 3, "race": False, "kernel": "k.py"}
    ruling = Ruling.SUSPICIOUS
    with pytest.warns(OracleWarning, match="SUSPICIOUS: k.py"):
        test_file()
    for ruling in (Ruling.WRONG, Ruling.CHEATING, Ruling.NOT_DECIDED):
        with pytest.raises(AssertionError, match=f"^{ruling.upper()}: k.py\n  So it is."):
            test_file()
    with pytest.raises(UsageError, match="without parameters"):
        referee.kernel_test("r.py")(softmax)


def test_pytest_knows_the_fixture_and_the_decorator(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import numpy as np
        from gdcore import referee as judge

        OPTIONS = {"inputs": [(4, 8)], "sizes": ["given"], "families": ["normal"]}

        def double(x):
            return x + x

        def test_right(referee):
            referee(lambda x: 2 * x, double, **OPTIONS)

        def test_wrong(referee):
            referee(lambda x: 2.01 * x, double, **OPTIONS)

        def test_undecided(referee):
            referee(lambda x: 0 * x, lambda x: np.zeros_like(x), **OPTIONS)

        @judge.kernel_test(double, **OPTIONS)
        def test_of_a_kernel(x):
            return 2 * x
    """)  # fmt: skip
    found = pytester.runpytest_inprocess("-p", "pytest_gdcore", "-p", "no:cacheprovider")
    found.assert_outcomes(passed=2, failed=2)
    found.stdout.fnmatch_lines(
        ["E * AssertionError: wrong: *", "E * AssertionError: not decided: *"]
    )
