"""The line closing in on its points, and films of it."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from math import log
from pathlib import Path
from subprocess import CalledProcessError
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

import gdcore as gd
from gdcore.plot.data import Array, feature_names, losses, matrix, way_of
from gdcore.plot.display import draw_legend
from gdcore.plot.line import FittedLineDisplay, column_along, lines_along

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE_PAD = 24  # points: above the legend's one row


def animate_line(
    fit: gd.Fit,
    X: ArrayLike,
    y: ArrayLike,
    *,
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
    X, y, test, feature, target, ax
        As for `FittedLineDisplay.from_fit`.
    max_frames : int
        Largest number of frames, 3 or more.
    interval : float
        Milliseconds between frames.

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
    >>> animation = animate_line(gd.fit(X, y, gd.SGD()), X, y, max_frames=5)
    >>> with TemporaryDirectory() as folder:
    ...     save_animation(animation, f"{folder}/line.gif")
    """
    if max_frames < 3:
        raise ValueError(f"max_frames is {max_frames}; it must be 3 or larger")
    way = way_of(fit, target)
    shown = _thin(len(way.epochs), max_frames)
    epochs, weights, intercepts = (values[shown] for values in way)
    display = FittedLineDisplay.from_fit(
        fit, X, y, test=test, feature=feature, target=target, ax=ax
    )
    from matplotlib.animation import FuncAnimation  # after the display has found matplotlib

    X, line = matrix(fit, X), display.line_
    column = column_along(X, feature_names(fit), feature)
    slopes, starts = lines_along(X, column, weights, intercepts)
    heights = slopes[:, None] * line.get_xdata() + starts[:, None]
    loss = losses(X, display.y, weights, intercepts)

    def draw(frame: int) -> list[Artist]:
        line.set_ydata(heights[frame])
        title = f"epoch {epochs[frame]:,}, MSE {loss[frame]:.4g}"
        return [line, display.ax_.set_title(title, pad=TITLE_PAD)]

    line.set_label("fit")
    draw_legend(display.ax_)
    draw(0)
    display.ax_.relim()
    display.ax_.autoscale_view()  # room for the points and the start
    if ax is None:  # lay the figure out once, not for every frame
        display.figure_.draw_without_rendering()
        display.figure_.set_layout_engine(None)
    return FuncAnimation(display.figure_, draw, frames=len(epochs), interval=interval)


def _thin(k: int, most: int) -> Array:
    """Choose at most `most` of k indices, close together at first, and the first and the last."""
    if k <= most:
        return np.arange(k)
    power = log(k - 1) / log(most - 1)  # 0, 1, ..., most - 1 becomes 0, 1, ..., k - 1
    indices: Array = np.rint(np.arange(most) ** power)
    return indices.astype(int)


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
    from matplotlib.animation import AbstractMovieWriter
    from PIL import Image

    class OnePalette(AbstractMovieWriter):
        """Takes the colours of the first frame for all: choosing them takes longest."""

        frames: list[Image.Image]

        def setup(self, fig: Figure, outfile: str | Path, dpi: float | None = None) -> None:
            super().setup(fig, outfile, dpi)
            self.frames = []

        def grab_frame(self, **options: Any) -> None:
            shot = BytesIO()
            self.fig.savefig(shot, **options, format="rgba", dpi=self.dpi)
            frame = Image.frombytes("RGBA", self.frame_size, shot.getvalue()).convert("RGB")
            frame = frame.point(lambda level: level & 252)  # as finely as Pillow tells them apart
            palette = self.frames[0] if self.frames else None
            self.frames.append(frame.quantize(palette=palette, dither=Image.Dither.NONE))

        def finish(self) -> None:
            first, *others = self.frames
            colors = [level * 255 // 252 for level in first.getpalette() or ()]  # white is 255
            for frame in self.frames:
                frame.putpalette(colors)
            ms = round(1000 / self.fps)
            first.save(path, save_all=True, append_images=others, duration=ms, loop=0)

    timer: Any = animation.event_source
    animation.save(path, writer=OnePalette(fps=1000 / timer.interval))


def _write_mp4(animation: FuncAnimation, path: Path) -> None:
    from matplotlib.animation import FFMpegWriter

    if not FFMpegWriter.isAvailable():
        raise FileNotFoundError(
            "an .mp4 needs the program ffmpeg, and it is not installed: "
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
