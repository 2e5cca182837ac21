"""gd.fit: plain descent against its closed form, and what a fit returns."""

from __future__ import annotations

import warnings
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import bounds
import fits
import gdcore as gd
import problems
from fits import bits, draw, every_target
from loops import each
from problems import Array, Linear, canonical

# The path of plain descent, known in closed form.

RATE = Fraction(1, 64)


def closed_form(X: Array, y: Array, start: list[Fraction], epochs: int) -> list[list[Fraction]]:
    """Return w_t = w* + (I - lr H)^t (w_0 - w*) for t = 0 ... epochs without any rounding."""
    n, d = X.shape
    cells = [[Fraction(int(x)) for x in row] for row in X]
    targets = [Fraction(int(x)) for x in y]
    H = [[2 * sum(r[i] * r[j] for r in cells) / n for j in range(d)] for i in range(d)]
    c = [2 * sum(r[i] * v for r, v in zip(cells, targets, strict=True)) / n for i in range(d)]
    optimum = fits.solve(H, c)
    shrink = [[(i == j) - RATE * H[i][j] for j in range(d)] for i in range(d)]
    away = [a - b for a, b in zip(start, optimum, strict=True)]
    path = [start]
    for _ in range(epochs):
        away = [sum((m * a for m, a in zip(row, away, strict=True)), Fraction()) for row in shrink]
        path.append([w + a for w, a in zip(optimum, away, strict=True)])
    return path


@each("d", [1, 2, 4])
def test_closed_form(rng: Any, isa: str, dtype: Any, d: int) -> None:
    """Every epoch is within the path bound of the closed form."""
    epochs, n = 60, 23
    X = problems.integers(rng, (n, d), dtype, 3)
    y = problems.integers(rng, (n,), dtype, 9)
    problem, sgd = Linear(X, y, np.zeros(d, dtype)), gd.SGD(lr=float(RATE))
    result = fits.fit(problem, sgd, epochs=epochs, tol=None)
    exact = np.array(closed_form(X, y, [Fraction(0)] * d, epochs), float)
    local = []
    for w in exact[:-1]:
        here = replace(problem, weights=w)
        grad, none = fits.gradient(here), np.zeros(d)
        local.append(fits.step_bound(sgd, here, grad, none, False, dtype))
    matrix = bounds.sgd_matrix(sgd, fits.hessian(problem))
    path = fits.path_bound([matrix] * epochs, local)
    rounded = np.abs(exact) * bounds.unit(np.float64)  # the Fractions became floats
    assert result.history.weights is not None
    for epoch, w in enumerate(result.history.weights, start=1):
        bounds.check(w, exact[epoch], path[epoch][:d] + rounded[epoch])


# The model.


@every_target
def test_predict(rng: Any, dtype: Any, t: int | None) -> None:
    problem = draw(rng, t=t, dtype=dtype)
    result = fits.fit(problem, epochs=5, tol=None)
    X = problems.normal(rng, (9, 3), dtype)
    offset = problems.normal(rng, (9,) if t is None else (9, t), dtype)
    plain, shifted = result.predict(X), result.predict(X, offset=offset)
    assert plain.dtype == dtype
    assert canonical(plain) == canonical(gd.matmul(X, result.weights) + result.intercept)
    assert canonical(shifted) == canonical(plain + offset)
    assert canonical(result.predict(X.tolist())) == canonical(result.predict(X.astype(float)))
    assert result.predict(X[:0]).shape == plain[:0].shape
    assert canonical(result.predict(X[::-2])) == canonical(plain[::-2])
    assert canonical(result.predict(X, offset=1)) == canonical(plain + dtype.type(1))


def test_results_do_not_change(rng: Any) -> None:
    result = fits.fit(draw(rng), epochs=2, tol=None)
    with pytest.raises(FrozenInstanceError):
        result.loss = 0.0  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        result.history.loss = np.zeros(1)  # type: ignore[misc]


@each("method", ["auto", "stream", "gram", "exact"])
def test_methods_say_why(rng: Any, method: Any) -> None:
    result = fits.fit(draw(rng), method=method)
    assert result.method == ("gram" if method == "auto" else method)
    assert result.method_reason.endswith(".")
    assert np.isnan(result.lr) == (method == "exact")
    assert (result.feature_names, result.target_name) == (None, None)


def test_dtypes(rng: Any) -> None:
    """float32 in, float32 out; whole numbers and booleans become float64; the wider one wins."""
    X, y = rng.integers(0, 2, (20, 2)), rng.integers(0, 9, 20)
    cases: list[tuple[Any, Any, str]] = [
        (np.float32, np.float32, "f4"), (np.float64, np.float64, "f8"),
        (np.float32, np.float64, "f8"), (np.float64, np.float32, "f8"),
        (np.float16, np.float32, "f4"), (np.float16, np.float16, "f4"),
        (np.int64, np.int32, "f8"), (np.bool_, np.uint8, "f8"), (np.int64, np.float32, "f8"),
    ]  # fmt: skip
    for kind, other, result in cases:
        made = gd.fit(X.astype(kind), y.astype(other), gd.SGD(), epochs=3, tol=None)
        for value in (made.weights, made.intercept, made.loss, made.history.loss):
            assert np.asarray(value).dtype == result


def test_lists_and_read_only_arrays(rng: Any) -> None:
    problem = draw(rng)
    how: dict[str, Any] = {"epochs": 3, "tol": None}
    want = bits(fits.fit(problem, **how))
    assert bits(fits.fit(problem.map(lambda a: a.tolist()), **how)) == want


def test_batches_of_no_weight_move_nothing(rng: Any) -> None:
    """A batch of no weight has gradient zero, not NaN; other batches take their steps."""
    problem = draw(rng, n=12)
    weight = np.ones(12)
    weight[4:8] = 0
    how: dict[str, Any] = {"batch_size": 4, "shuffle": False, "epochs": 5, "tol": None}
    some = fits.fit(problem, gd.SGD(lr=0.01), sample_weight=weight, **how)
    rest = fits.rows_of(problem, np.r_[:4, 8:12])
    assert fits.parameters(some).tobytes() == (
        fits.parameters(fits.fit(rest, gd.SGD(lr=0.01), **how)).tobytes()
    )


def test_rows_of_no_weight_do_not_count(rng: Any) -> None:
    problem = draw(rng)
    weight = np.ones(40)
    weight[::3] = 0
    kept = fits.rows_of(problem, weight > 0)
    weighted = fits.fit(problem, sample_weight=weight, method="exact")
    np.testing.assert_allclose(
        fits.parameters(weighted), fits.parameters(fits.fit(kept, method="exact")), rtol=1e-12
    )
    ours, theirs = (fits.fit(p, gd.SGD(lr=0.05), epochs=9, tol=None, **how) for p, how in (
        (problem, {"sample_weight": weight}), (kept, {})))  # fmt: skip
    np.testing.assert_allclose(fits.parameters(ours), fits.parameters(theirs), rtol=1e-12)


def test_a_quiet_fit_warns_of_nothing(rng: Any) -> None:
    with warnings.catch_warnings(record=True) as log:
        warnings.simplefilter("always")
        for how in (
            {},
            {"epochs": 0},
            {"epochs": 1, "tol": None},
            {"method": "exact"},
            {"batch_size": 5, "epochs": 5, "tol": None},
        ):
            fits.fit(draw(rng), **how)
    assert log == []
