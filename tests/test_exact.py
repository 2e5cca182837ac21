"""method="exact" against numpy.linalg.lstsq and exact fractions: weights, ridge, least norm."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import bounds
import fits
import gdcore as gd
import nist
import problems
from gdcore import Status
from loops import each
from problems import CHUNK, REDUCTIONS, Array, Linear


def draw(rng: Any, n: int, d: int, t: int | None = None, **how: Any) -> Linear:
    return problems.linear(rng, n, d, t, **({"parts": "b"} | how))


def exact(problem: Linear, weight_decay: float = 0.0) -> gd.Fit:
    return fits.fit(problem, gd.SGD(weight_decay=weight_decay), method="exact")


def augmented(problem: Linear, weight_decay: float = 0.0) -> tuple[Array, Array]:
    """Return A, B whose least squares |A x - B| is the problem: square roots of weights, ridge.

    With the loss sum(s r^2) / c the penalty weight_decay / 2 |x|^2 is that of p more rows,
    sqrt(weight_decay c / 2) times the identity.
    """
    p = problem.full(np.float64)
    root = np.sqrt(np.broadcast_to(p.s, (len(p.X), 1)))
    columns = [p.X] if problem.intercept is None else [p.X, np.ones_like(root)]
    A, B = root * np.hstack(columns), root * (p.y - p.o)
    value, _ = problems.scales(problem.reduction, (root**2).sum() * B.shape[1])
    if weight_decay:
        k = A.shape[1]
        A = np.vstack([A, np.sqrt(weight_decay / value / 2) * np.eye(k)])
        B = np.vstack([B, np.zeros((k, B.shape[1]))])
    return A, B


def check(problem: Linear, result: gd.Fit, x: Array, weight_decay: float = 0.0) -> None:
    """Assert that parameters x (p,t) and ours are the same but for rounding.

    Householder's factorisation solves a problem whose columns and right side each differ from the
    given ones by at most eps times their length, eps = gamma(10 n p) sqrt(p) (Higham, Accuracy and
    Stability, 19.3 and 20.3, with 10 for the small constant), whatever the columns' scales; those
    are therefore made 1. Wedin's theorem (20.1 there) says what that does to the solution:
        |dx| / |x| <= k eps / (1 - k eps) (2 + (k + 1) |r| / (|A| |x|)),
    k the condition number (of a rank-deficient A, from its least non-zero singular value). Both
    solutions may be off by that much; ours is rounded to its dtype at the end.
    """
    A, B = augmented(problem, weight_decay)
    n, k = A.shape
    lengths = np.linalg.norm(A, axis=0)
    lengths[lengths == 0] = 1
    A = A / lengths
    sizes = np.linalg.svd(A, compute_uv=False)
    sizes = sizes[sizes > 1e-10 * sizes[0]]
    ours = fits.parameters(result)[: x.size].reshape(x.shape)
    if not len(sizes):
        assert not ours.any()
        return
    condition, eps = sizes[0] / sizes[-1], np.sqrt(k) * bounds.gamma(10 * n * k, np.float64)
    assert condition * eps < 0.1, "this problem proves nothing"
    for u in range(x.shape[1]):
        z = x[:, u] * lengths
        size, residual = np.linalg.norm(z), np.linalg.norm(A @ z - B[:, u])
        inner = 2 + (condition + 1) * residual / (sizes[0] * max(size, 1e-300))
        limit = 2 * condition * eps / (1 - condition * eps) * inner * size
        rounded = bounds.unit(result.weights.dtype) * np.abs(x[:, u])
        error = np.abs(ours[:, u].astype(float) - x[:, u])
        assert (error <= 1.01 * (limit / lengths + rounded) + 1e-300).all(), (error, limit)


def lstsq(problem: Linear, weight_decay: float = 0.0) -> Array:
    """Return the least-norm solution of NumPy, (p,t)."""
    A, B = augmented(problem, weight_decay)
    return np.linalg.lstsq(A, B, rcond=1e-10)[0]


SHAPES = [(1, 1), (2, 1), (3, 3), (20, 1), (20, 5), (63, 4), (64, 4), (65, 4), (300, 40), (2000, 9)]


@each("n, d", SHAPES)
@each("parts", ["", "b", "bo", "bos", "s"])
@each("t", [None, 3])
@pytest.mark.filterwarnings("ignore:Rank")
def test_shapes(rng: Any, dtype: Any, n: int, d: int, t: int | None, parts: str) -> None:
    problem = draw(rng, n, d, t, parts=parts, dtype=dtype)
    if problem.sample_weight is not None:
        problem.sample_weight[:] = problem.sample_weight + 0.5
    result = exact(problem)
    check(problem, result, lstsq(problem))
    full_rank = n >= d + ("b" in parts)
    assert result.status is (Status.CONVERGED if full_rank else Status.SINGULAR)
    assert result.epochs == 0
    assert np.isnan(result.lr)
    assert len(result.history.loss) == 0


@each("reduction", REDUCTIONS)
def test_the_gradient_vanishes(rng: Any, dtype: Any, reduction: str) -> None:
    """As far as it can: within the bound of its own rounding, and that of the parameters'."""
    for parts, t, decay in (("b", None, 0.0), ("bos", 2, 0.0), ("b", 2, 0.3), ("", None, 5.0)):
        problem = draw(rng, 60, 4, t, parts=parts, reduction=reduction, dtype=dtype)
        x = fits.parameters(exact(problem, decay))[: fits.start_of(problem).size]
        here = fits.at(problem, x)
        limit = bounds.linear(here, dtype, CHUNK[np.dtype(dtype).name])
        rounding = fits.flat(limit.weights, limit.intercept, x.size)
        moved = (np.abs(fits.hessian(problem)) + decay * np.eye(x.size)) @ np.abs(x)
        allowed = rounding + bounds.unit(dtype) * moved
        assert (np.abs(fits.gradient(here, decay)) <= 2 * allowed).all()


