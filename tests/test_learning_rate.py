"""Which learning rates converge: the limit against eigenvalues, and against what fits then do."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bounds
import fits
import gdcore as gd
import problems
from gdcore import Status
from loops import each
from problems import REDUCTIONS, SEGMENT, Array, Linear

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "little momentum": {"momentum": 0.1},
    "dampening": {"momentum": 0.9, "dampening": 0.5},
    "negative dampening": {"momentum": 0.5, "dampening": -1.0},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "weight decay": {"weight_decay": 0.7},
    "all": {"momentum": 0.6, "nesterov": True, "weight_decay": 0.3},
    "momentum, dampening and decay": {"momentum": 0.6, "dampening": 0.2, "weight_decay": 0.3},
}
every_kind = each("kind", KINDS)


def limit_of(problem: Linear, **options: Any) -> float:
    """Return the stability limit by a fit of no epochs."""
    return fits.fit(problem, gd.SGD(**options), epochs=0).stability_limit


def draw(rng: Any, n: int, d: int, t: int | None = None, **how: Any) -> Linear:
    return problems.linear(rng, n, d, t, **({"parts": "b"} | how))


# The limit is 2 / lambda_max.

SHAPES = [*((50, d) for d in range(1, 20)), (100, 31), (100, 32), (100, 63), (100, 64), (1000, 64),
          (1, 1), (1, 5), (3, 64), (63, 64), (64, 64), (513, 3), (4000, 2), (64, 5), (64, 6),
          (64, 11), (64, 12), (70, 31), (70, 32), (70, 127), (70, 128)]  # fmt: skip


@each("n, d", SHAPES)
@each("parts", ["", "b", "bos"])
@each("method", ["stream", "gram"])
def test_shapes(rng: Any, n: int, d: int, parts: str, method: str) -> None:
    problem = draw(rng, n, d, parts=parts)
    if problem.sample_weight is not None:
        problem.sample_weight[0] = 2
    limit = fits.fit(problem, epochs=0, method=method).stability_limit
    assert limit == pytest.approx(2 / fits.steepest(problem), rel=1e-6)


def test_squares_of_y_that_leave_the_range(rng: Any) -> None:
    """Second moments would not serve, so the rows do."""
    problem = draw(rng, 100, 20)
    problem.y[:] = 1e-150 * problem.y
    limit = fits.fit(problem, epochs=0, method="stream").stability_limit
    assert limit == pytest.approx(2 / fits.steepest(problem), rel=1e-6)


@each("reduction", REDUCTIONS)
@each("t", [None, 1, 4])
@each("parts", ["", "b", "bs"])
def test_reductions_and_targets(rng: Any, reduction: str, t: int | None, parts: str) -> None:
    problem = draw(rng, 30, 5, t, reduction=reduction, parts=parts)
    assert limit_of(problem) == pytest.approx(2 / fits.steepest(problem), rel=1e-6)


def spectra(rng: Any) -> dict[str, Array]:
    """Draw data whose largest eigenvalues are many, close together, or far from the others."""
    n, d = 200, 40
    left = np.linalg.qr(rng.standard_normal((n, d)))[0]
    right = np.linalg.qr(rng.standard_normal((d, d)))[0]
    ramp = np.arange(d) / d
    sizes = {
        "all equal": np.ones(d),
        "pair": 1 - 1e-3 * (ramp > 0),
        "close": 1 - 1e-6 * ramp,
        "linear": 1 - 0.9 * ramp,
        "slow": 1 / np.sqrt(1 + ramp),
        "geometric": 10.0 ** (-9 * ramp),
        "one far off": np.where(ramp == 0, 1e6, 1 - ramp / 2),
        "one far below": np.where(ramp == 0, 1e-9, 1),
        "half of them zero": (ramp < 0.5) * 1.0,
    }
    X = {name: left @ (s[:, None] * right) for name, s in sizes.items()}
    X["collinear"] = np.repeat(rng.standard_normal((n, 1)), 7, axis=1)
    X["constant column"] = np.hstack([rng.standard_normal((n, 2)), np.full((n, 1), 3.0)])
    X["one row of many"] = np.zeros((n, 4))
    X["one row of many"][77, 2] = 5
    X["tiny"] = 1e-120 * rng.standard_normal((n, 3))
    X["huge"] = 1e120 * rng.standard_normal((n, 3))
    X["not to scale"] = rng.standard_normal((n, 6)) * 10.0 ** np.arange(-30, 30, 10)
    X["on the axes"] = np.eye(n, d)
    return X


@each("name", spectra(np.random.default_rng(0)))
@each("parts", ["", "b"])
def test_spectra(rng: Any, name: str, parts: str) -> None:
    X = spectra(rng)[name]
    problem = Linear(X, X[:, 0], np.zeros(X.shape[1]), np.zeros(()) if parts else None)
    # Among eigenvalues that differ by less than the accuracy any may be taken for the largest.
    rel = 1e-6 + (2e-6 if name == "close" else 0)
    assert limit_of(problem) == pytest.approx(2 / fits.steepest(problem), rel=rel)


@each("n, d", [(500, 100), (300, 420), (1200, 200)])
def test_many_features(rng: Any, n: int, d: int) -> None:
    """More than the passes over X: never below the truth, and near it."""
    problem = draw(rng, n, d, parts="")
    largest = 2 / n * np.linalg.norm(problem.X, 2) ** 2
    assert (1 - 1e-12) * 2 / largest <= limit_of(problem) < 2 / largest * (1 + 1e-3)
    assert fits.fit(problem, epochs=0).lr * largest <= 1 + 1e-12


@each("n, d", [(40, 1), (40, 5), (700, 17), (2000, 64)])
def test_float32(rng: Any, n: int, d: int) -> None:
    """Products with H add an error of 2 gamma |X|^T |X| in norm, twice for [X 1]."""
    problem = draw(rng, n, d, dtype=np.float32)
    roundings = d + 4 + min(n, SEGMENT["float32"])
    X = np.abs(np.hstack([problem.X.astype(float), np.ones((n, 1))]))
    spread = np.linalg.norm(X, 2) ** 2 / (fits.steepest(problem) * n / 2)
    rel = float(1e-6 + bounds.gamma(2 * roundings, np.float32) * spread)
    assert limit_of(problem) == pytest.approx(2 / fits.steepest(problem), rel=rel)
    if n == 40:
        assert rel < 1e-4


def test_the_limit_is_the_same_number_everywhere(rng: Any, isa_and_threads: Any) -> None:
    problem = draw(rng, 3000, 30)
    here = limit_of(problem)
    gd._core.set_isa("reference")
    gd.set_num_threads(1)
    assert limit_of(problem) == here


@every_kind
def test_limits_by_the_iteration_itself(rng: Any, kind: str) -> None:
    """At the limit the largest eigenvalue of a step, momentum and all, is on the unit circle."""
    problem, options = draw(rng, 40, 4), KINDS[kind]
    limit, hessian = limit_of(problem, **options), fits.hessian(problem)

    def radius(lr: float) -> float:
        matrix = bounds.sgd_matrix(gd.SGD(lr=lr, **options), hessian)
        if "momentum" not in options:
            matrix = matrix[:5, :5]
        return float(np.abs(np.linalg.eigvals(matrix)).max())

    assert radius(limit) == pytest.approx(1, abs=1e-5)
    assert radius(limit * (1 - 1e-3)) < 1 < radius(limit * (1 + 1e-3))


def test_limits_without_end() -> None:
    """Without curvature there is no limit; where no step descends the limit is zero."""
    zeros, y = np.zeros((4, 2)), np.ones(4)
    assert gd.fit(zeros, y, gd.SGD(), fit_intercept=False, epochs=0).stability_limit == np.inf
    decay = gd.SGD(weight_decay=0.5)
    assert gd.fit(zeros, y, decay, fit_intercept=False, epochs=0).stability_limit == 4
    with pytest.warns(gd.LearningRateWarning, match="momentum of 1 or more"):
        result = gd.fit(np.eye(2), np.ones(2), gd.SGD(lr=1e-3, momentum=1.0), epochs=0)
    assert result.stability_limit == 0
    with pytest.warns(gd.LearningRateWarning, match="maximize=False"):
        result = gd.fit(np.eye(2), np.ones(2), gd.SGD(lr=1e-3, maximize=True), epochs=0)
    assert result.stability_limit == 0


# What fits do on both sides of it.


@every_kind
@each("t", [None, 2])
def test_just_below_converges(rng: Any, kind: str, t: int | None) -> None:
    problem, options = draw(rng, 30, 3, t), KINDS[kind]
    lr = limit_of(problem, **options) * (1 - 2e-3)
    result = fits.fit(problem, gd.SGD(lr=lr, **options), tol=1e-3, epochs=30_000, history=0)
    assert result.status is Status.CONVERGED


@every_kind
@each("t", [None, 2])
def test_just_above_diverges(rng: Any, kind: str, t: int | None) -> None:
    """Slowly, but in float32 it overflows within the epochs."""
    problem, options = draw(rng, 30, 3, t, dtype=np.float32), KINDS[kind]
    lr = limit_of(problem, **options) * (1 + 2e-3)
    with pytest.warns(gd.LearningRateWarning), pytest.warns(gd.FitWarning, match="Diverged"):
        result = fits.fit(problem, gd.SGD(lr=lr, **options), epochs=200_000, history=0)
    assert result.status is Status.DIVERGED
    assert result.loss > 1e30
    assert np.isfinite(result.weights).all()


def test_at_a_stable_rate_the_loss_only_falls(rng: Any) -> None:
    for seed in range(20):
        problem = draw(np.random.default_rng(seed), 30, 3)
        for share in (0.1, 0.5, 0.99):
            lr = share * limit_of(problem)
            losses = fits.fit(problem, gd.SGD(lr=lr), epochs=50, tol=None).history.loss
            assert (np.diff(losses) <= 1e-15 * losses[:-1]).all()


# The warning.


@every_kind
def test_the_warning_names_the_limit_and_a_rate_that_works(rng: Any, kind: str) -> None:
    problem, options = draw(rng, 30, 3), KINDS[kind]
    limit = limit_of(problem, **options)
    with warnings.catch_warnings(record=True) as log:
        warnings.simplefilter("always")
        fits.fit(problem, gd.SGD(lr=3 * limit, **options), epochs=5)
    assert log[0].category is gd.LearningRateWarning
    assert log[0].filename == fits.__file__
    message = str(log[0].message)
    asked, named, advised = (float(x) for x in re.findall(r"\d[\d.e+-]*\d", message))
    assert asked == pytest.approx(3 * limit, rel=1e-5)
    assert named == pytest.approx(limit, rel=1e-5)
    for lr in (advised, "auto"):
        result = fits.fit(problem, gd.SGD(lr=lr, **options), epochs=20_000)  # no warning now
        assert result.status is Status.CONVERGED, lr


def test_the_warning_comes_before_the_first_step(rng: Any) -> None:
    seen: list[str] = []
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_a, **_k: seen.append(type(message).__name__)
        warnings.simplefilter("always")
        fits.fit(draw(rng, 30, 3), gd.SGD(lr=50.0), progress=lambda *_: seen.append("step"))
    assert seen[0] == "LearningRateWarning"
    assert "step" in seen


def test_every_warning_names_the_line_that_called(rng: Any) -> None:
    X, y = rng.standard_normal((40, 2)), rng.standard_normal(40)
    ways = [
        lambda *a, **k: gd.fit(X, y, *a, **k),
        lambda *a, **k: gd.fit(X[None], y[None], *a, **k),
        lambda *a, **k: gd.fit([(X, y)], None, *a, **k),
        lambda *a, **k: gd.fit([(X, y)], None, *a, method="stream", **k),
        lambda *a, **k: gd.fit_groups(X, y, np.zeros(40), *a, **k),
        lambda *a, **k: gd.fit_rolling(X, y, 40, *a, **k),
        lambda *a, **k: gd.Moments(2).update(X, y).fit(*a, **k),
    ]
    for way in ways:
        with warnings.catch_warnings(record=True) as log:
            warnings.simplefilter("always")
            way(gd.SGD(lr=9.0), epochs=700)
            way(gd.SGD(lr=0.01), epochs=2)
        kinds = [w.category for w in log]
        assert kinds == [gd.LearningRateWarning, gd.FitWarning, gd.FitWarning], kinds
        assert {w.filename for w in log} == {__file__}


def test_no_warning_at_the_limit(rng: Any) -> None:
    problem = draw(rng, 30, 3)
    limit = limit_of(problem)
    fits.fit(problem, gd.SGD(lr=limit), epochs=1, tol=None)
    with pytest.warns(gd.LearningRateWarning):
        fits.fit(problem, gd.SGD(lr=np.nextafter(limit, 9)), epochs=1, tol=None)


def test_a_schedule_is_warned_of_by_its_first_rate(rng: Any) -> None:
    problem = draw(rng, 30, 3)
    limit = limit_of(problem)
    sgd = gd.SGD(lr=lambda epoch: 2 * limit / (1 + epoch))
    with pytest.warns(gd.LearningRateWarning, match=f"limit {limit:.6g}"):
        fits.fit(problem, sgd, epochs=5, tol=None)


@each("reduction", REDUCTIONS)
def test_the_limit_of_mini_batches(rng: Any, reduction: str) -> None:
    """A mean's is the same for every batch size; a sum's grows as the batch shrinks."""
    problem = draw(rng, 40, 3, reduction=reduction)
    full, small = (fits.fit(problem, epochs=0, batch_size=b).stability_limit for b in (None, 10))
    assert small == pytest.approx(full * (4 if reduction.endswith("sum") else 1))


# lr="auto".


def test_auto_is_one_over_the_largest_eigenvalue(rng: Any) -> None:
    for parts, reduction, decay in product(["", "b", "bs"], REDUCTIONS, [0.0, 0.7]):
        problem = draw(rng, 30, 5, 2, parts=parts, reduction=reduction)
        momentum = gd.SGD(momentum=0.5, weight_decay=decay)
        assert fits.fit(problem, momentum, epochs=1, tol=None).lr == pytest.approx(
            1 / (fits.steepest(problem) + decay), rel=1e-5
        )
        result = fits.fit(problem, gd.SGD(weight_decay=decay), epochs=1, tol=None)
        assert result.lr == pytest.approx(1 / (fits.steepest(problem) + decay), rel=1e-5)
        assert result.lr <= 1 / (fits.steepest(problem) + decay) * (1 + 1e-12)


def test_auto_for_one_row_at_a_time(rng: Any) -> None:
    """lr is 1 / the curvature of the steepest row, so that no step overshoots on its row."""
    problem = draw(rng, 30, 5)
    rows = [fits.steepest(fits.rows_of(problem, [i])) for i in range(30)]
    result = fits.fit(problem, batch_size=1, epochs=1, tol=None)
    assert result.lr == pytest.approx(1 / max(rows))


@each("dampening", [0.0, 0.9, -0.5, -5.0])
@each("momentum", [0.0, 0.1, 0.9, 0.999])
def test_auto_is_below_the_limit(rng: Any, momentum: float, dampening: float) -> None:
    sgd = gd.SGD(momentum=momentum, dampening=dampening)
    result = fits.fit(draw(rng, 30, 5), sgd, epochs=1, tol=None)
    assert 0 < result.lr < result.stability_limit


def test_auto_of_a_flat_loss() -> None:
    result = gd.fit(np.zeros((3, 2)), np.zeros(3), gd.SGD(), fit_intercept=False)
    assert (result.status, result.epochs) == (Status.CONVERGED, 0)


repeatable = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@st.composite
def solvable(draw: st.DrawFn) -> tuple[Linear, Array]:
    """Draw a problem of any scale, shape and weighting, and parameters at which its loss is 0."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, d = draw(st.integers(1, 30)), draw(st.integers(1, 8))
    t = draw(st.none() | st.integers(1, 3))
    dtype: Any = draw(st.sampled_from(problems.DTYPES))
    parts = draw(st.sampled_from(["", "b", "s", "bs"]))
    reduction = draw(st.sampled_from(REDUCTIONS))
    problem = problems.linear(rng, n, d, t, dtype=dtype, reduction=reduction, parts=parts)
    spread = draw(st.sampled_from([0.0, 1.0]))
    X = problem.X * 10.0 ** rng.uniform(-spread, spread, (1, d)) * 10.0 ** draw(st.integers(-3, 3))
    if draw(st.booleans()):
        X[rng.integers(n)] *= draw(st.sampled_from([0.0, 5.0, 100.0]))
    X = X.astype(dtype)
    truth = rng.standard_normal(problem.weights.shape)
    weight = problem.sample_weight
    if weight is not None:
        weight = (weight + (weight.sum() == 0) * 10.0 ** rng.uniform(-2, 2, n)).astype(dtype)
    start = np.zeros_like(problem.weights)
    none = None if problem.intercept is None else np.zeros_like(problem.intercept)
    y = (X @ truth).astype(dtype)
    problem = replace(problem, X=X, y=y, weights=start, intercept=none, sample_weight=weight)
    size = fits.start_of(problem).size
    return problem, fits.flat(truth, np.zeros(size - truth.size), size)


