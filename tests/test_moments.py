"""gd.Moments: bits of any cutting of the rows, bounds of what comes and goes, fits without rows."""

from __future__ import annotations

import copy
import itertools
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from loops import each
from problems import Array, Linear, canonical

L = problems.SEGMENT["float64"]


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


@each("n", [1, 7, 8, 9, 500, L + 15])
@each("d", [1, 7, 8, 9, 16, 27, 70])
def test_rows_or_columns_may_be_contiguous(rng: Any, dtype: Any, isa: str, n: int, d: int) -> None:
    p = draw(rng, n, d, dtype=dtype)
    rows = gd.Moments(d, dtype=dtype).update(np.ascontiguousarray(p.X), p.y)
    columns = gd.Moments(d, dtype=dtype).update(np.asfortranarray(p.X), p.y)
    assert content(columns) == content(rows)


@each("t", [None, 3])
@each("parts", ["b", "bo", "bs", "bos"])
def test_any_cutting_has_the_bits_of_one_update(rng: Any, dtype: Any, t: Any, parts: str) -> None:
    problem = draw(rng, t=t, parts=parts, dtype=dtype)
    whole = content(moments(problem))
    for cuts in ([1], [L], [L - 1, L + 1], [5, 5, 600], range(0, 2 * L, 7), range(0, 1600, 500)):
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


@each("fit_intercept", [True, False])
@each("parts", ["b", "bos"])
@each("reduction", problems.REDUCTIONS)
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


def test_a_fit_of_several_targets_continues(rng: Any, dtype: Any) -> None:
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


@each("scale", [1.0, 1e6])
def test_rows_taken_out_stay_in_the_bound(rng: Any, dtype: Any, scale: float) -> None:
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
    both, whole = (m.fit(gd.SGD(), epochs=9, tol=None).weights for m in (a + b, moments(problem)))
    np.testing.assert_allclose(both, whole, rtol=1e-5)
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


def test_a_loss_below_rounding_is_bounded_and_warned_of(rng: Any, dtype: Any) -> None:
    X = problems.normal(rng, (50, 2), dtype)
    y = (X @ np.array([3, -2], dtype)).astype(dtype)
    m = gd.Moments(2, dtype=dtype).update(X, y)
    with pytest.warns(gd.FitWarning, match=r"too small a part.*or less; gdcore\.mse"):
        fit = m.fit(gd.SGD(), tol=1e-5 if dtype == "f4" else 1e-13)
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
    bad[-1, 2], bad[600, 1] = np.inf, 0  # in the segment left open
    refused(lambda: m.update(bad, problem.y), rf"X holds inf at row {len(bad) - 1}, column 2")
    huge = np.full((600, 3), 1e200)
    refused(lambda: m.update(huge, np.ones(600)), "overflow or underflow float64; scale")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gdcore.data.rows.moments_of", interrupt)
    with pytest.raises(KeyboardInterrupt):
        m.update(**rows(problem))
    monkeypatch.undo()
    assert content(m) == before