def fractions(problem: Linear) -> Array:
    """Solve the normal equations in fractions, which forgives any condition."""
    A, B = augmented(problem)
    rows = [[Fraction(x) for x in row] for row in A]
    right = [Fraction(y) for y in B[:, 0]]
    k = len(rows[0])
    squares = [[sum(r[i] * r[j] for r in rows) for j in range(k)] for i in range(k)]
    image = [sum(r[i] * y for r, y in zip(rows, right, strict=True)) for i in range(k)]
    return np.array([[float(x)] for x in fits.solve(squares, image)])  # type: ignore[arg-type]


@each("name", nist.NAMES)
def test_nist_certifies_what_its_rows_say(name: str) -> None:
    """Every digit of the files: the certified values are the exact ones to 15 places."""
    reference = nist.read(name)
    found = nist.solve(reference.design, reference.response)

    def same(squared: Fraction, certified: Fraction) -> bool:
        """Whether a number with this square rounds to the certified one."""
        exponent = math.floor(math.log10(certified)) if certified else 0
        half = Fraction(10) ** (exponent - 14) / 2
        return max(certified - half, Fraction(0)) ** 2 <= squared <= (certified + half) ** 2

    for exact, certified in zip(found.coefficients, reference.coefficients, strict=True):
        assert exact * certified >= 0
        assert same(exact**2, abs(certified))
    for variance, certified in zip(found.variances, reference.standard_deviations, strict=True):
        assert same(variance, certified)
    assert same(found.variance, reference.residual_standard_deviation)


