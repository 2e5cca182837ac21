"""The pictures show the numbers: data in the artists, labels, frames in the files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from gdcore import plot

pytest.importorskip("matplotlib")

from matplotlib import rcParams
from matplotlib.animation import FFMpegWriter, FuncAnimation
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from PIL import Image

Array = np.ndarray[Any, Any]

X4, Y4 = np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([2.0, 4.0, 6.0, 8.0])


def descend(X: Any, y: Any, lr: Any = 0.1, **options: Any) -> gd.Fit:
    """Fit a hundred epochs, whatever the gradient."""
    return gd.fit(X, y, gd.SGD(lr=lr), **{"epochs": 100, "tol": None} | options)


def small_axes() -> Any:
    """Axes that draw fast."""
    return Figure(figsize=(1.6, 1.2), dpi=50).add_subplot()


def labels(ax: Any) -> tuple[str, str]:
    return ax.get_xlabel(), ax.get_ylabel()


def legend(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def data(line: Any) -> Array:
    return np.array(line.get_data())


def render(display: Any) -> None:
    """Draw for real, which a bare canvas does not; a warning of matplotlib is an error."""
    display.figure_.savefig(BytesIO())


@pytest.fixture
def one(rng: np.random.Generator) -> SimpleNamespace:
    """Points along a line of one feature, with an intercept; the last ten kept apart."""
    X = rng.uniform(-1, 1, (40, 1))
    y = 3 * X[:, 0] + 2 + rng.random(40)
    fit = descend(X[:30], y[:30])
    return SimpleNamespace(X=X[:30], y=y[:30], test=(X[30:], y[30:]), fit=fit)


@pytest.fixture
def two(rng: np.random.Generator) -> SimpleNamespace:
    """The same with a column of ones in place of the intercept, from a start of its own."""
    X = np.column_stack([rng.uniform(-1, 1, 50), np.ones(50)])
    y = X @ [3, 2] + rng.random(50)
    init = np.array([0.5, 0.75])
    return SimpleNamespace(X=X, y=y, init=init, fit=descend(X, y, fit_intercept=False, init=init))


# The loss curve.


def test_loss_curve_shows_every_loss_and_the_final_one() -> None:
    fit = descend(X4, Y4, lr=0.01, epochs=20, fit_intercept=False)
    display = plot.LossCurveDisplay.from_fit(fit)
    epochs, loss = data(display.line_)
    np.testing.assert_array_equal(epochs, np.arange(21))
    np.testing.assert_allclose(loss, 30 * 0.7225**epochs, rtol=1e-12)
    np.testing.assert_array_equal(loss, [*fit.history.loss, fit.loss])
    assert labels(display.ax_) == ("Epochs completed", "Loss (log scale)")
    assert display.ax_.get_yscale() == "log"
    assert legend(display.ax_) == ["stopped at epoch 20, loss 0.04507"]
    assert all(tick == round(tick) for tick in display.ax_.get_xticks())
    assert display.figure_ is display.ax_.figure
    render(display)


def test_loss_curve_of_a_thinned_record_ends_at_the_end() -> None:
    fit = descend(X4, Y4, lr=0.01, epochs=25, history=10, fit_intercept=False)
    epochs, loss = data(plot.LossCurveDisplay.from_fit(fit).line_)
    np.testing.assert_array_equal(epochs, [9, 19, 25])
    np.testing.assert_allclose(loss, 30 * 0.7225**epochs, rtol=1e-12)


def test_loss_curve_of_a_warm_start_goes_on_counting() -> None:
    fit = descend(X4, Y4, lr=0.01, epochs=20, fit_intercept=False)
    fit = descend(X4, Y4, lr=0.01, epochs=5, fit_intercept=False, init=fit)
    epochs, loss = data(plot.LossCurveDisplay.from_fit(fit).line_)
    np.testing.assert_array_equal(epochs, np.arange(20, 26))
    np.testing.assert_allclose(loss, 30 * 0.7225**epochs, rtol=1e-12)


@pytest.mark.parametrize("status", gd.Status)
def test_loss_curve_marks_the_end_by_its_status(status: gd.Status) -> None:
    display = plot.LossCurveDisplay(np.arange(3), np.array([3.0, 2.0, 1.0]), status).plot()
    marks = {
        gd.Status.CONVERGED: ("o", "converged at epoch 2, loss 1"),
        gd.Status.MAX_EPOCHS: ("s", "stopped at epoch 2, loss 1"),
        gd.Status.DIVERGED: ("X", "diverged at epoch 2, loss 1"),
        gd.Status.STALLED: ("P", "stalled at epoch 2, loss 1"),
        gd.Status.SINGULAR: ("D", "singular data, stopped at epoch 2, loss 1"),
        gd.Status.EMPTY: ("D", "no data, stopped at epoch 2, loss 1"),
        gd.Status.INVALID: ("D", "invalid data, stopped at epoch 2, loss 1"),
    }
    assert (display.line_.get_marker(), *legend(display.ax_)) == marks[status]
    assert display.line_.get_markevery() == [-1]
    render(display)


@pytest.mark.parametrize(
    ("epochs", "loss", "scale"),
    [
        (np.arange(3001), 1 + np.exp(-np.arange(3001.0)), "symlog"),
        (np.arange(3001), 0.99 ** np.arange(3001.0), "linear"),
        (np.arange(101), 1 + np.exp(-np.arange(101.0)), "linear"),
        (np.arange(1000, 4001), 1 + np.exp(-np.arange(3001.0)), "linear"),  # a warm start
        (np.arange(3001), np.exp(0.1 * np.arange(3001.0)), "linear"),
    ],
)
def test_loss_curve_that_falls_at_once_has_log_epochs(
    epochs: Array, loss: Array, scale: str
) -> None:
    display = plot.LossCurveDisplay(epochs, loss, gd.Status.MAX_EPOCHS).plot()
    log = " (log scale)" if scale == "symlog" else ""
    assert display.ax_.get_xscale() == scale
    assert display.ax_.get_xlabel() == f"Epochs completed{log}"
    low, high = display.ax_.get_xlim()
    assert epochs[0] - 0.06 * len(epochs) < low < epochs[0]
    assert high > epochs[-1]
    if log:
        assert low > -1
    another = plot.LossCurveDisplay(np.arange(3), np.ones(3)).plot(display.ax_)
    assert another.ax_.get_xscale() == scale
    render(display)


def test_loss_curve_without_status_has_no_legend() -> None:
    display = plot.LossCurveDisplay(np.arange(2), np.array([2.0, 1.0])).plot()
    assert display.ax_.get_legend() is None
    assert display.line_.get_marker() in ("", "None")


def test_loss_curve_marks_what_a_log_axis_cannot_show() -> None:
    loss = np.array([1.0, 0.0, np.inf, 2.0, np.nan, 1e250])
    display = plot.LossCurveDisplay(np.arange(6), loss, gd.Status.DIVERGED).plot()
    curve, zero, beyond = display.ax_.get_lines()
    np.testing.assert_array_equal(data(curve)[1], [1, np.nan, np.nan, 2, np.nan, np.nan])
    np.testing.assert_array_equal(data(zero), [[1], [0]])
    np.testing.assert_array_equal(data(beyond), [[2, 4, 5], [1, 1, 1]])
    assert legend(display.ax_)[1:] == ["loss 0", "loss NaN or above 1e+200"]
    render(display)


@pytest.mark.parametrize(
    "loss",
    [[0.0, 0.0], [np.nan], [np.inf, np.inf], [5e-324, 1e200], [1.7e308, 1.0], [0.0834, 0.0833]],
    ids=str,
)
def test_loss_curve_draws_extreme_losses_without_a_warning(loss: list[float]) -> None:
    render(plot.LossCurveDisplay(np.arange(len(loss)), np.array(loss), gd.Status.STALLED).plot())


def test_loss_curve_of_a_diverged_fit(dtype: Any) -> None:
    with pytest.warns((gd.LearningRateWarning, gd.FitWarning)):
        fit = descend(X4.astype(dtype), Y4.astype(dtype), lr=1.0, epochs=1000)
    display = plot.LossCurveDisplay.from_fit(fit)
    assert display.line_.get_label().startswith("diverged at epoch")
    render(display)


def test_loss_curves_on_the_same_axes_differ_in_color_and_name() -> None:
    ax = small_axes()
    for lr in (0.01, 0.05):
        fit = descend(X4, Y4, lr=lr, epochs=5, fit_intercept=False)
        display = plot.LossCurveDisplay.from_fit(fit, ax=ax, name=f"lr {lr}")
        assert display.ax_ is ax
    first, second = ax.get_lines()
    assert first.get_color() != second.get_color()
    assert [text.split(":")[0] for text in legend(ax)] == ["lr 0.01", "lr 0.05"]


def test_many_loss_curves_are_told_apart() -> None:
    """Also where some have marks on the edge of the axes, or lines of other origin lie there."""
    ax = small_axes()
    ax.plot([0, 1], [1, 1])
    for k in range(20):
        plot.LossCurveDisplay(np.arange(2), np.array([1.0, 0.0])).plot(ax, name=str(k))
    curves = [line for line in ax.get_lines() if line.get_label().isdigit()]
    assert len({(line.get_color(), line.get_linestyle()) for line in curves}) == 20


def test_loss_curve_takes_matplotlibs_line_options() -> None:
    display = plot.LossCurveDisplay(np.arange(2), np.array([1.0, 0.0])).plot(color="red")
    assert {to_hex(line.get_color()) for line in display.ax_.get_lines()} == {"#ff0000"}


@pytest.mark.parametrize(
    "options",
    [{"history": 0}, {"method": "exact"}, {"history": 9, "epochs": 5, "tol": None}],
    ids=str,
)
def test_no_record_is_a_sentence(options: dict[str, Any]) -> None:
    fit = gd.fit(X4, Y4, gd.SGD(), **options)
    for draw in (
        lambda: plot.LossCurveDisplay.from_fit(fit),
        lambda: plot.LossContourDisplay.from_fit(fit, X4, Y4),
        lambda: plot.animate_line(fit, X4, Y4),
    ):
        with pytest.raises(ValueError, match="fit again with method='stream' and history=1"):
            draw()


def test_too_large_a_record_is_a_sentence() -> None:
    fit = descend(X4, Y4)
    fit = replace(fit, history=replace(fit.history, weights=None, intercept=None))
    with pytest.raises(ValueError, match=r"too many to record: fit again with history=100"):
        plot.animate_line(fit, X4, Y4)
    plot.LossCurveDisplay.from_fit(fit)


# The fitted line.


def test_line_through_train_and_test_points(one: SimpleNamespace) -> None:
    fit = replace(one.fit, feature_names=("dose",), target_name="effect")
    display = plot.FittedLineDisplay.from_fit(fit, one.X, one.y, test=one.test)
    train, test, line = display.ax_.get_lines()
    np.testing.assert_array_equal(data(train), [one.X[:, 0], one.y])
    np.testing.assert_array_equal(data(test), [one.test[0][:, 0], one.test[1]])
    ends = np.array([[min(one.X.min(), one.test[0].min())], [max(one.X.max(), one.test[0].max())]])
    np.testing.assert_allclose(data(line), [ends[:, 0], fit.predict(ends)], rtol=1e-14)
    assert labels(display.ax_) == ("dose", "effect")
    equation = f"fit: {fit.weights[0]:.4g} x + {fit.intercept:.4g}"
    assert legend(display.ax_) == ["train", "test", equation]
    assert len({train.get_marker(), test.get_marker()}) == 2
    assert len({train.get_color(), test.get_color(), line.get_color()}) == 3
    render(display)


def test_line_of_two_columns_one_of_them_constant(two: SimpleNamespace) -> None:
    display = plot.FittedLineDisplay.from_fit(two.fit, two.X, two.y)
    x, height = data(display.line_)
    slope, constant = two.fit.weights
    np.testing.assert_array_equal(x, [two.X[:, 0].min(), two.X[:, 0].max()])
    np.testing.assert_allclose(height, slope * x + constant, rtol=1e-14)
    assert labels(display.ax_) == ("x0", "y")


def test_line_with_the_other_features_at_their_mean(rng: np.random.Generator) -> None:
    X = rng.normal([0, 5, 0], size=(30, 3))
    y = X @ [1, 2, 3] + 4
    fit = replace(gd.fit(X, y, gd.SGD(), standardize=True), feature_names=("a", "b", "c"))
    with pytest.raises(ValueError, match=r"3 of the 3 columns of X vary.*feature=.*Residuals"):
        plot.FittedLineDisplay.from_fit(fit, X, y)
    by_name = plot.FittedLineDisplay.from_fit(fit, X, y, feature="b")
    by_number = plot.FittedLineDisplay.from_fit(fit, X, y, feature=1)
    np.testing.assert_array_equal(data(by_name.line_), data(by_number.line_))
    rows = np.tile(X.mean(axis=0), (2, 1))
    rows[:, 1] = X[:, 1].min(), X[:, 1].max()
    np.testing.assert_allclose(data(by_name.line_), [rows[:, 1], fit.predict(rows)], rtol=1e-13)
    assert labels(by_name.ax_) == ("b (other features at their mean)", "y")
    for feature in ("d", 3, -1):
        with pytest.raises(ValueError, match=f"feature={feature!r} is no column of X.*a, b, c"):
            plot.FittedLineDisplay.from_fit(fit, X, y, feature=feature)


def test_line_where_no_column_varies() -> None:
    X, y = [[1.0, 1.0], [1.0, 1.0]], [2.0, 2.0]
    fit = gd.fit(X, y, gd.SGD(), fit_intercept=False)
    with pytest.raises(ValueError, match="0 of the 2 columns of X vary"):
        plot.FittedLineDisplay.from_fit(fit, X, y)


def test_line_of_a_single_point() -> None:
    fit = gd.fit([[2.0]], [6.0], gd.SGD(), fit_intercept=False)
    display = plot.FittedLineDisplay.from_fit(fit, [[2.0]], [6.0])
    np.testing.assert_allclose(data(display.line_), [[2, 2], [6, 6]])
    render(display)


@pytest.mark.parametrize(
    ("slope", "intercept", "equation"),
    [
        (2.0, 1.0, "2 x + 1"),
        (-2.0, -1.0, "-2 x - 1"),
        (2.0, 0.0, "2 x"),
        (1 / 3, 1e6, "0.3333 x + 1e+06"),
    ],
)
def test_line_in_words(slope: float, intercept: float, equation: str) -> None:
    display = plot.FittedLineDisplay(np.arange(2.0), np.ones(2), slope, intercept).plot()
    assert legend(display.ax_) == ["data", f"fit: {equation}"]
    np.testing.assert_array_equal(data(display.line_), [[0, 1], [intercept, slope + intercept]])


@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32], ids=lambda d: d.__name__)
def test_line_of_other_dtypes(dtype: Any) -> None:
    X, y = np.array([[0], [1], [1]], dtype), np.array([0, 1, 1], dtype)
    fit = gd.fit(X, y, gd.SGD(), tol=None)
    display = plot.FittedLineDisplay.from_fit(fit, X, y)
    np.testing.assert_allclose(data(display.line_), [[0, 1], [0, 1]], atol=1e-2)
    residuals = data(plot.ResidualsDisplay.from_fit(fit, X, y).ax_.get_lines()[0])[1]
    np.testing.assert_allclose(residuals, 0, atol=1e-2)
    plot.LossContourDisplay.from_fit(fit, X, y, resolution=5)


def test_one_of_several_targets(rng: np.random.Generator) -> None:
    X = rng.normal(size=(20, 1))
    Y = X * [1.0, -2.0] + [0.0, 3.0]
    fit = descend(X, Y)
    for draw in (
        lambda: plot.FittedLineDisplay.from_fit(fit, X, Y),
        lambda: plot.ResidualsDisplay.from_fit(fit, X, Y),
        lambda: plot.LossContourDisplay.from_fit(fit, X, Y),
        lambda: plot.animate_line(fit, X, Y),
    ):
        with pytest.raises(ValueError, match="there are 2 targets: choose one with target="):
            draw()
    line = plot.FittedLineDisplay.from_fit(fit, X, Y, target=1)
    np.testing.assert_array_equal(line.y, Y[:, 1])
    assert line.slope == fit.weights[0, 1]
    assert line.intercept == fit.intercept[1]
    residuals = plot.ResidualsDisplay.from_fit(fit, X, Y, target=1)
    np.testing.assert_array_equal(residuals.predicted, fit.predict(X)[:, 1])
    contour = plot.LossContourDisplay.from_fit(fit, X, Y, target=1, resolution=5)
    np.testing.assert_array_equal(contour.path[-1], [fit.weights[0, 1], fit.intercept[1]])


@pytest.mark.parametrize("shape", [(2,), (0, 1), (2, 0), (2, 2), (1, 2, 1)], ids=str)
def test_data_of_another_shape_is_a_sentence(shape: Any, one: SimpleNamespace) -> None:
    for display in (plot.FittedLineDisplay, plot.ResidualsDisplay, plot.LossContourDisplay):
        message = rf"X has shape {re.escape(str(shape))}; it must be \(n, 1\), with a row"
        with pytest.raises(ValueError, match=message):
            display.from_fit(one.fit, np.zeros(shape), [1.0, 2.0])


# The residuals.


def test_residuals_of_train_and_test(one: SimpleNamespace) -> None:
    fit = replace(one.fit, target_name="effect")
    display = plot.ResidualsDisplay.from_fit(fit, one.X, one.y, test=one.test)
    *points, zero = display.ax_.get_lines()
    for line, (X, y), kind in zip(
        points, [(one.X, one.y), one.test], ["train", "test"], strict=True
    ):
        predicted = X[:, 0] * fit.weights[0] + fit.intercept
        np.testing.assert_allclose(data(line), [predicted, y - predicted], rtol=1e-12)
        assert line.get_label() == f"{kind}, MSE {np.mean((y - predicted) ** 2):.4g}"
    assert zero is display.line_
    np.testing.assert_array_equal(zero.get_ydata(), [0, 0])
    assert labels(display.ax_) == ("Predicted effect", "Residual (actual − predicted)")  # noqa: RUF001
    assert legend(display.ax_) == [line.get_label() for line in points]
    render(display)


# The contours.


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


def test_contour_of_a_flat_loss_is_a_sentence() -> None:
    flat = plot.LossContourDisplay(
        np.arange(2.0), np.arange(2.0), np.ones((2, 2)), np.zeros((1, 2)), np.zeros(1, int)
    )
    with pytest.raises(ValueError, match="no contours: the loss is 1 whatever"):
        flat.plot()


# Every picture: legible in any style, with nothing under the legend.


def every_picture(one: SimpleNamespace, axes: list[Any]) -> None:
    with pytest.warns((gd.LearningRateWarning, gd.FitWarning)):
        lost = descend(one.X, one.y, lr=2.0, epochs=1000)
    plot.LossCurveDisplay.from_fit(one.fit, ax=axes[0], name="slow")
    plot.LossCurveDisplay.from_fit(lost, ax=axes[0], name="fast")
    plot.FittedLineDisplay.from_fit(one.fit, one.X, one.y, test=one.test, ax=axes[1])
    plot.ResidualsDisplay.from_fit(one.fit, one.X, one.y, test=one.test, ax=axes[2])
    plot.LossContourDisplay.from_fit(one.fit, one.X, one.y, resolution=9, ax=axes[3])
    plot.LossContourDisplay.from_fit(lost, one.X, one.y, resolution=9, ax=axes[4])
    film = plot.animate_line(one.fit, one.X, one.y, test=one.test, max_frames=3, ax=axes[5])
    film._draw_was_started = True
    film._init_draw()


def luminance(color: Any) -> float:
    """Return the relative luminance of a colour, as the web's rules for contrast define it."""
    levels = np.array(to_rgb(color))
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_lines_and_words_stand_out(style: str, one: SimpleNamespace) -> None:
    from matplotlib import style as styles

    with styles.context(style):
        axes = [small_axes() for _ in range(6)]
        every_picture(one, axes)
        for ax in axes[:3] + axes[5:]:
            below = luminance(ax.get_facecolor())
            colors = [line.get_color() for line in ax.get_lines()]
            colors += [text.get_color() for text in ax.get_legend().get_texts()]
            for color in colors:
                high, low = sorted((luminance(color), below))[::-1]
                assert (high + 0.05) / (low + 0.05) > 2, (color, style)


