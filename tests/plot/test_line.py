"""The fitted line and the residuals show the model's own numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from gdcore import plot
from pictures import data, descend, labels, legend, render


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
        with pytest.raises(ValueError, match=f"feature={feature!r} is not a column of X.*a, b, c"):
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
def test_data_of_another_shape_raises_one_sentence(shape: Any, one: SimpleNamespace) -> None:
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