@each("name", nist.NAMES)
@each("intercept", [True, False])
def test_nist(name: str, intercept: bool) -> None:
    """Within the bound of the exact solution of the rows as rounded, so never much worse than
    lstsq; and with its digits among many problems and groups.
    """
    reference = nist.read(name)
    X, y = reference.X, reference.y
    if not intercept:
        X = np.hstack([np.ones((len(X), 1)), X])
    problem = Linear(X, y, np.zeros(X.shape[1]), np.zeros(()) if intercept else None)
    result = exact(problem)
    assert result.status is Status.CONVERGED
    x = np.array([[float(b)] for b in nist.rounded(reference).coefficients])
    check(problem, result, np.roll(x, -1, axis=0) if intercept else x)

    how: Any = {"method": "exact", "fit_intercept": intercept}
    stacked = gd.fit(np.stack([X, X[::-1], X]), np.stack([y, y[::-1], y]), **how)
    labels = np.repeat([7, 3], len(X))
    grouped = gd.fit_groups(np.vstack([X[::-1], X]), np.concatenate([y[::-1], y]), labels, **how)
    for many, i in ((stacked, 0), (stacked, 2), (grouped, 0)):
        assert many.status[i] == Status.CONVERGED
        assert many.weights[i].tobytes() == result.weights.tobytes()
        assert many.intercept[i] == result.intercept


def test_filip_has_full_rank() -> None:
    """NumPy cuts off what is small beside the longest column, x^10: rank 10 of 11 and no digit."""
    reference = nist.read("Filip")
    A = np.hstack([np.ones((len(reference.X), 1)), reference.X])
    theirs, _, rank, _ = np.linalg.lstsq(A, reference.y)
    result = gd.fit(reference.X, reference.y, method="exact")
    ours = np.append(result.intercept, result.weights)
    assert rank == 10
    assert result.status is Status.CONVERGED
    assert nist.digits(theirs, reference.certified) < 1 < nist.digits(ours, reference.certified)


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
    # A solution is 1 and zeros; that of least norm is no longer, and no two huge ones cancel.
    assert np.linalg.norm(fits.parameters(result)) <= 1 + 1e-9


@each("size", [1e-8, 1e-9])
def test_nearly_dependent_columns_of_many_rows(rng: Any, size: float) -> None:
    """Independent by much more than the rounding of so many rows."""
    X = rng.standard_normal((150_000, 4))
    X[:, 3] = X[:, 0] * (1 + size * X[:, 3])
    assert gd.fit(X, X[:, 1], method="exact").status is Status.CONVERGED


@each("k", [4, 6, 8])
def test_hilbert(k: int) -> None:
    """Condition number 1e4, 1e7 and 1e10; the matrix as rounded has an exact inverse image."""
    X = 1.0 / (np.arange(k)[:, None] + np.arange(k) + 1)
    problem = Linear(X, X @ np.ones(k), np.zeros(k))
    check(problem, exact(problem), fractions(problem))


@each("size", [1e-6, 1e-4, 1e-2])
def test_columns_nearly_alike(rng: Any, size: float) -> None:
    """Läuchli's: X^T X cannot hold the difference, X can."""
    X = problems.integers(rng, (30, 3), float, 9)
    X[:, 2] = X[:, 0] + np.ldexp(np.round(size * 2**30 * rng.standard_normal(30)), -30)
    problem = Linear(X, problems.integers(rng, (30,), float, 9), np.zeros(3), np.zeros(()))
    result = exact(problem)
    assert result.status is Status.CONVERGED
    check(problem, result, fractions(problem))


def told_by_moments(problem: Linear, weight_decay: float = 0.0) -> bool:
    """Whether the closed form is that of the normal equations."""
    core = gd._core
    with core.FpEnv():
        shape = problem.y.shape if problem.y.ndim == 2 else (len(problem.y), 1)
        y, offset = (a if a is None else a.reshape(shape) for a in (problem.y, problem.offset))
        parts = (problem.X, y, offset, problem.sample_weight)
        given = core.Problem(*parts, problem.intercept is not None, problem.reduction)
        how = core.ExactOptions(
            weight_decay=weight_decay, decay_intercept=True, standardize=False, rcond=-1.0
        )
        moments = core.MomentsPass(given, None)
        while not moments.advance(1.0, 1):
            pass
        return core.solve_normal(given, moments.moments(), how) is not None