# Weight decay moves the minimum away from the solution.
STEADY = [{k: v for k, v in o.items() if k != "weight_decay"} for o in KINDS.values()]


def check_auto(problem: Linear, truth: Array, options: Any, **how: Any) -> None:
    """Assert that 300 epochs end at most twice as far from the solution as the start.

    300 epochs may be too few, but must not diverge or warn of the rate.

    At a loss of zero every batch has the same minimum, so that no noise keeps a fit away from it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Stalled|Ended|300 epochs", gd.FitWarning)
        result = fits.fit(problem, gd.SGD(**options), epochs=300, tol=1e-5, **how)
    assert result.status in (Status.CONVERGED, Status.MAX_EPOCHS, Status.STALLED)
    away = np.linalg.norm(fits.parameters(result)[: truth.size] - truth)
    assert away <= 2 * np.linalg.norm(truth)


@repeatable
@given(solvable(), st.sampled_from(STEADY))
def test_auto_never_diverges(problem: Any, options: Any) -> None:
    check_auto(problem[0], problem[1], options)


@repeatable
@given(solvable(), st.data(), st.booleans(), st.integers(0, 2**64 - 1))
def test_auto_never_diverges_in_mini_batches(
    problem: Any, data: Any, shuffle: bool, seed: int
) -> None:
    batch_size = data.draw(st.integers(1, len(problem[0].X)))
    check_auto(problem[0], problem[1], {}, batch_size=batch_size, shuffle=shuffle, seed=seed)


@each("options", STEADY)
def test_auto_never_diverges_in_mini_batches_with_momentum(options: Any) -> None:
    truth = np.ones(3)
    for seed in range(20):
        problem = draw(np.random.default_rng(seed), 40, 3, parts="")
        problem = replace(problem, y=problem.X @ truth, weights=np.zeros(3))
        for batch_size in (1, 2, 7, 20, 39):
            check_auto(problem, truth, options, batch_size=batch_size, seed=seed)


@each("reduction", ["mean", "sum"])
def test_auto_never_diverges_on_a_few_heavy_rows(reduction: str) -> None:
    """Batches with several of them are far steeper than the mean over all rows."""
    truth = np.ones(2)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((60, 2))
        X[:4] = [[300.0, 100.0]]
        problem = Linear(X, X @ truth, np.zeros(2), reduction=reduction)
        for batch_size in (1, 2, 3, 4, 10, 30, 59):
            check_auto(problem, truth, {}, batch_size=batch_size, seed=seed)


# Schedules.


@each("batch_size", [None, 7])
@each("momentum", [0.0, 0.9])
def test_a_schedule_is_a_chain_of_fits(rng: Any, batch_size: int | None, momentum: float) -> None:
    """150 epochs, more than are asked for at once, each with the lr of its number."""
    problem = draw(rng, 40, 3)
    rates = rng.uniform(0.001, 0.02, 150).tolist()
    options: dict[str, Any] = {"tol": None, "batch_size": batch_size}
    sgd = gd.SGD(lr=rates.__getitem__, momentum=momentum)
    whole = fits.fit(problem, sgd, epochs=150, **options)
    parts, start = [], None
    for rate in rates:
        how = options if start is None else options | {"init": start}
        start = fits.fit(problem, replace(sgd, lr=rate), epochs=1, **how)
        parts.append(start)
    assert fits.bits(fits.joined(parts)) == fits.bits(whole)
    assert whole.lr == rates[-1]


def test_a_schedule_sees_each_epoch_once_and_in_order(rng: Any) -> None:
    """From 0, and on over a warm start."""
    problem, seen = draw(rng, 40, 3), list[int]()

    def rate(epoch: int) -> float:
        assert type(epoch) is int
        seen.append(epoch)
        return 0.01

    first = fits.fit(problem, gd.SGD(lr=rate), epochs=100, tol=None)
    assert sorted(set(seen)) == list(range(100))
    seen.clear()
    fits.fit(problem, gd.SGD(lr=rate), epochs=100, tol=None, init=first)
    assert sorted(set(seen)) == list(range(100, 200))
    assert fits.falls([-epoch for epoch in seen])


@each("value, error", [
    (np.nan, ValueError), (np.inf, ValueError), (-1e-9, ValueError),
    (None, TypeError), ("fast", (TypeError, ValueError)), ([0.1, 0.2], TypeError),
])  # fmt: skip
@each("at", [0, 70])
def test_bad_schedules(rng: Any, value: Any, error: Any, at: int) -> None:
    sgd = gd.SGD(lr=lambda epoch: value if epoch == at else 0.01)
    with pytest.raises(error, match=f"(?s)schedule.*epoch {at}"):
        fits.fit(draw(rng, 40, 3), sgd, tol=None, epochs=100)


def test_an_error_in_a_schedule_comes_through(rng: Any) -> None:
    def fail(epoch: int) -> float:
        raise LookupError("no rate")

    with pytest.raises(LookupError, match="no rate"):
        fits.fit(draw(rng, 40, 3), gd.SGD(lr=fail))
