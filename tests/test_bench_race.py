"""A run of the suites: every library in a process of its own, checked before it is timed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from contextlib import closing

import numpy as np
import pytest

from benches import ASK, CASES, TINY, tiny, write_peers
from gdcore.bench import Report, Verdict, pool, race, run, suites
from gdcore.bench.check import as_arrays, exactly, find_fault
from gdcore.bench.libraries.base import Unsupported
from gdcore.bench.libraries.numpy import Numpy
from gdcore.bench.libraries.registry import closed_forms, find_peers, open_library
from gdcore.bench.suites.many import Stack

HUNG = """
import os, signal, time

def mse(pred, target):
    time.sleep(1000)

def gradient(X, y, w):
    os.kill(os.getpid(), signal.SIGSTOP)

def matmul(a, b):
    return a @ b
"""
MODULES = {
    "exact": (),
    "polars-ols": ("polars", "polars_ols"),
    "polars-ds": ("polars", "polars_ds"),
    "polars-statistics": ("polars", "polars_statistics"),
}
DRIFTING = """
import numpy as np

calls = {"mse": 0, "gradient": 0}

def late(name):
    calls[name] += 1
    return calls[name] > 3

def mse(pred, target):
    r = pred - target
    return np.mean(r * r), r * (2 / len(r) + late("mse"))

def gradient(X, y, w):
    X[0, 0] += late("gradient")
    r = X @ w - y
    return np.mean(r * r), 2 / len(r) * (r @ X)

def matmul(a, b):
    return np.nextafter(a @ b, 9).astype(a.dtype)
"""
SOLVER = """
import numpy as np

closed_forms = ("fit_stack",)

def fit_stack(X, y, lr):
    {text}
    A = np.concatenate([X, np.ones_like(X[..., :1])], -1)
    w = np.array([np.linalg.lstsq(a, b)[0] for a, b in zip(A, y)])
    return w[:, :-1], w[:, -1]
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


@pytest.fixture(scope="module", autouse=True)
def _tiny():
    with tiny():
        yield


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    return write_peers(tmp_path_factory.mktemp("peers"))


@pytest.fixture(scope="module")
def report(peers):
    """A run of every suite, with real probes."""
    against = ["numpy", "contiguous", "bad", "absent"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool.WorkerProcess, "ask", ASK)
        return run("all", against=against, threads=[1], quick=True, peers=peers)


@pytest.fixture(scope="module")
def drifted(tmp_path_factory):
    """A run beside a peer that is right at first."""
    folder = tmp_path_factory.mktemp("drifting")
    (folder / "gdcore_peer_drifting.py").write_text(DRIFTING)
    settings = {"threads": [1], "dtypes": ["float32"], "quick": True, "peers": folder}
    return run(against=["drifting"], **settings)


def rows(report, **wanted):
    return [row for row in report.rows if all(getattr(row, k) == v for k, v in wanted.items())]


