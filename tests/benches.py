"""Cases so small that a whole run takes a second, and peers that do everything wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import gdcore as gd
from gdcore.bench import Report, Row, Verdict, pool, probe, race, suites, timing
from gdcore.bench.suites.fit import Equation, FullBatch, MiniBatch
from gdcore.bench.suites.gradient import Gradient
from gdcore.bench.suites.many import Groups, Rolling, Stack
from gdcore.bench.suites.matmul import Matmul
from gdcore.bench.suites.mse import Mse
from gdcore.bench.suites.operands import Operands
from gdcore.bench.suites.rest import Rest
from gdcore.bench.verdict import Ratio

TINY = {
    "matmul": (Matmul(3, 2, 2, 2), Matmul(1, 4, 3, 5), Matmul(2, 3, 1, 4)),
    "mse": (Mse(10),),
    "gradient": (Gradient(2, 50),),
    "operands": (
        Operands("strided", Matmul(3, 2, 2, 2)),
        Operands("reversed", Matmul(1, 4, 3, 5)),
        Operands("broadcast", Matmul(2, 3, 1, 4)),
        Operands("transposed", Gradient(2, 50)),
    ),
    "fit": (
        Equation(9),
        FullBatch(1, 1, 5),
        FullBatch(50, 3, 5, "gram"),
        MiniBatch(8000, 4, 20),
        Stack(100, 16, 2, 5),
        Stack(100, 16, 2, 5, "gram"),
        Groups(200, 2),
        Groups(300, 1),
        Rolling(60, 2, 30),
    ),
    "rest": (
        Rest(Matmul(1, 4, 3, 5), pause=0, busy=0),
        Rest(Matmul(1, 4, 3, 5), pause=0.001, busy=1),
        Rest(FullBatch(50, 3, 5), pause=0.001, busy=2),
    ),
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


LIMITS = probe.Limits(
    1,
    {"float32": 1e11, "float64": 5e10},
    (probe.Level("L1", 2**15, 9e10, 8e10, 7e10), probe.Level("memory", np.inf, 9e9, 8e9, 7e9)),
)
ASK = pool.WorkerProcess.ask


def ask_without_a_probe(process: pool.WorkerProcess, method: str, *arguments: object) -> object:
    """Ask a worker, but for the limits of the machine: they take longer than all tiny races."""
    return LIMITS if method == "limits" else ASK(process, method, *arguments)


@contextmanager
def tiny() -> Iterator[None]:
    """Make the quick suites tiny, on a machine whose limits are known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites, "_QUICK", TINY)
        patch.setattr(race, "QUICK", race.Effort(1e-4, 1e-3, fewest=6, most=6, probe=0.01, calls=2))
        patch.setattr(pool.WorkerProcess, "ask", ask_without_a_probe)
        yield


def use_a_fake_clock(patch: pytest.MonkeyPatch) -> None:
    """Let every round of `compare` be of one call, which takes a second, on a known machine."""
    patch.setattr(timing, "calibrate", lambda run, seconds: (run(1), (1, 1.0))[1])
    patch.setattr(timing, "timed_round", lambda run, repeats, expected: (run(1), 1.0)[1])
    patch.setattr(probe, "measured", lambda threads, dtypes, seconds: LIMITS)


def write_peers(folder: Path) -> Path:
    """Write a peer that does everything wrong and one that needs what is not there."""
    (folder / "gdcore_peer_bad.py").write_text(BAD)
    (folder / "gdcore_peer_absent.py").write_text("import no_such_library")
    (folder / "README").write_text("not a peer")
    return folder


def made(library, seconds, suite="matmul", case="1 2 2 2", dtype="float32", threads=1, **rest):
    """Return a row as a run would have made it."""
    fields = {"flops": 1e6, "bytes": 1e5, "floor": seconds / 2, "roof": "L1", "repeats": 3}
    fields |= {"rounds": (seconds,) * 5} | rest
    return Row(suite, case, dtype, threads, library, "timed", **fields)


def make_example():
    """Make a report by hand: names that are not markup, statuses of every kind."""
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