ALIKE = [2.0**-k for k in (0, 3, 5, 6, 7, 8, 9, 12, 16)]


def alike(rng: Any, size: float, n: int = 90, **how: Any) -> Linear:
    """Return float32 rows of four columns, two of which differ by so much of their length."""
    problem = draw(rng, n, 4, dtype=np.float32, **how)
    X = problem.X.copy()
    X[:, 2] = X[:, 1] + np.float32(size) * X[:, 2]
    return replace(problem, X=X)


@each("parts", ["b", "bos"])
@each("t", [None, 3])
def test_moments_tell_no_less_than_rows(rng: Any, t: int | None, parts: str) -> None:
    told = []
    for size in ALIKE:
        problem = alike(rng, size, t=t, parts=parts)
        A, B = augmented(problem)
        check(problem, exact(problem), np.linalg.lstsq(A, B, rcond=None)[0])
        told.append(told_by_moments(problem))
    assert told[0]
    assert not told[-1]
    assert sorted(told, reverse=True) == told


def test_moments_leave_to_rows(rng: Any) -> None:
    for kind in (np.float32, np.float64):
        problem = draw(rng, 90, 4, dtype=kind)
        assert told_by_moments(problem) == (kind == np.float32)
    for column in (0.0, problem.X[:, 1]):
        X = problem.X.astype(np.float32)
        X[:, 2] = column
        singular = replace(problem, X=X, y=problem.y.astype(np.float32))
        assert not told_by_moments(singular)
        assert told_by_moments(singular, weight_decay=0.1)


def test_a_solution_out_of_range(rng: Any) -> None:
    """Alone it is an error; among many the others go on."""
    X, w = rng.normal(size=(2, 50, 2)).astype(np.float32), np.ones(2, np.float32)
    X[0] *= np.float32(1e-22)
    y = (X.astype(float) @ w * [[1e39], [1.0]]).astype(np.float32)
    with pytest.raises(ValueError, match="leave the range of float32"):
        gd.fit(X[0], y[0], method="exact")
    with pytest.raises(ValueError, match="leave the range of float32"):
        gd.fit([(X[0], y[0])], method="exact")
    with pytest.warns(gd.FitWarning, match="1 CONVERGED, 1 INVALID"):
        many = gd.fit(X, y, method="exact")
    assert many.status.tolist() == ["INVALID", "CONVERGED"]


def test_many_that_moments_tell_or_not_are_as_if_alone(rng: Any) -> None:
    """Among them one without errors, whose loss only the rows can tell."""
    each = [alike(rng, size) for size in ALIKE]
    each.append(replace(each[0], y=(each[0].X[:, 0] * 2 + 1).astype(np.float32)))
    many = gd.fit(np.stack([p.X for p in each]), np.stack([p.y for p in each]), method="exact")
    for i, problem in enumerate(each):
        one = gd.fit(problem.X, problem.y, method="exact")
        assert one.weights.tobytes() == many.weights[i].tobytes()
        assert one.intercept == many.intercept[i]
        assert one.loss == many.loss[i]
        assert one.loss == pytest.approx(gd.mse(one.predict(problem.X), problem.y), rel=1e-4)


@each("power", [-100, -15, 15, 100, 150])
def test_scales_of_columns_do_not_matter(rng: Any, power: int) -> None:
    problem = draw(rng, 30, 3, parts="")
    scales = 2.0 ** (power * np.arange(3))
    scaled = replace(problem, X=problem.X * scales)
    x = exact(problem).weights
    check(scaled, exact(scaled), (x / scales)[:, None])


