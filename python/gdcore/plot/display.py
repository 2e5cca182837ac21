"""What all displays share: axes, their figure, a picture for notebooks, colours, the legend."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from gdcore.plot.data import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, distinct for every kind of colour vision.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
DASHES = ("-", "--", "-.", ":")  # of the first six lines, the next six, ...

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
    color, mark = (colors(ax)[1], "^") if kind == "test" else (colors(ax)[0], "o")
    size = np.clip(90 / np.sqrt(len(x)), 2, 6)
    ax.plot(x, y, mark, color=color, ms=size, mew=0, alpha=0.6, label=kind + words)


def colors(ax: Axes) -> tuple[str, ...]:
    """Return `COLORS`, on a dark background the light blue before the dark one."""
    from matplotlib.colors import to_rgb

    dark = sum(to_rgb(ax.get_facecolor())) < 1.5
    return (COLORS[-1], *COLORS[1:-1], COLORS[0]) if dark else COLORS


def foreground(ax: Axes) -> Any:
    """Return the colour that the style writes in: black on white, white on black."""
    return ax.xaxis.label.get_color()


def draw_legend(ax: Axes) -> None:
    """Name what is drawn, if anything is named, above the axes, where it covers nothing."""
    labels = ax.get_legend_handles_labels()[1]
    if not labels:
        return
    columns = max(1, min(len(labels), 80 // (6 + max(map(len, labels)))))
    legend = ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, borderaxespad=0.2
    )
    for handle in legend.get_lines():  # large enough to tell apart
        handle.set_markersize(max(handle.get_markersize(), 6))
