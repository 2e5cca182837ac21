"""gd.fit: how it stops and what it says, history, warm starts, progress, prediction."""

from __future__ import annotations

import io
import re
import sys
import warnings
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import bounds
import fits
import gdcore as gd
import problems
from fits import bits
from gdcore import Status
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
    return problems.linear(rng, n, d, t, **({"parts": "b"} | how))


def distances(problem: Linear, result: gd.Fit, weight_decay: float = 0.0) -> list[float]:
    """Return the least tol that is kept at the start and after each recorded epoch.

    The root mean square distance to the predictions that fit best, in standard deviations of y; of
    several targets the largest.
    """
    h = result.history
    assert h.weights is not None
    assert h.intercept is not None
    size = fits.start_of(problem).size
    after = [fits.flat(w, b, size) for w, b in zip(h.weights, h.intercept, strict=True)]
    visited = [problem, *(fits.at(problem, p) for p in after)]
    return [float(np.sqrt(fits.gaps(p, weight_decay).max())) for p in visited]


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
    """Off by no more than rounding: the path bound, along the closed form."""
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


# Statuses.


@each("name", [name for name in SGDS if name != "schedule"])
@every_target
def test_converged(rng: Any, dtype: Any, name: str, t: int | None) -> None:
    """The first epoch within tol * sd(y) of the best fit is the last one."""
    tol, sgd = 1e-3, SGDS[name]
    problem = draw(rng, t=t, dtype=dtype, parts="bos")
    result = fits.fit(problem, sgd, tol=tol)
    assert result.status is Status.CONVERGED
    steps = distances(problem, result, sgd.weight_decay)
    assert result.epochs == len(steps) - 1 > 0
    slack = 1 + 1e4 * np.finfo(dtype).eps  # of a distance recomputed in float64
    assert steps[-1] <= tol * slack
    assert min(steps[:-1]) > tol / slack
    assert np.isfinite(result.loss)
    assert "Converged" in result.message
    assert str(result.epochs) in result.message


def test_mini_batches_converge_where_they_agree(rng: Any, dtype: Any) -> None:
    """Without noise in the data every batch has the same minimum, and all find it."""
    problem = draw(rng, parts="")
    problem = replace(problem, y=problem.X @ np.array([1.0, -2.0, 3.0])).map(dtype.type)
    tol = 1e-3
    result = fits.fit(problem, tol=tol, batch_size=7, epochs=5000)
    assert result.status is Status.CONVERGED
    assert result.epochs < 5000
    np.testing.assert_allclose(result.weights, [1, -2, 3], atol=0.1)
    steps = distances(problem, result)
    slack = 1 + 1e4 * np.finfo(dtype).eps
    assert steps[-1] <= tol * slack
    assert min(steps[:-1]) > tol / slack


def test_the_end_of_an_epoch_decides_for_mini_batches(rng: Any) -> None:
    """Not where its steps were on the way, some of which are nearer to the best fit."""
    problem, sgd = draw(rng), gd.SGD(lr=0.02)
    p, ends, passed = problem, [], []
    for epoch in range(60):
        for rows in fits.batches(40, 7, True, 0, epoch):
            p = fits.at(p, fits.start_of(p) - 0.02 * fits.gradient(fits.rows_of(p, rows)))
            passed.append(float(np.sqrt(fits.gaps(p).max())))
        ends.append(passed[-1])
    tol = 1.001 * np.sort(ends)[5]
    want = next(i for i, end in enumerate(ends, start=1) if end <= tol)
    assert tol < 0.03
    assert min(passed[: 6 * want - 6]) < tol
    result = fits.fit(problem, sgd, batch_size=7, tol=tol, epochs=60)
    assert (result.status, result.epochs) == (Status.CONVERGED, want)


@every_batch
def test_max_epochs(rng: Any, dtype: Any, batch_size: int | None) -> None:
    """One warning, of the shortfall: before the first step if that tells it, else at the end."""
    problem = draw(rng, dtype=dtype)
    said = "3 epochs of this descent end with R" if batch_size is None else "Ended after all 3"
    with pytest.warns(gd.FitWarning, match=said) as log:
        result = fits.fit(problem, epochs=3, batch_size=batch_size)
    assert [w.filename for w in log] == [fits.__file__]
    assert (result.status, result.epochs) == (Status.MAX_EPOCHS, 3)
    assert str(result.status) == "MAX_EPOCHS"
    assert "Ended after all 3 epochs." in result.message
    assert "method='exact' needs none." in result.message
    if batch_size is None:
        assert re.search(r"this descent takes \d+ epochs", result.message)
        assert result.r2_lost == pytest.approx(distances(problem, result)[-1] ** 2, rel=1e-3)
    else:
        assert Status.MAX_EPOCHS.advice in result.message