def dependent(rng: Any, dtype: Any, kind: str) -> Array:
    """Draw whole numbers with dependent columns: what depends does so without rounding."""
    X = problems.integers(rng, (40, 4), dtype, 5)
    if kind == "duplicate":
        X[:, 3] = X[:, 1]
    elif kind == "multiple":
        X[:, 3] = -3 * X[:, 0]
    elif kind == "sum":
        X[:, 2] = X[:, 0] + X[:, 1]
    elif kind == "constant":
        X[:, 1] = 7
    elif kind == "two constants":
        X[:, 1], X[:, 3] = 7, -1
    elif kind == "zero":
        X[:, 2] = 0
    elif kind == "all zero":
        X[:] = 0
    elif kind == "rank one":
        X[:] = X[:, :1]
    elif kind == "few rows":
        X = X[:3]
    elif kind == "one row":
        X = X[:1]
    return X


@each("kind", [
    "duplicate", "multiple", "sum", "constant", "two constants", "zero", "all zero", "rank one",
    "few rows", "one row",
])  # fmt: skip
@each("parts", ["", "b", "bs"])
@each("t", [None, 2])
def test_least_norm(rng: Any, dtype: Any, kind: str, t: int | None, parts: str) -> None:
    """Of all minima the one of least norm, intercept included, as lstsq has it."""
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


@each("reduction", REDUCTIONS)
@each("t", [None, 3])
@each("parts", ["", "b", "bs", "bos"])
@each("decay", [1e-6, 0.1, 100.0])
def test_ridge(
    rng: Any, dtype: Any, reduction: str, t: int | None, parts: str, decay: float
) -> None:
    """Weight decay w adds w / 2 |parameters|^2 to the loss, as its gradient adds w parameters."""
    problem = draw(rng, 25, 4, t, parts=parts, reduction=reduction, dtype=dtype)
    check(problem, exact(problem, decay), lstsq(problem, decay), decay)


@each("kind", ["sum", "constant", "few rows", "all zero"])
def test_ridge_needs_no_independent_columns(rng: Any, kind: str) -> None:
    X = dependent(rng, float, kind)
    problem = replace(draw(rng, len(X), 4), X=X)
    result = exact(problem, 0.5)
    assert result.status is Status.CONVERGED
    check(problem, result, lstsq(problem, 0.5), 0.5)


def test_descent_finds_the_same_minimum(rng: Any) -> None:
    for t, parts, decay, reduction in (
        (None, "b", 0.0, "mean"), (2, "bos", 0.3, "half_mean"), (None, "s", 0.2, "sum"),
    ):  # fmt: skip
        problem = draw(rng, 50, 3, t, parts=parts, reduction=reduction)
        descent = fits.fit(problem, gd.SGD(weight_decay=decay), tol=1e-13, epochs=5000)
        assert descent.status is Status.CONVERGED
        np.testing.assert_allclose(
            fits.parameters(descent), fits.parameters(exact(problem, decay)), rtol=1e-9, atol=1e-12
        )


def test_integers_are_solved_exactly(rng: Any, dtype: Any) -> None:
    """y = X w + b for whole numbers: to the last bit but one or two."""
    X = problems.integers(rng, (50, 5), dtype, 9)
    w, b = np.array([1, -2, 3, -4, 5]), 7
    result = gd.fit(X, X @ w.astype(dtype) + b, method="exact")
    np.testing.assert_allclose(result.weights, w, rtol=50 * np.finfo(dtype).eps)
    np.testing.assert_allclose(result.intercept, b, rtol=50 * np.finfo(dtype).eps)
    assert result.loss <= 1e4 * np.finfo(dtype).eps ** 2


def test_the_start_does_not_matter(rng: Any) -> None:
    problem = draw(rng, 30, 3)
    far = fits.fit(problem, method="exact", init=(np.full(3, 1e6), 1e6))
    assert fits.bits(far) == fits.bits(fits.fit(problem, method="exact", init=None))


def test_climbing_has_no_closed_form(rng: Any) -> None:
    """maximize=True asks for a top that is not there; an answer would be of another question."""
    with pytest.raises(ValueError, match="maximize"):
        fits.fit(draw(rng, 30, 3), gd.SGD(maximize=True), method="exact")


