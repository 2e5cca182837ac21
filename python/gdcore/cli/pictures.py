"""The pictures of ``--plot`` and the film of ``--animate``."""

from __future__ import annotations

from pathlib import Path

import gdcore as gd
from gdcore import plot
from gdcore.cli.training import Rows


def draw(model: gd.Fit, train: Rows, test: Rows | None, path: Path) -> None:
    """Draw the loss curve beside the line of one feature or the residuals of several."""
    from matplotlib.figure import Figure

    recorded = len(model.history.loss) > 0
    figure = Figure(figsize=(12 if recorded else 6.5, 4.5), layout="constrained")
    *left, right = figure.subplots(1, 1 + recorded, squeeze=False)[0]
    for ax in left:
        plot.LossCurveDisplay.from_fit(model, ax=ax)
    display = plot.FittedLineDisplay if len(model.weights) == 1 else plot.ResidualsDisplay
    display.from_fit(model, *train, test=test, ax=right)
    figure.savefig(path, dpi=120)


def film(model: gd.Fit, train: Rows, test: Rows | None, path: Path) -> None:
    """Film the line of one feature closing in on its points."""
    plot.save_animation(plot.animate_line(model, *train, test=test), path)
