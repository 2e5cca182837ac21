"""The loss curve shows every loss recorded, and how the fit ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

import gdcore as gd
from gdcore import plot
from pictures import X4, Y4, Array, data, descend, labels, legend, render, small_axes


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


def test_loss_curve_of_a_warm_start_continues_its_count() -> None:
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
def test_no_record_raises_one_sentence(options: dict[str, Any]) -> None:
    fit = gd.fit(X4, Y4, gd.SGD(), **options)
    for draw in (
        lambda: plot.LossCurveDisplay.from_fit(fit),
        lambda: plot.LossContourDisplay.from_fit(fit, X4, Y4),
        lambda: plot.animate_line(fit, X4, Y4),
    ):
        with pytest.raises(ValueError, match="fit again with method='stream' and history=1"):
            draw()


def test_too_large_a_record_raises_one_sentence() -> None:
    fit = descend(X4, Y4)
    fit = replace(fit, history=replace(fit.history, weights=None, intercept=None))
    with pytest.raises(ValueError, match=r"too many to record: fit again with history=100"):
        plot.animate_line(fit, X4, Y4)
    plot.LossCurveDisplay.from_fit(fit)