@each("power", [-600, -300, 300, 600])
def test_extreme_scales(power: int) -> None:
    """Squares of such numbers overflow or vanish; the answer, or a sentence, but nothing wrong."""
    X = np.ldexp([[1.0, 2.0], [3.0, 5.0], [-1.0, 4.0]], power)
    y = np.array([5.0, 13.0, 7.0])  # X @ (1, 2) but for the scale
    try:
        result = gd.fit(X, y, method="exact", fit_intercept=False)
    except ValueError as error:
        assert "overflow" in str(error)  # noqa: PT017
        return
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(np.ldexp(result.weights, power), [1, 2], rtol=1e-13)


# Rank.


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


def least_norm(X: Array, y: Array, dtype: Any, weight: Any = 1.0) -> Array:
    """Return NumPy's solution, cut off far from both rounding and the columns' own sizes."""
    A = np.c_[X, np.ones(len(X))].astype(float)
    root = np.sqrt(np.broadcast_to(weight, len(X)))[:, None]
    cut = 1e-10 if dtype == np.float64 else 1e-6
    return np.linalg.lstsq(root * A, root * y.reshape(len(y), -1).astype(float), rcond=cut)[0]


def off(found: Any, least: Array) -> float:
    """Return how far parameters are from others, beside their length."""
    return float(np.linalg.norm(found - least) / max(np.linalg.norm(least), 1e-300))


@pytest.mark.filterwarnings("ignore:Rank", "ignore:[0-9]+ (problem|window)")
def test_exact_dependence_is_found(rng: Any, dtype: Any) -> None:
    """In every way in, and the solution is that of least norm."""
    tolerance = 1e-9 if dtype == np.float64 else 1e-4  # what rounding of the columns does
    for _ in range(40):
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


# Without sgd; ridge.


def test_who_gives_no_sgd_wants_the_answer(rng: Any) -> None:
    year = np.arange(2000, 2021.0)
    X, y = year[:, None], 3 * year - 5900
    for fit in (
        gd.fit(X, y), gd.fit(X[None], y[None]), gd.fit_groups(X, y, np.zeros(21)),
        gd.fit([(X, y)]), gd.Moments(1).update(X, y).fit(), gd.fit_rolling(X, y, 21),
        gd.fit(X.astype("f4"), y.astype("f4")),
    ):  # fmt: skip
        assert np.ravel(fit.status)[0] == "CONVERGED"
        assert np.ravel(fit.epochs)[0] == 0
        assert np.ravel(fit.weights)[0] == pytest.approx(3, rel=1e-6)
        assert getattr(fit, "method", "exact") == "exact"
    assert gd.fit(X, y).method_reason.startswith("without sgd")
    Z, noise = rng.standard_normal((30, 2)), rng.standard_normal(30)
    for how in ({"method": "gram"}, {"method": "stream"}, {"batch_size": 10}):
        assert gd.fit(Z, noise, tol=None, **how).method != "exact"
    assert gd.fit(Z, noise, gd.SGD()).method != "exact"
    assert gd.Moments(2).update(Z, noise).fit(gd.SGD()).method == "gram"
    for call in (
        gd.Moments(2).update(Z, noise).fit,
        lambda **how: gd.fit_rolling(Z, noise, 9, **how),
    ):
        with pytest.raises(ValueError, match=r"method is 'stream'.*use 'gram' or 'exact'"):
            call(method="stream")


def test_options_of_descent_alone_have_no_effect_and_say_so(rng: Any) -> None:
    X, y = rng.standard_normal((30, 2)), rng.standard_normal(30)
    how: dict[str, Any] = {"epochs": 7, "tol": None, "init": [1.0, 1.0]}
    for call in (
        lambda: gd.fit(X, y, **how), lambda: gd.fit([(X, y)], **how),
        lambda: gd.fit_groups(X, y, np.zeros(30), **how), lambda: gd.fit_rolling(X, y, 30, **how),
        lambda: gd.Moments(2).update(X, y).fit(**how),
    ):  # fmt: skip
        with pytest.warns(gd.FitWarning, match=r"init, epochs, tol had no effect.*sgd=") as told:
            fit = call()
        assert [w.filename for w in told] == [__file__]
        assert np.ravel(fit.weights).tolist() == pytest.approx(gd.fit(X, y).weights.tolist())


