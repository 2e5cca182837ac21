"""Memory of a fit: nothing is allocated by an epoch, and the peak is hardly above the input."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import fits

SHIM = Path(__file__).parent / "native" / "allocations.c"

# Runs `measure` on each kind of fit in a process of its own, which inherits what was imported.
FORKED = """
import json, os, sys

def forked(measure, cases):
    for case in cases:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            try:
                print(json.dumps([case, measure(*json.loads(case))]), flush=True)
                os._exit(0)
            finally:
                os._exit(1)
        if os.waitpid(pid, 0)[1]:
            sys.exit(f"failed: {case}")
"""
# One block of C++ does all epochs, so that Python's own loop is the same for any number of them.
COUNTED = (
    FORKED
    + """
import ctypes, warnings
import numpy as np, gdcore as gd
import gdcore.data.slices
gdcore.data.slices.SECONDS = 1e9
warnings.simplefilter("ignore")
count = ctypes.CDLL(None).allocations
count.restype = ctypes.c_long

def measure(kind, how):
    how = {"tol": None} | how
    rng = np.random.default_rng(0)
    n, d, t = how.pop("n", 300), how.pop("d", 6), how.pop("t", None)
    shape = (n,) if kind == "one" else (how.pop("count", 24), n)
    X = rng.standard_normal((*shape, d)).astype(how.pop("dtype", "f8"))
    y = rng.standard_normal(shape if t is None else (*shape, t)).astype(X.dtype)
    sgd = gd.SGD(lr=1e-6, **how.pop("sgd", {}))
    if kind == "groups":
        labels = np.repeat(np.arange(len(X)), n)[rng.permutation(X.shape[0] * n)]
        rows = X.reshape(-1, d), y.reshape(-1, *y.shape[2:]), labels
        fit = lambda epochs: gd.fit_groups(*rows, sgd, epochs=epochs, **how)
    else:
        fit = lambda epochs: gd.fit(X, y, sgd, epochs=epochs, **how)
    found = []
    # The first ones warm up. The result of a descent is predicted by powers, one for each bit of
    # epochs - 1: two of eight here. From 256 epochs on the prediction is asked for, once.
    for epochs in (130, 130, 145, 193):
        before = count()
        fit(epochs)
        found.append(count() - before)
    return found

forked(measure, sys.argv[1:])
"""
)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc") or shutil.which("c++")
    if platform.libc_ver()[0] != "glibc" or compiler is None:
        pytest.skip("needs glibc and a C compiler")
    path = tmp_path_factory.mktemp("shim") / "allocations.so"
    command = [compiler, "-x", "c", "-std=c11", "-O1", "-fno-builtin", "-shared", "-fPIC"]
    subprocess.run([*command, str(SHIM), "-o", str(path)], check=True)
    return str(path)


HOW: dict[str, dict[str, Any]] = {
    "stream": {"method": "stream"},
    "momentum": {"method": "stream", "sgd": {"momentum": 0.9, "nesterov": True}},
    "gram": {"method": "gram"},
    "batches": {"batch_size": 32},
    "targets": {"method": "stream", "t": 3},
    "wide": {"method": "stream", "d": 70},
    "float32": {"method": "gram", "dtype": "f4"},
    "judged": {"method": "stream", "tol": 1e-6},
    "judged-gram": {"method": "gram", "tol": 1e-6},
    "judged-batches": {"batch_size": 32, "tol": 1e-6},
}


def results(source: str, cases: list[Any], *given: str, **environment: str) -> dict[str, Any]:
    """Return what a script measured of each case, by its JSON."""
    run = fits.python(source, *given, *map(json.dumps, cases), timeout=250, **environment)
    found = dict(map(json.loads, run.stdout.splitlines()))
    assert len(found) == len(cases)
    return found


def test_an_epoch_allocates_nothing(shim: str) -> None:
    cases = [
        (kind, how | {"history": 0}) for kind in ("one", "many", "groups") for how in HOW.values()
    ]
    counts = results(COUNTED, cases, LD_PRELOAD=shim, OMP_NUM_THREADS="1")
    assert [case for case, each in counts.items() if each[1] <= 0] == []  # they are counted
    assert {case: each for case, each in counts.items() if len(set(each[1:])) > 1} == {}


PEAK = (
    FORKED
    + """
import re, warnings
from pathlib import Path
import numpy as np, gdcore as gd
warnings.simplefilter("ignore")

def draw(layout, dtype):
    X = np.empty((16, 1 << 19 if dtype == "f4" else 1 << 18), dtype)  # 32 MiB
    rng = np.random.default_rng(0)
    for row in X:
        row[:] = rng.standard_normal(X.shape[1], "f4")
    if layout != "columns":
        X = X.reshape(-1, 16)
    X = {"columns": X.T, "reversed": X[::-1, ::-1]}.get(layout, X)
    if layout == "many":
        X = X.reshape(-1, 1 << 10, 16)
    return X, X[..., 0].copy()

def kib(name):
    status = Path("/proc/self/status").read_text()
    return int(re.search(name + r":\\s+(\\d+)", status)[1])

def measure(how):
    gd.fit(X[:65536], y[:65536], epochs=1, tol=None, **how)  # warms up
    Path("/proc/self/clear_refs").write_text("5")
    before = kib("VmRSS")
    gd.fit(X, y, epochs=2, tol=None, **how)
    return 1024 * (kib("VmHWM") - before), X.nbytes + y.nbytes

X, y = draw(*json.loads(sys.argv[1]))
forked(measure, sys.argv[2:])
"""
)


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="needs a peak that can be set back"
)
@pytest.mark.parametrize(
    ("layout", "dtype"),
    [("rows", "f4"), ("rows", "f8"), ("columns", "f4"), ("reversed", "f8"), ("many", "f4")],
)
def test_the_peak_is_hardly_above_the_input(layout: str, dtype: str) -> None:
    """A twentieth of X and y, and 4 MB for what does not depend on them."""
    batch_size = 128 if layout == "many" else 65536
    hows: list[Any] = [{"method": method} for method in ("stream", "gram", "exact")]
    cases = [[how] for how in (*hows, {"batch_size": batch_size})]
    peaks = results(PEAK, cases, json.dumps([layout, dtype]))
    assert {how: each for how, each in peaks.items() if each[0] > 0.05 * each[1] + 4e6} == {}


TINY = (
    PEAK[: PEAK.index("def draw")]
    + PEAK[PEAK.index("def kib") : PEAK.index("def measure")]
    + """
def fit(how, count):
    return gd.fit(X[:count], y[:count], gd.SGD(lr=1e-3), epochs=2, history=0, tol=None, **how)

def measure(how):
    fit(how, 1000)  # warms up
    Path("/proc/self/clear_refs").write_text("5")
    before = kib("VmRSS")
    kept = fit(how, len(X))
    return 1024 * (kib("VmHWM") - before)

X = np.random.default_rng(0).standard_normal((200_000, 8, 1), "f4")
y = X[..., 0].copy()
forked(measure, sys.argv[1:])
"""
)


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="needs a peak that can be set back"
)
def test_tiny_problems_take_little_more_than_their_results() -> None:
    """Those are 70 bytes each; and a block of problems in the core has room of its own."""
    cases = [[{"method": method}] for method in ("stream", "gram", "exact")]
    peaks = results(TINY, cases)
    assert {how: peak for how, peak in peaks.items() if peak > 90 * 200_000 + 12e6} == {}
