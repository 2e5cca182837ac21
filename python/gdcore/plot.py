"""Pictures of a fit, in the manner of scikit-learn's displays.

=====================  ============================================================
`LossCurveDisplay`     the loss over the epochs, and how training ended
`FittedLineDisplay`    the line through the points, train and test
`ResidualsDisplay`     what the line leaves over
`LossContourDisplay`   the loss over its two parameters, and the way down
`animate_line`         the line closing in on the points
`save_animation`       that, as a ``.gif``, ``.mp4`` or ``.html`` file
=====================  ============================================================

A display draws into ``ax`` when it is given one, else into a figure of its own, and keeps
them as ``ax_`` and ``figure_``. No window opens and pyplot is not involved: save the picture
with ``display.figure_.savefig("fit.png")``, let a notebook show it as the last line of a
cell, or pass ``ax=plt.gca()`` and call ``plt.show()``.

Matplotlib is imported by the first plot: ``pip install 'gdcore[plot]'``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from math import log
from pathlib import Path
from subprocess import CalledProcessError
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

import gdcore as gd
from gdcore.kernels import Reduction

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FittedLineDisplay",
    "LossContourDisplay",
    "LossCurveDisplay",
    "ResidualsDisplay",
    "animate_line",
    "save_animation",
]

Array = NDArray[Any]

# Okabe and Ito's colours, told apart by every kind of colour vision.
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
_POINTS = {"train": (_COLORS[0], "o"), "test": (_COLORS[1], "^")}

# How training ended: the mark on the last point, and the words for it.
_ENDINGS = {
    gd.Status.CONVERGED: ("o", "converged"),
    gd.Status.MAX_EPOCHS: ("s", "stopped"),
    gd.Status.DIVERGED: ("X", "diverged"),
    gd.Status.STALLED: ("P", "stalled"),
    gd.Status.SINGULAR: ("D", "singular data, stopped"),
    gd.Status.EMPTY: ("D", "no data, stopped"),
}

_TALLEST = 1e200  # matplotlib's log axis overflows not far above


class _Display:
    """What every display has: axes, their figure, and a picture for notebooks."""

    ax_: Axes
    figure_: Figure

    def _draw_into(self, ax: Axes | None) -> Axes:
        self.ax_ = _new_axes() if ax is None else ax
        self.figure_ = self.ax_.figure.figure  # of a subfigure, the whole
        return self.ax_

    def _repr_png_(self) -> bytes | None:
        figure = getattr(self, "figure_", None)
        if figure is None or figure.canvas.manager is not None:  # pyplot shows its own
            return None
        picture = BytesIO()
        figure.savefig(picture, format="png")
        return picture.getvalue()


@dataclass(eq=False, repr=False)
class LossCurveDisplay(_Display):
    """The loss over the epochs on a log axis; the last point's mark says how training ended.

    A log axis has no place for zero, NaN and infinity: these, and losses above 1e200, are
    marked on its lower and upper edge.

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
    ...              epochs=20, fit_intercept=False)
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
        ax : Axes, optional
            Where to draw; by default, a new figure.
        name : str, optional
            Name of the curve, to tell several on the same axes apart.

        Returns
        -------
        LossCurveDisplay
            The display, drawn.
        """
        if _unrecorded(fit):
            raise ValueError(
                f"this fit (method {fit.method!r}) recorded no losses: "
                "fit again with method='stream' and history=1"
            )
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
            Name of the curve.
        **line
            Passed to matplotlib's ``Axes.plot``, ``color=`` for example.

        Returns
        -------
        LossCurveDisplay
            This display.
        """
        ax = self._draw_into(ax)
        mark, ending = self._ending()
        loss = np.asarray(self.loss, float)
        zero, beyond = loss == 0, ~(loss < _TALLEST)
        style: dict[str, Any] = {
            "color": _COLORS[len(ax.get_lines()) % len(_COLORS)],
            "linewidth": 2,
            "marker": mark,
            "markersize": 8,
            "markevery": [-1],
            "label": ": ".join(filter(None, [name, ending])),
        }
        drawn = np.where(zero | beyond, np.nan, loss)
        (self.line_,) = ax.plot(self.epochs, drawn, **style | line)
        color = self.line_.get_color()
        _mark_edge(ax, self.epochs[zero], 0, "v", color, "loss 0")
        _mark_edge(ax, self.epochs[beyond], 1, "^", color, f"loss NaN or above {_TALLEST:g}")
        ax.set(xlabel="Epochs completed", ylabel="Loss (log scale)", yscale="log")
        ax.locator_params(axis="x", integer=True)
        _legend(ax)
        return self

    def _ending(self) -> tuple[str, str]:
        """Mark and words for the last point; empty without a status."""
        if self.status is None:
            return "", ""
        mark, verb = _ENDINGS[self.status]
        return mark, f"{verb} at epoch {self.epochs[-1]:,}, loss {self.loss[-1]:.4g}"


