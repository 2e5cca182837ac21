"""gd.Moments: bits of any cutting of the rows, bounds of what comes and goes, fits without rows."""

from __future__ import annotations

import pickle
from fractions import Fraction
from itertools import pairwise
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
from problems import Array, Linear, canonical

L = problems.CHUNK["float64"]


def draw(rng: Any, n: int = 3 * L + 77, d: int = 3, t: int | None = None, **how: Any) -> Linear:
    return problems.linear(rng, n, d, t, **({"parts": "b"} | how))


def rows(problem: Linear, part: Any = slice(None)) -> dict[str, Any]:
    """Return the arguments of an update with some of the rows."""
    p = fits.rows_of(problem, part)
    return {"X": p.X, "y": p.y, "offset": p.offset, "sample_weight": p.sample_weight}


def moments(problem: Linear, cuts: Any = ()) -> gd.Moments:
    """Sum the rows in pieces that end at the cuts."""
    t = problem.y.shape[1] if problem.y.ndim == 2 else None
    result = gd.Moments(problem.X.shape[1], t, problem.X.dtype)
    ends = [0, *sorted(cuts), len(problem.X)]
    for begin, end in pairwise(ends):
        result.update(**rows(problem, slice(begin, end)))
    return result


def content(m: gd.Moments) -> Any:
    return m.n, canonical(m.hi, m.lo)


def exact(problem: Linear) -> list[Fraction]:
    """Return the sums in the order of `Moments.hi`, without any rounding."""
    y = problem.y if problem.y.ndim == 2 else problem.y[:, None]
    table = np.hstack([problem.X, np.ones((len(y), 1)), y])
    p = problem.X.shape[1] + 1
    cells = [[Fraction(float(x)) for x in row] for row in table]
    total = lambda a, b: sum((r[a] * r[b] for r in cells), Fraction())  # noqa: E731
    upper = [total(a, b) if a <= b else Fraction() for a in range(p) for b in range(table.shape[1])]
    return upper + [total(b, b) for b in range(p, table.shape[1])]


# Bits.


@pytest.mark.parametrize("n", [1, 7, 8, 9, 500, L + 15])
@pytest.mark.parametrize("d", [1, 7, 8, 9, 16, 27, 70])
def test_columns_may_lie_together(rng: Any, dtype: Any, isa: str, n: int, d: int) -> None:
    p = draw(rng, n, d, dtype=dtype)
    rows = gd.Moments(d, dtype=dtype).update(np.ascontiguousarray(p.X), p.y)
    columns = gd.Moments(d, dtype=dtype).update(np.asfortranarray(p.X), p.y)
    assert content(columns) == content(rows)


@pytest.mark.parametrize("t", [None, 3], ids="t={}".format)
@pytest.mark.parametrize("parts", ["b", "bo", "bs", "bos"])
def test_any_cutting_has_the_bits_of_one_update(rng: Any, dtype: Any, t: Any, parts: str) -> None:
    problem = draw(rng, t=t, parts=parts, dtype=dtype)
    whole = content(moments(problem))
    for cuts in ([1], [L], [L - 1, L + 1], [5, 5, 600], range(0, 2 * L, 3), range(0, 1600, 500)):
        assert content(moments(problem, cuts)) == whole


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2 * L + 9), max_size=12), st.sampled_from([np.float32, np.float64]))
def test_random_cuttings(cuts: list[int], dtype: Any) -> None:
    problem = draw(np.random.default_rng(0), 2 * L + 9, dtype=dtype)
    assert content(moments(problem, cuts)) == content(moments(problem))


def test_an_offset_or_weight_may_come_later(rng: Any) -> None:
    problem = draw(rng, 100, parts="bos")
    X, y, offset, weight = rows(problem).values()
    m = gd.Moments(3).update(X[:30], y[:30])
    m.update(X[30:], y[30:], offset=offset[30:], sample_weight=weight[30:])
    offset[:30], weight[:30] = 0, 1
    assert m == gd.Moments(3).update(X, y, offset=offset, sample_weight=weight)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("parts", ["b", "bos"])