class TestRun:
    def test_numpy_is_timed_everywhere(self, report):
        for library in ("gdcore", "numpy"):
            found = rows(report, library=library)
            does = [case for case in CASES if library == "gdcore" or hasattr(Numpy, case.job)]
            assert len(found) == len(does) * 2
            for row in found:
                assert row.status == "timed"
                assert len(row.rounds) == 6
                assert row.threads == 1
                assert min(row.seconds, row.gflops, row.gbs, row.percent) > 0
                assert row.roof in ("FMA peak", "L1", "L2", "L3", "memory")
                assert (row.ratio is None) == (library == "gdcore")
        assert not report.partial

    def test_bad_results_are_named_and_not_timed(self, report):
        whole = "on small whole numbers, "
        notes = {
            "3 2 2 2": ("wrong", f"{whole}the product has shape (2, 2, 2) instead of (3, 2, 2)"),
            "1 4 3 5": ("failed", "it changed its inputs"),
            "2 3 1 4": ("wrong", f"{whole}6 of 6 elements of the product outside the bound"),
            "10": ("failed", "RuntimeError: out of luck"),
            "50 2": ("failed", "its process died of signal 6"),
            "matmul 1 4 3 5, in a loop": ("failed", "it changed its inputs"),
            "matmul 1 4 3 5, after 1 ms, beside 1 busy": ("failed", "it changed its inputs"),
        }
        found = rows(report, library="bad")
        assert len(found) == 2 * len(notes)  # it runs no other case
        for row in found:
            status, note = notes[row.case]
            assert row.status == status
            assert row.note.startswith(note)
            assert "\n" not in row.note
            assert row.rounds == ()
            assert row.ratio is None

    def test_operands_are_measured_beside_contiguous_ones(self, report):
        found = rows(report, library="contiguous")
        assert {row.suite for row in found} == {"operands"}
        assert len(found) == 2 * len(TINY["operands"])
        assert all(row.ratio for row in found)

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
        assert "WRONG: on small whole numbers, the product has shape" in text
        assert "FAILED: its process died of signal 6" in text
        assert "numpy takes" in text
        assert "Interrupted" not in text

    def test_interrupted_between_cases(self):
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

    def test_interrupted_within_a_case(self, monkeypatch):
        ask, asked = pool.WorkerProcess.ask, []

        def interrupted(member, method, *arguments):
            asked.append(method)
            if asked.count("round") == 6:
                raise KeyboardInterrupt
            return ask(member, method, *arguments)

        monkeypatch.setattr(pool.WorkerProcess, "ask", interrupted)
        report = run("mse", against=["numpy"], threads=[1], dtypes=["float32"], quick=True)
        assert report.partial
        assert [len(row.rounds) for row in report.rows] == [2, 2]
        assert report.rows[1].ratio.verdict is Verdict.AMBG

    def test_a_second_probe_that_fails_costs_nothing_else(self, monkeypatch):
        ask, asked = pool.WorkerProcess.ask, []

        def failing(member, method, *arguments):
            asked.append(method)
            if asked.count("limits") == 2:
                raise pool.WorkerError("failed", "out of luck")
            return ask(member, method, *arguments)

        monkeypatch.setattr(pool.WorkerProcess, "ask", failing)
        report = run("mse", against=[], threads=[1], dtypes=["float32"], quick=True)
        assert asked[-1] == "limits"
        assert not report.partial
        assert report.rows[0].percent > 0
        assert "the second probe of the machine failed with 1 thread: out of luck;" in str(report)
        assert str(Report.from_json(report.to_json())) == str(report)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (
                {"suite": "mm"},
                "there is no suite 'mm'; choose from matmul, mse, gradient, operands, fit, rest, "
                "all.",
            ),
            (
                {"against": ["nunpy"]},
                "there is no peer 'nunpy'; choose from gdcore, numpy, torch, torch-vmap,",
            ),
            ({"dtypes": ["int8"]}, "there is no dtype 'int8'; choose from float32, float64."),
            ({"suite": "mse", "large": True}, "the suite 'mse' has no large sizes; choose fit."),
            ({"quick": True, "large": True}, "a run is either quick or large; choose one."),
            ({"timeout": 0}, "timeout is 0; give the seconds a library may take to answer."),
            ({"threads": [0]}, "cannot measure 0 threads: this process may run on"),
            ({"peers": "/no/such"}, "the folder of peers, /no/such, does not exist."),
        ],
    )
    def test_unknown(self, settings, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            run(**settings)


class TestDrifting:
    """What is right at first, or nearly, and not while it is timed."""

    @pytest.mark.parametrize(
        ("suite", "status", "note"),
        [
            ("mse", "wrong", "after timing, 10 of 10 elements of the gradient outside the bound"),
            ("gradient", "failed", "it changed its inputs"),
            ("matmul", "wrong", "on small whole numbers, 12 of 12 elements of the product"),
        ],
    )
    def test_figures_are_withdrawn(self, drifted, suite, status, note):
        row = rows(drifted, suite=suite, library="drifting")[0]
        assert row.status == status
        assert row.note.startswith(note)
        assert row.rounds == ()
        assert row.ratio is None
        assert rows(drifted, suite=suite, library="gdcore")[0].status == "timed"


class TestParts:
    """A contestant that solves where others descend, and is so slow that it does a part."""

    @pytest.fixture
    def raced(self, tmp_path, monkeypatch):
        ask = pool.WorkerProcess.ask

        def timed(member, method, *arguments):
            answer = ask(member, method, *arguments)
            return 1.0 if method == "round" else answer

        def race_of(text, share=10):
            (tmp_path / "gdcore_peer_solver.py").write_text(SOLVER.format(text=text))
            monkeypatch.setattr(pool.WorkerProcess, "ask", timed)
            monkeypatch.setattr(Stack, "shares", {"solver": share})
            monkeypatch.setattr(suites, "_QUICK", {"fit": (Stack(100, 16, 2, 5),)})
            settings = {"threads": [1], "dtypes": ["float64"], "quick": True, "peers": tmp_path}
            ours, theirs = run("fit", against=["solver"], **settings).rows
            assert ours.status == "timed", ours.note
            assert ours.rounds == (1.0,) * 6
            return theirs

        return race_of

    def test_it_is_scaled(self, raced):
        row = raced("assert len(X) == 10")
        assert row.status == "timed", row.note
        assert row.share == 10
        assert row.rounds == (10.0,) * 6
        assert row.ratio.value == pytest.approx(10)

    def test_it_is_checked(self, raced):
        row = raced("y = y + 1e-9", share=1)
        assert row.status == "wrong"
        assert row.note.startswith("200 of 200 elements of the weights") or "intercept" in row.note


class TestTimeout:
    @pytest.fixture
    def member(self, tmp_path):
        path = tmp_path / "gdcore_peer_hung.py"
        path.write_text(HUNG)
        with closing(pool.WorkerProcess("hung", path, 1, timeout=100)) as member:
            member.opened()
            member.timeout = 0.5
            yield member

    @pytest.mark.parametrize("case", [TINY["mse"][0], TINY["gradient"][0]], ids=["busy", "stopped"])
    def test_a_process_that_does_not_answer_is_killed(self, member, case):
        with pytest.raises(
            pool.WorkerError, match=r"it did not answer within 0.5 s and was killed;"
        ):
            member.ask("load", case, "float32")
        assert member._process.returncode == -signal.SIGKILL
        with pytest.raises(pool.WorkerError, match="it was killed before, when it did not answer"):
            member.ask("load", TINY["matmul"][0], "float32")

    def test_the_others_are_timed(self, tmp_path, monkeypatch):
        (tmp_path / "gdcore_peer_hung.py").write_text(HUNG)
        opened = pool.WorkerProcess.opened

        def hurried(member):
            about = opened(member)
            member.timeout = 0.5 if member.library == "hung" else 100
            return about

        monkeypatch.setattr(pool.WorkerProcess, "opened", hurried)
        report = run("mse", against=["hung"], threads=[1], quick=True, peers=tmp_path)
        assert [row.status for row in report.rows] == ["timed", "failed"] * 2
        assert "hung" in str(report)
        assert "FAILED: it did not answer within 0.5 s" in str(report)

    def test_a_timeout_may_be_forever(self, tmp_path):
        path = tmp_path / "gdcore_peer_hung.py"
        path.write_text(HUNG)
        with closing(pool.WorkerProcess("hung", path, 1, timeout=np.inf)) as member:
            assert member.opened()["jobs"]

    def test_a_library_that_does_not_start_is_named(self, tmp_path):
        path = tmp_path / "gdcore_peer_hung.py"
        path.write_text("import time; time.sleep(1000)")
        with (
            closing(pool.WorkerProcess("hung", path, 1, timeout=0.1)) as member,
            pytest.raises(pool.WorkerError, match=r"it did not answer within 0.1 s"),
        ):
            member.opened()


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
        "name",
        [
            *("jax", "scipy", "sklearn", "polars", "polars-ols", "polars-ds", "polars-statistics"),
            *("duckdb", "statsmodels", "exact"),
            *(
                pytest.param(name, marks=pytest.mark.torch)
                for name in ("torch", "torch-vmap", "torch-solve", "torch-lstsq")
            ),
        ],
    )
    @pytest.mark.filterwarnings("ignore")
    def test_optional_libraries(self, name):
        for module in MODULES.get(name, (name.partition("-")[0],)):
            pytest.importorskip(module)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JAX_ENABLE_X64", "1")
            library = open_library(name, None, 1)
        assert library.describe()["version"]
        done = [case for case in CASES if hasattr(library, case.job)]
        assert done
        for case in done:
            prepare, solving = getattr(library, case.job), case.job in closed_forms(library)
            inputs = case.inputs("float32")
            try:
                library_run = prepare(case.computation, *inputs)
            except Unsupported:
                continue
            expected = case.solved(inputs) if solving else case.expected(inputs)
            assert find_fault(as_arrays(library_run(2)), expected) is None
            if (whole := case.whole()) and not solving:
                inputs = whole.inputs("float32")
                outputs = as_arrays(prepare(whole.computation, *inputs)(1))
                assert find_fault(outputs, exactly(whole.expected(inputs))) is None