@dataclass(eq=False, repr=False)
class FittedLineDisplay(_Display):
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
    >>> fit = gd.fit(X, y, fit_intercept=False)
    >>> display = FittedLineDisplay.from_fit(fit, X, y)
    >>> print(display.line_.get_label())
    fit: 2 x + 1
    """

    x: Array
    y: Array
    slope: float
    intercept: float
    test: tuple[Array, Array] | None = None
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
            Column of ``X`` along the horizontal axis; the others are held at their mean.
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
        X, y = _matrix(fit, X), _one_target(y, 1, target)
        names = _feature_names(fit)
        column = _feature(X, names, feature)
        slopes, intercepts = _lines(
            X,
            column,
            _one_target(fit.weights, 1, target)[None],
            _one_target(fit.intercept, 0, target)[None],
        )
        if test is not None:
            test = _matrix(fit, test[0])[:, column], _one_target(test[1], 1, target)
        return cls(
            X[:, column],
            y,
            float(slopes[0]),
            float(intercepts[0]),
            test,
            names[column] + (" (other features at their mean)" if feature is not None else ""),
            fit.target_name or "y",
        ).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the points and the line into ``ax``, by default into a new figure."""
        ax = self._draw_into(ax)
        _points(ax, self.x, self.y, "train")
        x = self.x
        if self.test is not None:
            _points(ax, *self.test, "test")
            x = np.append(x, self.test[0])
        ends = np.array([x.min(), x.max()])
        equation = _equation(self.slope, self.intercept)
        (self.line_,) = ax.plot(
            ends, self.slope * ends + self.intercept, color="black", lw=2, label=f"fit: {equation}"
        )
        ax.set(xlabel=self.feature_name, ylabel=self.target_name)
        _legend(ax)
        return self


@dataclass(eq=False, repr=False)
class ResidualsDisplay(_Display):
    """Residuals, actual minus predicted, over the predictions.

    A good fit leaves a cloud around zero with no shape of its own.

    Parameters
    ----------
    y, predicted : ndarray of shape (n,)
        What was measured and what the fit says, on the data it was trained on.
    test : pair of ndarrays of shape (m,), optional
        ``(y, predicted)`` on data kept apart.
    target_name : str
        What is predicted, for the labels.

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
    'train, MSE 2'
    """

    y: Array
    predicted: Array
    test: tuple[Array, Array] | None = None
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
        fit : Fit
            The fit.
        X, y : array_like of shape (n, d) and (n,) or (n, t)
            The data it was trained on.
        test : pair of array_like, optional
            ``(X, y)`` of data kept apart.
        target : int, optional
            Which target, when there are several.
        ax : Axes, optional
            Where to draw; by default, a new figure.

        Returns
        -------
        ResidualsDisplay
            The display, drawn.
        """

        def measured_and_predicted(X: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
            predicted = fit.predict(_matrix(fit, X))
            return _one_target(y, 1, target), _one_target(predicted, 1, target)

        pair = None if test is None else measured_and_predicted(*test)
        return cls(*measured_and_predicted(X, y), pair, fit.target_name or "y").plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the residuals into ``ax``, by default into a new figure."""
        ax = self._draw_into(ax)
        for kind, pair in {"train": (self.y, self.predicted), "test": self.test}.items():
            if pair is not None:
                y, predicted = pair
                _points(ax, predicted, y - predicted, kind, f", MSE {gd.mse(predicted, y):.4g}")
        self.line_ = ax.axhline(0, color="black", lw=2)
        ax.set_xlabel(f"Predicted {self.target_name}")
        ax.set_ylabel("Residual (actual \N{MINUS SIGN} predicted)")
        _legend(ax)
        return self


