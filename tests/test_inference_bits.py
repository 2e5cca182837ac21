"""Covariances have the same bits on any number of threads, alone, in a stack and in groups."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import gdcore as gd
import inference
import problems
from fits import bits as fit_bits
from gdcore.data import slices
from inference import KINDS, bits
from loops import each
from problems import LAYOUTS, Linear

# More segments than seven threads share evenly, and rows that fill neither a segment nor a block.
LARGE = 9 * 512 + 75, 6


@cache
def draw(dtype: Any, n: int, d: int, t: int | None = None, parts: str = "bos") -> Linear:
    return problems.linear(np.random.default_rng([n, d]), n, d, t, dtype=dtype, parts=parts)


def fit(problem: Linear, kind: Any, **how: Any) -> gd.Fit:
    return gd.fit(
        problem.X,
        problem.y,
        offset=problem.offset,
        sample_weight=problem.sample_weight,
        fit_intercept=problem.intercept is not None,
        covariance=kind,
        **how,
    )


@cache
def expected(dtype: Any, n: int, d: int, t: int | None, kind: Any) -> list[Any]:
    """Return the bits with the reference loops and one thread."""
    isa, threads = gd._core.get_isa(), gd.get_num_threads()
    gd._core.set_isa("reference")
    gd.set_num_threads(1)
    try:
        return bits(fit(draw(dtype, n, d, t), kind))
    finally:
        gd._core.set_isa(isa)
        gd.set_num_threads(threads)


@each("kind", KINDS)
@each("t", [None, 3])
def test_threads_and_instruction_sets(
    isa_and_threads: Any, dtype: Any, kind: Any, t: int | None
) -> None:
    problem = draw(dtype, *LARGE, t)
    assert bits(fit(problem, kind)) == expected(dtype, *LARGE, t, kind)


@each("kind", ["ols", "hc1", "hc3"])
@each("threads", [1, 2, 3, 7])
def test_threads_asked_for_in_the_call(dtype: Any, kind: Any, threads: int) -> None:
    ours = fit(draw(dtype, *LARGE), kind, n_threads=threads)
    assert bits(ours) == expected(dtype, *LARGE, None, kind)


@each("kind", KINDS)
@each("n, d, t, parts", [(30, 4, None, "b"), (30, 4, None, "bos"), (600, 3, 2, "os"),
                         (65, 1, None, ""), (1200, 9, None, "bs"), (40, 5, 3, "bo")])  # fmt: skip
def test_alone_in_a_stack_and_in_groups(
    dtype: Any, n: int, d: int, t: int | None, parts: str, kind: Any
) -> None:
    problem = draw(dtype, n, d, t, parts)
    alone = bits(fit(problem, kind))
    # In the stack beside the same rows backwards.
    stacked = [None if a is None else np.stack([a[::-1], a, a[::-1], a]) for a in _rows(problem)]
    how: dict[str, Any] = {"fit_intercept": problem.intercept is not None, "covariance": kind}
    X, y, offset, weight = stacked
    for threads in (1, 2, 3):
        fits = gd.fit(X, y, offset=offset, sample_weight=weight, n_threads=threads, **how)
        assert bits(fits, 1) == bits(fits, 3) == alone
    long = [None if a is None else a.reshape(-1, *a.shape[2:]) for a in stacked]
    X, y, offset, weight = long
    labels = np.repeat([3, 1, 2, 0], n)
    mixed = np.random.default_rng(1).permutation(4 * n)
    mixed = mixed[np.argsort(mixed % n, kind="stable")]  # the rows of each group in their order
    for order in (np.arange(4 * n), mixed):
        parted = [None if a is None else a[order] for a in (X, y, offset, weight)]
        fits = gd.fit_groups(
            parted[0], parted[1], labels[order], offset=parted[2], sample_weight=parted[3], **how
        )
        assert bits(fits, 1) == bits(fits, 0) == alone


def _rows(problem: Linear) -> tuple[Any, ...]:
    return problem.X, problem.y, problem.offset, problem.sample_weight


@each("layout", LAYOUTS)
@each("kind", ["ols", "hc2"])
def test_layouts(dtype: Any, layout: str, kind: Any) -> None:
    place: Any = LAYOUTS[layout]
    problem = draw(dtype, 600, 5, 2)
    assert bits(fit(problem.map(place), kind)) == expected(dtype, 600, 5, 2, kind)


@each("kind", KINDS)
def test_the_unit_of_the_loss_and_a_descent_change_nothing(dtype: Any, kind: Any) -> None:
    problem = draw(dtype, 600, 3)
    want = expected(dtype, 600, 3, None, kind)
    for reduction in problems.REDUCTIONS:
        assert bits(fit(problem, kind, reduction=reduction)) == want
    assert bits(fit(problem, kind, standardize=True)) == want
    for how in ({}, {"standardize": True}, {"method": "stream"}):
        descent = fit(problem, kind, sgd=gd.SGD(), epochs=20000, **how)
        assert descent.status == "CONVERGED"
        assert bits(descent) == want


@each("kind", KINDS)
def test_the_fit_has_the_bits_of_one_without_a_covariance(dtype: Any, kind: Any) -> None:
    problem = draw(dtype, 600, 3)
    plain, ours = fit(problem, None), fit(problem, kind)
    assert plain.inference is None
    assert fit_bits(ours) == fit_bits(plain)


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning")
@each("kind", ["ols", "hc3"])
def test_many_descents(dtype: Any, kind: Any) -> None:
    """Those that converged have the inference of the least-squares solution."""
    X = np.stack([draw(dtype, 50, 3, None, "b").X] * 3)
    y = np.stack([draw(dtype, 50, 3, None, "b").y] * 3)
    fits = gd.fit(X, y, gd.SGD(weight_decay=np.array([0, 0.1, 0])), epochs=5000, covariance=kind)
    assert list(fits.status) == ["CONVERGED"] * 3
    alone = bits(gd.fit(X[0], y[0], covariance=kind))
    assert bits(fits, 0) == bits(fits, 2) == alone
    assert "weight decay" in inference.of(fits).reason[1]
    assert np.isnan(inference.of(fits).covariance[1]).all()


@each("kind", KINDS)
def test_chunks(dtype: Any, kind: Any) -> None:
    """However the rows are cut; float32 rows in memory are solved from their moments."""
    X, y, offset, weight = _rows(draw(dtype, *LARGE))
    found = []
    for cuts in ([0, 4683], [0, 1, 64, 700, 700, 4000, 4683]):
        parts = [(X[a:b], y[a:b], weight[a:b], offset[a:b]) for a, b in pairwise(cuts)]
        found.append(gd.fit(parts, fit_intercept=True, covariance=kind))
    assert bits(found[0]) == bits(found[1])
    whole = gd.fit(X, y, offset=offset, sample_weight=weight, covariance=kind)
    if dtype == np.float64:
        assert bits(found[0]) == bits(whole)
    np.testing.assert_allclose(
        inference.of(found[0]).covariance, inference.of(whole).covariance, rtol=1e-12, atol=1e-18
    )


@each("kind", ["ols", "hc3"])
@each("many", [False, True])
def test_work_in_slices(
    monkeypatch: pytest.MonkeyPatch, rng: Any, dtype: Any, kind: Any, many: bool
) -> None:
    """The pass over the rows pauses after each slice, and continues where it was."""
    X = rng.normal(size=(60_000, 39)).astype(dtype)
    y = rng.normal(size=60_000).astype(dtype)
    given, i = ((X[None], y[None]), 0) if many else ((X, y), ...)
    whole = bits(gd.fit(*given, covariance=kind), i)
    monkeypatch.setattr(slices, "SECONDS", 0.0)
    assert bits(gd.fit(*given, covariance=kind), i) == whole