def ridge(
    X: Array, y: Array, weight: Array, alpha: float, how: dict[str, Any], intercept: bool
) -> Array:
    """Return the parameters of ridge regression, from its normal equations in long double."""
    Z = X.astype(np.longdouble)
    s = weight.astype(np.longdouble) / weight.sum()
    mu = s @ Z if intercept else np.zeros(X.shape[1])
    spread = np.sqrt(s @ (Z - mu) ** 2) if how["standardize"] else np.ones(X.shape[1])
    A = np.c_[Z, np.ones(len(Z))] if intercept else Z
    T = np.eye(A.shape[1])  # to what is penalised
    T[range(X.shape[1]), range(X.shape[1])] = spread
    if intercept:
        T[-1, :-1] = mu if how["standardize"] else 0
        T[-1, -1] = how["decay_intercept"]
        T[-1] *= how["decay_intercept"]
    H = A.T @ (weight[:, None] * A) + alpha * T.T @ T
    return np.linalg.solve(H.astype(float), (A.T @ (weight * y)).astype(float))


def test_ridge_as_scikit_learn_has_it_and_of_standardised_columns(rng: Any, dtype: Any) -> None:
    X = (rng.standard_normal((80, 3)) * [1, 20, 0.1] + [0, 300, 1]).astype(dtype)
    y = (X @ [1.0, 0.2, 3.0] + 100).astype(dtype)
    weight = rng.uniform(0.5, 2, 80).astype(dtype)
    for standardize in (False, True):
        for decay_intercept in (False, True):
            for intercept in (True, False):
                sgd = gd.SGD(weight_decay=0.5, decay_intercept=decay_intercept)
                how: dict[str, Any] = {"standardize": standardize, "fit_intercept": intercept}
                options = {"decay_intercept": decay_intercept, "standardize": standardize}
                alpha = 0.5 * float(weight.sum()) / 2
                x = ridge(X, y, weight, alpha, options, intercept)
                given = {"sample_weight": weight}
                one = gd.fit(X, y, sgd, method="exact", **given, **how)
                many = gd.fit(
                    X[None], y[None], sgd, method="exact", sample_weight=weight[None], **how
                )
                moments = gd.Moments(3, dtype=dtype).update(X, y, **given)
                rolled = gd.fit_rolling(X, y, 80, sgd, method="exact", **given, **how)
                assert many[0].weights.tobytes() == one.weights.tobytes()
                for fit in (one, moments.fit(sgd, method="exact", **how), rolled):
                    found = fits.parameters(fit)[: len(x)]
                    limit = 1e-10 if dtype == np.float64 else 1e-5
                    assert off(found, x) <= limit, (options, intercept)
                if not standardize:
                    continue
                plain = gd.fit(X, y, standardize=True, fit_intercept=intercept)
                same = gd.fit(X, y, fit_intercept=intercept)
                assert fits.parameters(plain).tobytes() == fits.parameters(same).tobytes()


def test_a_column_without_spread_keeps_weight_0_when_standardised(rng: Any) -> None:
    X = np.c_[rng.standard_normal(50), np.full(50, 9.99), 1e6 * rng.standard_normal(50)]
    y = X[:, 0] + 5
    sgd = gd.SGD(weight_decay=1e-3, decay_intercept=False)
    one = gd.fit(X, y, sgd, method="exact", standardize=True)
    moments = gd.Moments(3).update(X, y).fit(sgd, method="exact", standardize=True)
    without = gd.fit(X[:, ::2], y, sgd, method="exact", standardize=True)
    for fit in (one, moments):
        assert fit.status is Status.CONVERGED
        assert fit.weights[1] == 0
        assert off(fit.weights[::2], without.weights) <= 1e-9
