"""oracle.trajectory against gd.fit, torch.optim.SGD and exact rational arithmetic."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
import problems
from fits import refused
from gdcore.oracle import Trajectory, trajectory
from problems import REDUCTIONS, Array, Linear

EPOCHS = 60
OPTIONS = [
    {"momentum": m, "dampening": d, "nesterov": n, "weight_decay": w}
    for m, d, n, w in product([0.0, 0.9], [0.0, 0.3], [False, True], [0.0, 0.1])
    if not n or (m and not d)
]


def run(problem: Linear, sgd: gd.SGD, epochs: int = EPOCHS) -> Trajectory:
    start = problem.weights if problem.intercept is None else (problem.weights, problem.intercept)
    return trajectory(
        problem.X,
        problem.y,
        sgd,
        epochs,
        start,
        fit_intercept=problem.intercept is not None,
        offset=problem.offset,
        sample_weight=problem.sample_weight,
        reduction=problem.reduction,
    )


def flat(path: Any, size: int) -> Array:
    """Return the parameters (epochs, size) of a trajectory or a history."""
    weights = path.weights.reshape(len(path.weights), -1)
    return np.hstack([weights, path.intercept.reshape(len(weights), -1)])[:, :size]


def distance(a: Array, b: Array) -> Array:
    return np.asarray(np.sqrt(((a - b) ** 2).sum(axis=1)))


def compare(problem: Linear, sgd: gd.SGD, dtype: Any = np.float64) -> None:
    """Assert that a fit stays as near to the closed form as rounding errors allow."""
    expected = run(problem, sgd)
    given = problem.map(lambda x: x.astype(dtype))
    fit = fits.fit(given, sgd, epochs=EPOCHS, tol=None, method="stream")
    size = fits.start_of(problem).size
    far = distance(flat(fit.history, size), flat(expected, size)[1:])
    allowed = expected.bound + expected.rounding(dtype)
    assert np.all(far <= allowed[1:])
    assert np.all(np.isfinite(allowed))


def small(rng: Any, dtype: Any, **how: Any) -> Linear:
    """Draw a problem whose numbers float32 holds."""
    drawn = problems.linear(rng, 40, 4, **how)
    return drawn.map(lambda x: x.astype(np.float32).astype(np.float64))


@pytest.mark.parametrize("parts", ["", "bos"])
def test_fit(rng: Any, dtype: Any, parts: str) -> None:
    problem = small(rng, dtype, t=2 if parts else None, parts=parts)
    for options in OPTIONS:
        compare(problem, gd.SGD(lr=0.3 / fits.steepest(problem), **options), dtype)


def test_problems(rng: Any, dtype: Any) -> None:
    for reduction, parts in product(REDUCTIONS, ["b", "o", "s", "bs", "os"]):
        problem = small(rng, dtype, reduction=reduction, parts=parts)
        compare(problem, gd.SGD(lr=0.5 / fits.steepest(problem), momentum=0.5), dtype)


@pytest.mark.filterwarnings("ignore::gdcore.LearningRateWarning", "ignore::gdcore.FitWarning")
@pytest.mark.parametrize("options", [{"maximize": True}, {"momentum": 0.9}, {}], ids=str)
def test_divergence(rng: Any, options: dict[str, Any]) -> None:
    problem = small(rng, np.float64, parts="b")
    compare(problem, gd.SGD(lr=4.2 / fits.steepest(problem), **options))


def test_singular(rng: Any) -> None:
    """More features than rows, two equal columns: some directions never move."""
    X = rng.standard_normal((3, 6))
    X[:, 5] = X[:, 4]
    problem = Linear(X, rng.standard_normal(3), rng.standard_normal(6), np.array(0.5))
    compare(problem, gd.SGD(lr=0.5 / fits.steepest(problem), momentum=0.9))


@pytest.mark.torch
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_torch(torch: Any, rng: Any, options: dict[str, Any]) -> None:
    """A loop of torch.optim.SGD in float64, with intercept, offset and sample weights."""
    problem = problems.linear(rng, 40, 4, 2, parts="bos")
    sgd = gd.SGD(lr=0.3 / fits.steepest(problem), **options)
    expected = run(problem, sgd)
    X, y, offset, s = (torch.tensor(a) for a in (
        problem.X, problem.y, problem.offset, problem.sample_weight))  # fmt: skip
    leaves = [torch.nn.Parameter(torch.tensor(a)) for a in (problem.weights, problem.intercept)]
    optimizer = torch.optim.SGD(leaves, lr=sgd.lr, **options)
    allowed = expected.bound + expected.rounding("float64")
    for epoch in range(1, EPOCHS + 1):
        optimizer.zero_grad()
        residual = X @ leaves[0] + leaves[1] + offset - y
        ((s[:, None] * residual**2).sum() / (2 * s.sum())).backward()
        optimizer.step()
        reached = np.concatenate([leaf.detach().numpy().ravel() for leaf in leaves])
        assert distance(reached[None], flat(expected, 10)[epoch][None])[0] <= allowed[epoch]


@pytest.mark.parametrize("options", [
    {}, {"momentum": 0.5}, {"momentum": 0.75, "nesterov": True, "weight_decay": 0.125},
    {"momentum": 0.5, "dampening": 0.25, "maximize": True},
], ids=str)  # fmt: skip
def test_exact(rng: Any, options: dict[str, Any]) -> None:
    """Steps in rational numbers: parameters and loss lie within their bounds."""
    X, y = rng.integers(-3, 4, (8, 2)), rng.integers(-5, 6, 8)
    sgd = gd.SGD(lr=2.0**-6, **options)
    found = trajectory(X, y, sgd, 30, [1.0, -2.0], fit_intercept=False)
    w, v = [Fraction(1), Fraction(-2)], None
    share = 1 - Fraction(sgd.dampening)
    m = Fraction(sgd.momentum)
    for t in range(31):
        r = [sum(int(a) * b for a, b in zip(row, w, strict=True)) - int(c)
             for row, c in zip(X, y, strict=True)]  # fmt: skip
        error = sum(
            (Fraction(a) - b) ** 2 for a, b in zip(found.weights[t].tolist(), w, strict=True)
        )
        assert float(error) ** 0.5 <= found.bound[t] <= 1e-13 * float(1 + abs(w[0]) + abs(w[1]))
        loss = sum(e * e for e in r) / 8
        assert abs(Fraction(float(found.loss[t])) - loss) <= found.loss_bound[t] <= 1e-9 * loss
        g = [sum(int(row[j]) * e for row, e in zip(X, r, strict=True)) / 4 for j in range(2)]
        g = [-a if sgd.maximize else a for a in g]
        g = [
            a + Fraction(float(np.asarray(sgd.weight_decay))) * b for a, b in zip(g, w, strict=True)
        ]
        if m:
            v = g if v is None else [m * a + share * b for a, b in zip(v, g, strict=True)]
            g = [a + m * b for a, b in zip(g, v, strict=True)] if sgd.nesterov else v
        w = [a - Fraction(1, 64) * b for a, b in zip(w, g, strict=True)]


def test_seed_001() -> None:
    """w after epoch e is 2 (1 - 0.85^e)."""
    x, y = np.arange(1.0, 5)[:, None], 2 * np.arange(1.0, 5)
    found = trajectory(x, y, gd.SGD(lr=0.01), 100, fit_intercept=False)
    expected = 2 * (1 - 0.85 ** np.arange(101.0))
    assert np.all(np.abs(found.weights[:, 0] - expected) <= found.bound + 101 * 2.0**-52)
    assert found.loss[0] == pytest.approx(30.0, abs=found.loss_bound[0] + 1e-30)


def test_no_steps(rng: Any) -> None:
    problem = problems.linear(rng, 5, 2, parts="b")
    found = run(problem, gd.SGD(lr=0.1), 0)
    assert flat(found, 3).tolist() == [fits.start_of(problem).tolist()]
    assert found.bound.tolist() == [0.0]
    assert found.rounding("float32").tolist() == [0.0]


@pytest.mark.parametrize("targets", [(), (2,)])
def test_no_features(rng: Any, targets: tuple[int, ...]) -> None:
    """The intercept alone descends to the mean."""
    y = rng.standard_normal((6, *targets))
    run = trajectory(np.zeros((6, 0)), y, gd.SGD(lr=0.5 * max(1, *targets, 1)), 2)
    assert run.weights.shape == (3, 0, *targets)
    assert np.all(np.abs(run.intercept[1:] - y.mean(axis=0)) <= run.bound[1] + 1e-15)


def test_the_comparison_can_fail(rng: Any) -> None:
    """A thousandth of a millionth more lr, or one row less, is not within the bounds."""
    problem = problems.linear(rng, 40, 4, parts="b")
    sgd = gd.SGD(lr=0.3 / fits.steepest(problem), momentum=0.5)
    expected = run(problem, sgd)
    allowed = expected.bound + expected.rounding("float64")
    other: Any = sgd.lr
    for wrong in (
        run(problem, replace(sgd, lr=other * (1 + 1e-9))),
        run(fits.rows_of(problem, slice(1, None)), sgd),
        run(problem, replace(sgd, dampening=1e-9)),
    ):
        assert not np.any(distance(flat(wrong, 5), flat(expected, 5))[5:20] <= allowed[5:20])


@pytest.mark.parametrize(("change", "error", "match"), [
    ({"sgd": gd.SGD()}, ValueError, "lr is 'auto'"),
    ({"sgd": gd.SGD(lr=lambda e: 0.1)}, ValueError, "one number for all steps"),
    ({"sgd": gd.SGD(lr=[0.1, 0.2])}, ValueError, "one problem"),
    ({"sgd": 0.1}, TypeError, "sgd is float"),
    ({"epochs": -1}, ValueError, "epochs is -1"),
    ({"epochs": 1.5}, ValueError, "epochs is 1.5"),
    ({"X": np.ones((0, 2)), "y": np.ones(0)}, ValueError, "no rows"),
    ({"sample_weight": np.zeros(3)}, ValueError, "no rows"),
    ({"X": np.full((3, 2), np.nan)}, ValueError, "X holds NaN"),
    ({"y": np.ones(4)}, ValueError, "y has shape"),
    ({"init": np.ones(3)}, ValueError, "init has weights of shape"),
])  # fmt: skip
def test_bad_input(change: dict[str, Any], error: Any, match: str) -> None:
    given: dict[str, Any] = {"X": np.ones((3, 2)), "y": np.ones(3), "sgd": gd.SGD(lr=0.1)}
    refused(lambda: trajectory(**(given | {"epochs": 2} | change)), match, error)


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning")
def test_a_fit_as_init_is_refused() -> None:
    fit = gd.fit([[1.0]], [1.0])
    refused(lambda: trajectory([[1.0]], [1.0], gd.SGD(lr=0.1), 1, fit), "velocity", TypeError)