def test_the_legend_covers_nothing(one: SimpleNamespace) -> None:
    """Not the axes, so no curve, point or path in them; nor does the title lie under it."""
    figures = [Figure(figsize=(7, 4.4), layout="constrained") for _ in range(6)]
    axes = [figure.add_subplot() for figure in figures]
    every_picture(one, axes)
    for figure, ax in zip(figures, axes, strict=True):
        figure.savefig(BytesIO())
        box, inside = ax.get_legend().get_window_extent(), ax.get_window_extent()
        assert box.y0 >= inside.y1 - 1
        assert box.y1 <= figure.bbox.y1
        assert box.x0 >= figure.bbox.x0
        assert box.x1 <= figure.bbox.x1
        if ax.get_title():
            title = ax.title.get_window_extent()
            assert not title.overlaps(box)
            assert title.y1 <= figure.bbox.y1


def test_a_frame_is_read_by_the_names_of_the_fit() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"dose": [0.0, 1.0, 2.0], "one": 1.0})
    y = pandas.Series([1.0, 3.0, 4.0], name="effect")
    fit = descend(frame.to_numpy(), y.to_numpy(), fit_intercept=False)
    fit = replace(fit, feature_names=("dose", "one"), target_name="effect")
    turned = frame.assign(other="text")[["other", "one", "dose"]]
    for display in (plot.FittedLineDisplay, plot.ResidualsDisplay, plot.LossContourDisplay):
        ours, theirs = (display.from_fit(fit, X, y) for X in (frame, turned))
        for a, b in zip(ours.ax_.get_lines(), theirs.ax_.get_lines(), strict=True):
            np.testing.assert_array_equal(data(a), data(b))
    assert labels(plot.FittedLineDisplay.from_fit(fit, turned, y).ax_) == ("dose", "effect")
    contour = plot.LossContourDisplay.from_fit(fit, turned, y)
    assert labels(contour.ax_) == ("Weight of dose", "Weight of one")


