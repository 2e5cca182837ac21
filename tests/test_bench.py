"""The benchmark harness: checked before timed, judged with care, told in full. No real timings."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import gdcore as gd
from gdcore.bench import Report, Row, Verdict, bounds, crew, probe, race, run, suites
from gdcore.bench.case import Expected, Work
from gdcore.bench.check import find_fault
from gdcore.bench.libraries import Unsupported, find_peers, open_library
from gdcore.bench.suites.fit import FullBatch, MiniBatch
from gdcore.bench.suites.gradient import Gradient
from gdcore.bench.suites.matmul import Matmul
from gdcore.bench.suites.mse import Mse
from gdcore.bench.verdict import Ratio, judge

TINY = {
    "matmul": (Matmul(3, 2, 2, 2), Matmul(1, 4, 3, 5), Matmul(2, 3, 1, 4)),
    "mse": (Mse(10),),
    "gradient": (Gradient(2, 50),),
    "fit": (FullBatch(1, 1, 5), MiniBatch(8000, 4, 20)),
}
CASES = [case for cases in TINY.values() for case in cases]
BAD = """
import os, time
import numpy as np

def mse(pred, target):
    raise RuntimeError("out of luck\\nand more")

def gradient(X, y, w):
    os.abort()

def matmul(a, b):
    if a.ndim == 2:
        a[...] = 0
    if a.shape[-1] == 2:
        return (a @ b)[:-1]
    return a @ b + 1e-3
"""
PEER = """
#include <stdint.h>
const char *gdcore_peer_version(void) { return "naive 1"; }
int gdcore_peer_matmul(int bytes, int64_t batch, int64_t m, int64_t n, int64_t k, const float *a,
                       const float *b, float *c, int threads, int64_t repeats) {
  if (bytes != 4 || n == 1 || threads != 1) return 1;
  for (int64_t r = 0; r < repeats; ++r)
    for (int64_t i = 0; i < batch * m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        float s = 0;
        for (int64_t l = 0; l < k; ++l) s += a[i * k + l] * b[(i / m * k + l) * n + j];
        c[i * n + j] = s;
      }
  return 0;
}
"""


@pytest.fixture(scope="module")
def tiny():
    """Make the quick suites tiny."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "_QUICK", TINY)
        patch.setattr(race, "QUICK", race.Effort(1e-4, 1e-3, fewest=5, most=5, probe=0.01))
        yield


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    """A folder with a peer that does everything wrong and one that needs what is not there."""
    folder = tmp_path_factory.mktemp("peers")
    (folder / "gdcore_peer_bad.py").write_text(BAD)
    (folder / "gdcore_peer_absent.py").write_text("import no_such_library")
    (folder / "README").write_text("not a peer")
    return folder


@pytest.fixture(scope="module")
def report(tiny, peers):
    """A run of every suite."""
    return run("all", against=["numpy", "bad", "absent"], threads=[1], quick=True, peers=peers)


def rows(report, **wanted):
    return [row for row in report.rows if all(getattr(row, k) == v for k, v in wanted.items())]


def made(library, seconds, suite="matmul", case="1 2 2 2", dtype="float32", threads=1, **rest):
    """Return a row as a run would have made it."""
    fields = {"flops": 1e6, "bytes": 1e5, "floor": seconds / 2, "roof": "L1", "repeats": 3}
    fields |= {"rounds": (seconds,) * 5} | rest
    return Row(suite, case, dtype, threads, library, "timed", **fields)


