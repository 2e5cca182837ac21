"""Sums of more than 512 segments: their partials are long sums again (docs/numerics.md, rule 2)."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
import long_sums
from conftest import ISAS, THREADS
from long_sums import FAN_IN, exact
from problems import SEGMENT, Array, canonical

L = SEGMENT["float64"]
CHAIN = L * FAN_IN
SIZES = (CHAIN - 1, CHAIN, CHAIN + 1, CHAIN + L - 1, CHAIN + L, 513 * L, 2 * CHAIN + 1)


def paths() -> Iterator[str]:
    """Force every instruction set, then threads on the best one, then the reference loops."""
    runs = [(isa, 1) for isa in ISAS] + [(ISAS[-1], t) for t in THREADS[1:]] + [("reference", 1)]
    for isa, threads in runs:
        gd._core.set_isa(isa)
        gd.set_num_threads(threads)
        yield f"{isa}, {threads} threads"


def check(run: Any, expected: Any, what: str) -> None:
    """Assert equal bits on every path."""
    for path in paths():
        assert canonical(*run()) == canonical(*expected), f"{what}: {path}"


def test_up_to_512_partials_are_one_chain(rng: Any) -> None:
    """20 000 sums: each partial is the first term of its segment; all further terms are zero."""
    partials = rng.standard_normal((100, FAN_IN)).astype(np.float32)
    rows = np.zeros((100, FAN_IN, L), np.float32)
    rows[:, :, 0] = partials
    chains = np.cumsum(partials, axis=1)  # one after the other
    ones = np.ones(CHAIN, np.float32)
    for count in rng.integers(1, FAN_IN + 1, 200):
        got = gd.matmul(rows.reshape(100, -1)[:, : count * L], ones[: count * L])
        assert got.tobytes() == chains[:, count - 1].tobytes()
    assert long_sums.long_sum(list(partials[0])) == chains[0, -1]


def test_mse(rng: Any, dtype: Any) -> None:
    r = exact(rng, max(SIZES), dtype)
    zero = np.zeros_like(r)
    for n in SIZES:
        expected = dtype.type(long_sums.squares(r[:n]))
        check(lambda n=n: [gd.mse(r[:n], zero[:n], reduction="sum")], [expected], f"{n}")
    strided = np.zeros((SIZES[-1], 2), dtype)
    strided[:, 1] = r
    for path in paths():
        assert gd.mse(strided[:, 1], zero, reduction="sum") == expected, path
        loss, gradient = gd.mse_value_and_grad(r, zero, reduction="sum")
        assert loss == expected, path
        assert gradient.tobytes() == (2 * r).tobytes(), path


def test_products(rng: Any, dtype: Any) -> None:
    a, b = exact(rng, (2, max(SIZES)), dtype), exact(rng, (max(SIZES), 2), dtype)
    for k in SIZES:
        column = [long_sums.dot(row[:k], b[:k, 0]) for row in a]
        check(lambda k=k: [gd.matmul(a[:, :k], b[:k, 0])], [np.array(column)], f"{k} x 1")
        several = [[long_sums.element(row[:k], c[:k]) for c in b.T] for row in a]
        check(lambda k=k: [gd.matmul(a[:, :k], b[:k])], [np.array(several)], f"{k} x 2")


def test_products_of_every_layout(rng: Any, dtype: Any) -> None:
    """Operands by rows, by columns and strided; more rows and columns than a block has."""
    k = CHAIN + 3
    a, b = exact(rng, (5, k), dtype), exact(rng, (k, 3), dtype)
    expected = np.array([[long_sums.element(row, c) for c in b.T] for row in a])
    column = np.array([long_sums.dot(row, b[:, 0]) for row in a])
    gapped = np.zeros((5, 2 * k), dtype)
    gapped[:, ::2] = a
    for left in (a, np.asfortranarray(a), gapped[:, ::2]):
        for right in (b, np.asfortranarray(b)):
            check(lambda x=left, y=right: [gd.matmul(x, y)], [expected], "several")
            check(lambda x=left, y=right: [gd.matmul(x, y[:, 0])], [column], "one")
    out = np.empty((3, 5), dtype).T
    assert gd.matmul(a, b, out=out).tobytes() == expected.tobytes()
    gd._core.set_isa(ISAS[-1])
    tall = gd.matmul(np.broadcast_to(a[0], (520, k)), b[:, :2])
    assert (tall == expected[0, :2]).all()
    wide = gd.matmul(a[:2], np.broadcast_to(b[:, :1], (k, 2050)))
    assert (wide == expected[:2, :1]).all()


def linear(X: Array, y: Array, **how: Any) -> list[Any]:
    d, t = X.shape[1], y.shape[1]
    y, weights = (y[:, 0], np.zeros(d)) if t == 1 else (y, np.zeros((d, t)))
    intercept = np.zeros(() if t == 1 else t)
    args = X, y, weights.astype(X.dtype), intercept.astype(X.dtype)
    loss, grad = gd.linear_mse_value_and_grad(*args, reduction="half_sum", **how)
    return [loss, grad.weights, grad.intercept]


@pytest.mark.parametrize(("d", "t"), [(1, 1), (3, 1), (7, 1), (18, 1), (1, 2)])
def test_linear(rng: Any, dtype: Any, d: int, t: int) -> None:
    """At weights of zero, where the residual is -y. Two targets have twice as many squares."""
    X, y = exact(rng, (max(SIZES), d), dtype), exact(rng, (max(SIZES), t), dtype)
    for n in SIZES if d == 1 else SIZES[-3:]:
        weights, intercept = long_sums.gradient(X[:n], -y[:n])
        loss = dtype.type(long_sums.squares(y[:n]) / 2)
        shape = () if t == 1 else (t,)
        expected = [
            loss,
            weights.reshape((d, *shape)).astype(dtype),
            intercept.reshape(shape).astype(dtype),
        ]
        check(lambda n=n: linear(X[:n], y[:n]), expected, f"{n} x {d} x {t}")
    n = CHAIN // 2 + L + 1
    assert linear(X[:n], y[:n])[0] == dtype.type(long_sums.squares(y[:n]) / 2)


def in_lanes(terms: Array) -> float:
    """Sum the terms in 16 lanes, the partials in float64."""
    return float(long_sums.in_wide(long_sums.in_lanes(long_sums.segments(terms), 16)))


def test_sample_weights_are_a_long_sum(rng: Any, dtype: Any) -> None:
    n = CHAIN + L + 5
    X, y = np.zeros((n, 1), dtype), np.ones(n, dtype)
    weight = np.abs(exact(rng, n, dtype)) * dtype.type(1.1)
    partials = np.cumsum(long_sums.segments(weight), axis=1, dtype=np.float64)[:, -1]
    expected = dtype.type(in_lanes(weight) / long_sums.long_sum(list(partials)))
    for path in paths():
        mean, _ = gd.linear_mse_value_and_grad(X, y, np.zeros(1, dtype), sample_weight=weight)
        assert mean == expected, path


def test_more_features_than_a_chain_adds(rng: Any, dtype: Any) -> None:
    d = CHAIN + 2 * L + 9
    X, w = exact(rng, (18, d), dtype), exact(rng, d, dtype)
    products = np.array([long_sums.dot(row, w) for row in X])
    zero = np.zeros(18, dtype)
    for rows in (1, 18):
        total = dtype.type(in_lanes(products[:rows]))
        for path in paths():
            _, grad = gd.linear_mse_value_and_grad(
                X[:rows], zero[:rows], w, dtype.type(0), reduction="half_sum"
            )
            assert grad.intercept == total, f"{rows}: {path}"


def packed(sums: Any) -> tuple[Array, Array]:
    """Return the sums as `Moments.hi` and `lo` have them, of one feature and one target."""
    at = ([0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2])
    hi, lo = np.zeros((2, 7))
    places = [0, 1, 2, 4, 5, 6]
    hi[places], lo[places] = sums.hi[at], sums.lo[at]
    return hi, lo


def summed(X: Array, y: Array) -> list[Array]:
    """Return the parts of the moments of the rows."""
    problem = gd._core.Problem(X, y[:, None], None, None, True, "mean")
    work = gd._core.MomentsPass(problem)
    while not work.advance(1.0, 0):
        pass
    return [work.moments().hi, work.moments().lo]


def test_moments(rng: Any, dtype: Any) -> None:
    X, y = exact(rng, (max(SIZES), 1), dtype), exact(rng, max(SIZES), dtype)
    for n in SIZES:
        expected = packed(long_sums.moments(X[:n], y[:n]))
        check(lambda n=n: summed(X[:n], y[:n]), expected, f"{n}")


def test_a_pass_that_pauses_has_the_same_bits(
    rng: Any, monkeypatch: pytest.MonkeyPatch, dtype: Any
) -> None:
    """Work that stops after every look at the clock."""
    n = CHAIN + 3 * L + 5
    X, y = rng.standard_normal((n, 30)).astype(dtype), rng.standard_normal((n, 4)).astype(dtype)
    problem = gd._core.Problem(X, y, None, None, True, "mean")

    def sums(seconds: float) -> tuple[int, Any]:
        work, calls = gd._core.MomentsPass(problem), 1
        while not work.advance(seconds, 1):
            calls += 1
        return calls, canonical(work.moments().hi, work.moments().lo)

    (calls, slowly), (_, at_once) = sums(0.0), sums(100.0)
    assert calls > 1
    assert slowly == at_once
    how: Any = {"epochs": 2, "tol": None, "method": "stream"}
    fit = gd.fit(X, y, gd.SGD(lr=0.01), **how)
    monkeypatch.setattr("gdcore.data.slices.SECONDS", 0.0)
    assert fits.bits(gd.fit(X, y, gd.SGD(lr=0.01), **how)) == fits.bits(fit)


def cut(X: Array, y: Array, ends: Any) -> list[tuple[Array, Array]]:
    return [(X[a:b], y[a:b]) for a, b in pairwise([0, *ends, len(X)])]


def test_updates_in_odd_pieces_have_the_bits_of_one(rng: Any, dtype: Any) -> None:
    n = 2 * CHAIN + 77
    X, y = rng.standard_normal((n, 2)).astype(dtype), rng.standard_normal(n).astype(dtype)
    once = gd.Moments(2, dtype=dtype).update(X, y)
    parts = gd.Moments(2, dtype=dtype)
    for piece in cut(X, y, [1, 700, CHAIN - 100, CHAIN, CHAIN + 1, CHAIN + 600, n - 3]):
        parts.update(*piece)
        parts = pickle.loads(pickle.dumps(parts)).copy()
    assert parts == once
    assert canonical(once.hi, once.lo) == canonical(*summed(X, y))
    a, b = gd.Moments(2, dtype=dtype).update(X, y), gd.Moments(2, dtype=dtype).update(X[::-1], y)
    assert a + b == b + a
    assert (a + b).n == 2 * n


def test_chunks_have_the_bits_of_arrays(rng: Any, dtype: Any) -> None:
    n = CHAIN + 3 * L + 5
    X, y = rng.standard_normal((n, 2)).astype(dtype), rng.standard_normal(n).astype(dtype)
    chunks = cut(X, y, [100, 5 * L + 1, CHAIN - 1, CHAIN + L + 3])
    for method in ("gram", "stream"):
        how: Any = {"epochs": 3, "tol": None, "method": method}
        fit, same = gd.fit(chunks, sgd=gd.SGD(lr=0.01), **how), gd.fit(X, y, gd.SGD(lr=0.01), **how)
        assert fits.bits(fit)[:-1] == fits.bits(same)[:-1]


def test_windows_have_the_bits_of_their_rows(rng: Any) -> None:
    """A window that is summed whole, and one that slid."""
    window, step = CHAIN + L + 1, 7
    n = window + step
    X, y = rng.standard_normal((n, 1)), rng.standard_normal(n)
    rolling = gd.fit_rolling(X, y, window=window, step=step)
    first = gd.Moments(1).update(X[:window], y[:window])
    assert rolling.weights[0].tobytes() == first.fit().weights.tobytes()
    last = gd.Moments(1).update(X[step:], y[step:])
    np.testing.assert_allclose(rolling.weights[1], last.fit().weights, rtol=1e-14)


def test_moments_of_numerics_v1_go_on(rng: Any) -> None:
    """Pickles had one level. Up to 512 segments it is v2's lowest; a longer sum starts a piece."""
    n = 2 * CHAIN
    X, y = rng.standard_normal((n, 1)), rng.standard_normal(n)

    def of_v1(count: int) -> gd.Moments:
        m = gd.Moments(1).update(X[:count], y[:count])
        state = gd.Moments.of(m._statistics.closed()).__getstate__()
        del state["_segments"], state["_upper"]
        old = gd.Moments.__new__(gd.Moments)
        old.__setstate__(state)
        return old

    for count in (L, CHAIN - L, CHAIN):
        later = of_v1(count).update(X[count:], y[count:])
        assert later == gd.Moments(1).update(X, y)
    longer = of_v1(CHAIN + L)
    assert longer == gd.Moments(1).update(X[: CHAIN + L], y[: CHAIN + L])
    longer.update(X[CHAIN + L :], y[CHAIN + L :])
    once = gd.Moments(1).update(X, y)
    assert longer.n == once.n
    off = np.abs((longer.hi - once.hi) + (longer.lo - once.lo))
    assert off.max() <= 3 * 2 * FAN_IN * 2.0**-106 * max(once.hi)


def test_a_third_level() -> None:
    """More than 512 pieces of 512 segments: one number, read again and again."""
    gd.set_num_threads(2)
    n = 513 * CHAIN + L
    one, x = np.float32(1), np.float32(1.1)

    def total(partial: Any) -> Any:
        piece = long_sums.chain([partial] * FAN_IN)
        return long_sums.chain([piece] * FAN_IN) + (piece + partial)

    partial = long_sums.in_lanes(np.full((1, L), x), 16)[0]
    product = gd.matmul(np.broadcast_to(x, (1, n)), np.broadcast_to(one, n))
    assert product[0] == total(partial)
    pred, target = np.broadcast_to(np.float32(1.25), n), np.broadcast_to(np.float32(0), n)
    square = long_sums.in_lanes(np.full((1, L), pred[0] ** 2), 16)[0]
    loss = gd.mse(pred, target, reduction="sum")
    assert loss == np.float32(total(np.float64(square)))
    X, y = np.broadcast_to(one, (n, 1)), np.broadcast_to(x, n)
    _, grad = gd.linear_mse_value_and_grad(X, y, np.zeros(1, np.float32), reduction="half_sum")
    assert grad.weights[0] == -np.float32(total(np.float64(partial)))