def test_interrupted_fits_keep_their_weights(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gdcore.data.slices.SECONDS", 0.0)
    cut = fits.cut_after(3, KeyboardInterrupt)
    with pytest.raises(gd.FitInterrupted) as caught:
        moments(draw(rng)).fit(gd.SGD(), epochs=10**9, tol=None, history=0, progress=cut)
    assert caught.value.fit.epochs > 0


# No rows, and rows that count for nothing.


def test_empty() -> None:
    with pytest.warns(gd.FitWarning, match="No rows"):
        fit = gd.Moments(2).fit(gd.SGD(), init=[1.0, 2.0])
    assert fit.status is Status.EMPTY
    assert fit.weights.tolist() == [1, 2]
    nothing = gd.Moments(2).update(np.ones((5, 2)), np.ones(5), sample_weight=np.zeros(5))
    assert nothing.n == 5
    with pytest.warns(gd.FitWarning, match="No rows"):
        assert nothing.fit(gd.SGD()).status is Status.EMPTY
    assert gd.Moments(2).update(np.ones((0, 2)), np.ones(0)) == gd.Moments(2)


def test_an_intercept_alone() -> None:
    fit = gd.Moments(0).update(np.ones((3, 0)), [1.0, 2.0, 3.0]).fit(gd.SGD())
    assert fit.intercept == 2
    refused(lambda: gd.Moments(0).fit(gd.SGD(), fit_intercept=False), "nothing to fit")


# Bad input.

X, Y = np.arange(12.0).reshape(6, 2) ** 1.5, np.arange(6.0)


@each("call, match, error", [
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
    (lambda: gd.Moments(2).update(X, Y, sample_weight=Y * np.nan), r"\[0\] is nan", ValueError),
    (lambda: gd.Moments(2).update(X.astype(str), Y), "X", TypeError),
    (lambda: gd.Moments(2, dtype="f4").update(X, Y), "float64.*float32; convert", TypeError),
    (lambda: gd.Moments(2).downdate(X, Y), "6 rows cannot be taken out of 0", ValueError),
    (lambda: gd.Moments(2).update(X, Y).downdate(X * 9, Y), "column 0 of X would sum", ValueError),
    (lambda: gd.Moments(2).update(X, Y).downdate(X, Y + 1), "never put in.*y", ValueError),
    (lambda: gd.Moments(2).update(X, Y).fit(lr=1), r"takes no lr=.*SGD\(lr", TypeError),
    (lambda: gd.Moments(2).update(X, Y).fit(1.0), "sgd is float", TypeError),
    (lambda: gd.Moments(2).update(X, Y).fit(gd.SGD(), epochs=-1), "epochs is -1", ValueError),
    (lambda: gd.Moments(2).update(X, Y).fit(gd.SGD(), init=[1.0]), r"init.*\(1,\)", ValueError),
    (lambda: gd.Moments(2).update(X, Y).fit(reduction="max"), "max", ValueError),
    (lambda: gd.Moments(2).merge(gd.Moments(3)), "does not go with", ValueError),
    (lambda: gd.Moments(2) - gd.Moments(2, dtype="f4"), "does not go with", ValueError),
    (lambda: gd.Moments(2) + 1, "unsupported operand", TypeError),
    (lambda: 1 + gd.Moments(2), "unsupported operand", TypeError),
    (lambda: gd.Moments(2).update(X * 1e-140, Y).fit(), "underflow float64; scale", ValueError),
])  # fmt: skip
def test_bad_input(call: Any, match: str, error: type[Exception]) -> None:
    refused(call, match, error)


# Rows that were taken out.


def test_rounding_errors_are_not_fitted() -> None:
    """A column of which only they are left is named; one of zeros is known."""
    rng = np.random.default_rng(4)
    big, small = rng.standard_normal((20, 2)) * 1e30, np.zeros((20, 2))
    small[:, 1] = 1
    m = gd.Moments(2).update(big, Y[:1].repeat(20)).update(small, np.ones(20))
    m.downdate(big, Y[:1].repeat(20))
    refused(m.fit, "only rounding errors are left of column 1 of X.*again")


def fitted(m: gd.Moments, fit_intercept: bool, sgd: gd.SGD | None = None) -> gd.Fit | None:
    """Return the fit, in closed form without sgd; None if too little is left for it."""
    how: dict[str, Any] = {"fit_intercept": fit_intercept, "method": "exact"}
    if sgd is not None:
        how |= {"method": "auto", "tol": None, "epochs": 3000, "history": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gd.FitWarning)
        try:
            return m.fit(sgd, **how)
        except ValueError:
            match = "only rounding errors are left of .*; sum the rows that are left again"
            refused(lambda: m.fit(sgd, **how), match)
            return None


def is_right(fit: gd.Fit, X: Array, y: Array, sample_weight: Any = None) -> bool:
    """Compare predictions and loss with least squares on the rows."""
    X, y = X.astype(float), y.astype(float)
    columns = np.column_stack([X, np.ones(len(X))]) if fit.fit_intercept else X
    root = np.ones(len(X)) if sample_weight is None else np.sqrt(sample_weight.astype(float))
    target = y.reshape(len(X), -1) * root[:, None]
    best = np.linalg.lstsq(columns * root[:, None], target, rcond=None)[0]
    found = np.vstack([fit.weights.reshape(X.shape[1], -1), np.atleast_2d(fit.intercept)])
    error = (columns * root[:, None]) @ (found[: columns.shape[1]] - best)
    left = (columns * root[:, None]) @ found[: columns.shape[1]] - target
    loss, scale = (np.sum(a**2) / np.sum(root**2) / target.shape[1] for a in (left, target))
    right = np.linalg.norm(error) < 1e-5 * np.linalg.norm(target)
    return bool(right) and abs(fit.loss - loss) < 1e-5 * scale


def leave(m: gd.Moments, way: str, *rows: Array) -> gd.Moments:
    """Take rows out one by one, all at once, or as moments."""
    if way == "-":
        return m - gd.Moments(m.d, m.t, m.dtype).update(*rows)
    for part in (slice(i, i + 1) for i in range(len(rows[0]))) if way == "each" else [slice(None)]:
        m.downdate(*(a[part] for a in rows))
    return m


@each("way", ["-", "each", "all"])
@each("of", ["X and y", "one column", "X", "y"])
def test_large_rows_leave_the_right_answer_or_a_refusal(dtype: Any, of: str, way: str) -> None:
    rng, found = np.random.default_rng(7), set()
    for d, t, big in itertools.product((1, 3), (None, 2), 10.0 ** np.array([1, 4, 8, 12, 16, 19])):
        X, extra = (rng.standard_normal((n, d)).astype(dtype) for n in (50, 2))
        shape = () if t is None else (t,)
        y = (X @ rng.standard_normal((d, *shape)) + 3 + rng.normal(size=(50, *shape))).astype(dtype)
        more = rng.standard_normal((2, *shape)).astype(dtype)
        extra[:, : 1 if of == "one column" else d] *= dtype.type(1 if of == "y" else big)
        more *= dtype.type(big if "y" in of else 1)
        m = gd.Moments(d, t, dtype).update(X[:20], y[:20])
        for _ in range(3):
            m.update(extra, more)
        m = m.merge(gd.Moments(d, t, dtype).update(X[20:], y[20:]))
        for _ in range(3):
            m = leave(m, way, extra, more)
        for fit_intercept, sgd in itertools.product((True, False), (gd.SGD(), None)):
            fit = fitted(m, fit_intercept, sgd)
            assert fit is None or is_right(fit, X, y)
            found.add((float(big), fit is None))
    assert {(10.0, False), (1e16, True), (1e19, True)} <= found
    assert not {(10.0, True), (1e16, False), (1e19, False)} & found


def test_heavy_rows_leave_the_right_answer_or_a_refusal(rng: Any, dtype: Any) -> None:
    X, y = rng.standard_normal((30, 2)).astype(dtype), rng.standard_normal(30).astype(dtype)
    weight = rng.uniform(0.5, 2, 30).astype(dtype)
    for heavy in (10, 1e10, 1e19, 1e28, 1e30):
        m = gd.Moments(2, dtype=dtype).update(X, y, sample_weight=weight)
        rows: dict[str, Any] = {"X": X[:1], "y": y[:1], "sample_weight": np.array([heavy], dtype)}
        fit = fitted(m.update(**rows).downdate(**rows), True)
        assert is_right(fit, X, y, weight) if fit else heavy > 10
        assert (fit is None) or heavy < 1e28


def test_a_window_that_slides_for_long_is_fitted(dtype: Any) -> None:
    rng, n, window = np.random.default_rng(8), 2000, 20
    kinds = {
        "ordinary": rng.standard_normal((n, 3)),
        "years": np.column_stack([rng.integers(1990, 2020, n), rng.standard_normal(n)]),
        "groups": np.eye(3)[rng.integers(0, 3, n)],
        "rare": np.column_stack([rng.random(n) < 0.01, rng.standard_normal(n)]),
        "heavy tails": rng.standard_t(2, (n, 2)),
    }
    for kind, columns in kinds.items():
        X, y = columns.astype(dtype), (columns.sum(axis=1) + rng.normal(size=n)).astype(dtype)
        m = gd.Moments(X.shape[1], dtype=dtype).update(X[:window], y[:window])
        for begin in range(0, n - window, 5):
            old, new = slice(begin, begin + 5), slice(begin + window, begin + window + 5)
            m.update(X[new], y[new]).downdate(X[old], y[old])
            if begin % 1000 == 0 or new.stop == n:
                rows = slice(old.stop, new.stop)
                fit = fitted(m, False)
                assert fit is not None, kind
                assert is_right(fit, X[rows], y[rows])


def test_a_column_that_lost_all_its_values_is_zero(rng: Any, dtype: Any) -> None:
    """Its rounding errors are cleared, also when rows of no weight are added."""
    X, y = rng.standard_normal((30, 3)).astype(dtype), rng.standard_normal(30).astype(dtype)
    X[:20, 0] = y[:20] = 0
    m = gd.Moments(3, dtype=dtype).update(X, y).downdate(X[20:], y[20:])
    m.update(X[20:], y[20:], sample_weight=np.zeros(10, dtype))
    assert not m.hi[[0, 1, 2, 3, 4, 9, 14, 19, 20]].any()
    assert m.hi[[6, 7, 12]].all()
    m.downdate(X[:20], y[:20])
    assert not np.append(m.hi, m.lo).any()
    with pytest.warns(gd.FitWarning, match="No rows"):
        assert m.fit().status is Status.EMPTY


@each("rows, match", [
    (([[2.0, 0.0]], [1.0]), "the squares of column 0 of X would sum to -"),
    (([[0.0, 1.0]], [0.0]), "the squares of column 1 of X would sum to -0.5"),
    (([[0.5, 0.0], [0.5, 0.0]], [1.0, 1.0]), "have a value other than 0 in column 0 of X"),
    (([[1.0, 0.0]], [9.0]), "the squares of y would sum to -"),
])  # fmt: skip
def test_more_than_was_put_in_is_not_taken_out(rows: Any, match: str) -> None:
    m = gd.Moments(2).update([[1.0, 0.0], [0.0, 0.5], [0.0, 0.5]], [1.0, 2.0, 3.0])
    kept = content(m)
    refused(lambda: m.downdate(*rows), f"never put in.*{match}")
    assert content(m) == kept


def test_sums_of_no_rows_are_not_fitted(rng: Any) -> None:
    """Rows may have been put in by their squares, and not by their products."""
    X = rng.standard_normal((50, 3))
    X[:, 2] -= X.sum(axis=1) + 0.001 * rng.standard_normal(50)
    together = gd.Moments(3).update(X, rng.standard_normal(50)).downdate([[0.5] * 3], [0.1])
    target = gd.Moments(3).update(X, X[:, 0]).downdate([[0.1, 0.0, 0.0]], [-0.1])
    for m in (together, target):
        refused(m.fit, "never put in: no rows have the sums that are left")


def test_columns_that_depend_on_each_other_still_do(rng: Any, dtype: Any) -> None:
    """The solution of least norm, not one that rounding errors make up."""
    share = rng.dirichlet([1, 1, 1], 60)
    for X in (share, np.column_stack([share[:, 0], share[:, 0] + 2])):
        kept, y = X.astype(dtype), (X[:, 0] + rng.standard_normal(60)).astype(dtype)
        large = kept[:9] * dtype.type(50 if dtype == "f4" else 1e4), y[:9]
        m = gd.Moments(X.shape[1], dtype=dtype).update(kept, y).update(*large).downdate(*large)
        with pytest.warns(gd.FitWarning, match="are dependent; these"):
            fit = m.fit(method="exact")
        columns = np.column_stack([kept, np.ones(60)]).astype(float)
        best = np.linalg.lstsq(columns, y.astype(float), rcond=1e-5)[0]
        np.testing.assert_allclose([*fit.weights, fit.intercept], best, rtol=1e-4, atol=1e-4)


def test_a_direction_lost_in_columns_alike_is_refused(dtype: Any) -> None:
    rng = np.random.default_rng(9)
    z, large = rng.standard_normal((50, 2)), np.full((1, 2), 3e9 if dtype == "f8" else 1e3)
    for near, is_refused in ((1.0, False), (1e-4, True)):
        X = np.column_stack([z[:, 0], z[:, 0] + near * z[:, 1]]).astype(dtype)
        y = X[:, 0] - X[:, 1]
        m = gd.Moments(2, dtype=dtype).update(X, y)
        assert fitted(m, True) is not None
        m.update(large.astype(dtype), y[:1]).downdate(large.astype(dtype), y[:1])
        assert (fitted(m, True) is None) == is_refused


def test_a_loss_below_the_errors_of_rows_taken_out_is_a_bound(rng: Any) -> None:
    X = rng.standard_normal((50, 2))
    y, large = X @ [1.0, 2.0], (np.full((1, 2), 1e6), np.ones(1))
    m = gd.Moments(2).update(X, y).update(*large).downdate(*large)
    with pytest.warns(gd.FitWarning, match="rounding errors of rows that were taken out.*or less"):
        found = m.fit(gd.SGD(), tol=1e-10)
    for fit in (found, m.fit(method="exact")):
        assert gd.mse(fit.predict(X), y) < fit.loss < 1e-10


# Features too small for their squares.


@pytest.mark.parametrize(("dtype", "size"), [("f4", 1e-25), ("f8", 1e-170)])
@each("parts", ["b", "bs"])
def test_features_too_small_are_refused_in_every_way_in(
    rng: Any, dtype: str, size: float, parts: str
) -> None:
    problem = draw(rng, 60, parts=parts, dtype=np.dtype(dtype))
    problem.X[:] = size * np.sign(problem.X)
    given = rows(problem)
    chunks = [(given["X"], given["y"], given["sample_weight"])]
    sgd, how = gd.SGD(), {"fit_intercept": False}
    calls = [lambda: gd.Moments(3, dtype=dtype).update(**given).fit(sgd, **how)]
    for more in ({"method": "stream"}, {"method": "gram"}, {"batch_size": 8}):
        options: dict[str, Any] = how | more
        calls.append(lambda o=options: gd.fit(**given, sgd=sgd, **o))
        calls.append(lambda o=options: gd.fit(chunks, sgd=sgd, **o))
    if dtype == "f8":  # the moments know nothing of them, whatever there is besides
        calls.append(gd.Moments(3).update(**given).fit)
    said = {refused(call, "the squares of X underflow float.*; standardize") for call in calls}
    assert len(said) == 1


def test_features_of_zeros_are_not_refused(rng: Any, dtype: Any) -> None:
    """Neither are values in rows of weight 0."""
    problem = draw(rng, 60, parts="bs", dtype=dtype)
    problem.X[:] = 0
    problem.X[0], problem.sample_weight[0] = 1e-30, 0
    given, sgd, how = rows(problem), gd.SGD(), {"fit_intercept": False}
    chunks = [(given["X"], given["y"], given["sample_weight"])]
    found = [
        gd.fit(**given, sgd=sgd, method="stream", **how),
        gd.fit(chunks, sgd=sgd, method="stream", **how),
        gd.Moments(3, dtype=dtype).update(**given).fit(sgd, **how),
    ]
    assert [(fit.lr, fit.weights.any()) for fit in found] == [(1.0, False)] * 3


# Shared.


@pytest.fixture
def _switching() -> Iterator[None]:
    """Let threads take turns as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(*works: Callable[[], object]) -> None:
    """Run each in a thread, up to its end."""
    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(work) for work in works]:
            future.result(60)


@pytest.mark.usefixtures("_switching")
def test_threads_share_moments(rng: Any, dtype: Any) -> None:
    X = problems.integers(rng, (5, 3), dtype, 9)
    y = problems.integers(rng, (5,), dtype, 9)
    m, times, ends = gd.Moments(3, dtype=dtype), 100, []

    def put() -> None:
        for _ in range(times):
            m.update(X, y)

    def look() -> None:
        while not ends:
            seen = m.copy()
            assert seen.n % 5 == 0
            assert pickle.loads(pickle.dumps(seen)) == seen == copy.copy(seen)
            if seen.n:
                assert seen.hi[0] == seen.n / 5 * (X[:, 0].astype(float) ** 2).sum()
            assert repr(m).startswith("Moments(d=3")

    def put_all() -> None:
        try:
            in_threads(*[put] * 6)
        finally:
            ends.append(True)

    in_threads(put_all, look)
    once = gd.Moments(3, dtype=dtype).update(X, y)
    assert m == sum([once] * (6 * times))
    taken: list[Callable[[], object]] = [lambda: [m.downdate(X, y) for _ in range(times)]] * 6
    in_threads(*taken)
    assert m == gd.Moments(3, dtype=dtype)


@pytest.mark.usefixtures("_switching")
def test_merging_both_ways_at_once_ends(rng: Any) -> None:
    a, b = moments(draw(rng)), moments(draw(rng))
    n = a.n + b.n
    in_threads(*[lambda: a.merge(b), lambda: b.merge(a), lambda: a == b] * 4)
    assert a.n % (n // 2) == b.n % (n // 2) == 0
    assert min(a.n, b.n) > n
    again = a.copy()
    assert again.merge(again).n == 2 * a.n


def test_summed_by_sum(rng: Any) -> None:
    a, b = moments(draw(rng)), moments(draw(rng, 40))
    assert sum([a, b]) == a + b == np.sum(np.array([a, b], object))
    alone = sum([a])
    assert alone == a
    assert alone is not a


def test_copied_and_pickled_without_a_lock(rng: Any, dtype: Any) -> None:
    m = moments(draw(rng, dtype=dtype))
    kept = content(m)
    more = rows(draw(rng, 40, dtype=dtype))
    for again in (copy.copy(m), copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert again == m
        assert again.update(**more).n == m.n + 40
        assert content(m) == kept
    assert not any("lock" in name for name in m.__getstate__())


def test_pickles_of_the_first_release_are_read(rng: Any, dtype: Any) -> None:
    """Sums without counts and names: a column that may be 0 or lost is refused."""
    problem = draw(rng, 700, dtype=dtype)
    problem.X[:, 0] = 0
    state = moments(problem).__getstate__()
    first = {"_d", "_t", "_dtype", "_n", "_hi", "_lo", "_open", "_gone"}
    state = {name: value for name, value in state.items() if name in first}
    assert state.keys() == first
    old = gd.Moments.__new__(gd.Moments)
    old.__setstate__(state)
    assert old == moments(problem)
    assert bits(old.fit(gd.SGD())) == bits(moments(problem).fit(gd.SGD()))
    old.downdate(problem.X[100:], problem.y[100:])
    assert old.n == 100
