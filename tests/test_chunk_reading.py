"""Reading chunks: interrupts, checkpoints, progress, memory, threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fits
import gdcore as gd
from cuttings import X, Y, cut, draw
from fits import bits, refused
from gdcore.chunks.prefetch import ahead
from loops import each


def test_interrupted_while_reading_first(rng: Any) -> None:
    problem = draw(rng)
    cutter = fits.cut_after(3, KeyboardInterrupt)
    with pytest.raises(gd.FitInterrupted) as caught:
        gd.fit(cut(problem, 100), sgd=gd.SGD(), progress=cutter)
    read = caught.value.moments
    assert read is not None
    assert read.n == 300
    assert read == gd.Moments(3).update(problem.X[:300], problem.y[:300])


@each("how", [{"batch_size": 50}, {"method": "stream"}])
def test_interrupted_while_streaming(rng: Any, how: Any) -> None:
    """The weights are kept, and the next fit continues from them."""
    cutter = fits.cut_after(40, KeyboardInterrupt)
    chunks = cut(draw(rng), 400)
    with pytest.raises(gd.FitInterrupted) as caught:
        gd.fit(chunks, sgd=gd.SGD(), progress=cutter, tol=None, **how)
    assert caught.value.fit.epochs > 1
    assert gd.fit(chunks, sgd=gd.SGD(), init=caught.value.fit, epochs=2, tol=None, **how).epochs > 3


KEPT: dict[str, dict[str, Any]] = {
    "gram": {"epochs": 60_000, "history": 3000},  # several blocks
    "stream": {"method": "stream", "epochs": 8},
    "shuffled": {"batch_size": 50, "epochs": 8, "history": 2},
}


@each("how", KEPT.values())
def test_a_checkpoint_resumes_to_the_same_bits(
    rng: Any, monkeypatch: Any, tmp_path: Path, how: Any
) -> None:
    """From the last whole epoch, after a chunk that could not be read or a Ctrl-C."""
    monkeypatch.setattr("gdcore.results.checkpoint.Checkpoint.seconds", 0.0)
    monkeypatch.setattr("gdcore.data.slices.SECONDS", 1e-6)
    chunks, path, readings = cut(draw(rng), 400), tmp_path / "state", 0
    settings: dict[str, Any] = {"sgd": gd.SGD(lr=1e-5), "tol": None, "checkpoint": path} | how

    class Failing(list[Any]):
        def __getitem__(self, at: Any) -> Any:
            nonlocal readings
            readings += 1
            if readings == 5 * len(chunks) + 3:
                raise OSError("the disk is gone")
            return super().__getitem__(at)

    want = gd.fit(chunks, **(settings | {"checkpoint": tmp_path / "other"}))
    if "method" in how or "batch_size" in how:
        with pytest.raises(gd.ChunkError, match="the disk is gone"):
            gd.fit(Failing(chunks), **settings)
    else:
        with pytest.raises(gd.FitInterrupted):
            gd.fit(chunks, progress=fits.cut_after(9, KeyboardInterrupt), **settings)
    epochs: list[int] = []
    fit = gd.fit(chunks, progress=lambda epoch, *_: epochs.append(epoch), **settings)
    assert bits(fit) == bits(want)
    assert max(epochs[len(chunks) :]) == how["epochs"]
    assert min(epochs[len(chunks) :]) > 0  # it did not start again
    assert bits(gd.fit(chunks, **settings)) == bits(want)
    refused(lambda: gd.fit(cut(draw(rng), 400), **settings), "of another problem")


INTERRUPTED = """
import sys, time
import numpy as np, gdcore as gd
def chunks():
    rng = np.random.default_rng(0)
    while True:
        X = rng.standard_normal((2000, 30))
        yield X, X[:, 0]
        if sys.argv[1] == "slow":
            time.sleep(0.2)
begun = []
def tell(*_):
    if not begun:
        print("ready", flush=True)
        begun.append(1)
try:
    gd.fit(chunks, progress=tell)
except gd.FitInterrupted as caught:
    print(time.monotonic(), caught.moments.n, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs signals")
@each("kind", ["fast", "slow"])
def test_ctrl_c_while_reading(kind: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED, kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.3)
        sent = time.monotonic()
        child.send_signal(signal.SIGINT)
        stopped, rows = child.stdout.readline().split()
        assert child.wait(10) == 0
    assert float(stopped) - sent < 5
    assert int(rows) % 2000 == 0 < int(rows)


def test_no_reader_is_left(rng: Any) -> None:
    chunks = cut(draw(rng), 100)
    gd.fit(chunks, epochs=2, tol=None, method="stream")
    refused(lambda: gd.fit([*chunks[:3], (X, Y)], sgd=gd.SGD()), "columns", gd.ChunkError)
    assert not [t for t in threading.enumerate() if t.name == "gdcore-reader"]


def test_reading_ahead_closes_what_it_reads() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(threading.current_thread().name)

    reading = ahead(items())
    assert [next(reading), next(reading)] == [0, 1]
    reading.close()
    assert closed == ["gdcore-reader"]


def test_no_more_than_two_items_wait() -> None:
    taken: list[int] = []
    reading = ahead(taken.append(i) or i for i in range(100))  # type: ignore[func-returns-value]
    assert next(reading) == 0
    time.sleep(0.3)
    assert len(taken) <= 3
    reading.close()


def test_progress_in_rows_and_bytes(rng: Any, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("gdcore.solvers.progress._Lines.seconds", 0.0)
    gd.fit(cut(draw(rng), 400), progress=True, epochs=3, tol=None, method="stream")
    assert "400 rows, 0.0 MB read\n" in capsys.readouterr().err


MEMORY = """
import resource, sys
import numpy as np, gdcore as gd
def chunks(n):
    def read():
        rng = np.random.default_rng(0)
        for _ in range(n):
            X = rng.random((20_000, 20))
            yield X, X.sum(1)
    return read
batches = sys.argv[2] == "batches"
how = dict(batch_size=500, epochs=2, tol=None) if batches else {"method": sys.argv[2]}
import warnings; warnings.simplefilter("ignore")
gd.fit(chunks(3), **how)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
gd.fit(chunks(int(sys.argv[1])), **how)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@each("kind", ["exact", "gram", "batches"])
def test_memory_does_not_grow_with_the_rows(kind: str) -> None:
    """40 chunks of 3.2 MB: a fifth of them is too much, beside the pieces that are shuffled."""
    grown = int(fits.python(MEMORY, 40, kind, timeout=120).stdout)  # KiB
    assert grown < (100_000 if kind == "batches" else 26_000)