@dataclass(eq=False, repr=False)
class LossContourDisplay(_Display):
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
    >>> fit = gd.fit(X, y)
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
        init: Any = None,
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
        X, y, init, sample_weight, reduction
            As `gdcore.fit` was given them; the way begins at ``init``.
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
        X, y = _matrix(fit, X), _one_target(y, 1, target)
        epochs, weights, intercepts = _way(fit, init, target)
        path, names = _two_parameters(fit, weights, intercepts)
        first, second = _surroundings(path, resolution)
        grid = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
        at = (grid, None) if X.shape[1] == 2 else (grid[:, :1], grid[:, 1])
        loss = _losses(X, y, *at, sample_weight=sample_weight, reduction=reduction)
        loss = loss.reshape(resolution, resolution)
        return cls(first, second, loss, path, epochs, names).plot(ax)

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
        _legend(ax)
        return self


def animate_line(
    fit: gd.Fit,
    X: ArrayLike,
    y: ArrayLike,
    *,
    init: Any = None,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    feature: int | str | None = None,
    target: int | None = None,
    max_frames: int = 100,
    interval: float = 50,
    ax: Axes | None = None,
) -> FuncAnimation:
    """Animate the fitted line closing in on its points.

    The first frame shows the start, each further one the line after a recorded epoch; the
    title names the epoch and the mean squared error over ``X``. Of more epochs than
    ``max_frames``, the first and the last are shown and ever fewer in between, as the line
    moves most at first.

    Parameters
    ----------
    fit : Fit
        A fit with a record of its weights, so ``history=1`` or larger.
    X, y, init
        As `gdcore.fit` was given them; the line begins at ``init``.
    test, feature, target
        As for `FittedLineDisplay.from_fit`.
    max_frames : int
        At most so many frames, 3 or more.
    interval : float
        Milliseconds between frames.
    ax : Axes, optional
        Where to draw; by default, a new figure.

    Returns
    -------
    FuncAnimation
        Matplotlib's animation: keep it in a variable, and give it to `save_animation`.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import gdcore as gd
    >>> from gdcore.plot import animate_line, save_animation
    >>> X, y = [[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]
    >>> animation = animate_line(gd.fit(X, y), X, y, max_frames=5)
    >>> with TemporaryDirectory() as folder:
    ...     save_animation(animation, f"{folder}/line.gif")
    """
    if max_frames < 3:
        raise ValueError(f"max_frames is {max_frames}; it must be 3 or larger")
    epochs, weights, intercepts = _way(fit, init, target)
    shown = _thin(len(epochs), max_frames)
    epochs, weights, intercepts = epochs[shown], weights[shown], intercepts[shown]
    display = FittedLineDisplay.from_fit(
        fit, X, y, test=test, feature=feature, target=target, ax=ax
    )
    from matplotlib.animation import FuncAnimation  # after the display has found matplotlib

    X, y, line = _matrix(fit, X), display.y, display.line_
    column = _feature(X, _feature_names(fit), feature)
    slopes, starts = _lines(X, column, weights, intercepts)
    heights = slopes[:, None] * line.get_xdata() + starts[:, None]
    losses = _losses(X, y, weights, intercepts)

    def draw(frame: int) -> list[Artist]:
        line.set_ydata(heights[frame])
        title = f"epoch {epochs[frame]:,}, MSE {losses[frame]:.4g}"
        return [line, display.ax_.set_title(title)]

    line.set_label("fit")
    _legend(display.ax_, "upper left" if slopes[-1] >= 0 else "upper right")
    draw(0)
    display.ax_.relim()
    display.ax_.autoscale_view()  # room for the points and the start
    if ax is None:  # lay the figure out once, not for every frame
        display.figure_.draw_without_rendering()
        display.figure_.set_layout_engine(None)
    return FuncAnimation(display.figure_, draw, frames=len(epochs), interval=interval)