@pytest.fixture
def example():
    """A report made by hand: names that are no markup, statuses of every kind."""
    ratio = Ratio(2.0, 1.9, 2.1, Verdict.FAST)
    levels = (probe.Level("L1", 2**15, 9e10, 8e10, 7e10), probe.Level("memory", np.inf, 9, 8, 7))
    environment = {"cpu": "A <fine> CPU", "gdcore": gd.config(), "git": None}
    environment |= {"date": "2026-01-01T10:00:00", "load_before": (0.1, 0, 0), "cpus_usable": 2}
    limits = [probe.Limits(n, {"float32": 1e11, "float64": 5e10}, levels) for n in (1, 2)]
    found = [
        Row("", "", "", 0, "jax", "missing", "jax is not installed"),
        *(
            row
            for suite in ("matmul", "mse")
            for dtype in ("float32", "float64")
            for threads in (1, 2)
            for row in (
                made("gdcore", 1e-6, suite, "10 2", dtype, threads),
                made("<b>&", 2e-6, suite, "10 2", dtype, threads, ratio=ratio),
                Row(suite, "10 2", dtype, threads, "numpy", "wrong", "1 < 2"),
                made("gdcore", 3e-4, suite, "9 2", dtype, threads),
                made("<b>&", 6e-4, suite, "9 2", dtype, threads, ratio=ratio),
            )
        ),
    ]
    return Report("gdcore", environment, found, limits)


class TestVerdict:
    ours = np.array([1.0, 1.1, 0.9, 1.3, 1.0, 1.05, 0.95, 1.0, 1.2])

    @pytest.mark.parametrize(
        ("factor", "verdict"),
        [(2, "FAST"), (1.07, "FAST"), (0.5, "SLOW"), (0.94, "SLOW"), (1, "SAME"), (1.03, "SAME")],
    )
    def test_common_noise_cancels(self, factor, verdict):
        ratio = judge(self.ours, factor * self.ours)
        assert ratio.verdict == verdict
        assert ratio.low <= ratio.value <= ratio.high
        np.testing.assert_allclose(ratio.value, factor)

    def test_noise_of_one_is_ambiguous(self, rng):
        theirs = self.ours * rng.choice([0.7, 1.5], len(self.ours))
        assert judge(self.ours, theirs).verdict is Verdict.AMBG

    def test_an_interval_across_a_margin_is_ambiguous(self):
        theirs = self.ours * np.array([1.02, 1.09, 1.03, 1.08, 1.04, 1.07, 1.02, 1.09, 1.05])
        assert judge(self.ours, theirs).verdict is Verdict.AMBG
        assert judge(self.ours, theirs, margin=0.1).verdict is Verdict.SAME

    def test_few_rounds_decide_nothing(self):
        assert judge([1.0] * 4, [9.0] * 4).verdict is Verdict.AMBG
        assert judge([1.0] * 5, [9.0] * 5).verdict is Verdict.FAST

    def test_rounds_that_only_one_completed_do_not_count(self):
        assert judge([1.0] * 5, [2.0] * 5 + [99.0] * 9).value == 2

    def test_interval_covers_the_median(self, rng):
        covered = 0
        for _ in range(200):
            ours, theirs = np.exp(rng.normal(0, 0.1, (2, 15)))
            ratio = judge(ours, 1.5 * theirs)
            covered += ratio.low <= 1.5 <= ratio.high
        assert covered >= 170


