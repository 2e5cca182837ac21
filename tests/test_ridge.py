"""Ridge regression: weight decay in the closed form, with and without standardised columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import fits
import gdcore as gd
from gdcore import Status
from least_squares import check, dependent, draw, exact, lstsq, off
from loops import each
from problems import REDUCTIONS, Array


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
