"""The loss over the epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

import gdcore as gd
from gdcore.plot.data import Array, start_of
from gdcore.plot.display import COLORS, DASHES, Display, colors, draw_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# How training ended: the mark on the last point, and the words for it.
_ENDINGS = {
    gd.Status.CONVERGED: ("o", "converged"),
    gd.Status.MAX_EPOCHS: ("s", "stopped"),
    gd.Status.DIVERGED: ("X", "diverged"),
    gd.Status.STALLED: ("P", "stalled"),
    gd.Status.SINGULAR: ("D", "singular data, stopped"),
    gd.Status.EMPTY: ("D", "no data, stopped"),
    gd.Status.INVALID: ("D", "invalid data, stopped"),
}

_CURVE = "gdcore loss curve"
_TALLEST = 1e200  # matplotlib's log axis overflows not far above


@dataclass(eq=False, repr=False)
class LossCurveDisplay(Display):
    """The loss over the epochs on a log axis; the last point's mark says how training ended.

    A log axis has no place for zero, NaN and infinity: these, and losses above 1e200, are
    marked on its lower and upper edge. Where half of the fall takes less than a hundredth of the
    epochs, they have a log axis too.

    Parameters
    ----------
    epochs : ndarray of shape (k,)
        Epochs completed when each loss was measured.
    loss : ndarray of shape (k,)
        The losses.
    status : Status, optional
        How training ended.

    Attributes
    ----------
    ax_, figure_ : Axes, Figure
        Where the picture is, after `plot`.
    line_ : Line2D
        The curve.

    Examples
    --------
    Epoch 1 measures its loss before its step, when 0 epochs are complete:

    >>> import gdcore as gd
    >>> from gdcore.plot import LossCurveDisplay
    >>> fit = gd.fit([[1.0], [2.0], [3.0], [4.0]], [2.0, 4.0, 6.0, 8.0], gd.SGD(lr=0.01),
    ...              epochs=20, tol=None, fit_intercept=False)
    >>> display = LossCurveDisplay.from_fit(fit)
    >>> display.epochs[[0, -1]], display.loss[[0, 1]].round(3)
    (array([ 0, 20]), array([30.   , 21.675]))
    >>> display.line_.get_label()
    'stopped at epoch 20, loss 0.04507'
    """

    epochs: Array
    loss: Array
    status: gd.Status | None = None

    @classmethod
    def from_fit(cls, fit: gd.Fit, *, ax: Axes | None = None, name: str | None = None) -> Self:
        """Draw the losses a fit recorded, and its final one.

        Parameters
        ----------
        fit : Fit
            A fit with a loss record, so ``history=1`` or larger.
        ax, name
            As for `plot`.

        Returns
        -------
        LossCurveDisplay
            The display, drawn.
        """
        start_of(fit)  # or raise
        epochs = np.append(fit.history.epoch - 1, fit.epochs)
        loss = np.append(fit.history.loss, fit.loss)
        return cls(epochs, loss, fit.status).plot(ax, name=name)

    def plot(self, ax: Axes | None = None, *, name: str | None = None, **line: Any) -> Self:
        """Draw the curve.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; by default, a new figure.
        name : str, optional
            Name of the curve, to tell several on the same axes apart.
        **line
            Passed to matplotlib's ``Axes.plot``, ``color=`` for example.

        Returns
        -------
        LossCurveDisplay
            This display.
        """
        ax = self._draw_into(ax)
        mark, ending = "", ""
        if self.status is not None:
            mark, verb = _ENDINGS[self.status]
            ending = f"{verb} at epoch {self.epochs[-1]:,}, loss {self.loss[-1]:.4g}"
        loss = np.asarray(self.loss, float)
        zero, beyond = loss == 0, ~(loss < _TALLEST)
        number = sum(line.get_gid() == _CURVE for line in ax.get_lines())
        style: dict[str, Any] = {
            "gid": _CURVE,
            "color": colors(ax)[number % len(COLORS)],
            "linestyle": DASHES[number // len(COLORS) % len(DASHES)],
            "linewidth": 2,
            "marker": mark,
            "markersize": 8,
            "markevery": [-1],
            "label": ": ".join(filter(None, [name, ending])),
        }
        drawn = np.where(zero | beyond, np.nan, loss)
        (self.line_,) = ax.plot(self.epochs, drawn, **style | line)
        for where, edge, mark, label in (
            (zero, 0, "v", "loss 0"),
            (beyond, 1, "^", f"loss NaN or above {_TALLEST:g}"),
        ):
            if where.any():
                ax.plot(
                    self.epochs[where],
                    np.full(where.sum(), edge),
                    mark,
                    color=self.line_.get_color(),
                    transform=ax.get_xaxis_transform(),
                    clip_on=False,
                    label=label,
                )
        ax.set(xlabel="Epochs completed", ylabel="Loss (log scale)", yscale="log")
        if _falls_at_once(self.epochs, loss):
            ax.set_xscale("symlog", linthresh=1)  # which has a place for epoch 0
            ax.autoscale_view()
        if ax.get_xscale() == "linear":
            ax.locator_params(axis="x", integer=True)
        else:
            ax.set_xlabel("Epochs completed (log scale)")
        draw_legend(ax)
        return self


def _falls_at_once(epochs: Array, loss: Array) -> bool:
    """Whether half of the fall, as a log axis shows it, is over in a hundredth of the epochs."""
    fallen = int(np.argmax(loss <= np.sqrt(loss[0]) * np.sqrt(loss[-1])))
    return fallen > 0 and bool(epochs[fallen] < epochs[-1] / 100)
