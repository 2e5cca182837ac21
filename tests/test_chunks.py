"""Rows in chunks have the bits of the same rows in memory, whatever holds the chunks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fits
import gdcore as gd
import problems
from cuttings import L, N, X, Y, cut, draw, whole
from fits import bits, refused
from gdcore import Status
from loops import each
from problems import Array

# Chunks of one row: the first ones, and those on both sides of the end of a segment.
ONE_BY_ONE = [*range(1, 12), *range(L - 3, L + 4), *range(2 * L - 2, 2 * L + 3), N - 1]


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
    """The parameters have these bits; the loss of the moments is within its rounding."""
    for name in ("pieces.PIECE_BYTES", "exact.EXACT_BYTES"):
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
    monkeypatch.setattr("gdcore.chunks.pieces.PIECE_BYTES", 20_000)
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
    monkeypatch.setattr("gdcore.chunks.pieces.PIECE_BYTES", 10_000)
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
        "gdcore.chunks.pieces.PIECE_BYTES", 4 * dtype.itemsize * 317
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


def test_the_rate_of_mini_batches_knows_the_steepest_row(rng: Any) -> None:
    problem = draw(rng)
    problem.X[0] *= 9
    how: dict[str, Any] = {"batch_size": 1, "epochs": 1, "tol": None}
    rates = [gd.fit(cut(problem, 300), **how).lr, whole(problem, **how).lr]
    assert rates[0] == pytest.approx(rates[1], rel=1e-4)


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
    with pytest.warns() as log:
        fit = gd.fit(cut(problem, 300), sgd=gd.SGD(lr=1e10), epochs=50)
    assert [w.category for w in log] == [gd.LearningRateWarning, gd.FitWarning]
    assert fit.status is Status.DIVERGED
    assert fit.loss == pytest.approx(float(gd.mse(fit.predict(problem.X), problem.y)))


def test_a_schedule(rng: Any) -> None:
    problem, sgd = draw(rng), gd.SGD(lr=lambda epoch: 0.05 / (1 + epoch))
    how: dict[str, Any] = {"epochs": 5, "tol": None, "method": "stream"}
    fit, same = gd.fit(cut(problem, 300), sgd=sgd, **how), whole(problem, sgd, **how)
    assert bits(fit)[:-1] == bits(same)[:-1]


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


def test_empty_chunks_do_no_harm(rng: Any) -> None:
    problem = draw(rng)
    chunks = cut(problem, [0, 0, 500, 500])
    assert bits(gd.fit(chunks, sgd=gd.SGD(), epochs=5)) == bits(
        whole(problem, epochs=5, method="gram")
    )
    nothing = [(np.ones((0, 2)), np.ones(0))]
    with pytest.warns(gd.FitWarning, match="No rows"):
        assert gd.fit(nothing, sgd=gd.SGD()).status is Status.EMPTY


def test_memmap(tmp_path: Path, rng: Any) -> None:
    problem = draw(rng, 5000)
    np.save(tmp_path / "X.npy", problem.X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for how in ({}, {"method": "stream"}, {"batch_size": 100}, {"method": "gram"}):
        fit = gd.fit(mapped, problem.y, gd.SGD(), epochs=5, tol=None, **how)
        assert bits(fit) == bits(whole(problem, epochs=5, tol=None, **how))
    assert type(fit.weights) is np.ndarray


def test_squares_beyond_single_precision_need_float64() -> None:
    """A closed form has no method='stream' to fall back on."""
    large = X.astype("f4") * np.float32(1e19)
    for call in (
        lambda: gd.fit([(large, Y.astype("f4"))]),
        lambda: gd.Moments(2, dtype="f4").update(large, Y.astype("f4")).fit(),
    ):
        refused(call, "float32; scale the columns of X and y .*, or compute in float64.$")
    fit = gd.fit([(large.astype("f8"), Y.astype("f8"))])
    np.testing.assert_allclose(fit.weights, gd.fit(X, Y).weights / 1e19, rtol=1e-5)
