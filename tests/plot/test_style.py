"""Pictures of every kind: colours, legends, names, axes of one's own, imports."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import gdcore as gd
from gdcore import plot
from pictures import data, descend, labels, render, small_axes


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
