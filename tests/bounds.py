"""How far a correct result may lie from the exact one, for every order of summation.

Notation: u is half an ulp of 1, gamma(k) = k u / (1 - k u) the error of k roundings in a row, eta
the smallest subnormal. A sum of k products, fused or not, in any order, is off by at most
gamma(k) |x|.|y| + k eta (Higham, Accuracy and Stability of Numerical Algorithms, chapter 3). Every
bound here counts the roundings on the longest path from an input to the result; none is fitted to
what a kernel does. Each is evaluated in float64 and rounded up.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

import gdcore as gd
from problems import Array, Linear, scales

Bound = NDArray[np.float64]


@cache
def unit(dtype: DTypeLike) -> float:
    """Return u: 2**-24 for float32, 2**-53 for float64."""
    return float(np.finfo(np.dtype(dtype)).eps) / 2


@cache
def eta(dtype: DTypeLike) -> float:
    """Return the smallest subnormal, or for wider types than float64 float64's, which is larger."""
    return max(float(np.finfo(np.dtype(dtype)).smallest_subnormal), 5e-324)


def additions(terms: int) -> int:
    """Return how many additions of partials a term of a long sum meets at most.

    Segments of 512 terms make the partials of the lowest level, 512 of those one of the next.
    """
    partials, total = -(-terms // gd._core.SEGMENT["float64"]), 0
    for _ in range(3):
        total += min(partials, gd._core.FAN_IN)
        partials = -(-partials // gd._core.FAN_IN)
        if partials <= 1:
            return total
    return total + partials


def gamma(k: int, dtype: DTypeLike, segment: int | None = None) -> float:
    """Return k u / (1 - k u).

    With `segment`, the contract's long sums: at most `segment` roundings in a row in `dtype`, then
    the partials are added in float64, and at most 8 more roundings follow: gamma(segment) + gamma64
    of those, and their product.
    """
    if segment is not None:
        narrow, wide = gamma(min(k, segment), dtype), gamma(min(k, additions(k) + 8), np.float64)
        return narrow + wide + narrow * wide
    ku = k * unit(dtype)
    assert ku < 0.5, "too many roundings for a bound"
    return ku / (1 - ku)


def up(bound: Any, terms: int) -> Bound:
    """Round up what a float64 evaluation with `terms` roundings in a row gave."""
    return np.asarray(np.asarray(bound, np.float64) * (1 + (terms + 16) * 2.0**-52))


def magnitude(x: Any) -> Bound:
    """Return |x| in float64."""
    return np.abs(np.asarray(x, np.float64))


def matmul(a: Array, b: Array, dtype: DTypeLike) -> Bound:
    """Bound a @ b: gamma(k) |a| @ |b| + k eta."""
    k = a.shape[-1]
    return up(gamma(k, dtype) * (magnitude(a) @ magnitude(b)) + k * eta(dtype), k)


class MseBound(NamedTuple):
    """Bounds of the loss and of its gradient."""

    loss: Bound
    grad: Bound


def mse(
    pred: Array, target: Array, reduction: str, dtype: DTypeLike, segment: int | None = None
) -> MseBound:
    """Bound loss = c sum(r^2) and gradient 2 c r with r = pred - target over N elements.

    r is rounded once: delta = u |r|. The loss: the square, N - 1 sums, the factor c and the product
    with it, and the last rounding to dtype make N + 3:
        c sum(2 |r| delta + delta^2) + gamma(N + 3) c sum((|r| + delta)^2).
    The gradient: r, 2 c, their product: gamma(3) |2 c r|.
    A square below the normal numbers is off by eta, and so is the scaled result.
    Reduction "none" is r^2 itself: gamma(3) r^2 + eta, returned as `loss`.
    """
    r = up(np.abs(np.asarray(pred, np.float64) - np.asarray(target, np.float64)), 1)
    tiny = eta(dtype)
    if reduction == "none":
        return MseBound(up(gamma(3, dtype) * r**2 + tiny, 4), up(np.zeros(()), 0))
    value, gradient = scales(reduction, max(r.size, 1))
    delta = unit(dtype) * r
    squares = np.sum(2 * r * delta + delta**2)
    squares += gamma(r.size + 3, dtype, segment and segment + 3) * np.sum((r + delta) ** 2)
    loss = value * (squares + r.size * tiny) + tiny
    return MseBound(up(loss, r.size), up(gamma(3, dtype) * gradient * r + tiny, 4))


class LinearBound(NamedTuple):
    """Bounds of the loss and of its two gradients."""

    loss: Bound
    weights: Bound
    intercept: Bound


def linear(problem: Linear, dtype: DTypeLike, segment: int | None = None) -> LinearBound:
    """Bound the loss c sum(s r^2) and the gradient 2 c X^T (s r), r = X w + b + o - y.

    With N = n t elements, delta = gamma(d + 3)(|X||w| + |b| + |o| + |y|) + (d + 3) eta bounds the
    error of r: d products and sums, and one addition each for b, o and y. As in `mse`, the loss is
    off by
        c sum(s (2 |r| delta + delta^2)) + gamma(K) c sum(s (|r| + delta)^2)
    and the gradient by
        2 c [|X|^T (s delta) + gamma(K) |X|^T (s (|r| + delta))].
    K counts the sum's products and additions (N of them, for the gradient n), the factor c, the
    product with it and the rounding to dtype: N + 3 or n + 3. Sample weights add n + 3: their own
    sum in c, its product with t, and the product s r.
    |r| itself is only known to delta, so |r| + delta stands for it.
    """
    p = problem.full(np.float64)
    n, d, t = *p.X.shape[-2:], p.w.shape[-1]
    X, s, tiny = np.abs(p.X), np.abs(p.s), eta(dtype)
    size = np.abs(p.X) @ np.abs(p.w) + np.abs(p.b) + np.abs(p.o) + np.abs(p.y)
    delta = gamma(d + 3, dtype) * size + (d + 3) * tiny
    r = np.abs(p.X @ p.w + p.b + p.o - p.y) + delta
    weighted = 0 if problem.sample_weight is None else n + 3
    count = np.maximum(s.sum((-2, -1)) * t, np.finfo(float).tiny)
    value, gradient = scales(problem.reduction, count)

    k = gamma(n * t + 3 + weighted, dtype, segment and segment + 3 + weighted)
    loss = (s * (2 * r * delta + delta**2 + k * (r + delta) ** 2)).sum((-2, -1))
    loss = value * (loss + n * t * (1 + s.max(initial=0)) * tiny) + tiny
    k = gamma(n + 3 + weighted, dtype, segment and segment + 3 + weighted)
    terms = s * (delta + k * (r + delta)) + tiny
    scale = gradient[..., None, None]
    weights = scale * (np.swapaxes(X, -1, -2) @ terms + n * tiny) + tiny
    intercept = scale[..., 0] * (terms.sum(-2) + n * tiny) + tiny
    rounded = (up(x, 2 * n * t + d) for x in (loss, weights, intercept))
    return LinearBound(*problem.squeeze(*rounded))


def huber(problem: Linear, delta: float, dtype: DTypeLike) -> LinearBound:
    """Bound c sum(s h(r)) and c X^T (s g), g = clip(r, -D, D) and h = g (r - g / 2), D = delta.

    D is a number of the dtype. With r and its error delta as in `linear`, g has no rounding of its
    own, so it is off by at most delta; h has slope g, so that it is off by min(|r| + delta, D)
    delta. Let R = |r| + delta. The sums' K count as in `linear`, and r - g / 2 is one rounding
    more for the loss:
        c sum(s min(R, D) delta) + gamma(K + 1) c sum(s h(R))
        c [|X|^T (s delta) + gamma(K) |X|^T (s min(R, D))].
    """
    p = problem.full(np.float64)
    n, d, t = *p.X.shape[-2:], p.w.shape[-1]
    X, s, tiny = np.abs(p.X), np.abs(p.s), eta(dtype)
    size = np.abs(p.X) @ np.abs(p.w) + np.abs(p.b) + np.abs(p.o) + np.abs(p.y)
    error = gamma(d + 3, dtype) * size + (d + 3) * tiny
    r = np.abs(p.X @ p.w + p.b + p.o - p.y) + error
    g = np.minimum(r, delta)
    weighted = 0 if problem.sample_weight is None else n + 3
    count = np.maximum(s.sum((-2, -1)) * t, np.finfo(float).tiny)
    factor, _ = scales(problem.reduction, count)

    k = gamma(n * t + 4 + weighted, dtype)
    loss = (s * (g * error + k * g * (r - g / 2))).sum((-2, -1))
    loss = factor * (loss + n * t * (1 + s.max(initial=0) * (1 + delta)) * tiny) + tiny
    terms = s * (error + gamma(n + 3 + weighted, dtype) * g) + tiny
    scale = factor[..., None, None]
    weights = scale * (np.swapaxes(X, -1, -2) @ terms + n * tiny) + tiny
    intercept = scale[..., 0] * (terms.sum(-2) + n * tiny) + tiny
    rounded = (up(x, 2 * n * t + d) for x in (loss, weights, intercept))
    return LinearBound(*problem.squeeze(*rounded))


def moments(left: Array, right: Array, dtype: DTypeLike) -> Bound:
    """Bound the sums left^T right over rows, for columns that are float64 numbers already.

    Sums over float32 data: one chain of at most L fma to a segment, in float64; the partials
    are added as pairs. Over float64 data all are pairs, and what every rounding lost is summed
    beside them: the errors are at most gamma(K) |left|^T |right| in all, and their sum, over at
    most K roundings in a row, is off by gamma(K) of that (Ogita, Rump, Oishi 2005, proposition
    5.5). K counts two roundings for each row of a segment and three for each addition of
    partials.
    """
    n, wide = len(left), np.float64
    segment = gd._core.SEGMENT[np.dtype(dtype).name]
    size = np.abs(left).T @ np.abs(right)
    k = 2 * min(n, segment) + 3 * additions(n) + 2
    relative = gamma(k, wide) ** 2
    if np.dtype(dtype) == np.float32:
        relative += gamma(min(n, segment), wide)
    return up(relative * size + 2 * n * eta(wide), n)


def gram(problem: Linear, dtype: DTypeLike) -> LinearBound:
    """Bound loss and gradients that the second moments give: c (s - 2 c.w + w.G w), 2 c (G w - c).

    Terms are size = |X||w| + |b| + |o| + |y| for each row, all of them in float64, v its unit.
    A row is taken times the root of its weight, and y - o is rounded: 3 roundings, as if of the
    row, so that its residual is off by delta = gamma(3) size; none without weights and offset.
    The sums of products, and then the chains over p parameters, twice for the loss, are off by
    gamma(K) of the sum of weight * size^2, or |X|^T (weight * size) for the gradient; as pairs
    by gamma(K)^2. K is that of `moments`, then 3 roundings for each of 2 p terms, and 8 to join
    them. In the closing formula the count and the factor take n + 4 roundings, in float64, and
    the result one in `dtype`.
    """
    p = problem.full(np.float64)
    n, t, wide = len(p.X), p.w.shape[-1], np.float64
    q = p.X.shape[1] + 1
    X, s = np.abs(p.X), np.broadcast_to(p.s, (n, 1))
    size = X @ np.abs(p.w) + np.abs(p.b) + np.abs(p.o) + np.abs(p.y)
    r = np.abs(p.X @ p.w + p.b + p.o - p.y) + gamma(q + 3, wide) * size
    given = problem.offset is None and problem.sample_weight is None
    delta = 0 * size if given else gamma(3, wide) * size
    segment = gd._core.SEGMENT[np.dtype(dtype).name]
    k = gamma(2 * min(n, segment) + 3 * additions(n) + 6 * q + 10, wide)
    k = k if np.dtype(dtype) == np.float32 else k**2
    value, gradient = scales(problem.reduction, np.maximum(s.sum() * t, np.finfo(float).tiny))
    closing = unit(dtype) + gamma(n + 4, wide) * (1 + unit(dtype))
    tiny = 4 * n * q * eta(wide)

    squares = (s * (2 * r * delta + delta**2 + k * size**2)).sum()
    squares = value * (squares * (1 + closing) + closing * (s * r**2).sum() + tiny) + eta(dtype)

    def sums(left: Array) -> Any:
        error = left.T @ (s * (delta + k * size)) + gamma(3, wide) * left.T @ (s * r)
        size_of = left.T @ (s * r)
        return gradient * (error * (1 + closing) + closing * size_of + tiny) + eta(dtype)

    rounded = (up(x, 2 * n * t + q) for x in (squares, sums(X), sums(np.ones((n, 1)))[0]))
    return LinearBound(*problem.squeeze(*rounded))


def rate(sgd: gd.SGD) -> float:
    """Return a learning rate that is a plain number."""
    assert isinstance(sgd.lr, float)
    return sgd.lr


def sgd_step(sgd: gd.SGD, p: Array, g: Array, v: Array, first: bool, dtype: DTypeLike) -> Bound:
    """Bound one SGD step from parameters p, gradients g and velocity v: stacked for p and for v.

    A step is a sum of products of inputs and options, so its error is at most gamma(K) times the
    same step with every term made positive. Roundings in a row: 3 for weight decay (the
    coefficient, the product, the sum), 4 for momentum (1 - dampening is itself rounded), 3 for
    Nesterov, 3 for the update: 7 to the velocity and 13 to the parameters. Each of those products
    may lose eta.
    """
    p, g, v = magnitude(p), magnitude(g), magnitude(v)
    g = g + sgd.weight_decay * p
    velocity = g if first else sgd.momentum * v + abs(1 - sgd.dampening) * g
    if sgd.momentum:
        g = g + sgd.momentum * velocity if sgd.nesterov else velocity
    lost = (
        13 * eta(dtype) * (1 + rate(sgd)) * (1 + sgd.momentum) ** 2 * (2 + abs(1 - sgd.dampening))
    )
    params = gamma(13, dtype) * (p + rate(sgd) * g) + lost
    return up(np.stack([params, gamma(7, dtype) * velocity + lost]), 16)


def sgd_grad(sgd: gd.SGD, error: Bound, first: bool) -> Bound:
    """Return how an error of the gradient reaches the parameters and the velocity in one step."""
    velocity = error if first else abs(1 - sgd.dampening) * error
    step = error
    if sgd.momentum:
        step = error + sgd.momentum * velocity if sgd.nesterov else velocity
    return up(np.stack([rate(sgd) * step, velocity]), 8)


def sgd_matrix(sgd: gd.SGD, hessian: Array) -> Array:
    """Return the matrix that one exact step applies to a difference of (parameters, velocities).

    The gradient is affine with derivative `hessian` (zero where gradients do not depend on the
    parameters); every step is then affine too.
    """
    eye = np.eye(len(hessian))
    slope = (-hessian if sgd.maximize else hessian) + sgd.weight_decay * eye
    velocity = np.hstack([(1 - sgd.dampening) * slope, sgd.momentum * eye])
    step = np.hstack([slope, 0 * eye])
    if sgd.momentum:
        step = step + sgd.momentum * velocity if sgd.nesterov else velocity
    return np.vstack([np.hstack([eye, 0 * eye]) - rate(sgd) * step, velocity])


def sgd_path(matrix: Array, steps: list[Bound]) -> Bound:
    """Bound the error of (parameters, velocities) after each step by what each step adds.

    The error obeys e <- M e + rho exactly (the first step, whose M differs, starts from e = 0), so
    |e_t| <= sum over s < t of |M^(t - 1 - s)| rho_s. M^j as computed is off by at most
    gamma(j m) |M|^j for an m by m matrix, which is added.
    """
    m, power, absolute = len(matrix), np.eye(len(matrix)), np.eye(len(matrix))
    powers = []
    for j in range(len(steps)):
        powers.append(np.abs(power) + gamma((j + 1) * m, np.float64) * absolute)
        power, absolute = matrix @ power, np.abs(matrix) @ absolute
    rho = np.array(steps).reshape(len(steps), m)
    path = [np.einsum("jab,jb->a", powers[:t], rho[:t][::-1]) for t in range(1, len(steps) + 1)]
    return up(path, 2 * m * len(steps))


def against(
    bound: Any, *args: Any, dtype: DTypeLike, other: DTypeLike = np.float64, **kw: Any
) -> Any:
    """Bound the difference of a result in `dtype` from one computed in `other`: both may be off."""
    ours, theirs = bound(*args, dtype, **kw), bound(*args, other)
    if isinstance(ours, tuple):
        return [a + b for a, b in zip(ours, theirs, strict=True)]
    return ours + theirs


def check(actual: Any, expected: Any, bound: Any) -> None:
    """Assert |actual - expected| <= bound elementwise, so that a NaN fails, and equal shapes."""
    actual, expected, bound = np.asarray(actual), np.asarray(expected), np.asarray(bound)
    assert actual.shape == expected.shape
    error = np.abs(actual.astype(np.longdouble) - expected)
    within = error <= bound
    if not np.all(within):
        bad = np.argwhere(~within)
        first = tuple(bad[0])
        raise AssertionError(
            f"{len(bad)} of {actual.size} outside the bound; first at {first}: {actual[first]} "
            f"against {expected[first]}, off by {error[first]}, "
            f"allowed {np.broadcast_to(bound, actual.shape)[first]}"
        )