@every_batch
def test_epochs_without_a_tol_are_as_asked(rng: Any, dtype: Any, batch_size: int | None) -> None:
    result = fits.fit(draw(rng, dtype=dtype), epochs=3, batch_size=batch_size, tol=None)
    assert (result.status, result.epochs) == (Status.MAX_EPOCHS, 3)
    assert result.message == "Ended after all 3 epochs."
    assert np.isnan(result.r2_lost)


def test_the_loss_is_of_the_final_weights_over_all_rows(rng: Any, dtype: Any) -> None:
    for parts, reduction, t in (("", "mean", None), ("bos", "half_sum", 2), ("bo", "sum", None)):
        problem = draw(rng, t=t, dtype=dtype, parts=parts, reduction=reduction)
        for batch_size in (None, 7):
            for how in ({"method": "stream"}, {"method": "exact", "batch_size": None}):
                options: dict[str, Any] = {
                    "epochs": 3, "tol": None, "batch_size": batch_size, **how,
                }  # fmt: skip
                result = fits.fit(problem, **options)
                final = replace(problem, weights=result.weights)
                if final.intercept is not None:
                    final = replace(final, intercept=np.asarray(result.intercept))
                if how["method"] == "exact" and dtype == np.float32:  # of the moments, in float64
                    wide = final.map(lambda a: a.astype(np.float64))()[0]
                    assert abs(result.loss - wide) <= 2.0**-23 * wide
                else:
                    assert canonical(result.loss) == canonical(final()[0])


@each("batch_size", [None, 13, 40])
def test_no_epochs(rng: Any, dtype: Any, batch_size: int | None) -> None:
    """Nothing moves; the loss at the start is told."""
    problem = draw(rng, dtype=dtype, t=2)
    result = fits.fit(problem, epochs=0, batch_size=batch_size, method="stream")
    assert (result.status, result.epochs) == (Status.MAX_EPOCHS, 0)
    assert canonical(result.weights, result.intercept) == canonical(
        problem.weights, problem.intercept
    )
    assert canonical(result.loss) == canonical(problem()[0])
    assert len(result.history.epoch) == 0


def diverging(problem: Linear, sgd: gd.SGD) -> tuple[Linear, int]:
    """Step by hand until the loss is not finite: the last finite parameters, the epoch after."""
    p, last, epoch = problem.map(np.copy), problem, 0
    params: list[Any] = [p.weights, p.intercept]
    state = sgd.init(params)
    while True:
        before = p.map(np.copy)
        loss, grad = p()
        if not np.isfinite(loss):
            return last, epoch
        last = before
        sgd.step(params, [grad.weights, np.asarray(grad.intercept)], state)
        epoch += 1


