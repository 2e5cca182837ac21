"""Calls that are timed one by one: after a rest, and beside processes that are busy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

import pytest

from benches import TINY, made, make_example, tiny
from gdcore.bench import Report, pool, run, timing, turns
from gdcore.bench.busy import busy_processes
from gdcore.bench.case import Situation
from gdcore.bench.results import Calls
from gdcore.bench.worker import Worker

PARENT = """
import os, time
from gdcore.bench.busy import busy_processes
with busy_processes(2) as ids:
    print(*ids, flush=True)
    {text}
"""


@pytest.fixture(autouse=True)
def _tiny():
    with tiny():
        yield


@pytest.fixture(scope="module")
def report():
    """A run of the suite on one thread."""
    with tiny():
        return run("rest", against=["numpy"], threads=[1], dtypes=["float32"], quick=True)


def runs(pid):
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def used(pid):
    """Return the clock ticks that a process has computed."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))


def gone(pids, seconds=20.0):
    """Whether processes end soon."""
    end = time.monotonic() + seconds
    while any(map(runs, pids)) and time.monotonic() < end:
        time.sleep(0.01)
    return not any(map(runs, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
class TestBusyProcesses:
    def test_they_compute_and_end(self):
        with busy_processes(2) as pids:
            assert len(set(pids)) == 2
            before = list(map(used, pids))
            end = time.monotonic() + 20
            while time.monotonic() < end and not all(map(int.__gt__, map(used, pids), before)):
                time.sleep(0.01)
            assert all(now > then for now, then in zip(map(used, pids), before, strict=True))
        assert not any(map(runs, pids))

    def test_none(self):
        with busy_processes(0) as pids:
            assert pids == []

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_they_end_with_an_exception(self, error):
        with pytest.raises(error), busy_processes(1) as pids:
            raise error
        assert not any(map(runs, pids))

    def test_they_end_if_a_later_one_does_not_start(self, monkeypatch):
        start, started = subprocess.Popen, []

        def failing(*arguments, **settings):
            if started:
                raise OSError("no more processes")
            started.append(start(*arguments, **settings))
            return started[0]

        monkeypatch.setattr(subprocess, "Popen", failing)
        with pytest.raises(OSError, match="no more"), busy_processes(2):
            pass
        assert not runs(started[0].pid)

    @pytest.mark.parametrize("text", ["os._exit(1)", "os.abort()", "time.sleep(1000)"])
    def test_they_end_with_a_parent_that_dies(self, text):
        command = [sys.executable, "-c", PARENT.format(text=text)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
            pids = parent.stdout.readline().split()
            assert len(pids) == 2
            parent.kill()
        assert gone(map(int, pids))


class TestRun:
    def test_calls_are_counted(self, report):
        assert [row.case for row in report.rows[::2]] == [case.name for case in TINY["rest"]]
        for row in report.rows:
            assert row.status == "timed", row.note
            assert len(row.rounds) == 6
            number, mean, median, worst = row.calls
            assert number == 12 or (number > 12 and "loop" in row.case)
            assert mean == pytest.approx(fmean(row.rounds))
            assert 0 < median <= worst
            assert max(row.rounds) <= worst
            assert (row.ratio is None) == (row.library == "gdcore")

    def test_situations_are_named(self):
        assert [case.name for case in TINY["rest"]] == [
            "matmul 1 4 3 5, in a loop",
            "matmul 1 4 3 5, after 1 ms, beside 1 busy",
            "fit 50 3, 5 epochs, after 1 ms, beside 2 busy",
        ]

    def test_busy_processes_run_while_calls_are_timed_and_no_longer(self, monkeypatch):
        ask, seen = pool.WorkerProcess.ask, []

        def asked(worker, method, *arguments):
            if method == "calls":
                seen.append((pids[-1], list(map(runs, pids[-1]))))
                if len(seen) == 20:
                    raise KeyboardInterrupt
            return ask(worker, method, *arguments)

        pids, start = [[]], turns.busy_processes

        @contextmanager
        def watched(count):
            with start(count) as found:
                pids.append(found)
                yield found

        monkeypatch.setattr(pool.WorkerProcess, "ask", asked)
        monkeypatch.setattr(turns, "busy_processes", watched)
        found = run("rest", against=["numpy"], threads=[1], dtypes=["float32"], quick=True)
        assert found.partial
        assert [len(each) for each in pids[1:]] == [0, 1]
        assert all(all(alive) for _, alive in seen)
        assert not any(map(runs, pids[-1]))

    def test_all_thread_counts_take_turns(self, monkeypatch):
        if len(pool.usable_cpus()) < 2:
            pytest.skip("there is one CPU")
        ask, order = pool.WorkerProcess.ask, []

        def asked(worker, method, *arguments):
            if method == "calls":
                order.append(worker.threads)
            return ask(worker, method, *arguments)

        monkeypatch.setattr(pool.WorkerProcess, "ask", asked)
        found = run("rest", against=[], threads=[1, 2], dtypes=["float32"], quick=True)
        assert [row.threads for row in found.rows] == [1, 2] * len(TINY["rest"])
        assert all(sorted(order[i : i + 2]) == [1, 2] for i in range(0, len(order), 2))
        two = found.rows[1]
        assert found.over_one_thread(two) == two.calls.mean / found.rows[0].calls.mean
        assert "rest: with 2 threads, gdcore takes " in str(found)

    def test_a_wrong_result_is_not_timed(self, tmp_path):
        text = "def matmul(a, b):\n    return a @ b + 1e-3\n"
        (tmp_path / "gdcore_peer_off.py").write_text(text)
        settings = {"threads": [1], "dtypes": ["float32"], "quick": True, "peers": tmp_path}
        found = [
            row for row in run("rest", against=["off"], **settings).rows if row.library == "off"
        ]
        assert [row.status for row in found] == ["wrong"] * 2
        assert all(row.calls is None for row in found)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be held to CPUs")
def test_a_worker_is_free_to_move_while_calls_are_timed(monkeypatch):
    before = os.sched_getaffinity(0)
    cpus, seen = sorted(before), []
    monkeypatch.setattr(
        timing, "timed_calls", lambda *given: (seen.append(os.sched_getaffinity(0)), [1.0])[1]
    )
    worker = Worker("numpy", None, 1)
    worker.load(TINY["rest"][0], "float32")
    try:
        os.sched_setaffinity(0, cpus[-1:])
        assert worker.calls(1, 0.0, cpus) == [1.0]
        assert os.sched_getaffinity(0) == {cpus[-1]}
    finally:
        os.sched_setaffinity(0, before)
    assert seen == [before]


def test_a_call_is_timed_after_a_rest(monkeypatch):
    happened = []
    monkeypatch.setattr(timing, "sleep", lambda seconds: happened.append(seconds))
    calls = timing.timed_calls(lambda repeats: happened.append("call"), 2, 0.02)
    assert happened == [0.02, "call"] * 2
    assert len(calls) == 2
    happened.clear()
    timing.timed_calls(lambda repeats: happened.append("call"), 2, 0)
    assert happened == ["call"] * 2


def test_figures_of_calls():
    assert Calls.of([1.0, 2.0, 9.0]) == Calls(3, 4.0, 2.0, 9.0)
    assert str(Situation(0.02, 0)) == "after 20 ms"
    assert str(Situation(0, 2)) == "in a loop, beside 2 busy"


class TestReport:
    @pytest.fixture
    def example(self):
        """A report with calls of two libraries on one thread and on two."""
        found = make_example()
        means = {("gdcore", 1): 4e-3, ("gdcore", 2): 3e-3, ("torch", 1): 2e-3, ("torch", 2): 9e-3}
        for (library, threads), mean in means.items():
            calls, name = Calls(100, mean, mean / 2, 8 * mean), "matmul 1 9 9 9, after 20 ms"
            found.rows.append(made(library, mean, "rest", name, "float32", threads, calls=calls))
        return found

    def test_table(self, example):
        lines = str(example).splitlines()
        first = lines.index("rest, float32, 2 threads")
        heads = "suite, sizes, situation library mean median worst of 1 thread takes 95 %"
        assert lines[first + 1].split() == heads.split()
        cells = [line.split("  ")[2:] for line in lines[first + 2 : first + 4]]
        shown = [" ".join(cell.strip() for cell in each if cell) for each in cells]
        assert shown == [
            "gdcore 3.00 ms 1.50 ms 24.0 ms 0.750 x",
            "torch 9.00 ms 4.50 ms 72.0 ms 4.50 x",
        ]
        assert (
            "rest: with 2 threads, torch takes 4.50 x as long as with one "
            "(geometric mean; at most 4.50 x)"
        ) in lines
        assert "<th>worst</th>" in example._repr_html_().replace(" ", "")

    def test_json(self, example):
        text = example.to_json()
        assert json.loads(text)["rows"][-1]["calls"] == {
            "number": 100, "mean": 9e-3, "median": 4.5e-3, "worst": 72e-3,
        }  # fmt: skip
        again = Report.from_json(text)
        assert again.rows[-1].calls == example.rows[-1].calls
        assert str(again) == str(example)
        old = json.loads(text)
        for row in old["rows"]:
            del row["calls"]
        assert all(row.calls is None for row in Report.from_json(json.dumps(old)).rows)

    def test_page(self, example):
        page = example.to_html()
        _, calls, rows = page.split('<table class="rows">')
        assert "<h2>Calls after a rest, and beside busy processes</h2>" in page
        assert calls.count("after 20 ms") == 4
        assert "after 20 ms" not in rows
        for text in (">4.50 &times;</td>", ">72.0 ms</td>", "r43"):
            assert text in calls
        assert 'id="p43"' not in page  # it is no point of the roofline
        example.rows = example.rows[:-4]
        assert "Calls after a rest" not in example.to_html()


def test_ctrl_c_ends_all(tmp_path):
    """Of the command: it says that it was interrupted, and no process is left."""
    pytest.importorskip("typer")
    command = [sys.executable, "-m", "gdcore", "bench", "rest", "--quick", "--threads", "1"]
    command += ["--against", "numpy", "--dtype", "float32", "--json", tmp_path / "r.json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        end = time.monotonic() + 100
        found: list[int] = []
        while len(found) < 3 and time.monotonic() < end:  # two libraries and a busy process
            time.sleep(0.05)
            if not children.exists():
                break
            found = list(map(int, children.read_text().split()))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=100)
    if not found:
        pytest.skip("the system does not list the children of a process")
    assert len(found) == 3
    assert process.returncode == 130
    assert gone(found)
    assert json.loads((tmp_path / "r.json").read_text())["partial"] is True
