"""method="exact" against numpy.linalg.lstsq and exact fractions: weights, ridge, least norm."""

from __future__ import annotations

import math
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


@pytest.mark.parametrize(("n", "d"), SHAPES)
@pytest.mark.parametrize("parts", ["", "b", "bo", "bos", "s"], ids="parts={}".format)
@pytest.mark.parametrize("t", [None, 3], ids="t={}".format)
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


@pytest.mark.parametrize("reduction", REDUCTIONS)
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


@pytest.mark.parametrize("name", nist.NAMES)
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


@pytest.mark.parametrize("name", nist.NAMES)
@pytest.mark.parametrize("intercept", [True, False], ids=["intercept", "ones"])
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


@pytest.mark.parametrize("kind", ["duplicate", "multiple", "sum of all", "indicators"])
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


@pytest.mark.parametrize("size", [1e-8, 1e-9])
def test_nearly_dependent_columns_of_many_rows(rng: Any, size: float) -> None:
    """Independent by much more than the rounding of so many rows."""
    X = rng.standard_normal((150_000, 4))
    X[:, 3] = X[:, 0] * (1 + size * X[:, 3])
    assert gd.fit(X, X[:, 1], method="exact").status is Status.CONVERGED


@pytest.mark.parametrize("k", [4, 6, 8])
def test_hilbert(k: int) -> None:
    """Condition number 1e4, 1e7 and 1e10; the matrix as rounded has an exact inverse image."""
    X = 1.0 / (np.arange(k)[:, None] + np.arange(k) + 1)
    problem = Linear(X, X @ np.ones(k), np.zeros(k))
    check(problem, exact(problem), fractions(problem))


@pytest.mark.parametrize("size", [1e-6, 1e-4, 1e-2])
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


@pytest.mark.parametrize("parts", ["b", "bos"])
@pytest.mark.parametrize("t", [None, 3], ids="t={}".format)
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


@pytest.mark.parametrize("power", [-100, -15, 15, 100, 150])
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


@pytest.mark.parametrize("kind", [
    "duplicate", "multiple", "sum", "constant", "two constants", "zero", "all zero", "rank one",
    "few rows", "one row",
])  # fmt: skip
@pytest.mark.parametrize("parts", ["", "b", "bs"], ids="parts={}".format)
@pytest.mark.parametrize("t", [None, 2], ids="t={}".format)
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


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("t", [None, 3], ids="t={}".format)
@pytest.mark.parametrize("parts", ["", "b", "bs", "bos"], ids="parts={}".format)
@pytest.mark.parametrize("decay", [1e-6, 0.1, 100.0])
def test_ridge(
    rng: Any, dtype: Any, reduction: str, t: int | None, parts: str, decay: float
) -> None:
    """Weight decay w adds w / 2 |parameters|^2 to the loss, as its gradient adds w parameters."""
    problem = draw(rng, 25, 4, t, parts=parts, reduction=reduction, dtype=dtype)
    check(problem, exact(problem, decay), lstsq(problem, decay), decay)


@pytest.mark.parametrize("kind", ["sum", "constant", "few rows", "all zero"])
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


@pytest.mark.parametrize("power", [-600, -300, 300, 600])
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
