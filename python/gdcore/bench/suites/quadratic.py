"""What descent on squared errors, and solving for their least, have to give, and how closely.

With A = [X 1], rows n and parameters p, all that the mean squared error of a problem depends on is
G = A^T A, c = A^T y and s = y^T y. Leading dimensions are problems.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gdcore.bench import bounds
from gdcore.bench.case import Array, Expected


class Quadratic(NamedTuple):
    """G (..., p, p), c (..., p) and s (...) of problems with n (...) rows each."""

    G: Array
    c: Array
    s: Array
    n: Array

    def solved(self) -> Array:
        """Return the parameters (..., p) of the least error, by elimination without pivots."""
        p = self.c.shape[-1]
        M = np.concatenate([self.G, self.c[..., None]], axis=-1)
        w = np.zeros_like(self.c)
        with np.errstate(all="ignore"):  # of a singular problem; its bound is infinite
            for k in range(p):
                factor = M[..., k + 1 :, k] / M[..., k, k, None]
                M[..., k + 1 :, :] -= factor[..., None] * M[..., k, None, :]
            for k in reversed(range(p)):
                known = (M[..., k, k + 1 : p] * w[..., k + 1 :]).sum(-1)
                w[..., k] = (M[..., k, p] - known) / M[..., k, k]
        return w

    def descended(self, lr: Array | float, steps: int) -> tuple[Array, Array]:
        """Return the parameters (..., p) after steps from zeros, and their largest sizes so far."""
        scale = np.asarray(lr * (2 / self.n))[..., None]
        w = np.zeros_like(self.c)
        largest = np.zeros(w.shape)
        for _ in range(steps):
            w = w - scale * ((self.G @ w[..., None])[..., 0] - self.c)
            largest = np.maximum(largest, np.abs(w).astype(np.float64))
        return w, largest


def quadratic(X: Array, y: Array, wide: Any) -> Quadratic:
    """Return the quadratic of X (..., n, d) and y (..., n), summed in the type `wide`."""
    A = np.ones((*X.shape[:-1], X.shape[-1] + 1), wide)
    A[..., :-1] = X
    target = y.astype(wide)
    across = A.swapaxes(-1, -2)
    c = (across @ target[..., None])[..., 0]
    return Quadratic(across @ A, c, (target**2).sum(-1), np.asarray(X.shape[-2], wide))


def quadratics(X: Array, y: Array, starts: Array, wide: Any) -> Quadratic:
    """Return those of groups: group i has the rows ``starts[i]`` to ``starts[i + 1] - 1``."""
    p = X.shape[1] + 1

    def summed(column: Array) -> Array:
        return np.asarray(np.add.reduceat(column, starts[:-1]))

    columns = [*X.T, np.ones((), X.dtype)]
    target = y.astype(wide)
    G, c = np.empty((len(starts) - 1, p, p), wide), np.empty((len(starts) - 1, p), wide)
    for a in range(p):
        left = np.broadcast_to(columns[a].astype(wide), target.shape)
        c[:, a] = summed(left * target)
        for b in range(a, p):
            G[:, a, b] = G[:, b, a] = summed(left * columns[b])
    return Quadratic(G, c, summed(target**2), np.diff(starts).astype(wide))


def drift(X: Array, y: Array, largest: Array, lr: Array | float, steps: int) -> Array:
    """Bound the error (...) of the parameters after `steps` steps with lr <= 1 / curvature.

    Such a step makes no error larger. What it adds is lr times the gradient's bound, and its own
    three roundings, both at parameters no larger than `largest` (..., p).
    """
    (n, d), dtype = X.shape[-2:], X.dtype
    sizes = quadratic(np.abs(X), np.abs(y), np.float64)
    reach = (sizes.G @ largest[..., None])[..., 0] + sizes.c
    long, rate = bounds.gamma(n + 3, dtype), np.asarray(lr, np.float64)[..., None]
    gradient = 2 / n * ((1 + long) * bounds.gamma(d + 3, dtype) + long) * reach
    slope = 2 / n * reach
    step = rate * gradient + 3 * bounds.unit(dtype) * (largest + rate * slope)
    return bounds.up(steps * np.linalg.norm(step, axis=-1), 2 * n + d)


def rest(q: Quadratic, w: Array, dtype: Any) -> Array:
    """Bound the error (...) of a solution w (..., p), by normal equations or by factors of A.

    Whoever sums G and c is off by gamma(n) |A|^T |A| and gamma(n) |A|^T |y|; who factors A finds
    the solution of an A that is off by gamma(n p) in norm (Higham, theorem 20.3), which changes G
    by twice as much. Elimination with row pivots then solves equations that are off by gamma(3 p)
    |L| |U|, whose elements are at most p 2^(p - 1) max |G|, and whose norm is p times that at most
    (theorems 9.4 and 9.10). An error of D in norm moves the solution by D |w| / (least
    eigenvalue - D): by anything, if that is less than D.
    """
    p = w.shape[-1]
    n = q.n
    values = np.linalg.eigvalsh(q.G.astype(np.float64))
    size = np.trace(q.G, axis1=-2, axis2=-1).astype(np.float64)
    least = values[..., 0] - p * p * 2.0**-52 * size
    largest = np.max(np.abs(q.G), axis=(-2, -1)).astype(np.float64)
    summing = bounds.gamma(2 * n * p, dtype)
    off = summing * size + bounds.gamma(3 * p, dtype) * p * p * 2 ** (p - 1) * largest
    norm = np.linalg.norm(np.nan_to_num(w.astype(np.float64)), axis=-1)
    with np.errstate(all="ignore"):
        moved = (off * norm + summing * np.sqrt(size * q.s.astype(np.float64))) / (least - off)
    return bounds.up(np.where(least > off, moved, np.inf), n * p)


def gap(q: Quadratic, w: Array, tol: float, epochs: int) -> Array:
    """Bound how far (...) descent with lr = 1 / curvature may end from the solution w (..., p).

    It stops where the mean squared error is at most 4 tol^2 times that of zeros above the least
    (of y's variance, a lower bound). The error above the least is the distance squared in G / n,
    so the distance is at most 2 tol sqrt(s / least eigenvalue of G); and every epoch takes at least
    least / largest of it away.
    """
    values = np.linalg.eigvalsh(q.G.astype(np.float64))
    p, size = w.shape[-1], np.trace(q.G, axis1=-2, axis2=-1).astype(np.float64)
    least = np.maximum(values[..., 0] - p * p * 2.0**-52 * size, 0)
    kept = (1 - least / values[..., -1] * (1 - 1e-5)) ** epochs
    norm = np.linalg.norm(np.nan_to_num(w.astype(np.float64)), axis=-1)
    with np.errstate(all="ignore"):
        near = 2 * tol * np.sqrt(q.s.astype(np.float64) / least)
        return bounds.up(near + kept * norm, 4 * p)


def parameters(w: Array, bound: Array) -> list[Expected]:
    """Return weights (..., d) and intercept (...) of parameters (..., p) as what is expected."""
    return [
        Expected("weights", w[..., :-1], bound[..., None]),
        Expected("intercept", np.asarray(w[..., -1]), bound),
    ]