# The animation.


def frames(animation: FuncAnimation, ax: Any) -> list[tuple[str, Array]]:
    """Draw each frame; return its title and the heights of its line."""
    animation._init_draw()
    line = next(line for line in ax.get_lines() if line.get_label() == "fit")
    shown = []
    for frame in animation.new_frame_seq():
        animation._draw_next_frame(frame, blit=False)
        shown.append((ax.get_title(), np.array(line.get_ydata())))
    return shown


def test_animation_shows_the_line_of_every_epoch(two: SimpleNamespace) -> None:
    ax = small_axes()
    animation = plot.animate_line(two.fit, two.X, two.y, max_frames=101, ax=ax)
    shown = frames(animation, ax)
    assert len(shown) == 101
    x = np.array([two.X[:, 0].min(), two.X[:, 0].max()])
    way = np.vstack([two.init, two.fit.history.weights])
    for epoch, (title, heights) in enumerate(shown):
        slope, constant = way[epoch]
        np.testing.assert_allclose(heights, slope * x + constant, rtol=1e-12, atol=1e-12)
        loss = np.mean((two.X @ way[epoch] - two.y) ** 2)
        assert title == f"epoch {epoch}, MSE {loss:.4g}"
    assert legend(ax) == ["data", "fit"]


def test_animation_keeps_its_limits(one: SimpleNamespace) -> None:
    ax = small_axes()
    animation = plot.animate_line(one.fit, one.X, one.y, test=one.test, max_frames=5, ax=ax)
    before = ax.axis()
    frames(animation, ax)
    assert ax.axis() == before
    low, high = before[2:]
    assert low < min(0, one.y.min())  # the line starts at 0
    assert high > max(one.y.max(), one.test[1].max())


