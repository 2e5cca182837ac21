"""method="exact" against numpy.linalg.lstsq and exact fractions, in every way in."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import bounds
import fits
import gdcore as gd
import problems
from gdcore import Status
from least_squares import augmented, check, draw, exact, lstsq
from loops import each
from problems import REDUCTIONS, SEGMENT, Array, Linear

SHAPES = [(1, 1), (2, 1), (3, 3), (20, 1), (20, 5), (63, 4), (64, 4), (65, 4)]
LARGE_SHAPES = [(300, 40), (2000, 9)]


@each("n, d, parts", [
    *((*shape, parts) for shape in SHAPES for parts in ("", "b", "bo", "bos", "s")),
    *((*shape, parts) for shape in LARGE_SHAPES for parts in ("", "bos")),
])  # fmt: skip
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
    """The gradient is within the bound of its own rounding and of the parameters' rounding."""
    for parts, t, decay in (("b", None, 0.0), ("bos", 2, 0.0), ("b", 2, 0.3), ("", None, 5.0)):
        problem = draw(rng, 60, 4, t, parts=parts, reduction=reduction, dtype=dtype)
        x = fits.parameters(exact(problem, decay))[: fits.start_of(problem).size]
        here = fits.at(problem, x)
        limit = bounds.linear(here, dtype, SEGMENT[np.dtype(dtype).name])
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


@each("k", [4, 6, 8])
def test_hilbert(k: int) -> None:
    """Condition number 1e4, 1e7 and 1e10; the matrix as rounded has an exact inverse image."""
    X = 1.0 / (np.arange(k)[:, None] + np.arange(k) + 1)
    problem = Linear(X, X @ np.ones(k), np.zeros(k))
    check(problem, exact(problem), fractions(problem))


@each("size", [1e-6, 1e-4, 1e-2])
def test_nearly_equal_columns(rng: Any, size: float) -> None:
    """Läuchli's: X^T X cannot hold the difference, X can."""
    X = problems.integers(rng, (30, 3), float, 9)
    X[:, 2] = X[:, 0] + np.ldexp(np.round(size * 2**30 * rng.standard_normal(30)), -30)
    problem = Linear(X, problems.integers(rng, (30,), float, 9), np.zeros(3), np.zeros(()))
    result = exact(problem)
    assert result.status is Status.CONVERGED
    check(problem, result, fractions(problem))


def moments_suffice(problem: Linear, weight_decay: float = 0.0) -> bool:
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
def test_moments_are_as_accurate_as_rows(rng: Any, t: int | None, parts: str) -> None:
    sufficed = []
    for size in ALIKE:
        problem = alike(rng, size, t=t, parts=parts)
        A, B = augmented(problem)
        check(problem, exact(problem), np.linalg.lstsq(A, B, rcond=None)[0])
        sufficed.append(moments_suffice(problem))
    assert sufficed[0]
    assert not sufficed[-1]
    assert sorted(sufficed, reverse=True) == sufficed


def test_moments_leave_to_rows(rng: Any) -> None:
    for kind in (np.float32, np.float64):
        problem = draw(rng, 90, 4, dtype=kind)
        assert moments_suffice(problem) == (kind == np.float32)
    for column in (0.0, problem.X[:, 1]):
        X = problem.X.astype(np.float32)
        X[:, 2] = column
        singular = replace(problem, X=X, y=problem.y.astype(np.float32))
        assert not moments_suffice(singular)
        assert moments_suffice(singular, weight_decay=0.1)


def test_a_solution_out_of_range(rng: Any) -> None:
    """One problem raises; among many problems it is INVALID."""
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


def test_each_of_many_has_the_bits_of_one_fit(rng: Any) -> None:
    """Some have moments that suffice; the last one's loss needs the rows."""
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


def test_without_sgd_the_answer_is_exact(rng: Any) -> None:
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


def test_options_of_descent_without_effect_warn(rng: Any) -> None:
    X, y = rng.standard_normal((30, 2)), rng.standard_normal(30)
    how: dict[str, Any] = {"epochs": 7, "tol": None, "init": [1.0, 1.0]}
    for call in (
        lambda: gd.fit(X, y, **how), lambda: gd.fit([(X, y)], **how),
        lambda: gd.fit_groups(X, y, np.zeros(30), **how), lambda: gd.fit_rolling(X, y, 30, **how),
        lambda: gd.Moments(2).update(X, y).fit(**how),
    ):  # fmt: skip
        with pytest.warns(gd.FitWarning, match=r"init, epochs, tol had no effect.*sgd=") as log:
            fit = call()
        assert [w.filename for w in log] == [__file__]
        assert np.ravel(fit.weights).tolist() == pytest.approx(gd.fit(X, y).weights.tolist())