class TestCheck:
    expected: ClassVar = [Expected("sum", np.arange(3.0), np.full(3, 0.1))]

    def test_right(self):
        assert find_fault([np.float32([0.05, 1, 2])], self.expected) is None

    @pytest.mark.parametrize(
        ("outputs", "fault"),
        [
            ([np.float32([0, 1])], "has shape (2,) instead of (3,)"),
            ([np.float32([0, 1, np.nan])], "1 of 3 elements of the sum are NaN"),
            ([np.float32([0, 1, np.inf])], "1 of 3 elements of the sum outside the bound"),
            ([np.float32([0, 1.2, 2])], "first at [1]: 1.2"),
            ([np.complex64([0, 1, 2])], "complex64 instead of real"),
            ([np.arange(3.0)] * 2, "2 outputs instead of 1 (sum)"),
            ([], "0 outputs instead of 1"),
        ],
    )
    def test_wrong(self, outputs, fault):
        assert fault in find_fault(outputs, self.expected)

    def test_a_bound_that_is_nan_passes_nothing(self):
        expected = [Expected("sum", np.ones(1), np.array([np.nan]))]
        assert find_fault([np.full(1, 1.5)], expected)

    @pytest.mark.parametrize("dtype", race.DTYPES)
    @pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.suite} {case.name}")
    def test_the_last_bits_of_every_output_count(self, case, dtype):
        """The bound of every suite passes what NumPy gets, and not what is off by far more."""
        inputs = case.inputs(dtype)
        library = open_library("numpy", None, 1)
        outputs = getattr(library, case.suite)(case, *inputs)(1)
        outputs = [np.asarray(o) for o in (outputs if isinstance(outputs, tuple) else [outputs])]
        expected = case.expected(inputs)
        assert find_fault(outputs, expected) is None
        for i, output in enumerate(outputs):
            broken = outputs.copy()
            broken[i] = output + np.asarray(expected[i].bound * 2.1, output.dtype)
            assert expected[i].name in find_fault(broken, expected)
            loose = np.finfo(dtype).eps * (3e4 if case.suite == "fit" else 300)
            assert np.all(expected[i].bound < loose), (expected[i].name, expected[i].bound)

    @pytest.mark.parametrize("k", [1, 10, 10**7, 10**9])
    def test_gamma_never_shrinks(self, k):
        assert k * 2.0**-24 <= bounds.gamma(k, "float32") <= bounds.gamma(k + 1, "float32")


class TestCases:
    @pytest.mark.parametrize("quick", [False, True])
    def test_names_and_work(self, quick):
        for suite in suites.NAMES:
            cases = suites.cases(suite, quick=quick)
            assert len({case.name for case in cases}) == len(cases)
            for case in cases:
                work = case.work("float32")
                assert case.work("float64").bytes == pytest.approx(2 * work.bytes, rel=0.5)
                assert work.flops > 0
                assert work.resident >= 0

    def test_inputs_are_the_same_every_time(self):
        for case in CASES:
            first, again = case.inputs("float32"), case.inputs("float32")
            assert [a.tobytes() for a in first] == [b.tobytes() for b in again]
            assert all(np.abs(array).max() <= 20 for array in first)

    def test_floor(self):
        level = probe.Level("memory", np.inf, read=10e9, write=5e9, copy=8e9)
        limits = probe.Limits(1, {"float32": 1e11}, (probe.Level("L1", 100, 1e12, 1, 1), level))
        assert limits.floor(Work(1e9, 3e9, 1e9, 4e9), "float32") == (
            2e9 / 8e9 + 2e9 / 10e9,
            "memory",
        )
        assert limits.floor(Work(1e9, 1e9, 3e9, 4e9), "float32") == (
            2e9 / 8e9 + 2e9 / 5e9,
            "memory",
        )
        assert limits.floor(Work(1, 100, 0, 100), "float32") == (1e-10, "L1")
        assert limits.floor(Work(1e12, 100, 0, 101), "float32") == (10, "FMA peak")
        half = 100 / 1e12 + 100 / 10e9
        assert limits.floor(Work(1, 200, 0, 200), "float32") == (pytest.approx(half), "memory")
        assert limits.floor(Work(1, 401, 0, 401), "float32") == (401 / 10e9, "memory")


