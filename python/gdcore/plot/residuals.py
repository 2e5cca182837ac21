"""What a fit leaves over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from numpy.typing import ArrayLike

import gdcore as gd
from gdcore.plot.data import Array, matrix, one_target
from gdcore.plot.display import Display, Pair, by_kind, draw_legend, draw_points, foreground

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False, repr=False)
class ResidualsDisplay(Display):
    """Residuals, actual minus predicted, over the predictions.

    A good fit leaves a cloud around zero with no shape of its own.

    Parameters
    ----------
    y, predicted : ndarray of shape (n,)
        What was measured and what the fit says, on the data it was trained on.
    test : pair of ndarrays of shape (m,), optional
        ``(y, predicted)`` on data kept apart.
    target_name : str
        The predicted quantity, for the labels.

    Attributes
    ----------
    ax_, figure_ : Axes, Figure
        Where the picture is, after `plot`.
    line_ : Line2D
        The line at zero.

    Examples
    --------
    >>> import gdcore as gd
    >>> from gdcore.plot import ResidualsDisplay
    >>> X, y = [[0.0], [1.0], [2.0]], [0.0, 3.0, 0.0]
    >>> fit = gd.fit(X, y)
    >>> display = ResidualsDisplay.from_fit(fit, X, y)
    >>> display.ax_.get_lines()[0].get_label()
    'data, MSE 2'
    """

    y: Array
    predicted: Array
    test: Pair | None = None
    target_name: str = "y"

    @classmethod
    def from_fit(
        cls,
        fit: gd.Fit,
        X: ArrayLike,
        y: ArrayLike,
        *,
        test: tuple[ArrayLike, ArrayLike] | None = None,
        target: int | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw what a fit leaves over.

        Parameters
        ----------
        fit, X, y, test, target, ax
            As for `FittedLineDisplay.from_fit`.

        Returns
        -------
        ResidualsDisplay
            The display, drawn.
        """

        def measured_and_predicted(X: ArrayLike, y: ArrayLike) -> Pair:
            predicted = fit.predict(matrix(fit, X))
            return one_target(y, 1, target), one_target(predicted, 1, target)

        tested = None if test is None else measured_and_predicted(*test)
        return cls(*measured_and_predicted(X, y), tested, fit.target_name or "y").plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the residuals into ``ax``, by default into a new figure."""
        ax = self._draw_into(ax)
        for kind, (y, predicted) in by_kind((self.y, self.predicted), self.test).items():
            mse = gd.mse(predicted, y)
            draw_points(ax, predicted, y - predicted, kind, f", MSE {mse:.4g}")
        self.line_ = ax.axhline(0, color=foreground(ax), lw=2)
        ax.set_xlabel(f"Predicted {self.target_name}")
        ax.set_ylabel("Residual (actual \N{MINUS SIGN} predicted)")
        draw_legend(ax)
        return self
