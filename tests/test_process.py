"""gdcore in a process: Ctrl-C, fork, threads, environment variables, imports, FP modes."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
import problems
from floating_point import MODES, control_word, foreign, mode
from problems import Linear

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals")
every_mode = pytest.mark.parametrize("kind", MODES)

SGDS = {
    "auto": gd.SGD(),
    "momentum": gd.SGD(momentum=0.9, nesterov=True, weight_decay=0.1),
    "dampened": gd.SGD(momentum=0.7, dampening=0.3),
}


def draw(dtype: Any = np.float64, n: int = 5003, d: int = 19, **how: Any) -> Linear:
    """Draw a problem with work for several threads."""
    return problems.linear(np.random.default_rng(2), n, d, dtype=dtype, **({"parts": "bos"} | how))


def run(problem: Linear, sgd: gd.SGD = SGDS["momentum"], **how: Any) -> list[Any]:
    return fits.bits(fits.fit(problem, sgd, **({"epochs": 6, "tol": None} | how)))


# Ctrl-C. The child reports that it has taken the first steps, and later its result.

INTERRUPTED = """
import json, sys, time
import numpy as np, gdcore as gd, gdcore.solvers.progress
gdcore.solvers.progress._Callback.quiet = float("inf")  # ready: after the first steps
n, d, batch = (int(x) for x in sys.argv[1:])
rng = np.random.default_rng(5)
X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
calls = []
def report(*_):
    if not calls:
        print("ready", flush=True)
        calls.append(True)
try:
    gd.fit(X, y, gd.SGD(lr=1e-3, momentum=0.9), epochs=10**12, tol=None, history=0,
           batch_size=batch or None, progress=report)
except gd.FitInterrupted as caught:
    now, fit = time.monotonic(), caught.fit
    print(json.dumps([now, str(fit.status), fit.epochs, fit.weights.tobytes().hex(),
                      float(fit.intercept).hex(), str(caught)]))
"""


@posix
@pytest.mark.parametrize(("n", "d", "batch_size"), [
    (40, 3, 0), (300_000, 20, 0), (3000, 20, 50), (300_000, 20, 100_000),
], ids=str)  # fmt: skip
def test_ctrl_c(n: int, d: int, batch_size: int) -> None:
    """A fit ends at once, with the weights after a whole number of steps, and names it."""
    command = [sys.executable, "-c", INTERRUPTED, *map(str, (n, d, batch_size))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.25)
        sent = time.monotonic()  # one clock for all processes
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate(timeout=60)
    caught, status, epochs, weights, intercept, message = json.loads(output)
    assert caught - sent < 5, "a promise of 0.2 s, on a busy machine"
    assert status == "MAX_EPOCHS"
    assert message.startswith(f"interrupted after {epochs} epoch")
    if batch_size:  # perhaps within an epoch: test_warm_starts.py continues from there
        return
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((n, d)), rng.standard_normal(n)
    sgd = gd.SGD(lr=1e-3, momentum=0.9)
    same = gd.fit(X, y, sgd, epochs=epochs, tol=None, history=0)
    assert same.weights.tobytes().hex() == weights
    assert float(same.intercept).hex() == intercept


EXACT = """
import sys, time
import numpy as np, gdcore as gd
X, y = np.ones((1_000_000, 40), "f4"), np.ones(1_000_000, "f4")
try:
    print("ready", flush=True)
    gd.fit(X, y, method=sys.argv[1])
except KeyboardInterrupt:
    print(time.monotonic())
else:
    print("done before the signal came")
"""


@posix
@pytest.mark.parametrize("method", ["exact", "stream"])
def test_ctrl_c_before_the_first_step(method: str) -> None:
    """While the closed form reads the rows, or the limit of lr is being found."""
    command = [sys.executable, "-c", EXACT, method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.02)
        sent = time.monotonic()
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate(timeout=60)
    assert output[0] == "d" or float(output) - sent < 5


def test_other_signals_are_left_alone() -> None:
    """An exception of a user's handler comes through as it is."""
    script = """
import signal, numpy as np, gdcore as gd
class Enough(Exception): pass
def stop(*_): raise Enough
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    gd.fit(np.eye(3), np.ones(3), gd.SGD(lr=1e-9), epochs=10**12, tol=None, history=0)
except Enough:
    print("enough")
"""
    assert fits.python(script).stdout == "enough\n"


# Forked children and threads.

