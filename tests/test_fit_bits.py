"""Whole fits have the bits of the scalar loops of csrc/reference.

Whatever the instruction set, the thread count and the place of the data in memory.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
import problems
from loops import each
from problems import LAYOUTS, SEGMENT, Linear

EPOCHS = 5
PLAIN = gd.SGD()
FULL = gd.SGD(momentum=0.9, nesterov=True, weight_decay=0.01)
HEAVY = gd.SGD(momentum=0.8, dampening=0.3)

# Rows around the edges of one and two chunks; features of every way to lay them in lanes.
ROWS = {name: [1, 2, 37, size - 1, size, size + 1, 2 * size - 1, 2 * size, 2 * size + 1]
        for name, size in SEGMENT.items()}  # fmt: skip
FEATURES = [1, 2, 3, 5, 9, 17, 40]

# Enough work for two, three and seven threads, and a number of chunks that none of them divides.
LARGE = {"one": (8 * 512 + 11, 121, None), "several": (8 * 512 + 11, 20, 6)}


@cache
def draw(dtype: Any, n: int, d: int, t: int | None = None, parts: str = "bos") -> Linear:
    problem = problems.linear(np.random.default_rng([n, d]), n, d, t, dtype=dtype, parts=parts)
    if problem.sample_weight is not None:
        problem.sample_weight[0] = 1  # some weight, even of one row
    return problem


@cache
def expected(
    dtype: Any, n: int, d: int, t: int | None, sgd: gd.SGD, batch_size: int | None
) -> list[Any]:
    """Return the bits of the reference loops: no vectors, no threads."""
    isa, threads = gd._core.get_isa(), gd.get_num_threads()
    gd._core.set_isa("reference")
    gd.set_num_threads(1)
    try:
        return run(draw(dtype, n, d, t), sgd, batch_size)
    finally:
        gd._core.set_isa(isa)
        gd.set_num_threads(threads)


def run(problem: Linear, sgd: gd.SGD, batch_size: int | None, **options: Any) -> list[Any]:
    how = {"epochs": EPOCHS, "tol": None, "batch_size": batch_size}
    return fits.bits(fits.fit(problem, sgd, **(how | options)))


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning")  # one row is soon fitted, and then stalls
@each("t, d", [*((None, d) for d in FEATURES), *((3, d) for d in FEATURES[::3])])
def test_edges(isa: str, dtype: Any, t: int | None, d: int) -> None:
    """All numbers of rows with one kind of step, since a step does not depend on the rows."""
    rows = ROWS[dtype.name]
    off = []  # batches at every other number of rows, of even and odd d in turn
    for sgd, sizes in ((FULL, rows), (PLAIN, rows[2:8:5]), (HEAVY, rows[2:8:5])):
        for i, n in enumerate(sizes):
            for batch_size in (None, n // 2 + 1)[: 1 + (i + d) % 2]:
                ours = run(draw(dtype, n, d, t), sgd, batch_size)
                if ours != expected(dtype, n, d, t, sgd, batch_size):
                    off.append((sgd, n, batch_size))
    assert off == []


@each("batch_size", [None, 3000])
@each("kind", LARGE)
def test_threads(isa_and_threads: Any, dtype: Any, kind: str, batch_size: int | None) -> None:
    n, d, t = LARGE[kind]
    ours = run(draw(dtype, n, d, t), FULL, batch_size)
    assert ours == expected(dtype, n, d, t, FULL, batch_size)


def test_threads_asked_for_in_the_call(dtype: Any) -> None:
    n, d, t = LARGE["one"]
    before = gd.get_num_threads()
    for threads in (1, 2, 3, 7, 1000):
        ours = run(draw(dtype, n, d, t), FULL, None, n_threads=threads)
        assert ours == expected(dtype, n, d, t, FULL, None)
    assert gd.get_num_threads() == before


@each("layout", LAYOUTS)
@each("d, t, batch_size", [(3, None, None), (3, None, 100), (19, None, None), (5, 3, 100)])
def test_layouts(
    isa: str, dtype: Any, layout: str, d: int, t: int | None, batch_size: int | None
) -> None:
    """C and Fortran order, negative strides, odd addresses: for all arrays, then for X only."""
    place: Any = LAYOUTS[layout]
    problem = draw(dtype, 600, d, t)
    want = expected(dtype, 600, d, t, FULL, batch_size)
    assert run(problem.map(place), FULL, batch_size) == want
    mixed = Linear(**(vars(problem) | {"X": place(problem.X)}))
    assert run(mixed, FULL, batch_size) == want


def test_read_only_data_stay_as_they_are(dtype: Any) -> None:
    problem = draw(dtype, 600, 5).map(np.copy)
    for array in (problem.X, problem.y, problem.weights, problem.offset, problem.sample_weight):
        assert array is not None
        array.flags.writeable = False
    before = problem.map(np.copy)
    for batch_size in (None, 100):
        run(problem, FULL, batch_size)
    fits.fit(problem, FULL, method="exact")
    assert problems.canonical(*before.outputs()) == problems.canonical(*problem.outputs())


def test_zero_strides(isa: str, dtype: Any) -> None:
    """A row, a column or all of X may be one number seen many times."""
    column = np.arange(700, dtype=dtype)[:, None] / 700
    for X in (np.broadcast_to(column, (700, 4)), np.broadcast_to(column[3:7].T, (700, 4))):
        y, weight = np.broadcast_to(dtype.type(2), 700), np.broadcast_to(dtype.type(3), 700)
        how: dict[str, Any] = {"epochs": EPOCHS, "tol": None}
        dense = gd.fit(X.copy(), y.copy(), FULL, sample_weight=weight.copy(), **how)
        assert fits.bits(gd.fit(X, y, FULL, sample_weight=weight, **how)) == fits.bits(dense)


@each("d", [1, 3, 8, 17])
def test_one_target_is_the_same_with_or_without_its_axis(dtype: Any, d: int) -> None:
    alone = draw(dtype, 600, d)
    assert alone.offset is not None
    assert alone.intercept is not None
    column = Linear(**(vars(alone) | {
        "y": alone.y[:, None],
        "weights": alone.weights[:, None],
        "intercept": alone.intercept.reshape(1),
        "offset": alone.offset[:, None],
    }))  # fmt: skip
    one, same = (
        fits.fit(p, FULL, epochs=EPOCHS, tol=None, batch_size=100) for p in (alone, column)
    )
    assert same.weights.shape == (d, 1)
    assert np.shape(same.intercept) == (1,)
    assert fits.parameters(one).tobytes() == fits.parameters(same).tobytes()
    assert one.history.loss.tobytes() == same.history.loss.tobytes()


@each("d", [1, 7, 40])
def test_one_batch_of_all_rows_takes_the_full_batch_steps(dtype: Any, d: int) -> None:
    problem = draw(dtype, 600, d)
    sgd = replace(FULL, lr=0.01)
    how: dict[str, Any] = {"shuffle": False, "method": "stream"}
    full, one = (run(problem, sgd, batch, **how) for batch in (None, 600))
    assert full == one


def test_seeds_and_epochs_shuffle_differently(dtype: Any) -> None:
    problem = draw(dtype, 600, 5)
    results = [run(problem, PLAIN, 50, seed=seed) for seed in (0, 1, 2**32, 2**64 - 1, 0)]
    assert results[0] == results[-1]
    assert len({str(r) for r in results}) == 4
    assert run(problem, PLAIN, 50, shuffle=False) not in results


@each("t", [None, 3])
def test_exact_solutions(isa_and_threads: Any, dtype: Any, t: int | None) -> None:
    problem = draw(dtype, 700, 9, t)
    want = fits.bits(fits.fit(problem, method="exact", n_threads=1))
    for place in LAYOUTS.values():
        assert fits.bits(fits.fit(problem.map(place), method="exact")) == want