@pytest.mark.parametrize("most", [3, 10, 99, 100, 101, 1000])
def test_animation_is_thinned_to_its_maximum(most: int, one: SimpleNamespace) -> None:
    ax = small_axes()
    animation = plot.animate_line(one.fit, one.X, one.y, max_frames=most, ax=ax)
    titles = [title for title, _ in frames(animation, ax)]
    epochs = np.array([int(title.split(",")[0].removeprefix("epoch ")) for title in titles])
    assert len(epochs) == min(most, 101)
    np.testing.assert_array_equal(epochs[[0, 1, -1]], [0, 1, 100])
    assert (np.diff(epochs, n=2) >= -1).all()  # ever fewer, up to rounding
    assert (np.diff(epochs) >= 1).all()


def test_animation_of_a_diverged_fit_stays_at_the_points(dtype: Any) -> None:
    X, y = X4.astype(dtype), Y4.astype(dtype)
    with pytest.warns((gd.LearningRateWarning, gd.FitWarning)):
        fit = descend(X, y, lr=1.0, epochs=1000)
    ax = small_axes()
    assert len(frames(plot.animate_line(fit, X, y, max_frames=9, ax=ax), ax)) == 9
    assert ax.get_ylim()[1] < 10


def test_animation_needs_three_frames(one: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="max_frames is 2; it must be 3 or larger"):
        plot.animate_line(one.fit, one.X, one.y, max_frames=2)