FORKED = """
import os, select, sys
import numpy as np, gdcore as gd

rng = np.random.default_rng(1)
X, y = rng.standard_normal((5003, 40)), rng.standard_normal(5003)
gd.set_num_threads(4)
gd._core.let_everyone_take_part(True)

def digest():
    fit = gd.fit(X, y, gd.SGD(momentum=0.9), epochs=5, tol=None)
    return (fit.weights.tobytes() + fit.history.loss.tobytes() + gd.matmul(X.T, X).tobytes()).hex()

mine = digest()  # starts the pool of threads
def child(depth):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        other = digest()
        if depth:
            other += child(depth - 1)
        os.write(write, b"same" if set(other.split("|")) == {mine} else b"other")
        os._exit(0)
    ready, _, _ = select.select([read], [], [], 40)
    answer = os.read(read, 10).decode() if ready else "hangs"
    if not ready:
        os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "" if answer == "same" else "|" + answer

print(child(1) or "same", digest() == mine)
"""


@posix
def test_a_forked_child_works() -> None:
    """After the parent's threads were started; the child's child and the parent afterwards too."""
    assert fits.python(FORKED, timeout=100).stdout == "same True\n"


POOLED = """
import concurrent.futures as cf, multiprocessing as mp
import numpy as np, gdcore as gd

def work(seed):
    gd._core.let_everyone_take_part(True)
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((5003, 40)), rng.standard_normal(5003)
    return gd.fit(X, y, gd.SGD(), epochs=4, tol=None, n_threads=3).weights.tobytes()

if __name__ == "__main__":
    want = [work(seed) for seed in range(4)]
    with cf.ProcessPoolExecutor(2, mp_context=mp.get_context("fork")) as pool:
        print(list(pool.map(work, range(4), timeout=60)) == want)
"""


@posix
def test_a_pool_of_forked_workers() -> None:
    assert fits.python(POOLED, timeout=100).stdout == "True\n"


ALONE = """
import os, statistics, time
import numpy as np, gdcore as gd
from gdcore.data import slices

rng = np.random.default_rng(3)
X, y = rng.standard_normal((1000, 60, 8)), rng.standard_normal((1000, 60))
gd.fit(X[:2], y[:2], epochs=1, tol=None)
if os.fork():
    os.wait()
else:
    slices.SECONDS, took, advance = 0.01, [], gd._core.Many.advance
    def timed(*args):
        start = time.perf_counter()
        done = advance(*args)
        took.append(time.perf_counter() - start)
        return done
    gd._core.Many.advance = timed
    gd.fit(X, y, gd.SGD(lr=0.01), epochs=10_000, tol=None, n_threads=64)
    print(statistics.median(took) < 16 * slices.SECONDS)
"""


@posix
def test_a_thread_alone_takes_one_slice() -> None:
    """Where no other thread comes, it does not take a slice for each of them."""
    assert fits.python(ALONE, timeout=100).stdout == "True\n"


def test_python_threads_at_once(dtype: Any) -> None:
    """Many fits, each over several threads: the bits of one alone."""
    sizes = [(5003, 19), (40, 3), (2000, 64), (9000, 7)]
    jobs = [
        partial(run, draw(dtype, n, d), sgd, batch_size=batch_size)
        for n, d in sizes
        for sgd in (SGDS["auto"], SGDS["momentum"])
        for batch_size in (None, 37)
    ]
    want = [job() for job in jobs]
    gd.set_num_threads(4)
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda job: job(), jobs * 2))
    assert got == want * 2


def test_one_fit_may_be_used_by_many_threads() -> None:
    first = fits.fit(draw(), SGDS["momentum"], epochs=3, tol=None)
    want = run(draw(), init=first)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: run(draw(), init=first), range(8))) == [want] * 8


def test_fits_leave_python_free() -> None:
    """Other threads run while a fit computes."""
    ticks = []
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(gd.fit, np.eye(9), np.ones(9), gd.SGD(lr=1e-9), tol=None, epochs=10**6)
        while not job.done():
            ticks.append(time.monotonic())
            time.sleep(0.001)
    assert len(ticks) > 10


THREADS = """
import os, sys
import numpy as np, gdcore as gd
gd.set_num_threads(3)
gd._core.let_everyone_take_part(True)  # as in every test
before = len(os.listdir("/proc/self/task"))
gd.fit(np.ones((20_000, 40)), np.ones(20_000), epochs=2)
print(before, len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_threads_are_really_started() -> None:
    """Otherwise the tests of other thread counts would show nothing."""
    before, after = map(int, fits.python(THREADS).stdout.split())
    assert after == before + 2


# The environment.


IMPORT = """
import os, sys, traceback
import numpy
name, *values = sys.argv[1:]
for value in values:
    sys.stdout.flush()
    if os.fork() == 0:
        os.environ[name] = value
        try:
            import gdcore
        except BaseException as error:
            print(*traceback.format_exception_only(error), end="")
        else:
            print(gdcore.config()["isa"])
        sys.stdout.flush()
        os._exit(0)
    os.wait()