@pytest.mark.parametrize("reduction", problems.REDUCTIONS)
def test_a_fit_has_the_bits_of_gram(
    rng: Any, dtype: Any, parts: str, reduction: Any, fit_intercept: bool
) -> None:
    problem = draw(rng, 700, parts=parts, dtype=dtype)
    how: dict[str, Any] = {"fit_intercept": fit_intercept, "reduction": reduction, "epochs": 200}
    sgd = gd.SGD(momentum=0.5)
    found = moments(problem, [100]).fit(sgd, **how)
    wanted = gd.fit(**rows(problem), sgd=sgd, method="gram", **how)
    assert bits(found) == bits(wanted)
    assert found.method == "gram"


def test_a_fit_of_several_targets_goes_on(rng: Any, dtype: Any) -> None:
    m = moments(draw(rng, t=2, dtype=dtype))
    sgd = gd.SGD(lr=0.01, momentum=0.5)
    first = m.fit(sgd, epochs=7, tol=None)
    rest = m.fit(sgd, epochs=5, tol=None, init=first)
    assert bits(fits.joined([first, rest])) == bits(m.fit(sgd, epochs=12, tol=None))
    assert first.weights.shape == (3, 2)


def test_float32_rows_go_into_float64_moments(rng: Any) -> None:
    problem = draw(rng, dtype=np.float32)
    wide = gd.Moments(3).update(problem.X, problem.y)
    assert wide == gd.Moments(3).update(problem.X.astype(float), problem.y.astype(float))
    again = gd.Moments(3, 2).update(problem.X, np.stack([problem.y] * 2, 1))
    assert again.n == wide.n


# Values.


def test_exact_on_whole_numbers(rng: Any, dtype: Any) -> None:
    X = problems.integers(rng, (40, 3), dtype, 9)
    y = problems.integers(rng, (40, 2), dtype, 9)
    m = gd.Moments(3, 2, dtype).update(X, y)
    assert [Fraction(x) for x in m.hi.tolist()] == exact(Linear(X, y, np.zeros((3, 2))))
    assert not m.lo.any()


def bound(m: gd.Moments, touched: Array) -> Array:
    """Bound the sums by the rows that ever came or went: docs/numerics.md."""
    u = 2.0**-53
    chunk = L * u / (1 - L * u)
    rounding = (chunk if m.dtype == np.float32 else chunk**2) + 3 * (m.n + 16) * u**2
    return np.asarray(rounding * touched)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_what_came_and_went_leaves_the_bound(rng: Any, dtype: Any, scale: float) -> None:
    problem = draw(rng, 300, dtype=dtype)
    problem.X[:150] *= dtype.type(scale)
    problem.y[:150] *= dtype.type(scale)
    m = moments(problem, [40])
    for begin in range(0, 150, 25):
        m.downdate(problem.X[begin : begin + 25], problem.y[begin : begin + 25])
    left = fits.rows_of(problem, slice(150, None))
    table = np.abs(np.hstack([problem.X, np.ones((300, 1)), problem.y[:, None]])).astype(float)
    products = table.T @ table
    touched = 2 * np.append(np.triu(products[:4]).ravel(), products[4, 4])
    sums = [Fraction(h) + Fraction(e) for h, e in zip(m.hi.tolist(), m.lo.tolist(), strict=True)]
    limits = zip(sums, exact(left), bound(m, touched), strict=True)
    assert all(abs(s - x) <= b for s, x, b in limits)
    assert m.n == 150


def test_merge_and_its_opposite(rng: Any, dtype: Any) -> None:
    problem = draw(rng, 1500, dtype=dtype)
    a, b = (moments(fits.rows_of(problem, part)) for part in (slice(0, 700), slice(700, None)))
    kept = content(a), content(b)
    assert a + b == b + a
    assert a.copy().merge(b) == a + b
    assert (content(a), content(b)) == kept
    assert (a + b - b).n == 700
    both = (a + b).fit(epochs=9, tol=None).weights
    np.testing.assert_allclose(both, moments(problem).fit(epochs=9, tol=None).weights, rtol=1e-5)
    assert a - a == gd.Moments(3, None, dtype)


