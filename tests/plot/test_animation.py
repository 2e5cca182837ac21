"""The animation shows the line of every epoch, and is saved in three formats."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.animation import FFMpegWriter, FuncAnimation
from PIL import Image

import gdcore as gd
from gdcore import plot
from pictures import X4, Y4, descend, frames, legend, small_axes


def test_animation_shows_the_line_of_every_epoch(two: SimpleNamespace) -> None:
    ax = small_axes()
    animation = plot.animate_line(two.fit, two.X, two.y, max_frames=101, ax=ax)
    shown = frames(animation, ax)
    assert len(shown) == 101
    x = np.array([two.X[:, 0].min(), two.X[:, 0].max()])
    way = np.vstack([two.init, two.fit.history.weights])
    for epoch, (title, heights) in enumerate(shown):
        slope, constant = way[epoch]
        np.testing.assert_allclose(heights, slope * x + constant, rtol=1e-12, atol=1e-12)
        loss = np.mean((two.X @ way[epoch] - two.y) ** 2)
        assert title == f"epoch {epoch}, MSE {loss:.4g}"
    assert legend(ax) == ["data", "fit"]


def test_animation_keeps_its_limits(one: SimpleNamespace) -> None:
    ax = small_axes()
    animation = plot.animate_line(one.fit, one.X, one.y, test=one.test, max_frames=5, ax=ax)
    before = ax.axis()
    frames(animation, ax)
    assert ax.axis() == before
    low, high = before[2:]
    assert low < min(0, one.y.min())  # the line starts at 0
    assert high > max(one.y.max(), one.test[1].max())


@pytest.mark.parametrize("most", [3, 10, 99, 100, 101, 1000])
def test_animation_is_thinned_to_its_maximum(most: int, one: SimpleNamespace) -> None:
    ax = small_axes()
    animation = plot.animate_line(one.fit, one.X, one.y, max_frames=most, ax=ax)
    titles = [title for title, _ in frames(animation, ax)]
    epochs = np.array([int(title.split(",")[0].removeprefix("epoch ")) for title in titles])
    assert len(epochs) == min(most, 101)
    np.testing.assert_array_equal(epochs[[0, 1, -1]], [0, 1, 100])
    assert (np.diff(epochs, n=2) >= -1).all()  # ever fewer, up to rounding
    assert (np.diff(epochs) >= 1).all()


def test_animation_of_a_diverged_fit_stays_at_the_points(dtype: Any) -> None:
    X, y = X4.astype(dtype), Y4.astype(dtype)
    with pytest.warns((gd.LearningRateWarning, gd.FitWarning)):
        fit = descend(X, y, lr=1.0, epochs=1000)
    ax = small_axes()
    assert len(frames(plot.animate_line(fit, X, y, max_frames=9, ax=ax), ax)) == 9
    assert ax.get_ylim()[1] < 10


def test_animation_needs_three_frames(one: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="max_frames is 2; it must be 3 or larger"):
        plot.animate_line(one.fit, one.X, one.y, max_frames=2)


@pytest.fixture
def animation(one: SimpleNamespace) -> FuncAnimation:
    """Seven small frames."""
    film = plot.animate_line(one.fit, one.X, one.y, max_frames=7, interval=40, ax=small_axes())
    film._draw_was_started = True  # no reminder that some tests draw nothing
    return film


def test_gif_has_the_frames(animation: FuncAnimation, tmp_path: Path) -> None:
    plot.save_animation(animation, tmp_path / "line.gif")
    with Image.open(tmp_path / "line.gif") as image:
        assert (image.format, image.n_frames, image.size) == ("GIF", 7, (80, 60))
        pictures = []
        for frame in range(7):
            image.seek(frame)
            assert image.info["duration"] == 40
            pictures.append(np.array(image.convert("RGB")))
            assert np.median(pictures[-1]) == 255  # white stays white
            assert pictures[-1].min() < 60
    assert all((a != b).any() for a, b in pairwise(pictures))
    assert [path.name for path in tmp_path.iterdir()] == ["line.gif"]


def test_own_figure_is_700_pixels_wide(one: SimpleNamespace, tmp_path: Path) -> None:
    film = plot.animate_line(one.fit, one.X, one.y, max_frames=3)
    plot.save_animation(film, str(tmp_path / "line.GIF"))
    with Image.open(tmp_path / "line.GIF") as image:
        assert (image.n_frames, image.size) == (3, (700, 440))


def test_html_has_all_frames(
    animation: FuncAnimation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rcParams, "animation.embed_limit", 0.001)  # MB
    plot.save_animation(animation, tmp_path / "line.html")
    page = (tmp_path / "line.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 7
    assert "<script" in page


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_mp4_is_a_film(animation: FuncAnimation, tmp_path: Path) -> None:
    plot.save_animation(animation, tmp_path / "line.mp4")
    assert (tmp_path / "line.mp4").read_bytes()[4:8] == b"ftyp"


def test_missing_ffmpeg_raises_one_sentence(
    animation: FuncAnimation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FFMpegWriter, "isAvailable", lambda: False)
    with pytest.raises(OSError, match=r"ffmpeg, and it is not installed.*save as \.gif or \.html"):
        plot.save_animation(animation, tmp_path / "line.mp4")
    assert not list(tmp_path.iterdir())


def test_failing_ffmpeg_raises_one_sentence(
    animation: FuncAnimation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise subprocess.CalledProcessError(1, "ffmpeg")

    monkeypatch.setattr(FFMpegWriter, "isAvailable", lambda: True)
    monkeypatch.setattr(animation, "save", fail)
    (tmp_path / "line.mp4").write_bytes(b"earlier")
    with pytest.raises(OSError, match=r"ffmpeg failed to make .*line\.mp4: save it as \.gif"):
        plot.save_animation(animation, tmp_path / "line.mp4")
    assert (tmp_path / "line.mp4").read_bytes() == b"earlier"


@pytest.mark.parametrize("name", ["line.png", "line", "gif"])
def test_other_suffixes_raise_one_sentence(
    name: str, animation: FuncAnimation, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"{name}: name a \.gif, \.mp4 or \.html file"):
        plot.save_animation(animation, tmp_path / name)


@pytest.mark.parametrize("place", ["missing/line.gif", "file/line.gif", "folder.gif"])
def test_unwritable_output_raises_one_sentence(
    place: str, animation: FuncAnimation, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(OSError, match=rf"^cannot write .*{place}: \w.* directory$"):
        plot.save_animation(animation, tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.gif"]