@pytest.fixture
def animation(one: SimpleNamespace) -> FuncAnimation:
    """Seven small frames."""
    film = plot.animate_line(one.fit, one.X, one.y, max_frames=7, interval=40, ax=small_axes())
    film._draw_was_started = True  # no reminder that some tests draw nothing
    return film


def test_gif_has_the_frames(animation: FuncAnimation, tmp_path: Path) -> None:
    plot.save_animation(animation, tmp_path / "line.gif")
    with Image.open(tmp_path / "line.gif") as image:
        assert (image.format, image.n_frames, image.size) == ("GIF", 7, (80, 60))
        pictures = []
        for frame in range(7):
            image.seek(frame)
            assert image.info["duration"] == 40
            pictures.append(np.array(image.convert("RGB")))
            assert np.median(pictures[-1]) == 255  # white stays white
            assert pictures[-1].min() < 60
    assert all((a != b).any() for a, b in pairwise(pictures))
    assert [path.name for path in tmp_path.iterdir()] == ["line.gif"]


def test_own_figure_is_700_pixels_wide(one: SimpleNamespace, tmp_path: Path) -> None:
    film = plot.animate_line(one.fit, one.X, one.y, max_frames=3)
    plot.save_animation(film, str(tmp_path / "line.GIF"))
    with Image.open(tmp_path / "line.GIF") as image:
        assert (image.n_frames, image.size) == (3, (700, 440))


