"""The fitted line through its points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike

import gdcore as gd
from gdcore.plot.data import Array, feature_names, matrix, one_target
from gdcore.plot.display import Display, Pair, by_kind, draw_legend, draw_points, foreground

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False, repr=False)
class FittedLineDisplay(Display):
    """The line ``slope * x + intercept`` through the points.

    Parameters
    ----------
    x, y : ndarray of shape (n,)
        The points, as trained on.
    slope, intercept : float
        The line.
    test : pair of ndarrays of shape (m,), optional
        ``(x, y)`` of points kept apart.
    feature_name, target_name : str
        Labels of the axes.

    Attributes
    ----------
    ax_, figure_ : Axes, Figure
        Where the picture is, after `plot`.
    line_ : Line2D
        The line, from the smallest to the largest ``x``, tested ones included.

    Examples
    --------
    A column of ones needs no choice of feature, as it does not vary:

    >>> import gdcore as gd
    >>> from gdcore.plot import FittedLineDisplay
    >>> X, y = [[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]], [1.0, 3.0, 5.0]
    >>> fit = gd.fit(X, y, gd.SGD(), fit_intercept=False)
    >>> display = FittedLineDisplay.from_fit(fit, X, y)
    >>> print(display.line_.get_label())
    fit: 2 x + 1
    """

    x: Array
    y: Array
    slope: float
    intercept: float
    test: Pair | None = None
    feature_name: str = "x"
    target_name: str = "y"

    @classmethod
    def from_fit(
        cls,
        fit: gd.Fit,
        X: ArrayLike,
        y: ArrayLike,
        *,
        test: tuple[ArrayLike, ArrayLike] | None = None,
        feature: int | str | None = None,
        target: int | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw a fit's line over its data.

        Parameters
        ----------
        fit : Fit
            The fit.
        X, y : array_like of shape (n, d) and (n,) or (n, t)
            The data it was trained on.
        test : pair of array_like, optional
            ``(X, y)`` of data kept apart.
        feature : int or str, optional
            Column of ``X`` along the horizontal axis; all others are held at their mean.
            By default, the only one that varies.
        target : int, optional
            Which target, when there are several.
        ax : Axes, optional
            Where to draw; by default, a new figure.

        Returns
        -------
        FittedLineDisplay
            The display, drawn.
        """
        X, y = matrix(fit, X), one_target(y, 1, target)
        names = feature_names(fit)
        column = column_along(X, names, feature)
        weights = one_target(fit.weights, 1, target)[None]
        intercept = one_target(fit.intercept, 0, target)[None]
        (slope,), (intercept,) = lines_along(X, column, weights, intercept)
        if test is not None:
            test = matrix(fit, test[0])[:, column], one_target(test[1], 1, target)
        return cls(
            X[:, column],
            y,
            float(slope),
            float(intercept),
            test,
            names[column] + (" (other features at their mean)" if feature is not None else ""),
            fit.target_name or "y",
        ).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the points and the line into ``ax``, by default into a new figure."""
        ax = self._draw_into(ax)
        points = by_kind((self.x, self.y), self.test)
        for kind, (x, y) in points.items():
            draw_points(ax, x, y, kind)
        x = np.concatenate([x for x, _ in points.values()])
        ends = np.array([x.min(), x.max()])
        sign = "+" if self.intercept > 0 else "-"
        constant = f" {sign} {abs(self.intercept):.4g}" if self.intercept else ""
        (self.line_,) = ax.plot(
            ends,
            self.slope * ends + self.intercept,
            color=foreground(ax),
            lw=2,
            label=f"fit: {self.slope:.4g} x{constant}",
        )
        ax.set(xlabel=self.feature_name, ylabel=self.target_name)
        draw_legend(ax)
        return self


def column_along(X: Array, names: tuple[str, ...], feature: int | str | None) -> int:
    """Return the column of X (n, d) to draw along: the one asked for, or the one that varies."""
    columns = range(len(names))
    if feature is None:
        chosen = [i for i in columns if len(names) == 1 or (X[:, i] != X[0, i]).any()]
    else:
        chosen = [i for i in columns if feature in (i, names[i])]
    if len(chosen) == 1:
        return chosen[0]
    if feature is not None:
        raise ValueError(f"feature={feature!r} is not a column of X; it has {', '.join(names)}")
    raise ValueError(
        f"{len(chosen)} of the {len(names)} columns of X vary, and a line is drawn along one: "
        f"choose it with feature= ({', '.join(names)}) to hold the others at their mean, "
        "or see all at once with ResidualsDisplay"
    )


def lines_along(X: Array, column: int, weights: Array, intercepts: Array) -> Pair:
    """Return slopes (k,) and intercepts (k,) along a column of X, the others at their mean."""
    others = X.mean(axis=0)
    others[column] = 0
    return weights[:, column], gd.matmul(weights, others) + intercepts
