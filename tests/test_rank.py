"""Dependent columns are found in every way in, and the solution has the least norm."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
import problems
from gdcore import Status
from least_squares import augmented, check, dependent, draw, exact, least_norm, lstsq, off
from loops import each
from problems import Array


@each("kind", ["duplicate", "multiple", "sum of all", "indicators"])
def test_dependent_columns_of_many_rows(rng: Any, kind: str) -> None:
    """Each block of rows rounds, so what is left of a dependent column grows with them."""
    n, d = 150_000, 8
    X = problems.integers(rng, (n, d), float, 99)
    if kind == "duplicate":
        X[:, -1] = X[:, 0]
    elif kind == "multiple":
        X[:, -1] = 3 * X[:, 0]
    elif kind == "sum of all":
        X[:, -1] = X[:, :-1].sum(axis=1)
    else:
        X = np.eye(d)[rng.integers(0, d, n)]
    with pytest.warns(gd.FitWarning, match="dependent"):
        result = gd.fit(X, X[:, 0], method="exact")
    assert result.status is Status.SINGULAR
    # One solution is 1 and zeros; the solution of least norm is not longer.
    assert np.linalg.norm(fits.parameters(result)) <= 1 + 1e-9


@each("size", [1e-8, 1e-9])
def test_nearly_dependent_columns_of_many_rows(rng: Any, size: float) -> None:
    """The columns differ by much more than the rounding of 150 000 rows."""
    X = rng.standard_normal((150_000, 4))
    X[:, 3] = X[:, 0] * (1 + size * X[:, 3])
    assert gd.fit(X, X[:, 1], method="exact").status is Status.CONVERGED


@each("kind", [
    "duplicate", "multiple", "sum", "constant", "two constants", "zero", "all zero", "rank one",
    "few rows", "one row",
])  # fmt: skip
@each("parts", ["", "b", "bs"])
@each("t", [None, 2])
def test_least_norm(rng: Any, dtype: Any, kind: str, t: int | None, parts: str) -> None:
    """The solution is lstsq's: the minimum of least norm, intercept included."""
    X = dependent(rng, dtype, kind)
    problem = replace(draw(rng, len(X), 4, t, parts=parts, dtype=dtype), X=X)
    if problem.sample_weight is not None:
        problem.sample_weight[:] = problem.sample_weight + 1
    x = lstsq(problem)
    A, _ = augmented(problem)
    singular = np.linalg.matrix_rank(A) < A.shape[1]
    if singular:
        with pytest.warns(gd.FitWarning, match="dependent"):
            result = exact(problem)
    else:
        result = exact(problem)
    assert result.status is (Status.SINGULAR if singular else Status.CONVERGED)
    check(problem, result, x)


def test_descent_from_zero_finds_the_least_norm_too(rng: Any) -> None:
    X = dependent(rng, float, "sum")
    y = rng.standard_normal(40)
    with pytest.warns(gd.FitWarning, match="dependent"):
        ours = gd.fit(X, y, method="exact")
    descent = gd.fit(X, y, gd.SGD(momentum=0.9), tol=1e-12, epochs=20_000)
    np.testing.assert_allclose(fits.parameters(ours), fits.parameters(descent), rtol=1e-9)


def dependent_sets(rng: Any) -> dict[str, Array]:
    """Draw columns that depend on each other, or on the intercept, before they are rounded."""
    n = int(rng.integers(2, 200)) if rng.random() < 0.9 else 1000
    x = np.round(rng.standard_normal(n) * 10, 2)
    part = rng.random((n, int(rng.integers(2, 9))))
    few = rng.standard_normal((int(rng.integers(1, 6)), 5))
    return {
        "constant": np.full((n, 1), np.round(rng.uniform(1, 90), 2)),
        "x and 2x": np.c_[x, 2 * x],
        "x and x + 2": np.c_[x, x + 2],
        "shares": part / part.sum(1, keepdims=True),
        "2 levels": np.eye(2)[rng.integers(0, 2, n)],
        "3 levels": np.eye(3)[rng.integers(0, 3, n)],
        "equal rows": np.tile(np.round(rng.uniform(1, 30, 3), 2), (n, 1)),
        "zeros": np.c_[x, np.zeros(n)],
        "few rows": few,
        "the same rows again": np.repeat(few, 7, axis=0),
        "of unlike size": np.c_[x, 1e8 * x, rng.standard_normal(n), x + 1],
    }