"""


def imported(name: str, *values: str) -> list[str]:
    """Return what comes of importing gdcore with each value of an environment variable."""
    lines = fits.python(IMPORT, name, *values).stdout.splitlines()
    assert len(lines) == len(values)
    return lines


@posix
def test_an_unknown_instruction_set_is_an_error_at_import() -> None:
    foreign = "neon" if platform.machine() == "x86_64" else "avx2"
    names = ("mmx", "AVX2", foreign, "", "avx2 ")
    for name, last in zip(names, imported("GDCORE_ISA", *names), strict=True):
        assert last.startswith("ImportError: GDCORE_ISA")
        assert f"'{name}'" in last
        assert ", ".join(gd._core.available_isas()) in last


@posix
def test_an_instruction_set_is_forced() -> None:
    isas = gd._core.available_isas()
    assert imported("GDCORE_ISA", *isas) == isas


@posix
def test_a_thread_count_of_nonsense_is_an_error_at_import() -> None:
    texts = ("two", "0", "-1", "1.5", "", "1025", "2 ", "99999999999999999")
    for text, last in zip(texts, imported("GDCORE_NUM_THREADS", *texts), strict=True):
        assert last.startswith(f"ImportError: GDCORE_NUM_THREADS is '{text}'")
        assert "whole number from 1 to 1024" in last


def test_a_failed_import_ends_the_process() -> None:
    done = fits.python("import gdcore", GDCORE_NUM_THREADS="two", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: GDCORE_NUM_THREADS is 'two'")


# Imports of gdcore.

IMPORTED = """
import sys
import numpy
before = set(sys.modules)
def others():
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    return sorted(new - set(sys.stdlib_module_names) - {"numpy", "gdcore"})
import gdcore
print(others())
gdcore.fit([[1.0], [2.0]], [1.0, 2.0], progress=True).save(sys.argv[1])
gdcore.load(sys.argv[1])
print(others())
"""


def test_importing_and_fitting_import_only_numpy(tmp_path: Path) -> None:
    """Saving, loading and plain progress too; no warning is raised and nothing is printed."""
    strict = {"PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"}
    done = fits.python("import gdcore", **strict)
    assert (done.stdout, done.stderr) == ("", "")
    done = fits.python(IMPORTED, tmp_path / "fit")
    assert done.stdout.splitlines() == ["[]"] * 2


# Floating-point modes that other code left behind in the calling thread.


def tiny_problem(dtype: Any) -> Linear:
    """Draw a problem whose gradients are subnormal numbers, which flushing would lose."""
    problem = draw(dtype, 2003)
    scale = dtype.type(np.finfo(dtype).tiny * 64)
    assert problem.offset is not None
    assert problem.intercept is not None
    return Linear(
        problem.X,
        problem.y * scale,
        problem.weights * scale,
        problem.intercept * scale,
        problem.offset * scale,
        problem.sample_weight,
    )


@foreign
def test_modes(dtype: Any) -> None:
    """A fit has the same bits in every mode, and leaves the mode as it was."""
    for problem, (name, sgd), batch_size in product(
        (draw(dtype, 2003), tiny_problem(dtype)), SGDS.items(), (None, 1000)
    ):
        want = run(problem, sgd, batch_size=batch_size)
        for kind in MODES:
            with mode(kind):
                before = control_word()
                result = fits.fit(problem, sgd, epochs=6, tol=None, batch_size=batch_size)
                after = control_word()
            assert before == after != control_word()
            assert fits.bits(result) == want, (kind, name, batch_size)


@foreign
@every_mode
def test_modes_of_other_results(dtype: Any, kind: str, tmp_path: Path) -> None:
    """The closed form, predictions, warm starts, schedules."""
    problem = draw(dtype)
    sgd = gd.SGD(lr=lambda epoch: 0.01 / (epoch + 1), momentum=0.5)

    def everything() -> list[Any]:
        exact = fits.fit(problem, gd.SGD(weight_decay=0.1), method="exact")
        first = fits.fit(problem, SGDS["auto"], epochs=3, tol=None)
        second = fits.fit(problem, SGDS["auto"], epochs=3, tol=None, init=first)
        slowing = fits.fit(problem, sgd, epochs=4, tol=None)
        predictions = [f.predict(problem.X, offset=problem.offset) for f in (exact, second)]
        return [*map(fits.bits, (exact, first, second, slowing)), problems.canonical(*predictions)]

    want = everything()
    with mode(kind):
        before = control_word()
        got = everything()
        after = control_word()
    assert before == after
    assert got == want


@foreign
@every_mode
def test_the_mode_is_restored_after_an_error(kind: str) -> None:
    X, bad = np.eye(2), np.array([1.0, np.nan])
    with mode(kind):
        before = control_word()
        errors = []
        for y, how in ((bad, {}), (bad, {"method": "exact"}), (np.ones(2), {"epochs": -1})):
            try:
                gd.fit(X, y, gd.SGD(), fit_intercept=False, **how)
            except ValueError as error:
                errors.append(error)
        after = control_word()
    assert len(errors) == 3
    assert before == after