def test_html_has_all_frames(
    animation: FuncAnimation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rcParams, "animation.embed_limit", 0.001)  # MB
    plot.save_animation(animation, tmp_path / "line.html")
    page = (tmp_path / "line.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 7
    assert "<script" in page


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_mp4_is_a_film(animation: FuncAnimation, tmp_path: Path) -> None:
    plot.save_animation(animation, tmp_path / "line.mp4")
    assert (tmp_path / "line.mp4").read_bytes()[4:8] == b"ftyp"


def test_missing_ffmpeg_is_a_sentence(
    animation: FuncAnimation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FFMpegWriter, "isAvailable", lambda: False)
    with pytest.raises(OSError, match=r"ffmpeg, which is not installed.*save as \.gif or \.html"):
        plot.save_animation(animation, tmp_path / "line.mp4")
    assert not list(tmp_path.iterdir())


def test_failing_ffmpeg_is_a_sentence(
    animation: FuncAnimation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise subprocess.CalledProcessError(1, "ffmpeg")

    monkeypatch.setattr(FFMpegWriter, "isAvailable", lambda: True)
    monkeypatch.setattr(animation, "save", fail)
    (tmp_path / "line.mp4").write_bytes(b"earlier")
    with pytest.raises(OSError, match=r"ffmpeg failed to make .*line\.mp4: save it as \.gif"):
        plot.save_animation(animation, tmp_path / "line.mp4")
    assert (tmp_path / "line.mp4").read_bytes() == b"earlier"


@pytest.mark.parametrize("name", ["line.png", "line", "gif"])
def test_other_suffixes_are_a_sentence(name: str, animation: FuncAnimation, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{name}: name a \.gif, \.mp4 or \.html file"):
        plot.save_animation(animation, tmp_path / name)


@pytest.mark.parametrize("place", ["missing/line.gif", "file/line.gif", "folder.gif"])
def test_unwritable_output_is_a_sentence(
    place: str, animation: FuncAnimation, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(OSError, match=rf"^cannot write .*{place}: \w.* directory$"):
        plot.save_animation(animation, tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.gif"]


# Good manners.


def run_python(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_importing_plot_does_not_import_matplotlib() -> None:
    run_python("import sys, gdcore.plot; assert 'matplotlib' not in sys.modules")


def test_plots_leave_pyplot_and_its_settings_alone() -> None:
    run_python(
        "import io, sys, gdcore as gd, matplotlib; from gdcore import plot\n"
        "rc = matplotlib.rcParams; before = {key: rc[key] for key in rc if key != 'backend'}\n"
        "X, y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]; fit = gd.fit(X, y, gd.SGD())\n"
        "plot.LossCurveDisplay.from_fit(fit).figure_.savefig(io.BytesIO())\n"
        "plot.FittedLineDisplay.from_fit(fit, X, y).figure_.savefig(io.BytesIO())\n"
        "plot.ResidualsDisplay.from_fit(fit, X, y).figure_.savefig(io.BytesIO())\n"
        "plot.LossContourDisplay.from_fit(fit, X, y).figure_.savefig(io.BytesIO())\n"
        "film = plot.animate_line(fit, X, y); film._draw_was_started = True\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert all(rc[key] == before[key] for key in before)\n"
    )


def test_missing_matplotlib_names_the_extra(
    one: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (
        lambda: plot.LossCurveDisplay.from_fit(one.fit),
        lambda: plot.FittedLineDisplay.from_fit(one.fit, one.X, one.y),
        lambda: plot.ResidualsDisplay.from_fit(one.fit, one.X, one.y),
        lambda: plot.LossContourDisplay.from_fit(one.fit, one.X, one.y, resolution=3),
        lambda: plot.animate_line(one.fit, one.X, one.y),
    ):
        with pytest.raises(ImportError, match=r"need matplotlib: pip install 'gdcore\[plot\]'"):
            draw()


def test_axes_of_ones_own_are_drawn_into(one: SimpleNamespace) -> None:
    figure = Figure()
    left, right = figure.subfigures(1, 2)
    display = plot.FittedLineDisplay.from_fit(one.fit, one.X, one.y, ax=left.add_subplot())
    contour = plot.LossContourDisplay.from_fit(
        one.fit, one.X, one.y, ax=right.add_subplot(), resolution=5
    )
    assert display.figure_ is contour.figure_ is figure
    assert len(left.axes) == 1
    assert len(right.axes) == 2  # its colorbar too
    render(contour)


def test_notebooks_show_the_picture_once(one: SimpleNamespace) -> None:
    display = plot.LossCurveDisplay(np.arange(2), np.array([2.0, 1.0]))
    assert display._repr_png_() is None
    picture = display.plot()._repr_png_()
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    display.figure_.canvas.manager = object()  # as pyplot's figures have
    assert display._repr_png_() is None