@pytest.mark.filterwarnings("ignore:Rank", "ignore:[0-9]+ (problem|window)")
def test_exact_dependence_is_found(rng: Any, dtype: Any) -> None:
    """In every way in, and the solution is that of least norm."""
    tolerance = 1e-9 if dtype == np.float64 else 1e-4  # what rounding of the columns does
    for _ in range(20):
        for kind, columns in dependent_sets(rng).items():
            X, n = columns.astype(dtype), len(columns)
            y = rng.standard_normal(n).astype(dtype)
            least = least_norm(X, y, dtype)[:, 0]
            one = gd.fit(X, y)
            same = gd.fit(np.stack([X, X]), np.stack([y, y]))
            grouped = gd.fit_groups(np.vstack([X, X]), np.r_[y, y], np.arange(2 * n) < n)
            chunked = gd.fit([(X[: n // 2], y[: n // 2]), (X[n // 2 :], y[n // 2 :])])
            moments = gd.Moments(X.shape[1], dtype=dtype).update(X, y).fit()
            rolled = gd.fit_rolling(X, y, n)
            for fit in (one, same[0], same[1], grouped[0], grouped[1], chunked):
                assert fit.status is Status.SINGULAR, (kind, n)
                assert fits.parameters(fit).tobytes() == fits.parameters(one).tobytes(), (kind, n)
            assert moments.status is Status.SINGULAR, (kind, n)
            assert rolled.status[0] is Status.SINGULAR, (kind, n)
            unlike = kind == "of unlike size" and dtype == np.float32  # NumPy's cut is for one size
            for found in (one, moments):
                error = off(fits.parameters(found), least)
                assert unlike or error <= tolerance, (kind, n, error)


def test_weights_targets_and_offsets_of_dependent_columns(rng: Any) -> None:
    X = np.round(rng.standard_normal((60, 1)), 2) @ [[1.0, 2.0, -3.0]]
    y, offset = rng.standard_normal((60, 2)), rng.standard_normal((60, 2))
    weight = rng.integers(0, 3, 60).astype(float)
    for given in (weight, np.r_[np.ones(2), np.zeros(58)], weight * 1e-6):
        with pytest.warns(gd.FitWarning, match="Rank 2 of 4"):
            fit = gd.fit(X, y, offset=offset, sample_weight=given)
        least = least_norm(X, y - offset, np.float64, given)
        assert off(np.vstack([fit.weights, fit.intercept]), least) <= 1e-9
        with pytest.warns(gd.FitWarning, match="Rank 2 of 4"):
            moments = gd.Moments(3, 2).update(X, y, offset=offset, sample_weight=given).fit()
        assert off(np.vstack([moments.weights, moments.intercept]), least) <= 1e-9


def test_least_norm_of_columns_of_unlike_size(rng: Any) -> None:
    """Predictions keep all digits, whatever the largest column is."""
    z = rng.standard_normal((50, 2))
    X = np.c_[z[:, 0], 1e8 * z[:, 1], 2 * z[:, 0], 1e8 * z[:, 1] + 1e8 * z[:, 0], z[:, 0] + 1]
    y = z @ [3.0, -2.0] + 1
    with pytest.warns(gd.FitWarning, match="Rank 3 of 6"):
        fit = gd.fit(X, y)
    assert np.abs(fit.predict(X) - y).max() <= 1e-13
    assert off(fits.parameters(fit), least_norm(X, y, np.float64)[:, 0]) <= 1e-6


def test_rcond_replaces_the_limit(rng: Any, dtype: Any) -> None:
    x = rng.standard_normal(90)
    X = np.c_[x, x + 1e-3 * rng.standard_normal(90)].astype(dtype)
    y = x.astype(dtype)
    for call in (
        lambda rcond: gd.fit(X, y, rcond=rcond),
        lambda rcond: gd.fit_groups(X, y, np.zeros(90), rcond=rcond),
        lambda rcond: gd.fit([(X, y)], rcond=rcond),
        lambda rcond: gd.fit_rolling(X, y, 90, rcond=rcond),
        lambda rcond: gd.Moments(2, dtype=dtype).update(X, y).fit(rcond=rcond),
    ):
        assert np.ravel(call(None).status)[0] == "CONVERGED"
        assert np.ravel(call(0).status)[0] == "CONVERGED"
        with pytest.warns(gd.FitWarning, match="SINGULAR|Rank 2 of 3"):
            assert np.ravel(call(1e-2).status)[0] == "SINGULAR"
        for bad in (-0.1, 1.0, float("nan"), "a"):
            with pytest.raises(ValueError, match="rcond is"):
                call(bad)


def test_rcond_of_0_takes_any_rest_for_independent(rng: Any) -> None:
    x = rng.standard_normal(90)
    X = np.c_[x, x + 1e-14 * rng.standard_normal(90)]
    assert gd.fit(X, x, rcond=0).status == "CONVERGED"
    with pytest.warns(gd.FitWarning, match="dependent"):
        assert gd.fit(X, x).status == "SINGULAR"


def test_where_the_rule_ends() -> None:
    """The limits that docs/numerics.md states."""
    year = np.arange(1900.0, 2021)
    for dtype, most in ((np.float64, 6), (np.float32, 3)):
        for degree in range(1, most + 2):
            X = (year[:, None] ** np.arange(1, degree + 1)).astype(dtype)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", gd.FitWarning)
                status = gd.fit(X, year.astype(dtype)).status
            assert status == ("CONVERGED" if degree <= most else "SINGULAR"), (dtype, degree)
    for size, status in ((1e12, "CONVERGED"), (1e13, "SINGULAR")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", gd.FitWarning)
            assert gd.fit(size + np.arange(20.0)[:, None] % 2, np.arange(20.0)).status == status
