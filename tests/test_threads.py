"""The threads below every kernel: the pool and its rules, OpenMP in its place, data races."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import emulated
import fits

ROOT = Path(__file__).parent.parent
CPU = ROOT / "csrc/cpu"
SHARED = [CPU / f"{name}.cpp" for name in ("parallel", "threads", "process_cpus")]
ENGINES = {
    "pool": [CPU / "pool.cpp", CPU / "os_thread.cpp"],
    "openmp": [CPU / "openmp.cpp"],
}
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@cache
def program(engine: str, folder: Path, *options: str) -> Path:
    """Compile tests/native/threads.cpp with an engine."""
    out = folder / f"threads-{engine}"
    sources = [ROOT / "tests/native/threads.cpp", *SHARED, *ENGINES[engine]]
    flags = ["-std=c++17", "-O1", "-g", f"-I{ROOT / 'csrc'}", *options]
    command = [emulated.compiler(), *flags, *map(str, sources), "-o", str(out), "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return out


def right(program: Path, **environment: str) -> None:
    for arguments in ([], ["everyone"]):
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            env=os.environ | environment,
            timeout=100,
        )
        assert (done.stdout, done.stderr, done.returncode) == ("right\n", "", 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_each_part_is_done_once(engine: str, tmp_path: Path) -> None:
    """By several callers, with errors, with tasks within parts, after rests."""
    right(program(engine, tmp_path, "-fopenmp"))


def test_the_pool_has_no_data_race(tmp_path: Path) -> None:
    """ThreadSanitizer does not know OpenMP's barriers, so the pool alone is built with it."""
    library = [emulated.compiler(), "-print-file-name=libtsan.so"]
    if not Path(subprocess.check_output(library, text=True).strip()).is_absolute():
        pytest.skip("needs ThreadSanitizer")
    right(program("pool", tmp_path, "-fsanitize=thread"), TSAN_OPTIONS="exitcode=66")


# What a process sees of it.

COUNT = """
import os, time
import numpy as np, gdcore as gd
gd.set_num_threads(3)
tasks = lambda: len(os.listdir("/proc/self/task"))
before = tasks()
def started(call):
    call()
    return tasks() - before
"""


def told(script: str, **environment: Any) -> list[str]:
    if fits.python("import gdcore as gd; print(gd.config()['thread_engine'])").stdout != "pool\n":
        pytest.skip("built with another engine")
    return fits.python(COUNT + script, **environment).stdout.split()


@linux
def test_a_small_call_after_a_rest_wakes_nobody() -> None:
    """Waking a thread would take longer than the call."""
    script = """
x = np.ones(300_000, "f4")
call = lambda: gd.mse(x, x)
print([started(call) for _ in range(5) if time.sleep(0.01) is None] == [0] * 5)
deadline = time.monotonic() + 20
while started(call) == 0 and time.monotonic() < deadline:
    pass  # calls in a row are worth a thread
print(started(call))
"""
    assert told(script) == ["True", "2"]


@linux
def test_a_large_call_wakes_all_at_once() -> None:
    assert told("a = np.ones((600, 600)); print(started(lambda: gd.matmul(a, a)))") == ["2"]


@linux
def test_one_thread_sorts_groups_where_one_is_asked_for() -> None:
    """Also rows whose labels or values are missing."""
    script = """
gd._core.let_everyone_take_part(True)
labels = np.random.default_rng(0).integers(0, 5000, 200_000).astype(float)
X, y = labels[:, None] % 7, labels % 5
with_gaps = [np.where(np.arange(len(a)) == 9, np.nan, a.T).T for a in (X, labels)]
for columns, groups in ((X, labels), (with_gaps[0], labels), (X, with_gaps[1])):
    given = columns, y, groups, gd.SGD(weight_decay=1.0)
    print(started(lambda: gd.fit_groups(*given, missing="drop", n_threads=1)))
"""
    assert told(script) == ["0"] * 3


@linux
def test_threads_leave_the_process_as_it_was() -> None:
    """The caller's CPUs and environment stay; the others get no signals and no CPU beside them."""
    script = """
cpus, environment = os.sched_getaffinity(0), dict(os.environ)
a = np.ones((600, 600))
for _ in range(5):
    gd.matmul(a, a)
    time.sleep(0.01)
print(os.sched_getaffinity(0) == cpus, dict(os.environ) == environment)
for thread in os.listdir("/proc/self/task"):
    if open(f"/proc/self/task/{thread}/comm").read() == "gdcore\\n":
        status = open(f"/proc/self/task/{thread}/status").read()
        blocked = int(next(l for l in status.splitlines() if "SigBlk" in l).split()[1], 16)
        print(blocked >> 1 & 1, blocked >> 14 & 1, blocked >> 10 & 1)  # SIGINT, SIGTERM, SIGSEGV
        print(os.sched_getaffinity(int(thread)) <= cpus)
"""
    assert told(script) == ["True", "True", *(["1", "1", "0", "True"] * 2)]


@linux
def test_a_user_may_confine_the_process_later() -> None:
    """Threads start on the CPUs of the thread that calls, not on those of the import."""
    script = """
cpu = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, [cpu])
a = np.ones((600, 600))
gd.matmul(a, a)
masks = [os.sched_getaffinity(int(t)) for t in os.listdir("/proc/self/task")]
print(len(masks) > 2, all(mask == {cpu} for mask in masks[-2:]))
"""
    assert told(script, OPENBLAS_NUM_THREADS="1") == ["True", "True"]


@linux
def test_a_limit_of_processes_is_no_error() -> None:
    """The caller does all parts where it gets no thread."""
    script = """
import resource
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
a = np.eye(600)
print(bool((gd.matmul(a, a) == a).all()), started(lambda: None))
"""
    out = told(script, OPENBLAS_NUM_THREADS="1")
    assert out[0] == "True"
    assert out[1] in ("0", "2")  # root has no such limit