def save_animation(animation: FuncAnimation, path: str | Path) -> None:
    """Write an animation to a file, in the format its suffix names.

    The file appears when it is complete, never half written.

    Parameters
    ----------
    animation : FuncAnimation
        The animation.
    path : str or Path
        Where to: ``.gif``, ``.mp4`` (made by the program ffmpeg) or ``.html`` (with buttons to
        play and step).

    Examples
    --------
    See `animate_line`.
    """
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise ValueError(f"cannot animate {path}: name a .gif, .mp4 or .html file")
    try:
        with TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder, path.name)
            write(animation, part)
            part.replace(path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    except CalledProcessError as error:
        raise OSError(f"ffmpeg failed to make {path}: save it as .gif or .html") from error


def _write_gif(animation: FuncAnimation, path: Path) -> None:
    animation.save(path, writer="pillow")


def _write_mp4(animation: FuncAnimation, path: Path) -> None:
    from matplotlib.animation import FFMpegWriter

    if not FFMpegWriter.isAvailable():
        raise FileNotFoundError(
            "an .mp4 is made by the program ffmpeg, which is not installed: "
            "install it, or save as .gif or .html"
        )
    animation.save(path, writer="ffmpeg")


def _write_html(animation: FuncAnimation, path: Path) -> None:
    from matplotlib import rc_context

    with rc_context({"animation.embed_limit": 1024}):  # MB; frames beyond it are dropped
        path.write_text(animation.to_jshtml(), encoding="utf-8")


_WRITERS: dict[str, Callable[[FuncAnimation, Path], object]] = {
    ".gif": _write_gif,
    ".mp4": _write_mp4,
    ".html": _write_html,
}


def _new_axes() -> Axes:
    """Axes of a new figure, 700 pixels wide, that pyplot knows nothing of."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'gdcore[plot]'") from error
    return Figure(figsize=(7, 4.4), layout="constrained").add_subplot()


def _points(ax: Axes, x: Array, y: Array, kind: str, words: str = "") -> None:
    """Scatter points, the smaller the more there are."""
    color, mark = _POINTS[kind]
    size = np.clip(90 / np.sqrt(len(x)), 2, 6)
    ax.plot(x, y, mark, color=color, ms=size, mew=0, alpha=0.6, label=kind + words)


def _mark_edge(ax: Axes, x: Array, height: float, mark: str, color: Any, label: str) -> None:
    """Mark places that have no height of their own on the lower (0) or upper (1) edge."""
    if len(x):
        heights, edge = np.full(len(x), height), ax.get_xaxis_transform()
        ax.plot(x, heights, mark, color=color, transform=edge, clip_on=False, label=label)


def _legend(ax: Axes, place: Literal["best", "upper left", "upper right"] = "best") -> None:
    """Name what is drawn, if anything is named, with marks large enough to tell apart."""
    if ax.get_legend_handles_labels()[1]:
        for handle in ax.legend(loc=place).get_lines():
            handle.set_markersize(max(handle.get_markersize(), 6))


def _equation(slope: float, intercept: float) -> str:
    """Write a line in words, as in '2 x - 1'."""
    constant = f" {'+' if intercept > 0 else '-'} {abs(intercept):.4g}" if intercept else ""
    return f"{slope:.4g} x{constant}"


def _matrix(fit: gd.Fit, X: ArrayLike) -> Array:
    """X as an array (n, d): a row at least, and a column for each weight."""
    X, d = np.asarray(X), len(fit.weights)
    if X.ndim != 2 or X.size == 0 or X.shape[1] != d:
        raise ValueError(f"X has shape {X.shape}; it must be (n, {d}), with a row at least")
    return X


def _one_target(values: ArrayLike, ndim: int, target: int | None) -> Array:
    """Values of one target, of ndim axes; with several targets, the last axis counts them."""
    values = np.asarray(values)
    if values.ndim == ndim:
        return values
    if target is None and values.shape[-1] > 1:
        raise ValueError(f"there are {values.shape[-1]} targets: choose one with target=")
    return values[..., target or 0]


def _feature_names(fit: gd.Fit) -> tuple[str, ...]:
    d = len(fit.weights)
    return fit.feature_names or (("x",) if d == 1 else tuple(f"x{i}" for i in range(d)))


def _feature(X: Array, names: tuple[str, ...], feature: int | str | None) -> int:
    """Column of X (n, d) for the horizontal axis: the one asked for, or the one that varies."""
    columns = range(len(names))
    if feature is None:
        chosen = [i for i in columns if len(names) == 1 or (X[:, i] != X[0, i]).any()]
    else:
        chosen = [i for i in columns if feature in (i, names[i])]
    if len(chosen) == 1:
        return chosen[0]
    if feature is not None:
        raise ValueError(f"feature={feature!r} is no column of X, which has {', '.join(names)}")
    raise ValueError(
        f"{len(chosen)} of the {len(names)} columns of X vary, and a line is drawn along one: "
        f"choose it with feature= ({', '.join(names)}) to hold the others at their mean, "
        "or see all at once with ResidualsDisplay"
    )


def _lines(X: Array, column: int, weights: Array, intercepts: Array) -> tuple[Array, Array]:
    """Slopes (k,), intercepts (k,) along a column of X (n, d); weights (k, d), intercepts (k,)."""
    others = X.mean(axis=0)
    others[column] = 0
    return weights[:, column], gd.matmul(weights, others) + intercepts


def _losses(X: Array, y: Array, weights: Array, intercepts: Array | None, **how: Any) -> Array:
    """Losses (k,) of weights (k, d) and intercepts (k,) on X (n, d) and y (n,)."""
    losses: Array
    losses, _ = gd.linear_mse_value_and_grad(X[None], y[None], weights, intercepts, **how)
    return losses


def _unrecorded(fit: gd.Fit, first: int = 0) -> bool:
    """Whether a fit ran on from its first epoch and recorded nothing, or has no epochs at all."""
    return fit.method == "exact" or (len(fit.history.epoch) == 0 and fit.epochs > first)


def _way(fit: gd.Fit, init: Any, target: int | None) -> tuple[Array, Array, Array]:
    """Epochs (k,), weights (k, d), intercepts (k,): the start, what was recorded, the end."""
    if isinstance(init, gd.Fit):
        first, init = init.epochs, (init.weights, init.intercept)
    else:
        first, init = 0, init if isinstance(init, tuple) else (0.0 if init is None else init, 0.0)
    history = fit.history
    if history.weights is None or history.intercept is None or _unrecorded(fit, first):
        raise ValueError(
            f"this fit (method {fit.method!r}) recorded no weights on its way: fit again with "
            "method='stream' and history=1, or history=100 if the record is too large"
        )
    before = history.epoch < fit.epochs

    def along(start: ArrayLike, recorded: Array, end: Array) -> Array:
        return np.concatenate([[np.broadcast_to(start, end.shape)], recorded[before], [end]])

    epochs = along(first, history.epoch, np.asarray(fit.epochs))
    weights = along(init[0], history.weights, fit.weights)
    intercepts = along(init[1], history.intercept, np.asarray(fit.intercept))
    return epochs, _one_target(weights, 2, target), _one_target(intercepts, 1, target)


def _two_parameters(
    fit: gd.Fit, weights: Array, intercepts: Array
) -> tuple[Array, tuple[str, str]]:
    """Way (k, 2) through exactly two parameters, and their names."""
    names = [f"weight of {name}" for name in _feature_names(fit)]
    if fit.state is not None and fit.state.params.size > fit.weights.size:
        names, weights = [*names, "intercept"], np.column_stack((weights, intercepts))
    if len(names) != 2:
        raise ValueError(
            f"contours are drawn over two parameters, and this fit has {len(names)} "
            f"({', '.join(names)}): see LossCurveDisplay instead"
        )
    return weights.astype(float), (names[0], names[1])


def _surroundings(path: Array, resolution: int) -> tuple[Array, Array]:
    """Values of both parameters around the end of a path (k, 2), wide enough for all of it."""
    reach = 1.15 * np.abs(path - path[-1]).max(axis=0)
    reach = np.maximum(reach, 1e-3 * np.abs(path[-1]).max() or 1)  # the way may be a point
    first, second = np.linspace(path[-1] - reach, path[-1] + reach, resolution, axis=1)
    return first, second


def _thin(k: int, most: int) -> Array:
    """Choose at most so many of k indices, close together at first, and the first and the last."""
    if k <= most:
        return np.arange(k)
    power = log(k - 1) / log(most - 1)  # 0, 1, ..., most - 1 becomes 0, 1, ..., k - 1
    indices: Array = np.rint(np.arange(most) ** power)
    return indices.astype(int)
