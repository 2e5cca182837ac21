"""Closed forms for the tests: other solutions of the same problem, and how far ours may be off."""

from __future__ import annotations

from typing import Any

import numpy as np

import bounds
import fits
import gdcore as gd
import problems
from problems import Array, Linear


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


def least_norm(X: Array, y: Array, dtype: Any, weight: Any = 1.0) -> Array:
    """Return NumPy's solution, cut off far from both rounding and the columns' own sizes."""
    A = np.c_[X, np.ones(len(X))].astype(float)
    root = np.sqrt(np.broadcast_to(weight, len(X)))[:, None]
    cut = 1e-10 if dtype == np.float64 else 1e-6
    return np.linalg.lstsq(root * A, root * y.reshape(len(y), -1).astype(float), rcond=cut)[0]


def off(found: Any, least: Array) -> float:
    """Return the relative distance of parameters from others."""
    return float(np.linalg.norm(found - least) / max(np.linalg.norm(least), 1e-300))


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
