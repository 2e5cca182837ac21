"""Rows in chunks: the bits of the same rows in memory, flat memory, and what chunks do wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fits
import gdcore as gd
import problems
from fits import bits, refused
from gdcore import Status
from gdcore.chunks.prefetch import ahead
from loops import each
from problems import Array, Linear

L = problems.CHUNK["float64"]
N = 3 * L + 77
# Chunks of one row: the first ones, and those on both sides of the end of a segment.
ONE_BY_ONE = [*range(1, 12), *range(L - 3, L + 4), *range(2 * L - 2, 2 * L + 3), N - 1]


def draw(rng: Any, n: int = N, d: int = 3, t: int | None = None, **how: Any) -> Linear:
    return problems.linear(rng, n, d, t, **({"parts": "b"} | how))


def cut(problem: Linear, size: int | list[int]) -> list[tuple[Array, ...]]:
    """Cut the rows into chunks of a size, or at these rows."""
    n = len(problem.X)
    ends = [0, *(range(size, n, size) if isinstance(size, int) else sorted(size)), n]
    arrays = [problem.X, problem.y, problem.sample_weight, problem.offset]
    while arrays[-1] is None:
        arrays.pop()
    return [tuple(None if a is None else a[b:e] for a in arrays) for b, e in pairwise(ends)]  # type: ignore[misc]


def whole(problem: Linear, sgd: Any = None, **how: Any) -> gd.Fit:
    fixed = {"sample_weight": problem.sample_weight, "offset": problem.offset}
    return gd.fit(problem.X, problem.y, sgd or gd.SGD(), **fixed, **how)


# Bits.


@each("t", [None, 2])
@each("parts", ["b", "bs", "bo", "bos"])
@each("size", [ONE_BY_ONE, 100, L, 1000, N])
def test_gram_has_the_bits_of_arrays(rng: Any, dtype: Any, t: Any, parts: str, size: Any) -> None:
    problem = draw(rng, t=t, parts=parts, dtype=dtype)
    how: dict[str, Any] = {"epochs": 60, "reduction": "half_sum"}
    fit = gd.fit(cut(problem, size), sgd=gd.SGD(), **how)
    assert bits(fit) == bits(whole(problem, method="gram", **how))
    assert (fit.method, fit.method_reason) == ("gram", "chunks are read once.")


STREAMS: dict[str, dict[str, Any]] = {
    "full": {"method": "stream"},
    "batches": {"batch_size": 50, "shuffle": False},
    "one batch": {"batch_size": N, "shuffle": False},
    "no epochs": {"batch_size": 50, "epochs": 0},
}


@each("t", [None, 2])
@each("parts", ["", "b", "bos"])
@each("size", [ONE_BY_ONE, 100, 1000, N])
@each("decay", [0.0, 0.3])
def test_exact_has_the_bits_of_arrays(
    rng: Any, monkeypatch: Any, dtype: Any, t: Any, parts: str, size: Any, decay: float
) -> None:
    """Of the parameters; the loss is that of the moments, within the rounding of each."""
    for name in ("source.PIECE_BYTES", "fit.EXACT_BYTES"):
        monkeypatch.setattr(f"gdcore.chunks.{name}", 20_000)
    problem, sgd = draw(rng, t=t, parts=parts, dtype=dtype), gd.SGD(weight_decay=decay)
    how: dict[str, Any] = {"method": "exact", "fit_intercept": "b" in parts}
    fit, same = gd.fit(cut(problem, size), sgd=sgd, **how), whole(problem, sgd, **how)
    assert fit.weights.tobytes() == same.weights.tobytes()
    assert np.array_equal(fit.intercept, same.intercept)
    assert (fit.status, fit.method) == (gd.Status.CONVERGED, "exact")
    assert fit.loss == pytest.approx(float(same.loss), rel=float(N * np.finfo(dtype).eps))


def test_every_row_may_be_a_chunk(rng: Any, dtype: Any) -> None:
    problem = draw(rng, parts="bos", dtype=dtype)
    for method in ("gram", "exact"):
        how: dict[str, Any] = {"method": method, "epochs": 60, "tol": None}
        how = how if method == "gram" else {"method": method}
        fit, same = gd.fit(cut(problem, 1), sgd=gd.SGD(), **how), whole(problem, **how)
        assert fit.weights.tobytes() == same.weights.tobytes()
        assert fit.intercept == same.intercept


def test_exact_of_dependent_columns_and_of_one_reading(rng: Any) -> None:
    problem = draw(rng)
    problem.X[:, 2] = problem.X[:, 0] - problem.X[:, 1]
    with pytest.warns(gd.FitWarning, match="dependent"):
        fit = gd.fit(iter(cut(problem, 100)), method="exact")
    assert fit.status is gd.Status.SINGULAR
    with pytest.warns(gd.FitWarning, match="dependent"):
        same = whole(problem, method="exact")
    assert fit.weights.tobytes() == same.weights.tobytes()


@each("how", STREAMS.values())
@each("parts", ["b", "bs", "bo"])
@each("reduction", problems.REDUCTIONS)
def test_stream_has_the_bits_of_arrays(
    rng: Any, monkeypatch: pytest.MonkeyPatch, dtype: Any, how: Any, parts: str, reduction: Any
) -> None:
    """In order; but for the learning rate, which comes from moments."""
    monkeypatch.setattr("gdcore.chunks.source.PIECE_BYTES", 20_000)
    problem, sgd = draw(rng, parts=parts, dtype=dtype), gd.SGD(lr=1e-5, momentum=0.5)
    options = {"epochs": 4, "tol": None, "reduction": reduction} | how
    fit, same = gd.fit(cut(problem, 130), sgd=sgd, **options), whole(problem, sgd, **options)
    assert bits(fit)[:-1] == bits(same)[:-1]
    assert fit.stability_limit == pytest.approx(same.stability_limit, rel=1e-4)
    assert fit.method == "stream"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 900), max_size=8), st.sampled_from(["gram", "stream"]))
def test_random_cuttings(cuts: list[int], method: Any) -> None:
    problem = draw(np.random.default_rng(0), 900)
    how: dict[str, Any] = {"epochs": 5, "tol": None, "method": method}
    sgd = gd.SGD(lr=1e-3)
    fit, same = gd.fit(cut(problem, cuts), sgd=sgd, **how), whole(problem, sgd, **how)
    assert bits(fit)[:-1] == bits(same)[:-1]


SHUFFLED: dict[str, Any] = {"batch_size": 20, "epochs": 6, "tol": None, "seed": 4}


def test_shuffled_batches_are_a_function_of_seed_and_epoch(
    rng: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gdcore.chunks.source.PIECE_BYTES", 10_000)
    problem, sgd = draw(rng), gd.SGD(lr=0.01, momentum=0.5)
    chunks = cut(problem, 200)
    one = gd.fit(chunks, sgd=sgd, **SHUFFLED)
    assert bits(gd.fit(chunks, sgd=sgd, **SHUFFLED, n_threads=3)) == bits(one)
    assert bits(gd.fit(chunks, sgd=sgd, **(SHUFFLED | {"seed": 5}))) != bits(one)
    parts = [gd.fit(chunks, sgd=sgd, **(SHUFFLED | {"epochs": 2}))]
    for _ in range(2):
        parts.append(gd.fit(chunks, sgd=sgd, **(SHUFFLED | {"epochs": 2}), init=parts[-1]))
    assert bits(fits.joined(parts)) == bits(one)


def mixed(seed: int, number: int, purpose: int) -> int:
    """Return a seed made of another one: docs/numerics.md."""
    words = gd._core.philox([number, 0, 0, purpose], [seed % 2**32, seed >> 32])
    return int(words[0]) | int(words[1]) << 32


def shuffled_rows(sizes: list[int], piece: int, seed: int, epoch: int) -> Array:
    """Return the order of the rows of chunks of these sizes in one epoch."""
    chunks = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    order = gd._core.permutation(len(chunks), mixed(seed, 0, 3), epoch)
    rows = np.concatenate([chunks[i] for i in order])
    pieces = [rows[i : i + piece] for i in range(0, len(rows), piece)]
    return np.concatenate(
        [p[gd._core.permutation(len(p), mixed(seed, k, 2), epoch)] for k, p in enumerate(pieces)]
    )


def test_shuffled_epochs_are_those_of_the_rows_in_that_order(
    rng: Any, monkeypatch: pytest.MonkeyPatch, dtype: Any
) -> None:
    problem, sgd, seed = draw(rng, dtype=dtype), gd.SGD(lr=0.01), 2**40 + 3
    monkeypatch.setattr(
        "gdcore.chunks.source.PIECE_BYTES", 4 * dtype.itemsize * 317
    )  # 320 in batches
    how: dict[str, Any] = {"batch_size": 20, "tol": None}
    chunks = cut(problem, 200)
    found = gd.fit(chunks, sgd=sgd, epochs=3, seed=seed, **how)
    fit: gd.Fit | None = None
    for epoch in range(3):
        order = shuffled_rows([len(c[0]) for c in chunks], 320, seed, epoch)
        assert sorted(order) == list(range(N))
        rows, start = fits.rows_of(problem, order), fit and (fit.weights, fit.intercept)
        fit = whole(rows, sgd, epochs=1, shuffle=False, init=start, **how)
        assert found.history.weights is not None
        assert problems.canonical(fit.weights) == problems.canonical(found.history.weights[epoch])


def test_mini_batches_converge(rng: Any, dtype: Any) -> None:
    problem = draw(rng, dtype=dtype)
    problem.y[:] = (problem.X @ np.array([1, -2, 3], dtype)).astype(dtype) + dtype.type(1)
    fit = gd.fit(cut(problem, 300), batch_size=32, epochs=60, tol=1e-3)
    np.testing.assert_allclose(fits.parameters(fit), [1, -2, 3, 1], atol=1e-2)
    assert fit.status is Status.CONVERGED


def test_a_stream_that_diverges_takes_the_step_back(rng: Any) -> None:
    problem = draw(rng)
    for how in ({"batch_size": 50}, {"method": "stream"}):
        with pytest.warns(gd.LearningRateWarning), pytest.warns(gd.FitWarning, match="Diverged"):
            fit = gd.fit(cut(problem, 300), sgd=gd.SGD(lr=1e150), epochs=50, **how)
        assert np.isfinite(fit.weights).all()
        assert np.isfinite(fit.loss)


def test_the_loss_of_moments_that_diverge_is_that_of_the_weights(rng: Any) -> None:
    problem = draw(rng)
    with pytest.warns() as told:
        fit = gd.fit(cut(problem, 300), sgd=gd.SGD(lr=1e10), epochs=50)
    assert [w.category for w in told] == [gd.LearningRateWarning, gd.FitWarning]
    assert fit.status is Status.DIVERGED
    assert fit.loss == pytest.approx(float(gd.mse(fit.predict(problem.X), problem.y)))


def test_a_schedule(rng: Any) -> None:
    problem, sgd = draw(rng), gd.SGD(lr=lambda epoch: 0.05 / (1 + epoch))
    how: dict[str, Any] = {"epochs": 5, "tol": None, "method": "stream"}
    fit, same = gd.fit(cut(problem, 300), sgd=sgd, **how), whole(problem, sgd, **how)
    assert bits(fit)[:-1] == bits(same)[:-1]


# What chunks may be.


class Again:
    def __init__(self, chunks: Any) -> None:
        self.chunks = chunks

    def __iter__(self) -> Iterator[Any]:
        return iter(self.chunks)


@each("how", [{}, {"method": "stream"}])
def test_kinds_of_chunks(rng: Any, how: Any) -> None:
    chunks = cut(draw(rng), 400)
    kinds = [chunks, tuple(chunks), lambda: iter(chunks), lambda: chunks, Again(chunks)]
    if not how:
        kinds.append(iter(chunks))
    found = {str(bits(gd.fit(kind, sgd=gd.SGD(), epochs=5, tol=None, **how))) for kind in kinds}
    assert len(found) == 1


def test_chunks_without_rows_do_no_harm(rng: Any) -> None:
    problem = draw(rng)
    chunks = cut(problem, [0, 0, 500, 500])
    assert bits(gd.fit(chunks, sgd=gd.SGD(), epochs=5)) == bits(
        whole(problem, epochs=5, method="gram")
    )
    nothing = [(np.ones((0, 2)), np.ones(0))]
    with pytest.warns(gd.FitWarning, match="No rows"):
        assert gd.fit(nothing, sgd=gd.SGD()).status is Status.EMPTY


# What chunks do wrong.

X, Y = np.arange(12.0).reshape(6, 2) ** 1.5, np.arange(6.0)
GOOD = (X, Y)


def nan_at(row: int) -> tuple[Array, Array]:
    bad = X.copy()
    bad[row, 1] = np.nan
    return bad, Y


def failing(error: Exception) -> Any:
    def chunks() -> Iterator[Any]:
        yield GOOD
        raise error

    return chunks


@each("how", [{}, {"batch_size": 3}, {"method": "stream"}])
@each("bad, match", [
    ((np.ones((6, 3)), Y), r"chunk 2 \(from row 12\): it has 3 columns and the chunks before it 2"),
    ((X, Y[:5]), r"chunk 2 .*y has shape \(5,\) and X \(6, 2\)"),
    ((X, Y[:, None]), r"chunk 2 .*y has shape \(n, 1\).*before \(n,\)"),
    ((X.astype("f4"), Y.astype("f4")), "chunk 2 .*float32 and the chunks before it float64"),
    ((X, Y, Y), "chunk 2 .*either all chunks have sample_weight or none"),
    ((X, Y, None, Y), "chunk 2 .*either all chunks have offset or none"),
    ((X, Y, None, Y[:4]), "chunk 2 .*offset has shape"),
    ((X, Y, None, Y, Y), "chunk 2 .*a tuple of 5"),
    ((X.astype(str), Y), "chunk 2 .*X"),
    (nan_at(4), r"chunk 2 \(from row 12\): X holds nan at row 4, column 1"),
    ((X, np.where(Y > 3, np.inf, Y)), r"chunk 2 .*y holds inf at row 4"),
    (X, "chunk 2 .*it is ndarray; chunks are tuples"),
    ((X,), "chunk 2 .*a tuple of 1"),
    ((X * 1e200, Y), "chunk 2 .*overflow or underflow float64"),
])  # fmt: skip
def test_a_bad_chunk_is_named_and_the_rows_before_it_kept(how: Any, bad: Any, match: str) -> None:
    refused(lambda: gd.fit([GOOD, GOOD, bad], sgd=gd.SGD(), **how), match, gd.ChunkError)
    with pytest.raises(gd.ChunkError) as caught:
        gd.fit([GOOD, GOOD, bad], sgd=gd.SGD(), **how)
    assert caught.value.chunk == 2
    assert caught.value.moments == gd.Moments(2).update(*GOOD).update(*GOOD)


@each("given, match, error", [
    ([], "there are no chunks", ValueError),
    (lambda: iter(()), "there are no chunks", ValueError),
    (X, "y is missing and X is ndarray", TypeError),
    (X.tolist(), "y is missing and X is list", TypeError),
    (None, "y is missing and X is NoneType", TypeError),
    ({"X": X, "y": Y}, "y is missing and X is dict", TypeError),
    ("big.parquet", r"the path 'big.parquet'; pass gdcore.read_chunks", TypeError),
    (Path("big.csv"), r"the path 'big.csv'; pass gdcore.read_chunks", TypeError),
    (lambda: 3, r"chunk 0 .*cannot be read: .*int", gd.ChunkError),
    (failing(OSError("the disk is gone")), r"chunk 1 \(from row 6\).*the disk is gone",
     gd.ChunkError),
    (failing(LookupError("mine")), "mine", LookupError),
])  # fmt: skip
def test_no_chunks(given: Any, match: str, error: type[Exception]) -> None:
    refused(lambda: gd.fit(given, sgd=gd.SGD()), match, error)


@each("how, match", [
    ({"method": "exact", "batch_size": 2}, "'exact' takes no batch_size"),
    ({"method": "exact", "checkpoint": "x"}, "'exact' takes no steps that a checkpoint keeps"),
    ({"batch_size": 13}, "batch_size is 13.*from 1 to the 12 rows"),
    ({"batch_size": 0}, "batch_size is 0"),
    ({"epochs": -1}, "epochs is -1"),
    ({"offset": 1.0}, r"chunks take no offset=; put it into the chunks: .*, offset\)"),
    ({"sample_weight": Y}, r"chunks take no sample_weight=; put .*\(X, y, sample_weight\)"),
    ({"reduction": "max"}, "max"),
    ({"init": [1.0]}, "init"),
    ({"method": "gram", "batch_size": 2}, "takes no batch_size"),
])  # fmt: skip
def test_options(how: Any, match: str) -> None:
    refused(lambda: gd.fit([GOOD, GOOD], **how), match)


def test_sgd_goes_by_its_name() -> None:
    refused(lambda: gd.fit([GOOD], gd.SGD()), "y is SGD.*sgd=", TypeError)  # type: ignore[arg-type]


@each("how", [{"batch_size": 3}, {"method": "stream"}])
def test_what_can_be_read_once_is_no_stream(how: Any) -> None:
    refused(
        lambda: gd.fit(iter([GOOD]), sgd=gd.SGD(), **how),
        "list_iterator, which can be read once.*'gram'",
    )
    once = iter([GOOD, GOOD])
    with pytest.raises(gd.ChunkError, match=r"0 rows after 0 epochs and 12.*'gram'") as caught:
        gd.fit(lambda: once, sgd=gd.SGD(), tol=None, **how)
    assert caught.value.fit is not None
    assert caught.value.fit.epochs == 0


def test_rows_that_shrink_while_fitting_keep_the_fit(rng: Any) -> None:
    chunks, calls = cut(draw(rng), 400), []

    def shrinking() -> Any:
        calls.append(1)
        return chunks[: 5 - len(calls) // 4]

    with pytest.raises(gd.ChunkError, match=r"rows after 2 epochs and 1613") as caught:
        gd.fit(shrinking, method="stream", tol=None)
    assert caught.value.fit is not None
    assert caught.value.fit.epochs == 2


# Ctrl-C, progress, memory, threads.


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
    """The weights are kept, and the next fit goes on from them."""
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
def test_a_checkpoint_goes_on_to_the_same_bits(
    rng: Any, monkeypatch: Any, tmp_path: Path, how: Any
) -> None:
    """From the last whole epoch, after a chunk that could not be read or a Ctrl-C."""
    monkeypatch.setattr("gdcore.results.archive.Checkpoint.seconds", 0.0)
    monkeypatch.setattr("gdcore.solvers.descent.BLOCK_SECONDS", 1e-6)
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
    assert min(epochs[len(chunks) :]) > 0  # it did not begin anew
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
told = []
def tell(*_):
    if not told:
        print("ready", flush=True)
        told.append(1)
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
        told, rows = child.stdout.readline().split()
        assert child.wait(10) == 0
    assert float(told) - sent < 5
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
            X = rng.standard_normal((20_000, 20))
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


def test_memmap(tmp_path: Path, rng: Any) -> None:
    problem = draw(rng, 5000)
    np.save(tmp_path / "X.npy", problem.X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for how in ({}, {"method": "stream"}, {"batch_size": 100}, {"method": "gram"}):
        fit = gd.fit(mapped, problem.y, gd.SGD(), epochs=5, tol=None, **how)
        assert bits(fit) == bits(whole(problem, epochs=5, tol=None, **how))
    assert type(fit.weights) is np.ndarray


# Files.

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
NAMES = ("a", "b", "c")


def write(path: Path, columns: dict[str, Any]) -> Path:
    import pyarrow.csv
    import pyarrow.feather

    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=300)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".tsv":
        pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(delimiter="\t"))
    else:
        pyarrow.feather.write_feather(table, path)
    return path


def columns_of(problem: Linear) -> dict[str, Any]:
    return dict(zip(NAMES, problem.X.T, strict=True)) | {"y": problem.y}


@each("suffix", [".parquet", ".csv", ".tsv", ".feather", ".arrow"])
@each("rows", [97, 65536])
def test_files(tmp_path: Path, rng: Any, suffix: str, rows: int) -> None:
    problem = draw(rng)
    chunks = gd.read_chunks(write(tmp_path / f"t{suffix}", columns_of(problem)), "y", rows=rows)
    fit = gd.fit(chunks, sgd=gd.SGD(), epochs=50)
    assert bits(fit) == bits(whole(problem, method="gram", epochs=50))
    assert (fit.feature_names, fit.target_name) == (NAMES, "y")
    assert sum(len(y) for _, y in chunks) == N
    again = gd.fit(chunks, batch_size=40, epochs=3, tol=None)
    assert bits(again) == bits(gd.fit(chunks, batch_size=40, epochs=3, tol=None))


def test_columns_chosen(tmp_path: Path, rng: Any) -> None:
    problem = draw(rng, parts="bs")
    columns = columns_of(problem) | {"w": problem.sample_weight, "text": ["x"] * N}
    path = write(tmp_path / "t.parquet", columns)
    chunks = gd.read_chunks(path, "y", ["c", "a"], sample_weight="w", dtype=np.float32)
    X, y, w = (np.concatenate(parts) for parts in zip(*chunks, strict=True))  # type: ignore[arg-type]
    assert (X.dtype, y.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(X, problem.X[:, [2, 0]].astype("f4"))
    wanted = gd.fit(X, y, sample_weight=w, method="gram", epochs=20)
    assert bits(gd.fit(chunks, sgd=gd.SGD(), epochs=20)) == bits(wanted)


@each("weight", [None, "w"])
def test_a_column_of_offsets(tmp_path: Path, rng: Any, weight: Any) -> None:
    problem = draw(rng, parts="bos")
    columns = columns_of(problem) | {"w": problem.sample_weight, "o": problem.offset}
    features = None if weight else NAMES
    path = write(tmp_path / "t.parquet", columns)
    chunks = gd.read_chunks(path, "y", features, sample_weight=weight, offset="o", rows=97)
    assert chunks.feature_names == NAMES
    if weight is None:
        problem = replace(problem, sample_weight=None)
    assert bits(gd.fit(chunks, sgd=gd.SGD(), epochs=20)) == bits(
        whole(problem, epochs=20, method="gram")
    )


def test_numbers_of_every_kind(tmp_path: Path) -> None:
    columns = {
        "i": pa.array([1, 2, 3, 4], "int8"),
        "b": pa.array([True, False, False, True]),
        "d": pa.array([1, 2, 5, 3]).cast(pa.decimal128(21, 2)),
        "y": pa.array([1.0, 2.0, 3.0, 5.0], "float32"),
    }
    chunks = gd.read_chunks(write(tmp_path / "t.parquet", columns), "y")
    X, y = next(iter(chunks))
    assert X.tolist() == [[1, 1, 1], [2, 0, 2], [3, 0, 5], [4, 1, 3]]
    assert y.tolist() == [1, 2, 3, 5]


def test_nulls_are_named_or_dropped(tmp_path: Path) -> None:
    columns = {"a": [1.0, None, 3.0, 4.0, None], "y": [1.0, 2.0, None, 4.0, 5.0]}
    path = write(tmp_path / "t.parquet", columns)
    match = r"chunk 0 .*column 'a' of .*t.parquet has no number in row 2 .*nulls='drop'"
    refused(lambda: gd.fit(gd.read_chunks(path, "y")), match, gd.ChunkError)
    X, y = next(iter(gd.read_chunks(path, "y", nulls="drop")))
    assert (X.tolist(), y.tolist()) == ([[1], [4]], [1, 4])


def test_nan_in_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", {"a": np.r_[np.ones(400), np.nan], "y": np.ones(401)})
    chunks = gd.read_chunks(path, "y", rows=100)
    match = r"chunk 4 \(from row 400\) .*column 'a' of .*t.parquet has no number in row 401 .*: nan"
    refused(lambda: gd.fit(chunks), match, gd.ChunkError)


def test_a_truncated_file(tmp_path: Path, rng: Any) -> None:
    for suffix in (".parquet", ".feather"):
        path = write(tmp_path / f"t{suffix}", columns_of(draw(rng)))
        chunks = gd.read_chunks(path, "y")
        gd.fit(chunks, sgd=gd.SGD(), epochs=2, tol=None)
        os.truncate(path, path.stat().st_size // 2)
        match = r"chunk \d+ \(from row \d+\) cannot be read"
        refused(lambda chunks=chunks: gd.fit(chunks, sgd=gd.SGD()), match, gd.ChunkError)


@each("suffix", [".parquet", ".csv"])
def test_a_file_truncated_between_epochs_keeps_the_fit(
    tmp_path: Path, rng: Any, suffix: str
) -> None:
    path = write(tmp_path / f"t{suffix}", columns_of(draw(rng)))
    chunks = gd.read_chunks(path, "y", rows=200)

    def cut_after_two(epoch: int, *_: Any) -> None:
        if epoch == 2:
            os.truncate(path, path.stat().st_size // 2)

    with pytest.raises(gd.ChunkError, match=r"cannot be read|gave \d+ rows after") as caught:
        gd.fit(chunks, method="stream", epochs=9, tol=None, progress=cut_after_two)
    assert caught.value.fit is not None
    assert 2 <= caught.value.fit.epochs < 9


def test_text_in_a_column_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,y\n" + "1,2\n" * 400_000 + "one,2\n")
    refused(
        lambda: gd.fit(gd.read_chunks(path, "y"), sgd=gd.SGD()),
        r"cannot be read.*'one'",
        gd.ChunkError,
    )


@each("how, match, error", [
    ({"target": "z"}, "no column 'z'.*its columns are 'a', 'name', 'y'", ValueError),
    ({"target": "yy"}, r"no column 'yy' \(did you mean 'y'\?\)", ValueError),
    ({"target": "name"}, "column 'name' of .* is not numeric: string, 'x' in row 1", ValueError),
    ({"target": "y"}, r"column 'name' of .*; choose others: features=\['a'\]", ValueError),
    ({"target": "y", "features": ["a", "y"]}, "each column once, and never the target", ValueError),
    ({"target": "y", "features": "a"}, "features is the string 'a'", TypeError),
    ({"target": "y", "features": ["a"], "nulls": "fill"}, "nulls is 'fill'", ValueError),
    ({"target": "y", "features": ["a"], "rows": 0}, "rows is 0", ValueError),
    ({"target": "y", "features": ["a"], "dtype": int}, "dtype is int64", TypeError),
])  # fmt: skip
def test_bad_columns(tmp_path: Path, how: Any, match: str, error: Any) -> None:
    path = write(tmp_path / "t.parquet", {"a": [1.0], "name": ["x"], "y": [2.0]})
    refused(lambda: gd.read_chunks(path, **how), match, error)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        gd.read_chunks(tmp_path / "none.parquet", "y")
    refused(lambda: gd.read_chunks(tmp_path / "t.xls", "y"), "suffix that gdcore does not read")
    refused(lambda: gd.read_chunks(3, "y"), "source is int; pass a path", TypeError)


def test_without_pyarrow() -> None:
    source = """
import sys
sys.modules["pyarrow"] = None
import gdcore as gd
try:
    gd.read_chunks("t.parquet", "y")
except ModuleNotFoundError as error:
    print(error)
"""
    assert "pip install 'gdcore[cli]'" in fits.python(source).stdout


def test_squares_beyond_single_precision_need_float64() -> None:
    """A closed form has no method='stream' to fall back on."""
    large = X.astype("f4") * np.float32(1e19)
    for call in (
        lambda: gd.fit([(large, Y.astype("f4"))]),
        lambda: gd.Moments(2, dtype="f4").update(large, Y.astype("f4")).fit(),
    ):
        refused(call, "float32; standardize the columns of X and scale y, or compute in float64.$")
    fit = gd.fit([(large.astype("f8"), Y.astype("f8"))])
    np.testing.assert_allclose(fit.weights, gd.fit(X, Y).weights / 1e19, rtol=1e-5)