@each("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
@every_target
def test_diverged(rng: Any, dtype: Any, t: int | None, options: Any) -> None:
    """The weights are the last whose loss is finite; the epoch that spoilt them is named."""
    problem = draw(rng, t=t, dtype=dtype)
    sgd = gd.SGD(lr=50 / fits.steepest(problem), **options)
    with np.errstate(all="ignore"):
        last, epoch = diverging(problem, sgd)
    with pytest.warns(gd.LearningRateWarning), pytest.warns(gd.FitWarning, match="Diverged") as log:
        result = fits.fit(problem, sgd, epochs=5000, method="stream")
    assert result.status is Status.DIVERGED
    assert result.epochs == len(result.history.epoch) == epoch - 1
    assert f"Diverged in epoch {epoch} " in result.message
    assert Status.DIVERGED.advice in result.message
    assert canonical(result.weights, result.intercept) == canonical(last.weights, last.intercept)
    assert canonical(result.loss) == canonical(last()[0])
    assert np.isfinite(result.loss)
    assert np.isfinite(result.history.loss).all()
    assert [w.filename for w in log if w.category is gd.FitWarning] == [fits.__file__]


@every_batch
def test_diverged_in_the_first_epoch(rng: Any, dtype: Any, batch_size: int | None) -> None:
    """The weights are then the start."""
    problem = draw(rng, dtype=dtype)
    sgd = gd.SGD(lr=float(np.finfo(dtype).max) / 10)
    with pytest.warns(gd.LearningRateWarning), pytest.warns(gd.FitWarning, match="in epoch 1 "):
        result = fits.fit(problem, sgd, batch_size=batch_size)
    assert result.status is Status.DIVERGED
    assert canonical(result.weights) == canonical(problem.weights)
    limit = fits.loss_bound(problem, dtype, result.method)  # of the rows, or of their moments
    bounds.check(result.loss, problem.exact()[0], limit)


def test_diverged_mini_batches(rng: Any, dtype: Any) -> None:
    problem = draw(rng, dtype=dtype)
    with pytest.warns(gd.LearningRateWarning), pytest.warns(gd.FitWarning, match="Diverged"):
        result = fits.fit(problem, gd.SGD(lr=5.0), batch_size=7)
    assert result.status is Status.DIVERGED
    assert result.epochs < 1000
    assert np.isfinite(result.weights).all()
    assert f"in epoch {result.epochs + 1} " in result.message


def test_on_its_way_to_divergence(rng: Any) -> None:
    """All epochs are done before anything overflows, but the loss only grew."""
    problem = draw(rng)
    sgd = gd.SGD(lr=2.2 / fits.steepest(problem))
    with pytest.warns(gd.LearningRateWarning), pytest.warns(gd.FitWarning, match="iverg"):
        result = fits.fit(problem, sgd, epochs=200)
    assert (result.status, result.epochs) == (Status.DIVERGED, 200)
    assert "201" not in result.message, "only 200 epochs were run"
    assert result.loss > result.history.loss[0]


def test_stalled(isa: str) -> None:
    """Seed 000 in float32: X comes to 2 from below, until a step is less than half an ulp."""
    with pytest.warns(gd.FitWarning, match="Stalled"):
        result = fits.seed_000(np.float32, epochs=10**6)
    assert result.status is Status.STALLED
    X = result.weights[0]
    assert np.float32(1.9999402) <= X <= np.float32(1.9999408)
    residual = np.float32(3) - (X + np.float32(1))
    assert 1e-3 * residual < np.spacing(X) / 2
    assert result.epochs < 12_000
    assert result.history.weights is not None
    path = result.history.weights[:, 0]
    assert (np.diff(path)[:-1] > 0).all()  # it moved until the last step, which did not
    assert path[-1] == path[-2]
    assert "Stalled after" in result.message
    assert Status.STALLED.advice in result.message
    with pytest.warns(gd.FitWarning, match="3 epochs"):
        more = gd.fit(
            np.ones((1, 1), "f4"), np.full(1, 9, "f4"), gd.SGD(lr=1e-3), init=result, epochs=3,
            fit_intercept=False,
        )  # fmt: skip
    assert (more.status, more.weights[0] > X) == (Status.MAX_EPOCHS, True)


def test_no_tol_runs_every_epoch_of_a_stalled_fit() -> None:
    result = fits.seed_000(np.float32, epochs=20_000, tol=None)
    assert (result.status, result.epochs) == (Status.MAX_EPOCHS, 20_000)
    assert len(result.history.loss) == 20_000
    assert result.history.weights is not None
    assert (result.history.weights[12_000:] == result.weights).all()


def test_seed_000_does_not_stall_in_float64() -> None:
    """Of a single row y is constant: its predictions are then within the rounding of y itself."""
    result = fits.seed_000(np.float64, epochs=10**6)
    assert result.status is Status.CONVERGED
    tau = 2.0**-43 + 2 * np.finfo(np.float64).eps
    steps = 2 - result.history.weights[:, 0]  # type: ignore[index]
    assert 0 < steps[-1] <= 2 * tau * (1 + 1e-3)  # y - offset is 2
    assert steps[-2] > 2 * tau / (1 + 1e-3)


def test_a_pause_in_a_schedule_is_no_stall(rng: Any) -> None:
    problem = draw(rng)
    sgd = gd.SGD(lr=lambda epoch: 0.0 if epoch < 5 else 0.1)
    result = fits.fit(problem, sgd)
    assert result.status is Status.CONVERGED
    assert result.epochs > 5
    assert canonical(result.history.weights[4]) == canonical(problem.weights)  # type: ignore


@each("shuffle", [False, True])
def test_stalled_mini_batches(shuffle: bool) -> None:
    """Without shuffling an epoch that changes nothing will not be followed by one that does."""
    X, y = np.ones((4, 1), "f4"), np.full(4, 3, "f4")
    how: dict[str, Any] = {"batch_size": 2, "shuffle": shuffle, "fit_intercept": False}
    said = "Ended after all 6000 epochs" if shuffle else "Stalled"
    with pytest.warns(gd.FitWarning, match=said):
        result = gd.fit(X, y, gd.SGD(lr=1e-3), epochs=6000, history=0, **how)
    assert result.status is (Status.MAX_EPOCHS if shuffle else Status.STALLED)
    assert 2.999 < result.weights[0] < 3


@each("method", ["auto", "stream", "exact"])
@each("kind", ["no rows", "no weight"])
@every_target
def test_empty(dtype: Any, method: Any, kind: str, t: int | None) -> None:
    """Nothing to learn from: the start comes back, and a warning."""
    rows = 0 if kind == "no rows" else 5
    X, y = np.ones((rows, 3), dtype), np.ones((rows,) if t is None else (rows, t), dtype)
    weights, intercept = np.full((3,) if t is None else (3, t), 7.0), 5.0
    with pytest.warns(gd.FitWarning, match="No rows"):
        result = gd.fit(
            X,
            y,
            gd.SGD(),
            init=(weights, intercept),
            sample_weight=np.zeros(rows, dtype),
            method=method,
        )
    assert (result.status, result.epochs) == (Status.EMPTY, 0)
    np.testing.assert_array_equal(result.weights, weights)
    np.testing.assert_array_equal(result.intercept, np.full(() if t is None else t, intercept))
    assert result.weights.dtype == dtype
    assert np.isnan(result.loss)
    assert Status.EMPTY.advice in result.message
    assert len(result.history.loss) == 0
    assert result.predict(np.ones((2, 3))).shape == ((2,) if t is None else (2, t))


@each("how", ["collinear", "constant", "zero", "few rows"])
def test_singular(rng: Any, dtype: Any, how: str) -> None:
    X = problems.normal(rng, (12, 3), dtype)
    if how == "collinear":
        X[:, 2] = 2 * X[:, 0]
    elif how == "constant":
        X[:, 1] = 4
    elif how == "zero":
        X[:, 1] = 0
    else:
        X = X[:2]
    with pytest.warns(gd.FitWarning, match=r"dependent.*Drop or combine"):
        result = gd.fit(X, X.sum(axis=1), method="exact")
    assert result.status is Status.SINGULAR
    assert result.method == "exact"
    assert gd.fit(X, X.sum(axis=1), gd.SGD(weight_decay=0.1), method="exact").status is (
        Status.CONVERGED
    )
    descent = gd.fit(X, X.sum(axis=1), gd.SGD())
    assert descent.status is Status.CONVERGED
    rank = 2 if how == "few rows" else 3
    assert f"Rank {rank} of 4: other weights fit as well." in descent.message


def test_statuses_are_strings_with_codes_and_advice() -> None:
    assert [s.code for s in Status] == list(range(7))  # files hold them
    assert [str(s) for s in Status] == [
        "CONVERGED", "MAX_EPOCHS", "DIVERGED", "STALLED", "SINGULAR", "EMPTY", "INVALID",
    ]  # fmt: skip
    assert all(re.fullmatch(r"[A-Z][^.]*(\.[^.]*)*\.", s.advice) for s in Status)
    assert issubclass(gd.FitWarning, UserWarning)
    assert issubclass(gd.LearningRateWarning, UserWarning)
    assert issubclass(gd.FitInterrupted, KeyboardInterrupt)


# When to stop.


def test_tol_zero_stops_at_the_minimum() -> None:
    """Halving steps on integers come to it exactly."""
    result = gd.fit([[1.0], [-1.0]], [2.0, -2.0], gd.SGD(lr=0.5), tol=0.0, fit_intercept=False)
    assert (result.status, result.epochs, result.weights[0]) == (Status.CONVERGED, 1, 2.0)


def test_a_start_at_the_minimum_is_converged(rng: Any, dtype: Any) -> None:
    X = problems.integers(rng, (20, 3), dtype)
    result = gd.fit(X, X @ np.array([1, 2, 3], dtype), gd.SGD(), init=[1.0, 2.0, 3.0])
    assert (result.status, result.epochs, result.loss) == (Status.CONVERGED, 0, 0)


def test_no_tol_runs_every_epoch(rng: Any) -> None:
    problem = draw(rng)
    stopped = fits.fit(problem)
    assert stopped.status is Status.CONVERGED
    on = fits.fit(problem, tol=None, epochs=stopped.epochs + 10)
    assert (on.status, on.epochs) == (Status.MAX_EPOCHS, stopped.epochs + 10)


def test_tol_is_relative_to_the_spread_of_y(rng: Any) -> None:
    """Scaling the targets by a power of two scales everything: the same epochs, the same bits.

    The start is no measure: one nearer to the best fit takes fewer epochs.
    """
    problem = draw(rng, parts="")
    start = np.zeros(3)
    small = gd.fit(problem.X, problem.y, gd.SGD(), init=start)
    large = gd.fit(problem.X, 2.0**40 * problem.y, gd.SGD(), init=start)
    assert small.epochs == large.epochs
    assert canonical(2.0**40 * small.weights) == canonical(large.weights)
    h, half = small.history, small.epochs // 2
    assert h.weights is not None
    assert h.intercept is not None
    nearer = gd.fit(
        problem.X, problem.y, gd.SGD(), init=(h.weights[half - 1], h.intercept[half - 1])
    )
    assert nearer.epochs == small.epochs - half
    assert canonical(nearer.weights) == canonical(small.weights)


def check_equal_losses(losses: list[float]) -> None:
    """Assert that the last loss is that of the epoch before, and the first that is."""
    repeats = [a == b for a, b in pairwise(losses)]
    assert repeats[-1]
    assert not any(repeats[:-1])


@each("momentum", [0.0, 0.9])
def test_loss_equal(rng: Any, momentum: float) -> None:
    """It stops at equal losses, not when the loss rises, as with momentum it does.

    With a tol as well the descent ends by what holds first.
    """
    X = problems.normal(rng, (40, 2), np.float32)
    y = X @ np.array([3, -2], "f4") + problems.normal(rng, (40,), "f4")
    sgd = gd.SGD(lr=0.05, momentum=momentum)
    result = gd.fit(X, y, sgd, stop="loss_equal", epochs=10**5, tol=None)
    assert result.status is Status.CONVERGED
    assert result.epochs == len(result.history.loss)
    losses = [*result.history.loss.tolist(), float(result.loss)]  # that after the last update too
    assert fits.falls(losses) == (momentum == 0)
    check_equal_losses(losses)
    within = gd.fit(X, y, sgd, epochs=10**5, tol=0.0)
    both = gd.fit(X, y, sgd, stop="loss_equal", epochs=10**5, tol=0.0)
    assert bits(both) == bits(min(within, result, key=lambda fit: fit.epochs))


@each("shuffle", [False, True])
def test_loss_equal_in_mini_batches(dtype: Any, shuffle: bool) -> None:
    """Each step halves the error, until the losses of two epochs are zero."""
    X = np.where(np.arange(40) % 3, 1, -1).astype(dtype)[:, None]
    how: dict[str, Any] = {"batch_size": 7, "shuffle": shuffle, "fit_intercept": False}
    result = gd.fit(X, 3 * X[:, 0], gd.SGD(lr=0.25), stop="loss_equal", tol=None, **how)
    assert result.status is Status.CONVERGED
    assert result.weights == 3
    assert result.epochs == len(result.history.loss)
    assert result.history.loss[-1] == 0
    check_equal_losses(result.history.loss.tolist())


# What is recorded.


@every_sgd
@every_batch
@every_target
def test_history(rng: Any, dtype: Any, sgd: gd.SGD, t: int | None, batch_size: int | None) -> None:
    """Epochs 1, 2, ...; losses before, weights after: each a fit of that many epochs."""
    problem = draw(rng, t=t, dtype=dtype, parts="bos")
    how = {"batch_size": batch_size, "tol": None}
    h = fits.fit(problem, sgd, epochs=4, **how).history
    assert h.epoch.dtype == np.int64
    assert h.epoch.tolist() == [1, 2, 3, 4]
    assert (h.loss.shape, h.loss.dtype) == ((4,), dtype)
    assert h.weights is not None
    assert h.intercept is not None
    assert (h.weights.shape, h.weights.dtype) == ((4, *problem.weights.shape), dtype)
    assert h.intercept.shape == ((4,) if t is None else (4, t))
    for epochs in range(5):
        result = fits.fit(problem, sgd, epochs=epochs, **how)
        if epochs > 0:
            after = h.weights[epochs - 1], h.intercept[epochs - 1]
            assert canonical(*after) == canonical(result.weights, result.intercept)
        if epochs < 4 and batch_size is None:
            assert canonical(h.loss[epochs]) == canonical(result.loss)


def test_loss_of_a_mini_batch_epoch(rng: Any) -> None:
    """Every row counts once, at the weights that its batch was seen with."""
    problem = draw(rng, parts="b")
    for reduction in problems.REDUCTIONS:
        p = replace(problem, reduction=reduction)
        result = fits.fit(p, gd.SGD(lr=0.001), batch_size=7, epochs=1, tol=None)
        here, squares = p, 0.0
        for rows in fits.batches(40, 7, True, 0, 0):
            part = fits.rows_of(here, rows)
            squares += float(replace(part, reduction="sum").exact()[0])
            here = fits.at(here, fits.start_of(here) - 0.001 * fits.gradient(part))
        value, _ = problems.scales(reduction, 40)
        np.testing.assert_allclose(result.history.loss, [value * squares], rtol=1e-13)


@each("every", [1, 2, 3, 7, 20, 21, 10**9])
@every_batch
def test_every_so_many_epochs(rng: Any, every: int, batch_size: int | None) -> None:
    problem = draw(rng)
    how: dict[str, Any] = {"epochs": 20, "tol": None, "batch_size": batch_size}
    full, some = (fits.fit(problem, history=k, **how) for k in (1, every))
    pick = slice(every - 1, None, every)
    h = full.history
    assert h.weights is not None
    assert h.intercept is not None
    want = gd.History(h.epoch[pick], h.loss[pick], h.weights[pick], h.intercept[pick])
    assert bits(some) == bits(replace(full, history=want))


def test_no_history(rng: Any, dtype: Any) -> None:
    result = fits.fit(draw(rng, dtype=dtype), epochs=5, tol=None, history=0)
    assert result.history.epoch.tolist() == result.history.loss.tolist() == []
    assert result.history.loss.dtype == dtype
    assert result.epochs == 5


@each("epochs", [8, 9])
def test_weights_are_recorded_up_to_64_mib(epochs: int) -> None:
    """A million parameters of 8 bytes: 8 epochs are 64 MiB, 9 are too many."""
    X = np.zeros((1, 2**20 - 1))
    X[0, 0] = 1
    h = gd.fit(X, [1.0], gd.SGD(lr=0.01), epochs=epochs, tol=None).history
    assert len(h.epoch) == len(h.loss) == epochs
    if epochs == 8:
        assert h.weights is not None
        assert h.weights.shape == (8, 2**20 - 1)
    else:
        assert h.weights is None
        assert h.intercept is None


def test_no_intercept_is_zero(rng: Any, dtype: Any) -> None:
    for t in (None, 2):
        result = fits.fit(draw(rng, t=t, dtype=dtype, parts=""), epochs=3, tol=None)
        assert np.shape(result.intercept) == (() if t is None else (2,))
        assert np.all(result.intercept == 0)
        assert result.history.intercept is not None
        assert result.history.intercept.shape == ((3,) if t is None else (3, 2))
        assert not result.history.intercept.any()


# Warm starts.


@every_sgd
@each("how", [
    {}, {"batch_size": 7}, {"batch_size": 7, "shuffle": False}, {"batch_size": 40, "seed": 9},
])  # fmt: skip
@each("saved", [False, True])
def test_twenty_and_thirty_epochs_are_fifty(
    rng: Any, dtype: Any, tmp_path: Any, sgd: gd.SGD, how: Any, saved: bool
) -> None:
    problem = draw(rng, dtype=dtype, parts="bos")
    options = {"tol": None, "history": 3, **how}
    first = fits.fit(problem, sgd, epochs=20, **options)
    if saved:
        first.save(tmp_path / "fit")
        first = gd.load(tmp_path / "fit")
    second = fits.fit(problem, sgd, epochs=30, init=first, **options)
    assert second.epochs == 50
    assert bits(fits.joined([first, second])) == bits(fits.fit(problem, sgd, epochs=50, **options))


@every_batch
def test_a_warm_start_converges_at_the_same_epoch(rng: Any, batch_size: int | None) -> None:
    """Where it ends does not depend on where it starts."""
    problem = draw(rng, parts="b")
    problem = replace(problem, y=problem.X @ np.ones(3))
    sgd = gd.SGD(momentum=0.5)
    whole = fits.fit(problem, sgd, batch_size=batch_size)
    assert whole.status is Status.CONVERGED
    with pytest.warns(gd.FitWarning):
        first = fits.fit(problem, sgd, batch_size=batch_size, epochs=whole.epochs - 5)
    assert first.status is Status.MAX_EPOCHS
    second = fits.fit(problem, sgd, batch_size=batch_size, init=first)
    assert bits(fits.joined([first, second])) == bits(whole)


def test_a_warm_start_of_a_converged_fit_stays(rng: Any) -> None:
    problem = draw(rng)
    done = fits.fit(problem)
    again = fits.fit(problem, init=done)
    assert (again.status, again.epochs) == (Status.CONVERGED, done.epochs)
    assert canonical(again.weights, again.loss) == canonical(done.weights, done.loss)


def test_warm_starts_leave_the_earlier_fit_alone(rng: Any) -> None:
    problem, sgd = draw(rng), gd.SGD(momentum=0.9)
    first = fits.fit(problem, sgd, epochs=5, tol=None)
    before = bits(first)
    one, two = (bits(fits.fit(problem, sgd, epochs=5, tol=None, init=first)) for _ in range(2))
    assert one == two
    assert bits(first) == before


def test_a_warm_start_may_change_data_and_options(rng: Any) -> None:
    """Seed 004 goes on with other options; new rows may have come in."""
    how: dict[str, Any] = {"epochs": 5, "tol": None}
    first = fits.fit(draw(rng), gd.SGD(momentum=0.9), **how)
    more = draw(rng, n=60)
    result = fits.fit(more, gd.SGD(lr=0.01), init=first, **how)
    assert result.epochs == 10
    plain = fits.fit(more, gd.SGD(lr=0.01), init=(first.weights, first.intercept), **how)
    assert canonical(result.weights) == canonical(plain.weights)


def test_a_warm_start_in_another_dtype_counts_its_epochs(rng: Any) -> None:
    narrow = draw(rng, dtype=np.float32)
    first = fits.fit(narrow, epochs=5, tol=None)
    second = fits.fit(narrow.map(np.float64), epochs=5, tol=None, init=first)
    assert second.weights.dtype == np.float64
    assert second.epochs == 10


@each("t", [None, 2])
@each("kind", ["lists", "integers", "fortran", "other", "fit"])
def test_starts(rng: Any, dtype: Any, t: int | None, kind: str) -> None:
    """Any real array of the right shape, copied; an intercept may be one number for all targets."""
    problem = draw(rng, t=t, dtype=dtype)
    weights = problems.integers(rng, problem.weights.shape, dtype, 5)
    intercept = np.full(problem.intercept.shape, 3, dtype)  # type: ignore[union-attr]
    want = bits(fits.fit(problem, epochs=4, tol=None, init=(weights, intercept)))
    start: Any = {
        "lists": (weights.tolist(), 3),
        "integers": (weights.astype(int), np.int8(3)),
        "fortran": (np.asfortranarray(weights)[::-1][::-1], intercept),
        "other": (weights.astype(np.float64), np.float64(3)),
        "fit": fits.fit(problem, epochs=0, init=(weights, intercept)),
    }[kind]
    result = fits.fit(problem, epochs=4, tol=None, init=start)
    assert bits(result) == want
    assert result.weights.dtype == dtype


def test_weights_alone_start_with_an_intercept_of_zero(rng: Any, dtype: Any) -> None:
    problem = draw(rng, dtype=dtype)
    start = np.ones(3, dtype)
    alone, pair = (fits.fit(problem, epochs=3, tol=None, init=x) for x in (start, (start, 0.0)))
    assert bits(alone) == bits(pair)
    assert (start == 1).all()
    with_zeros, none = (
        gd.fit(problem.X, problem.y, gd.SGD(), init=x) for x in ((np.zeros(3), 0.0), None)
    )
    assert bits(with_zeros) == bits(none)


def test_an_exact_fit_is_a_start(rng: Any) -> None:
    problem = draw(rng)
    exact = fits.fit(problem, method="exact")
    result = fits.fit(problem, init=exact, epochs=5, tol=None)
    np.testing.assert_allclose(result.weights, exact.weights, rtol=1e-12)
    assert result.epochs == 5


# Progress.


def slow_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python look up as often as the core allows, and show each time."""
    monkeypatch.setattr("gdcore.solvers.descent.BLOCK_SECONDS", 0.0)
    monkeypatch.setattr("gdcore.solvers.progress._Lines.seconds", 0.0)


def test_progress_calls(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_blocks(monkeypatch)
    problem = draw(rng, n=8000, d=64)
    calls: list[tuple[int, int, float]] = []
    options: dict[str, Any] = {"epochs": 30, "tol": None, "method": "stream"}
    result = fits.fit(problem, progress=lambda *call: calls.append(call), **options)
    assert len(calls) > 5
    epochs, targets, losses = zip(*calls, strict=True)
    assert set(targets) == {30}
    assert fits.falls(epochs[::-1])
    assert epochs[-1] == 30
    assert all(type(e) is int and type(x) is float for e, _, x in calls)
    known = dict(zip(result.history.epoch.tolist(), result.history.loss.tolist(), strict=True))
    assert all(known[e] == x for e, x in zip(epochs, losses, strict=True) if e)


def test_progress_counts_on_after_a_warm_start(rng: Any) -> None:
    problem, calls = draw(rng), list[tuple[int, int, float]]()
    first = fits.fit(problem, epochs=5, tol=None)
    how: dict[str, Any] = {"epochs": 5, "tol": None, "init": first}
    fits.fit(problem, progress=lambda *call: calls.append(call), **how)
    assert calls[-1][:2] == (10, 10)


def test_progress_does_not_change_a_bit(rng: Any, capsys: Any) -> None:
    problem = draw(rng)
    shown: tuple[Any, ...] = (False, True, lambda *_: None)
    assert len({str(bits(fits.fit(problem, epochs=50, progress=p))) for p in shown}) == 1


def test_an_error_in_the_callable_comes_through(rng: Any) -> None:
    def fail(*_: Any) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        fits.fit(draw(rng), progress=fail)


class Screen(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(rng: Any, monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO) -> str:
    slow_blocks(monkeypatch)
    monkeypatch.setattr(sys, "stderr", stderr)
    problem = draw(rng, n=8000, d=64)
    fits.fit(problem, epochs=30, tol=None, method="stream", progress=True)
    return stderr.getvalue()


LINE = r"epoch \d+/30  loss [-+.\de]+\n"


def test_plain_lines_where_there_is_no_terminal(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(rng, monkeypatch, io.StringIO())
    assert re.fullmatch(f"({LINE})+", text)
    assert text.count("\n") > 5
    assert text.splitlines()[-1].startswith("epoch 30/30")


def test_a_bar_on_a_terminal(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    text = shown(rng, monkeypatch, Screen())
    assert "30/30" in text
    assert "━" in text
    assert not re.search(LINE, text)


def test_plain_lines_without_rich(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    assert re.fullmatch(f"({LINE})+", shown(rng, monkeypatch, Screen()))


# Ctrl-C, as a callable may raise it; test_process.py sends the signal.


@every_batch
@each("after", [1, 2, 5])
def test_interrupted(
    rng: Any, monkeypatch: pytest.MonkeyPatch, batch_size: int | None, after: int
) -> None:
    """The exception holds a whole step's weights, and a fit goes on from it to the same bits."""
    slow_blocks(monkeypatch)
    problem, sgd = draw(rng, n=8000, d=64), gd.SGD(momentum=0.9)
    options: dict[str, Any] = {
        "batch_size": batch_size and 1000, "tol": None, "method": "stream",
    }  # fmt: skip
    looks = []

    def interrupt(epoch: int, *_: Any) -> None:
        looks.append(epoch)
        if len(looks) == after:
            raise KeyboardInterrupt

    with pytest.raises(gd.FitInterrupted, match=r"interrupted after \d+ epochs") as caught:
        fits.fit(problem, sgd, epochs=12, progress=interrupt, **options)
    kept = caught.value.fit
    assert kept.status is Status.MAX_EPOCHS
    assert kept.epochs == looks[-1] == len(kept.history.epoch) < 12
    if batch_size is None:
        same = fits.fit(problem, sgd, epochs=kept.epochs, **options)
        assert canonical(kept.weights, kept.intercept) == canonical(same.weights, same.intercept)
    rest = fits.fit(problem, sgd, epochs=12 - kept.epochs, init=kept, **options)
    assert bits(fits.joined([kept, rest])) == bits(fits.fit(problem, sgd, epochs=12, **options))
    fewer = fits.rows_of(problem, np.arange(7000))  # on other rows the epoch begins again
    begun = replace(kept, state=replace(kept.state, step=0, epoch_sums=None))
    other, same = (fits.fit(fewer, sgd, epochs=1, init=start, **options) for start in (kept, begun))
    assert bits(other) == bits(same)


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
    """Their gradient is zero, not NaN; the other batches go on."""
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