class TestRun:
    def test_numpy_is_timed_everywhere(self, report):
        for library in ("gdcore", "numpy"):
            found = rows(report, library=library)
            assert len(found) == len(CASES) * 2
            for row in found:
                assert row.status == "timed"
                assert len(row.rounds) == 5
                assert row.threads == 1
                assert min(row.seconds, row.gflops, row.gbs, row.percent) > 0
                assert row.roof in ("FMA peak", "L1", "L2", "L3", "memory")
                assert (row.ratio is None) == (library == "gdcore")
        assert not report.partial

    def test_bad_results_are_told_and_not_timed(self, report):
        notes = {
            "3 2 2 2": ("wrong", "the product has shape (2, 2, 2) instead of (3, 2, 2)"),
            "1 4 3 5": ("failed", "it changed its inputs"),
            "2 3 1 4": ("wrong", "6 of 6 elements of the product outside the bound"),
            "10": ("failed", "RuntimeError: out of luck"),
            "50 2": ("failed", "its process died of signal 6"),
        }
        found = rows(report, library="bad")
        assert len(found) == 2 * len(notes)  # it takes no part in fit
        for row in found:
            status, note = notes[row.case]
            assert row.status == status
            assert row.note.startswith(note)
            assert "\n" not in row.note
            assert row.rounds == ()
            assert row.ratio is None

    def test_a_library_that_is_not_installed_is_a_row(self, report):
        (row,) = rows(report, library="absent")
        assert (row.status, row.note) == ("missing", "no_such_library is not installed")
        assert "absent: no_such_library is not installed." in str(report)

    def test_environment(self, report):
        about = report.environment
        for key in ("cpu", "flags", "caches", "python", "gdcore", "git", "date", "load_before"):
            assert key in about
        assert len(about["load_after"]) == 3
        assert about["libraries"]["numpy"]["1"]["version"] == np.__version__
        assert "blas" in about["libraries"]["numpy"]["1"]
        assert about["libraries"]["gdcore"]["1"]["config"]["threads"] == 1
        (limits,) = report.limits
        assert limits.threads == 1
        assert set(limits.peak) == set(race.DTYPES)
        assert limits.levels[-1].name == "memory"

    def test_table(self, report):
        text = str(report)
        assert "matmul, float32, 1 thread; peak " in text
        assert "WRONG: the product has shape" in text
        assert "FAILED: its process died of signal 6" in text
        assert "numpy takes" in text
        assert "Interrupted" not in text

    def test_json_round_trip(self, report):
        text = report.to_json()
        assert Report.from_json(text).to_json() == text
        assert str(Report.from_json(text)) == str(report)
        found = json.loads(text)
        assert tuple(found) == (
            *("schema", "gdcore", "partial", "baseline", "environment", "limits", "scores", "rows"),
        )
        assert tuple(found["rows"][-1]) == (
            *("suite", "case", "dtype", "threads", "library", "status", "note", "rounds"),
            *("repeats", "flops", "bytes", "floor", "roof", "ratio"),
            *("seconds", "gflops", "gbs", "percent"),
        )
        with pytest.raises(ValueError, match="schema"):
            Report.from_json('{"schema": 0}')

    def test_a_busy_machine_is_told(self, example):
        assert not [note for note in example.notes if "load" in note]
        example.environment["load_before"] = (4.0, 0.0, 0.0)
        assert "The load was 4.0 on 2 CPUs before the run began" in str(example)

    def test_interrupted_between_cases(self, tiny):
        def progress(text):
            if text.startswith("mse"):
                signal.raise_signal(signal.SIGINT)

        report = run(
            against=["numpy"], threads=[1], dtypes=["float32"], quick=True, progress=progress
        )
        assert report.partial
        assert {row.suite for row in report.rows} == {"matmul"}
        assert len(report.rows) == 2 * len(TINY["matmul"])
        assert str(report).endswith("Interrupted: these are the rows measured until then.")
        assert all(row.percent > 0 for row in report.rows)
        assert json.loads(report.to_json())["partial"] is True

    def test_interrupted_within_a_case(self, tiny, monkeypatch):
        ask, asked = crew.Member.ask, []

        def interrupted(member, method, *arguments):
            asked.append(method)
            if asked.count("round") == 6:
                raise KeyboardInterrupt
            return ask(member, method, *arguments)

        monkeypatch.setattr(crew.Member, "ask", interrupted)
        report = run("mse", against=["numpy"], threads=[1], dtypes=["float32"], quick=True)
        assert report.partial
        assert [len(row.rounds) for row in report.rows] == [2, 2]
        assert report.rows[1].ratio.verdict is Verdict.AMBG

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (
                {"suite": "mm"},
                "there is no suite 'mm'; choose from matmul, mse, gradient, fit, all.",
            ),
            (
                {"against": ["nunpy"]},
                "there is no peer 'nunpy'; choose from numpy, torch, jax, skl",
            ),
            ({"dtypes": ["int8"]}, "there is no dtype 'int8'; choose from float32, float64."),
            ({"threads": [0]}, "cannot measure 0 threads: this process may run on"),
            ({"peers": "/no/such"}, "the folder of peers, /no/such, does not exist."),
        ],
    )
    def test_unknown(self, settings, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            run(**settings)


class TestLibraries:
    def test_peers_are_found_by_name(self, peers):
        assert list(find_peers(peers)) == ["absent", "bad"]
        assert find_peers(None) == {}

    def test_a_peer_never_takes_the_name_of_a_library(self, tmp_path):
        for name in ("libgdcore_peer_gdcore.so", "libgdcore_peer_x.so", "gdcore_peer_x.py"):
            (tmp_path / name).touch()
        assert list(find_peers(tmp_path)) == ["gdcore-c++", "x", "x-python"]

    def test_shared_library(self, tmp_path):
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("there is no C compiler")
        (tmp_path / "peer.c").write_text(PEER)
        path = tmp_path / "libgdcore_peer_naive.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", path, tmp_path / "peer.c"], check=True)
        library = open_library("naive", find_peers(tmp_path)["naive"], 1)
        assert library.describe()["version"] == "naive 1"
        case = TINY["matmul"][0]
        inputs = case.inputs("float32")
        assert find_fault([library.matmul(case, *inputs)(2)], case.expected(inputs)) is None
        with pytest.raises(Unsupported):
            library.matmul(case, *case.inputs("float64"))(1)

    @pytest.mark.parametrize(
        "name", ["jax", "sklearn", pytest.param("torch", marks=pytest.mark.torch)]
    )
    @pytest.mark.filterwarnings("ignore")
    def test_optional_libraries(self, name):
        pytest.importorskip(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JAX_ENABLE_X64", "1")
            library = open_library(name, None, 1)
        assert library.describe()["version"]
        for case in CASES:
            prepare = getattr(library, case.suite, None)
            if prepare is None or (name == "sklearn" and isinstance(case, FullBatch)):
                continue
            inputs = case.inputs("float32")
            outputs = prepare(case, *inputs)(2)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            assert find_fault([np.asarray(o) for o in outputs], case.expected(inputs)) is None


class TestPage:
    def test_stands_alone(self, example, tmp_path):
        page = example.to_html(tmp_path / "report.html")
        assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
        assert not re.search(
            r"https?:|//|<link|@import|\bsrc=|url\((?!#)|\shref=\"(?!#)", _code(page)
        )
        assert "<b>&" not in page
        assert "&lt;b&gt;&amp;" in page
        assert "jax is not installed" in page
        assert "#ab00" not in page

    def test_partial(self, example):
        example.partial = True
        assert "Interrupted" in example.to_html()

    def test_empty(self, example):
        example.rows = []
        assert "<svg" not in example.to_html()

    def test_in_a_browser(self, example, tmp_path):
        """Filters hide what they should, the table sorts, points tell their row."""
        browser = shutil.which("chromium") or shutil.which("google-chrome")
        if browser is None:
            pytest.skip("there is no Chromium")
        clicks = "<script>document.querySelectorAll('.rows th')[5].click();</script></html>"
        path = tmp_path / "report.html"
        path.write_text(example.to_html().replace("</html>", clicks), encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000"]
        offline = "--host-resolver-rules=MAP * ~NOTFOUND"
        dom = subprocess.run(
            [
                browser,
                *options,
                offline,
                f"--user-data-dir={tmp_path}",
                "--dump-dom",
                path.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
        shown = re.findall(r"<tr id=\"r(\d+)\" (?![^>]*hidden)", dom)
        assert [example.rows[int(i)].key[2:] for i in shown] == [("float32", 1)] * len(shown)
        times = [example.rows[int(i)].seconds for i in shown]
        timed = [time for time in times if time == time]
        assert len(timed) == 8
        assert timed == sorted(times[:8])  # what was not timed comes last
        assert len(re.findall(r"<figure (?![^>]*hidden)[^>]*>", dom)) == 3
        assert re.search(r'<g id="p1"><title>matmul +10 2', dom)


def _code(page: str) -> str:
    """Return a page without comments, where slashes are no addresses."""
    return re.sub(r"^\s*//.*$|\"[^\"]*</pre>", "", page, flags=re.MULTILINE)


class TestImports:
    def test_gdcore_does_not_import_it(self):
        code = "import sys, gdcore; print([m for m in sys.modules if 'bench' in m])"
        assert _python(code) == "[]"

    def test_it_needs_only_numpy(self):
        code = """
            import sys
            others = "matplotlib", "rich", "typer", "torch", "jax", "sklearn"
            sys.modules.update(dict.fromkeys(others))
            import gdcore.bench
            print(gdcore.bench.Verdict.FAST)
        """
        assert _python(code) == "FAST"

    def test_a_page_without_matplotlib_names_the_extra(self, example, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=re.escape("pip install 'gdcore[bench]'")):
            example.to_html()


def _python(code: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


class TestCommand:
    @pytest.fixture
    def command(self):
        pytest.importorskip("typer")
        from typer.testing import CliRunner

        from gdcore import cli

        return lambda *args: CliRunner().invoke(cli.build_app(), ["bench", *map(str, args)])

    def test_writes_and_prints(self, command, tiny, tmp_path):
        files = tmp_path / "r.json", tmp_path / "r.html"
        result = command(
            *("mse", "--quick", "--against", "numpy", "--threads", 1, "--dtype", "float64"),
            *("--json", files[0], "--html", files[1]),
        )
        assert result.exit_code == 0, result.output
        assert "mse, float64, 1 thread" in result.stdout
        assert result.stdout.endswith(f"Wrote {files[0]}, {files[1]}.\n")
        report = Report.from_json(files[0].read_text())
        assert [row.library for row in report.rows] == ["gdcore", "numpy"]
        assert files[1].read_text().startswith("<!doctype html>")

    def test_interrupted(self, command, tiny, tmp_path, monkeypatch):
        def stop(contest, case):
            raise KeyboardInterrupt

        monkeypatch.setattr(race._Contest, "hold", stop)
        path = tmp_path / "r.json"
        result = command("mse", "--against", "numpy", "--threads", 1, "--json", path)
        assert result.exit_code == 130
        assert json.loads(path.read_text())["partial"] is True

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["mm"], "there is no suite 'mm'; choose from matmul, mse, gradient, fit, all."),
            (
                ["--against", "numpy,x"],
                "there is no peer 'x'; choose from numpy, torch, jax, sklearn.",
            ),
            (["--dtype", "int8"], "there is no dtype 'int8'; choose from float32, float64."),
            (["--threads", "two"], "--threads must be whole numbers such as 1,2, not 'two'."),
            (
                ["--json", "/no/such/r.json"],
                "cannot write /no/such/r.json: No such file or directory.",
            ),
        ],
    )
    def test_mistakes(self, command, args, message):
        result = command(*args)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr == f"Error: {message}\n"

    def test_peers_of_the_environment(self, command, peers, monkeypatch):
        monkeypatch.setenv("GDCORE_BENCH_PEERS", str(peers))
        assert "sklearn, absent, bad." in command("--against", "x").stderr


def test_page_of_documentation():
    """The functions of docs/bench.md exist under the names it gives them."""
    path = Path(__file__).parent.parent / "docs" / "bench.md"
    if not path.is_file():
        pytest.skip("only a checkout has the pages")
    for name in re.findall(r"gdcore\.bench\.(\w+)\b", path.read_text()):
        assert hasattr(gd.bench, name), name
