"""What all displays share: axes, their figure, a picture for notebooks, colours, the legend."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Literal

import numpy as np

from gdcore.plot.data import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by every kind of colour vision.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")

Pair = tuple[Array, Array]


class Display:
    """Axes, their figure, and a picture for notebooks."""

    ax_: Axes
    figure_: Figure

    def _draw_into(self, ax: Axes | None) -> Axes:
        self.ax_ = new_axes() if ax is None else ax
        self.figure_ = self.ax_.figure.figure  # of a subfigure, the whole
        return self.ax_

    def _repr_png_(self) -> bytes | None:
        figure = getattr(self, "figure_", None)
        if figure is None or figure.canvas.manager is not None:  # pyplot shows its own
            return None
        picture = BytesIO()
        figure.savefig(picture, format="png")
        return picture.getvalue()


def new_axes() -> Axes:
    """Make axes of a new figure, 700 pixels wide, that pyplot knows nothing of."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'gdcore[plot]'") from error
    return Figure(figsize=(7, 4.4), layout="constrained").add_subplot()


def by_kind(train: Pair, test: Pair | None) -> dict[str, Pair]:
    """Name the points: without a test there is no word of training either."""
    return {"data": train} if test is None else {"train": train, "test": test}


def draw_points(ax: Axes, x: Array, y: Array, kind: str, words: str = "") -> None:
    """Scatter points, the smaller the more there are."""
    color, mark = (COLORS[1], "^") if kind == "test" else (COLORS[0], "o")
    size = np.clip(90 / np.sqrt(len(x)), 2, 6)
    ax.plot(x, y, mark, color=color, ms=size, mew=0, alpha=0.6, label=kind + words)


def draw_legend(ax: Axes, place: Literal["best", "upper left", "upper right"] = "best") -> None:
    """Name what is drawn, if anything is named, with marks large enough to tell apart."""
    if ax.get_legend_handles_labels()[1]:
        for handle in ax.legend(loc=place).get_lines():
            handle.set_markersize(max(handle.get_markersize(), 6))