def test_merging_whole_chunks_is_exact_on_whole_numbers(rng: Any) -> None:
    X, y = (
        problems.integers(rng, (2 * L + 5, 2), float),
        problems.integers(rng, (2 * L + 5,), float),
    )
    whole = gd.Moments(2).update(X, y)
    for cut in (L, 7):
        parts = [gd.Moments(2).update(X[part], y[part]) for part in (slice(cut), slice(cut, None))]
        assert parts[0] + parts[1] == whole


def test_a_loss_too_small_to_tell_is_bounded_and_said(rng: Any, dtype: Any) -> None:
    X = problems.normal(rng, (50, 2), dtype)
    y = (X @ np.array([3, -2], dtype)).astype(dtype)
    with pytest.warns(gd.FitWarning, match=r"too small a part.*or less; gdcore\.mse"):
        fit = gd.Moments(2, dtype=dtype).update(X, y).fit(tol=1e-5 if dtype == "f4" else 1e-13)
    assert fit.loss > 0
    assert not gd.mse(fit.predict(X), y) > fit.loss


# As a value.


def test_pickled_copied_compared(rng: Any, dtype: Any) -> None:
    problem = draw(rng, t=2, dtype=dtype)
    m = moments(problem)
    again, copied = pickle.loads(pickle.dumps(m)), m.copy()
    assert again == m == copied
    more = rows(draw(rng, 600, t=2, dtype=dtype))
    assert again.update(**more) == copied.update(**more)
    assert again != m
    assert m != gd.Moments(3, 2, dtype)
    assert gd.Moments(3) != gd.Moments(3, 1)
    assert m != "moments"
    with pytest.raises(TypeError, match="unhashable"):
        hash(m)
    assert repr(m) == f"Moments(d=3, t=2, dtype={dtype}, n={m.n})"


def test_the_callers_arrays_may_change(rng: Any) -> None:
    problem = draw(rng, 100)
    m = moments(problem)
    before = content(m)
    problem.X[:] = problem.y[:] = np.nan
    assert content(m) == before


