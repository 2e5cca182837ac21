"""The contours show the loss over two parameters and the path of the descent."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from gdcore import plot
from pictures import X4, Y4, data, descend, frames, labels, legend, render, small_axes


def test_contour_over_weight_and_intercept(one: SimpleNamespace) -> None:
    fit = replace(one.fit, feature_names=("dose",))
    display = plot.LossContourDisplay.from_fit(fit, one.X, one.y, resolution=7)
    weight, intercept = np.meshgrid(display.first, display.second)
    residuals = weight[..., None] * one.X[:, 0] + intercept[..., None] - one.y
    np.testing.assert_allclose(display.loss, (residuals**2).mean(axis=-1), rtol=1e-12)
    recorded = np.column_stack([fit.history.weights, fit.history.intercept])
    np.testing.assert_array_equal(display.path, [[0, 0], *recorded])
    np.testing.assert_array_equal(data(display.line_), display.path.T)
    np.testing.assert_array_equal(display.epochs, np.arange(101))
    assert labels(display.ax_) == ("Weight of dose", "Intercept")
    assert legend(display.ax_) == ["start, epoch 0", "end, epoch 100", "minimum"]
    _, start, end, minimum = display.ax_.get_lines()
    slope, constant = np.polyfit(one.X[:, 0], one.y, 1)
    np.testing.assert_allclose(data(minimum).ravel(), [slope, constant])
    np.testing.assert_array_equal(data(start).ravel(), [0, 0])
    np.testing.assert_array_equal(data(end).ravel(), [fit.weights[0], fit.intercept])
    assert [ax.get_ylabel() for ax in display.figure_.axes] == ["Intercept", "Loss"]
    render(display)


def test_contour_covers_the_loss_and_the_way(two: SimpleNamespace) -> None:
    display = plot.LossContourDisplay.from_fit(two.fit, two.X, two.y)
    np.testing.assert_array_equal(display.path[0], two.init)
    np.testing.assert_array_equal(display.path[-1], two.fit.weights)
    low, high = display.path.min(axis=0), display.path.max(axis=0)
    assert display.first[0] < low[0] < high[0] < display.first[-1]
    assert display.second[0] < low[1] < high[1] < display.second[-1]
    levels = display.contour_.levels
    np.testing.assert_allclose(levels[[0, -1]], [display.loss.min(), display.loss.max()])
    assert display.loss.shape == (60, 60)
    assert labels(display.ax_) == ("Weight of x0", "Weight of x1")


def test_contour_of_the_loss_that_was_fitted(one: SimpleNamespace) -> None:
    how: dict[str, Any] = {"sample_weight": np.arange(30.0), "reduction": "half_sum"}
    fit = descend(one.X, one.y, lr="auto", **how)
    display = plot.LossContourDisplay.from_fit(fit, one.X, one.y, resolution=3, **how)
    np.testing.assert_allclose(display.path[-1], [display.first[1], display.second[1]])
    np.testing.assert_allclose(display.loss[1, 1], fit.loss, rtol=1e-12)


def test_contour_of_a_warm_start_and_a_thinned_record(one: SimpleNamespace) -> None:
    fit = descend(one.X, one.y, epochs=25, history=10, init=one.fit)
    display = plot.LossContourDisplay.from_fit(fit, one.X, one.y, resolution=5)
    np.testing.assert_array_equal(display.epochs, [100, 110, 120, 125])
    np.testing.assert_array_equal(display.path[0], [one.fit.weights[0], one.fit.intercept])
    np.testing.assert_array_equal(display.path[-1], [fit.weights[0], fit.intercept])


def test_contour_from_weights_and_intercept(one: SimpleNamespace) -> None:
    init = (np.array([-1.0]), 5.0)
    fit = descend(one.X, one.y, epochs=3, init=init)
    display = plot.LossContourDisplay.from_fit(fit, one.X, one.y, resolution=5)
    np.testing.assert_array_equal(display.path[0], [-1, 5])


def test_a_fit_that_starts_at_the_end() -> None:
    X, y = [[-1.0], [1.0]], [0.0, 0.0]
    fit = gd.fit(X, y, gd.SGD())
    assert fit.epochs == 0
    curve = plot.LossCurveDisplay.from_fit(fit)
    np.testing.assert_array_equal(data(curve.ax_.get_lines()[1]), [[0], [0]])
    assert legend(curve.ax_) == ["converged at epoch 0, loss 0", "loss 0"]
    contour = plot.LossContourDisplay.from_fit(fit, X, y)
    np.testing.assert_array_equal(contour.path, 0)
    np.testing.assert_array_equal(contour.first[[0, -1]], [-1, 1])
    ax = small_axes()
    assert frames(plot.animate_line(fit, X, y, ax=ax), ax)[-1][0] == "epoch 0, MSE 0"
    render(curve)
    render(contour)


def test_contour_of_a_diverged_fit(dtype: Any) -> None:
    X, y = X4.astype(dtype), Y4.astype(dtype)
    with pytest.warns((gd.LearningRateWarning, gd.FitWarning)):
        fit = descend(X, y, lr=1.0, epochs=1000)
    display = plot.LossContourDisplay.from_fit(fit, X, y)
    assert np.isfinite(display.path).all()
    assert f"diverged by epoch {fit.epochs:,}" in legend(display.ax_)
    for values, best in ((display.first, 2), (display.second, 0)):  # the minimum and the start
        assert values[0] < 0 < values[-1]
        assert values[0] < best < values[-1]
        assert values[-1] - values[0] < 200
    np.testing.assert_allclose(display.ax_.get_xlim(), display.first[[0, -1]])
    np.testing.assert_allclose(display.ax_.get_ylim(), display.second[[0, -1]])
    render(display)


def test_contour_of_a_fit_that_stopped_early_shows_the_minimum(one: SimpleNamespace) -> None:
    fit = descend(one.X, one.y, lr=0.001, epochs=3)
    display = plot.LossContourDisplay.from_fit(fit, one.X, one.y, resolution=5)
    assert display.minimum is not None
    for k, values in enumerate((display.first, display.second)):
        assert values[0] < display.minimum[k] < values[-1]
        assert values[0] < display.path[:, k].min() < display.path[:, k].max() < values[-1]


def test_contour_without_a_minimum() -> None:
    """Where the best weights are a line, no point of it is marked."""
    X, y = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]), np.array([1.0, 2.0, 4.0])
    fit = descend(X, y, lr=0.01, fit_intercept=False, epochs=5)
    display = plot.LossContourDisplay.from_fit(fit, X, y, resolution=5)
    assert display.minimum is None
    assert "minimum" not in legend(display.ax_)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_contour_of_every_step(fit_intercept: bool, rng: np.random.Generator) -> None:
    """As many points as mini-batches, the last of each epoch where the fit was."""
    X = rng.uniform(-1, 1, (20, 1 if fit_intercept else 2))
    y, weight = X @ np.ones(X.shape[1]) + rng.random(20), rng.random(20)
    sgd = gd.SGD(lr=lambda epoch: 0.2 / (1 + epoch), momentum=0.5, weight_decay=0.1)
    for batch_size, shuffle in ((1, True), (3, True), (7, False)):
        how: dict[str, Any] = {"batch_size": batch_size, "shuffle": shuffle, "seed": 5}
        how |= {"fit_intercept": fit_intercept, "sample_weight": weight, "epochs": 3}
        display = plot.LossContourDisplay.from_steps(X, y, sgd, resolution=5, **how)
        steps = -(-20 // batch_size)
        assert len(display.path) == 3 * steps + 1
        np.testing.assert_allclose(display.epochs[::steps], np.arange(4))
        fit = gd.fit(X, y, sgd, tol=None, **how)
        assert fit.history.weights is not None
        assert fit.history.intercept is not None
        recorded = np.column_stack([fit.history.weights, fit.history.intercept])[:, :2]
        np.testing.assert_allclose(display.path[steps::steps], recorded, rtol=1e-10)
        assert legend(display.ax_)[:2] == ["start, epoch 0", "end, epoch 3"]
        render(display)
    auto = plot.LossContourDisplay.from_steps(
        X, y, gd.SGD(), fit_intercept=fit_intercept, resolution=5
    )
    assert len(auto.path) == 21


def test_contour_of_steps_that_diverge(one: SimpleNamespace) -> None:
    with pytest.warns(gd.LearningRateWarning):
        display = plot.LossContourDisplay.from_steps(
            one.X, one.y, gd.SGD(lr=50.0), epochs=30, resolution=5
        )
    assert np.isfinite(display.path).all()
    assert legend(display.ax_)[1].startswith("diverged by epoch")
    render(display)


@pytest.mark.parametrize(
    ("d", "options", "message"),
    [
        (1, {"fit_intercept": False}, r"has 1 \(weight of x\)"),
        (2, {}, r"has 3 \(weight of x0, weight of x1, intercept\)"),
        (3, {"fit_intercept": False}, r"has 3 \(weight of x0, weight of x1, weight of x2\)"),
    ],
)
def test_contour_takes_exactly_two_parameters(
    d: int, options: dict[str, Any], message: str, rng: np.random.Generator
) -> None:
    X, y = rng.normal(size=(10, d)), rng.normal(size=10)
    with pytest.raises(ValueError, match=message):
        plot.LossContourDisplay.from_fit(descend(X, y, **options), X, y)


def test_contour_of_a_flat_loss_raises_one_sentence() -> None:
    flat = plot.LossContourDisplay(
        np.arange(2.0), np.arange(2.0), np.ones((2, 2)), np.zeros((1, 2)), np.zeros(1, int)
    )
    with pytest.raises(ValueError, match="no contours: the loss is 1 whatever"):
        flat.plot()
