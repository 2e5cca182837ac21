"""Fits to draw, and readers of what the artists of a picture hold."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest

import gdcore as gd

pytest.importorskip("matplotlib")

from matplotlib.animation import FuncAnimation
from matplotlib.figure import Figure

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
    display.figure_.savefig(BytesIO(), dpi=40)


def frames(animation: FuncAnimation, ax: Any) -> list[tuple[str, Array]]:
    """Draw each frame; return its title and the heights of its line."""
    animation._init_draw()
    line = next(line for line in ax.get_lines() if line.get_label() == "fit")
    shown = []
    for frame in animation.new_frame_seq():
        animation._draw_next_frame(frame, blit=False)
        shown.append((ax.get_title(), np.array(line.get_ydata())))
    return shown
