"""How a fit ends: statuses, what they say, tolerances."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import bounds
import fits
import gdcore as gd
import problems
from fits import SGDS, bits, draw, every_batch, every_target
from gdcore import Status
from loops import each
from problems import Linear, canonical


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
    """One warning says what is missing: before the first step if it is known, else at the end."""
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
    """The weights and the loss are those of the start."""
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
    """A single row makes y constant: its prediction then ends within the rounding of y."""
    result = fits.seed_000(np.float64, epochs=10**6)
    assert result.status is Status.CONVERGED
    tau = 2.0**-43 + 2 * np.finfo(np.float64).eps
    steps = 2 - result.history.weights[:, 0]  # type: ignore[index]
    assert 0 < steps[-1] <= 2 * tau * (1 + 1e-3)  # y - offset is 2
    assert steps[-2] > 2 * tau / (1 + 1e-3)


def test_a_pause_in_a_schedule_is_not_a_stall(rng: Any) -> None:
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
    """Without rows or weight the fit returns the start and warns."""
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
    expected = ("exact", 0) if method == "exact" else ("stream", None)
    assert (result.method, result.rank) == expected
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
    """Assert that the last two losses are equal and no two before them are."""
    repeats = [a == b for a, b in pairwise(losses)]
    assert repeats[-1]
    assert not any(repeats[:-1])


@each("momentum", [0.0, 0.9])
def test_loss_equal(rng: Any, momentum: float) -> None:
    """The fit stops at equal losses, not when the loss rises, as it does with momentum.

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
