"""The loss over two parameters."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

import gdcore as gd
import gdcore._core as _core
from gdcore.plot.data import Array, feature_names, losses, matrix, one_target, way_of
from gdcore.plot.display import COLORS, Display, draw_legend
from gdcore.sgd import rate_at
from gdcore.typing import Reduction

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
    minimum : pair of float, optional
        Where the loss is least.
    status : Status, optional
        How training ended.

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
    minimum: tuple[float, float] | None = None
    status: gd.Status | None = None

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
        epochs, path, intercepts = way_of(fit, target)
        if fit.fit_intercept:
            path = np.column_stack((path, intercepts))
        how: dict[str, Any] = {"sample_weight": sample_weight, "reduction": reduction}
        X, y = matrix(fit, X), one_target(y, 1, target)
        return cls._around(fit, X, y, path, epochs, how, resolution).plot(ax)

    @classmethod
    def from_steps(
        cls,
        X: ArrayLike,
        y: ArrayLike,
        sgd: gd.SGD,
        *,
        epochs: int = 1,
        batch_size: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        fit_intercept: bool = True,
        sample_weight: ArrayLike | None = None,
        reduction: Reduction = "mean",
        resolution: int = 60,
        ax: Axes | None = None,
    ) -> Self:
        """Train by mini-batches and draw a point for every step, not for every epoch.

        Parameters
        ----------
        X, y, sgd, epochs, batch_size, shuffle, seed, fit_intercept, sample_weight, reduction
            As for `gdcore.fit`, which takes the same steps.
        resolution, ax
            As for `from_fit`.

        Returns
        -------
        LossContourDisplay
            The display, drawn; `epochs` counts parts of one.
        """
        how: dict[str, Any] = {"sample_weight": sample_weight, "reduction": reduction}
        batches: dict[str, Any] = {"batch_size": batch_size, "shuffle": shuffle, "seed": seed}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", gd.FitWarning)  # the picture says so
            fit = gd.fit(
                X, y, sgd, epochs=epochs, tol=None, fit_intercept=fit_intercept, **batches, **how
            )
        X, y = matrix(fit, X), one_target(y, 1, None)
        data, target, weight = _core.prepare(
            ("X", X), ("y", y), ("sample_weight", sample_weight, True)
        )
        lr = fit.lr if isinstance(sgd.lr, str) else sgd.lr
        path, done = steps_down(data, target, weight, reduction, fit, sgd, lr, epochs, **batches)
        return cls._around(fit, data, target, path, done, how, resolution).plot(ax)

    @classmethod
    def _around(
        cls,
        fit: gd.Fit,
        X: Array,
        y: Array,
        path: Array,
        epochs: Array,
        how: dict[str, Any],
        resolution: int,
    ) -> Self:
        """Measure the loss around a path (k, 2) over the parameters of a fit."""
        names = [f"weight of {name}" for name in feature_names(fit)]
        names += ["intercept"] * fit.fit_intercept
        if len(names) != 2:
            raise ValueError(
                f"contours are drawn over two parameters, and this fit has {len(names)} "
                f"({', '.join(names)}): see LossCurveDisplay instead"
            )
        path = path.astype(float)

        def loss_at(points: Array) -> Array:
            at = (points[:, :1], points[:, 1]) if fit.fit_intercept else (points, None)
            return losses(X, y, *at, **how)

        minimum = _minimum(X, y, fit.fit_intercept, how["sample_weight"])
        first, second = _surroundings(path, loss_at(path), minimum, resolution)
        grid = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
        loss = loss_at(grid).reshape(resolution, resolution)
        names_of_two = (names[0], names[1])
        return cls(first, second, loss, path, epochs, names_of_two, minimum, fit.status)

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
        self._draw_path(ax)
        ax.set(xlabel=self.names[0].capitalize(), ylabel=self.names[1].capitalize())
        draw_legend(ax)
        return self

    def _draw_path(self, ax: Axes) -> None:
        """Draw the way as far as the contours reach, and mark where it began and ended."""
        mark: dict[str, Any] = {"mec": "black", "ls": ""}
        low, high = np.array([self.first[[0, -1]], self.second[[0, -1]]]).T
        left = np.flatnonzero(~((low <= self.path) & (self.path <= high)).all(axis=1))
        inside = left[0] if len(left) else len(self.path)
        size = 5 if inside <= 200 else 0
        (self.line_,) = ax.plot(
            *self.path[: inside + 1].T, color="white", lw=1.5, marker=".", ms=size
        )
        diverged = self.status is gd.Status.DIVERGED
        last, sign, word = (inside - 1, "X", "diverged by") if diverged else (-1, "*", "end,")
        for point, shape, label in (
            (0, "o", f"start, epoch {self.epochs[0]:,.6g}"),
            (last, sign, f"{word} epoch {self.epochs[-1]:,.6g}"),
        ):
            ax.plot(*self.path[point], shape, color="white", ms=11, zorder=3, label=label, **mark)
        if self.minimum is not None:
            ax.plot(*self.minimum, "P", color=COLORS[3], ms=13, label="minimum", **mark)
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))


def steps_down(
    X: Array,
    y: Array,
    sample_weight: Array | None,
    reduction: Reduction,
    fit: gd.Fit,
    sgd: gd.SGD,
    lr: Any,
    epochs: int,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
) -> tuple[Array, Array]:
    """Take the steps of a fit by mini-batches; return the parameters and epochs after each."""
    n, d = X.shape
    params = np.zeros(d + fit.fit_intercept, X.dtype)
    state = sgd.init(params)
    path, done = [params.copy()], [0.0]
    for epoch in range(epochs):
        order = _core.permutation(n, seed, epoch) if shuffle else np.arange(n)
        step = replace(sgd, lr=rate_at(lr, epoch))
        for begin in range(0, n, batch_size):
            rows = order[begin : begin + batch_size]
            _, grad = gd.linear_mse_value_and_grad(
                X[rows],
                y[rows],
                params[:d],
                params[d] if fit.fit_intercept else None,
                sample_weight=None if sample_weight is None else sample_weight[rows],
                reduction=reduction,
            )
            if fit.fit_intercept:
                step.step(params, np.append(grad.weights, grad.intercept), state)
            else:
                step.step(params, grad.weights, state)
            if not np.isfinite(params).all():
                return np.array(path), np.array(done)
            path.append(params.copy())
            done.append(epoch + min(begin + batch_size, n) / n)
    return np.array(path), np.array(done)


def _minimum(
    X: Array, y: Array, fit_intercept: bool, sample_weight: ArrayLike | None
) -> tuple[float, float] | None:
    """Return where the loss is least; None where that is a line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gd.FitWarning)
        best = gd.fit(
            X, y, method="exact", fit_intercept=fit_intercept, sample_weight=sample_weight
        )
    if best.status is not gd.Status.CONVERGED:
        return None
    first, second = [*best.weights, best.intercept][:2]
    return float(first), float(second)


def _surroundings(
    path: Array, loss: Array, minimum: tuple[float, float] | None, resolution: int
) -> tuple[Array, Array]:
    """Return values of both parameters around the minimum, wide enough for a path (k, 2).

    Points that a diverging path reached beyond a hundred times the loss of its start are left out.
    """
    known = path[loss <= 100 * loss[0]] if loss[0] > 0 else path[:1]
    center = path[-1] if minimum is None else np.array(minimum)
    reach = 1.15 * np.abs(known - center).max(axis=0, initial=0)
    size = float(max(np.abs(center).max(), reach.max()))
    reach = np.maximum(reach, 1e-3 * size or 1)  # the way may be a point
    first, second = np.linspace(center - reach, center + reach, resolution, axis=1)
    return first, second
