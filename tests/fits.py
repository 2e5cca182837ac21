"""Whole fits for the tests: problems to fit, their bits, their bounds, processes to run them in."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import bounds
import gdcore as gd
import problems
from bounds import Bound
from loops import each
from problems import Array, Linear, canonical

SGDS = {
    "plain": gd.SGD(),
    "momentum": gd.SGD(lr=0.02, momentum=0.9),
    "dampened": gd.SGD(momentum=0.5, dampening=0.4),
    "nesterov": gd.SGD(momentum=0.8, nesterov=True),
    "decay": gd.SGD(momentum=0.5, weight_decay=0.1),
    "schedule": gd.SGD(lr=lambda epoch: 0.05 / (1 + epoch), momentum=0.5),
}
every_sgd = each("sgd", SGDS.values())
every_batch = each("batch_size", [None, 7])
every_target = each("t", [None, 2])


def draw(rng: Any, n: int = 40, d: int = 3, t: int | None = None, **how: Any) -> Linear:
    """Draw a small problem with an intercept."""
    return problems.linear(rng, n, d, t, **({"parts": "b"} | how))


def fit(problem: Linear, sgd: gd.SGD | None = None, **options: Any) -> gd.Fit:
    """Fit a problem by descent from its own weights; an intercept is fitted if it has one."""
    start = problem.weights if problem.intercept is None else (problem.weights, problem.intercept)
    defaults: dict[str, Any] = {
        "fit_intercept": problem.intercept is not None,
        "init": start,
        "offset": problem.offset,
        "sample_weight": problem.sample_weight,
        "reduction": problem.reduction,
    }
    return gd.fit(problem.X, problem.y, sgd or gd.SGD(), **(defaults | options))


def alone(X: Any, y: Any, sgd: gd.SGD, **options: Any) -> gd.Fit:
    """Fit one problem without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gd.FitWarning)
        warnings.simplefilter("ignore", gd.LearningRateWarning)
        return gd.fit(X, y, sgd, **options)


def seed_000(dtype: Any, **options: Any) -> gd.Fit:
    """Solve X + 1 = 3 by small steps."""
    X, y = np.ones((1, 1), dtype), np.full(1, 3, dtype)
    fixed: dict[str, Any] = {"offset": 1.0, "fit_intercept": False, "reduction": "half_sum"}
    return gd.fit(X, y, gd.SGD(lr=1e-3), **fixed, **options)


def flat(weights: Any, intercept: Any, size: int) -> Array:
    """Return the parameters as one vector: weights, then the intercept if there is room for it."""
    return np.concatenate([np.ravel(weights), np.ravel(intercept)])[:size]


def parameters(result: gd.Fit) -> Array:
    """Return the weights and the intercept of a fit as one vector."""
    return np.concatenate([np.ravel(result.weights), np.ravel(result.intercept)])


def bits(result: gd.Fit) -> list[Any]:
    """Return every number of a fit as bytes: equal if and only if every bit is."""
    h = result.history
    recorded = [x for x in (h.loss, h.weights, h.intercept) if x is not None]
    numbers = [result.weights, result.intercept, result.loss, *recorded]
    rates = [np.float64(result.lr), np.float64(result.stability_limit)]
    return [result.epochs, result.status.name, h.epoch.tolist(), *canonical(*numbers, *rates)]


def joined(parts: Sequence[gd.Fit]) -> gd.Fit:
    """Return the last of several fits, each the next one's start, with the history of all."""
    histories = [p.history for p in parts]
    names = ("epoch", "loss", "weights", "intercept")
    arrays = {k: np.concatenate([getattr(h, k) for h in histories]) for k in names}
    return replace(parts[-1], history=gd.History(**arrays))


def rows_of(problem: Linear, rows: Any) -> Linear:
    """Return the problem of some of the rows."""
    offset, weight = problem.offset, problem.sample_weight
    return replace(
        problem,
        X=problem.X[rows],
        y=problem.y[rows],
        offset=None if offset is None else offset[rows],
        sample_weight=None if weight is None else weight[rows],
    )


def at(problem: Linear, params: Array) -> Linear:
    """Return the problem with other parameters."""
    split = problem.weights.size
    weights = params[:split].reshape(problem.weights.shape)
    if problem.intercept is None:
        return replace(problem, weights=weights)
    intercept = params[split:].reshape(problem.intercept.shape)
    return replace(problem, weights=weights, intercept=intercept)


def start_of(problem: Linear) -> Array:
    """Return the problem's own parameters as one vector in float64."""
    parts = [problem.weights] if problem.intercept is None else [problem.weights, problem.intercept]
    return np.concatenate([np.ravel(x) for x in parts]).astype(np.float64)


def hessian(problem: Linear) -> Array:
    """Return the second derivative of the loss by all parameters, in float64."""
    p = problem.full(np.float64)
    X = p.X if problem.intercept is None else np.hstack([p.X, np.ones((len(p.X), 1))])
    t = p.w.shape[-1]
    s = np.broadcast_to(p.s, (len(X), 1))
    _, scale = problems.scales(problem.reduction, s.sum() * t)
    return np.asarray(np.kron(scale * (X.T @ (s * X)), np.eye(t)))


def steepest(problem: Linear) -> float:
    """Return the largest eigenvalue of the Hessian."""
    return float(np.linalg.eigvalsh(hessian(problem))[-1])


def gradient(problem: Linear, weight_decay: float = 0.0) -> Array:
    """Return the gradient of the objective at the problem's parameters, in float64."""
    _, weights, intercept = problem.exact(np.float64)
    start = start_of(problem)
    return flat(weights, intercept, start.size) + weight_decay * start


