"""The loss over two parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike

import gdcore as gd
from gdcore.kernels import Reduction
from gdcore.plot.data import Array, feature_names, losses, matrix, one_target, way_of
from gdcore.plot.display import Display, draw_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False, repr=False)
class LossContourDisplay(Display):
    """The loss over the two parameters of a model, and the way training took through it.

    Parameters
    ----------
    first, second : ndarray of shape (c,) and (r,)
        The values of the two parameters that the loss was measured at.
    loss : ndarray of shape (r, c)
        The loss there.
    path : ndarray of shape (k, 2)
        The two parameters along the way.
    epochs : ndarray of shape (k,)
        Epochs completed at each point of the way.
    names : pair of str
        What the parameters are.

    Attributes
    ----------
    ax_, figure_ : Axes, Figure
        Where the picture is, after `plot`.
    line_ : Line2D
        The way.
    contour_ : QuadContourSet
        The contours, filled.

    Examples
    --------
    >>> import gdcore as gd
    >>> from gdcore.plot import LossContourDisplay
    >>> X, y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
    >>> fit = gd.fit(X, y, gd.SGD())
    >>> display = LossContourDisplay.from_fit(fit, X, y)
    >>> display.names
    ('weight of x', 'intercept')
    >>> display.path[-1].round(3)
    array([2., 1.])
    """

    first: Array
    second: Array
    loss: Array
    path: Array
    epochs: Array
    names: tuple[str, str] = ("weight 0", "weight 1")

    @classmethod
    def from_fit(
        cls,
        fit: gd.Fit,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        reduction: Reduction = "mean",
        target: int | None = None,
        resolution: int = 60,
        ax: Axes | None = None,
    ) -> Self:
        """Measure the loss around the way a fit took, and draw both.

        Parameters
        ----------
        fit : Fit
            A fit of exactly two parameters, with a record of its weights.
        X, y, sample_weight, reduction
            As `gdcore.fit` was given them.
        target : int, optional
            Which target, when there are several.
        resolution : int
            Values of each parameter that the loss is measured at.
        ax : Axes, optional
            Where to draw; by default, a new figure.

        Returns
        -------
        LossContourDisplay
            The display, drawn.
        """
        X, y = matrix(fit, X), one_target(y, 1, target)
        epochs, path, intercepts = way_of(fit, target)
        names = [f"weight of {name}" for name in feature_names(fit)]
        if fit.fit_intercept:
            names, path = [*names, "intercept"], np.column_stack((path, intercepts))
        if len(names) != 2:
            raise ValueError(
                f"contours are drawn over two parameters, and this fit has {len(names)} "
                f"({', '.join(names)}): see LossCurveDisplay instead"
            )
        path = path.astype(float)
        first, second = _surroundings(path, resolution)
        grid = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
        at = (grid[:, :1], grid[:, 1]) if fit.fit_intercept else (grid, None)
        loss = losses(X, y, *at, sample_weight=sample_weight, reduction=reduction)
        loss = loss.reshape(resolution, resolution)
        return cls(first, second, loss, path, epochs, (names[0], names[1])).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the contours and the way into ``ax``, by default into a new figure."""
        ax = self._draw_into(ax)
        loss = np.ma.masked_invalid(self.loss)
        low, high = loss.min(), loss.max()
        if not high > low:
            raise ValueError(f"no contours: the loss is {low:.4g} whatever the parameters are")
        levels = low + (high - low) * np.linspace(0, 1, 13) ** 2  # rings of even width in a bowl
        self.contour_ = ax.contourf(self.first, self.second, loss, levels=levels, cmap="viridis")
        self.figure_.colorbar(self.contour_, ax=ax, label="Loss", format="%.3g")
        (self.line_,) = ax.plot(*self.path.T, color="white", lw=1.5, marker=".", ms=5)
        for point, mark, word in ((0, "o", "start"), (-1, "*", "end")):
            label = f"{word}, epoch {self.epochs[point]:,}"
            ax.plot(*self.path[point], mark, color="white", mec="black", ms=11, ls="", label=label)
        ax.set(xlabel=self.names[0].capitalize(), ylabel=self.names[1].capitalize())
        draw_legend(ax)
        return self


def _surroundings(path: Array, resolution: int) -> tuple[Array, Array]:
    """Return values of both parameters around the end of a path (k, 2), wide enough for all."""
    reach = 1.15 * np.abs(path - path[-1]).max(axis=0)
    reach = np.maximum(reach, 1e-3 * np.abs(path[-1]).max() or 1)  # the way may be a point
    first, second = np.linspace(path[-1] - reach, path[-1] + reach, resolution, axis=1)
    return first, second