def test_interrupted_or_refused_nothing_changes(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = draw(rng)
    m = moments(problem)
    before = content(m)
    bad = problem.X.copy()
    bad[600, 1] = np.nan
    refused(lambda: m.update(bad, problem.y), r"X holds nan at row 600, column 1")
    bad[-1, 2], bad[600, 1] = np.inf, 0  # in the chunk left open
    refused(lambda: m.update(bad, problem.y), rf"X holds inf at row {len(bad) - 1}, column 2")
    huge = np.full((600, 3), 1e200)
    refused(lambda: m.update(huge, np.ones(600)), "overflow or underflow float64; standardize")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gdcore.moments.moments_of", interrupt)
    with pytest.raises(KeyboardInterrupt):
        m.update(**rows(problem))
    monkeypatch.undo()
    assert content(m) == before


def test_interrupted_fits_keep_their_weights(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gdcore.descent.BLOCK_SECONDS", 0.0)
    cut = fits.cut_after(3, KeyboardInterrupt)
    with pytest.raises(gd.FitInterrupted) as caught:
        moments(draw(rng)).fit(epochs=10**9, tol=None, history=0, progress=cut)
    assert caught.value.fit.epochs > 0


# No rows, and rows that count for nothing.


def test_empty() -> None:
    with pytest.warns(gd.FitWarning, match="No rows"):
        fit = gd.Moments(2).fit(init=[1.0, 2.0])
    assert fit.status is Status.EMPTY
    assert fit.weights.tolist() == [1, 2]
    nothing = gd.Moments(2).update(np.ones((5, 2)), np.ones(5), sample_weight=np.zeros(5))
    assert nothing.n == 5
    with pytest.warns(gd.FitWarning, match="No rows"):
        assert nothing.fit().status is Status.EMPTY
    assert gd.Moments(2).update(np.ones((0, 2)), np.ones(0)) == gd.Moments(2)


def test_an_intercept_alone() -> None:
    fit = gd.Moments(0).update(np.ones((3, 0)), [1.0, 2.0, 3.0]).fit()
    assert fit.intercept == 2
    refused(lambda: gd.Moments(0).fit(fit_intercept=False), "nothing to fit")


# Bad input.

X, Y = np.arange(12.0).reshape(6, 2) ** 1.5, np.arange(6.0)


@pytest.mark.parametrize(("call", "match", "error"), [
    (lambda: gd.Moments(-1), "d is -1; it must be 0 or larger", ValueError),
    (lambda: gd.Moments(2, 0), "t is 0; it must be 1 or larger", ValueError),
    (lambda: gd.Moments(2.5), "d is 2.5; it must be a whole number", TypeError),
    (lambda: gd.Moments(True), "d is True", TypeError),
    (lambda: gd.Moments(2, dtype=int), "dtype is int64; it must be float32 or float64", TypeError),
    (lambda: gd.Moments(10**7), r"moments of 10000000 features take 1.49e\+06 GiB", MemoryError),
    (lambda: gd.Moments(2**40), "more than there is; drop columns", MemoryError),
    (lambda: gd.Moments(3).update(X, Y), r"X has shape \(6, 2\).*3 features", ValueError),
    (lambda: gd.Moments(2, 2).update(X, Y), r"y has shape \(6,\).*\(n, 2\)", ValueError),
    (lambda: gd.Moments(2).update(X, Y[:, None]), r"y has shape \(6, 1\).*\(n,\)", ValueError),
    (lambda: gd.Moments(2).update(X, Y[:5]), r"y has shape \(5,\) and X \(6, 2\)", ValueError),
    (lambda: gd.Moments(2).update(X, Y, sample_weight=-Y), r"sample_weight\[1\] is -1", ValueError),
    (lambda: gd.Moments(2).update(X.astype(str), Y), "X", TypeError),
    (lambda: gd.Moments(2, dtype="f4").update(X, Y), "float64.*float32; convert", TypeError),
    (lambda: gd.Moments(2).downdate(X, Y), "6 rows cannot be taken out of 0", ValueError),
    (lambda: gd.Moments(2).update(X, Y).downdate(X * 9, Y), "column 0 of X would sum", ValueError),
    (lambda: gd.Moments(2).update(X, Y).downdate(X, Y + 1), "never put in.*y", ValueError),
    (lambda: gd.Moments(2).update(X, Y).fit(lr=1), r"takes no lr=.*SGD\(lr", TypeError),
    (lambda: gd.Moments(2).update(X, Y).fit(1.0), "sgd is float", TypeError),
    (lambda: gd.Moments(2).update(X, Y).fit(epochs=-1), "epochs is -1", ValueError),
    (lambda: gd.Moments(2).update(X, Y).fit(init=[1.0]), r"init.*\(1,\).*\(2,\)", ValueError),
    (lambda: gd.Moments(2).update(X, Y).fit(reduction="max"), "max", ValueError),
    (lambda: gd.Moments(2).merge(gd.Moments(3)), "does not go with", ValueError),
    (lambda: gd.Moments(2) - gd.Moments(2, dtype="f4"), "does not go with", ValueError),
    (lambda: gd.Moments(2) + 1, "unsupported operand", TypeError),
    (lambda: gd.Moments(2).update(X * 1e-140, Y).fit(), "overflow or underflow float64; standardize", ValueError),
])  # fmt: skip
def test_bad_input(call: Any, match: str, error: type[Exception]) -> None:
    refused(call, match, error)


def test_rounding_errors_are_not_fitted() -> None:
    """A column of which only they are left is named."""
    rng = np.random.default_rng(4)
    big, small = rng.standard_normal((20, 2)) * 1e30, np.zeros((20, 2))
    small[:, 1] = 1
    m = gd.Moments(2).update(big, Y[:1].repeat(20)).update(small, np.ones(20))
    m.downdate(big, Y[:1].repeat(20))
    refused(m.fit, "only rounding errors are left of column 1 of X.*again")