def gaps(problem: Linear, weight_decay: float = 0.0) -> Array:
    """Return how far each target's objective is above its least, in units of tol^2 at tol = 1.

    Such a unit is the objective of predictions that are off by the standard deviation of y, root
    mean square, so that sqrt(gap) <= tol is what CONVERGED claims of a y that is not constant.
    """
    p = problem.full(np.float64)
    H, t = hessian(problem), p.w.shape[-1]
    H = H + weight_decay * np.eye(len(H))
    off = np.linalg.solve(H, gradient(problem, weight_decay))  # from the minimum
    energy = (off * (H @ off)).reshape(-1, t).sum(axis=0) / 2
    s, y = p.s, p.y - p.o
    value, _ = problems.scales(problem.reduction, s.sum() * t)
    return np.asarray(energy / (value * (s * (y - (s * y).sum(axis=0) / s.sum()) ** 2).sum(axis=0)))


def limits_of(problem: Linear, dtype: Any, method: str = "stream") -> bounds.LinearBound:
    """Bound the rounding errors of loss and gradient at the problem's parameters."""
    if method == "gram":
        return bounds.gram(problem, dtype)
    return bounds.linear(problem, dtype, problems.SEGMENT[np.dtype(dtype).name])


def loss_bound(problem: Linear, dtype: Any, method: str = "stream") -> Bound:
    """Bound the rounding error of the loss at the problem's parameters."""
    return limits_of(problem, dtype, method).loss


def step_bound(
    sgd: gd.SGD,
    problem: Linear,
    grad: Array,
    velocity: Array,
    first: bool,
    dtype: Any,
    method: str = "stream",
) -> Bound:
    """Bound what one step of a fit adds to the error of (parameters, velocities).

    The gradient's own error as it reaches them, and the step's roundings.
    """
    limits = limits_of(problem, dtype, method)
    params = start_of(problem)
    inexact = flat(limits.weights, limits.intercept, params.size)
    step = bounds.sgd_step(sgd, params, grad, velocity, first, dtype)
    return np.ravel(step + bounds.sgd_grad(sgd, inexact, first))


def path_bound(matrices: Sequence[Array], steps: Sequence[Bound]) -> list[Bound]:
    """Bound the error before the first step, and after each one.

    The error e of (parameters, velocities) obeys e <- M e + rho exactly, where M is the step's
    matrix (`bounds.sgd_matrix`) and rho what the step adds (`step_bound`), so that
        |e_t| <= sum over s < t of |M_{t-1} ... M_{s+1}| rho_s.
    This is `bounds.sgd_path` for matrices that differ from step to step: mini-batches, schedules.
    A product of j matrices of size m as computed is off by at most gamma(j m) times the product of
    their absolute values, which is added. The rho are evaluated along another run than the one they
    bound, a few ulps beside it, which changes them by a relative amount of that order; 1.01 times
    covers it.
    """
    m = len(steps[0])
    signed = absolute = np.empty((0, m, m))
    eye = np.eye(m)[None]
    result = [np.zeros(m)]
    for t, matrix in enumerate(matrices, start=1):
        signed = np.concatenate([matrix @ signed, eye])
        absolute = np.concatenate([np.abs(matrix) @ absolute, eye])
        reach = np.abs(signed) + bounds.gamma(t * m, np.float64) * absolute
        result.append(1.01 * bounds.up(np.einsum("sab,sb->a", reach, np.array(steps[:t])), m * t))
    return result


def batches(n: int, batch_size: int | None, shuffle: bool, seed: int, epoch: int) -> list[Array]:
    """Return the rows of each step of an epoch (counted from 0)."""
    order = gd._core.permutation(n, seed, epoch) if shuffle and batch_size else np.arange(n)
    return [order[i : i + (batch_size or n)] for i in range(0, n, batch_size or n)]


def solve(A: list[list[Fraction]], b: list[Fraction]) -> list[Fraction]:
    """Solve A x = b by Gauss and Jordan, exactly."""
    rows = [[*row, value] for row, value in zip(A, b, strict=True)]
    for i in range(len(rows)):
        pivot = next(k for k in range(i, len(rows)) if rows[k][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for k in range(len(rows)):
            if k != i:
                rows[k] = [x - rows[k][i] * p for x, p in zip(rows[k], rows[i], strict=True)]
    return [row[-1] for row in rows]


def refused(
    call: Any, match: str, error: type[Exception] | tuple[type[Exception], ...] = ValueError
) -> str:
    """Assert that a call raises one sentence that matches, and return it.

    What the call left open is collected now, so that a warning of it is this test's.
    """
    with pytest.raises(error, match=match) as caught:
        call()
    message = str(caught.value)
    del caught
    gc.collect(1)  # the young are enough
    assert "\n" not in message
    return message


def slow_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python look up as often as the core allows, and show each time."""
    monkeypatch.setattr("gdcore.data.slices.SECONDS", 0.0)
    monkeypatch.setattr("gdcore.solvers.progress._Lines.seconds", 0.0)


class Cut(Exception):
    """Ends a fit from its progress callable."""


def cut_after(looks: int, error: BaseException | type[BaseException] = Cut) -> Any:
    """Return a progress callable that raises at its look of that number; 0 never."""
    left = [looks]

    def look(*_: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise error

    return look


def falls(values: Any) -> bool:
    """Whether no value is above the one before."""
    return all(b <= a for a, b in pairwise(values))


def python(
    source: str, *arguments: Any, timeout: float = 60, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python source in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=check,
    )
