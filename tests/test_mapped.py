"""Arrays that map a file: the bits of those in memory, and a sentence when the file shrinks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
from problems import Array

N, D = 20_000, 8  # 1.3 MB, many pages
HOW: dict[str, dict[str, Any]] = {
    "stream": {"method": "stream"},
    "batches": {"batch_size": 100, "shuffle": False},
    "gram": {"method": "gram"},
    "exact": {"method": "exact"},
}


class Cut:
    """A progress callback that truncates a file at its call of that number."""

    def __init__(self, path: Path, size: int, calls: int = 3) -> None:
        self.path, self.size, self.calls = path, size, calls

    def __call__(self, *progress: Any) -> None:
        self.calls -= 1
        if self.calls == 0:
            os.truncate(self.path, self.size)


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch: Any) -> None:
    """Python looks after every few slices of work."""
    monkeypatch.setattr("gdcore.data.slices.SECONDS", 1e-4)


def data(rng: Any, *shape: int) -> tuple[Array, Array]:
    X = rng.standard_normal(shape)
    return X, X.sum(axis=-1) + rng.standard_normal(shape[:-1])


def mapped(path: Path, array: Array) -> Array:
    if not path.exists():
        np.save(path, array)
    found: Array = np.load(path, mmap_mode="r")
    return found


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_the_bits_are_those_of_memory(rng: Any, tmp_path: Path, how: Any) -> None:
    X, y = data(rng, 2000, 3)
    how = how | {"epochs": 5, "tol": None}
    there = gd.fit(mapped(tmp_path / "X.npy", X), mapped(tmp_path / "y.npy", y), gd.SGD(), **how)
    assert fits.bits(there) == fits.bits(gd.fit(X, y, gd.SGD(), **how))


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_a_file_truncated_before(rng: Any, tmp_path: Path, how: Any) -> None:
    X, y = data(rng, N, D)
    there = mapped(tmp_path / "X.npy", X)
    os.truncate(tmp_path / "X.npy", 500_000)
    with pytest.raises(gd.DataLostError, match=r"^X could not be read to the end: .*truncated"):
        gd.fit(there, y, gd.SGD(), epochs=3, **how)


@pytest.mark.parametrize("method", ["stream", "gram", "exact"])
def test_a_file_truncated_within_its_last_page(rng: Any, tmp_path: Path, method: str) -> None:
    """The rest of the page reads as zeros; rows before it are there."""
    X, y = data(rng, 3000, D)
    path = tmp_path / "X.npy"
    there = mapped(path, X)
    how: dict[str, Any] = {"method": method, "epochs": 3, "tol": None}
    os.truncate(path, path.stat().st_size - 8 * D)
    with pytest.raises(gd.DataLostError, match=r"^X could not be read"):
        gd.fit(there, y, gd.SGD(), **how)
    for rows in (slice(2999), slice(2998, None, -1)):
        found = gd.fit(there[rows], y[rows], gd.SGD(), **how)
        assert fits.bits(found) == fits.bits(gd.fit(X[rows], y[rows], gd.SGD(), **how))


@pytest.mark.parametrize("name", ["y", "offset", "sample_weight"])
def test_it_says_which(rng: Any, tmp_path: Path, name: str) -> None:
    X, y = data(rng, N, D)
    given = {"y": y, "offset": y, "sample_weight": np.ones(N)}
    given[name] = mapped(tmp_path / "a.npy", given[name])
    os.truncate(tmp_path / "a.npy", 5000)
    with pytest.raises(gd.DataLostError, match=f"^{name} could not be read"):
        gd.fit(X, sgd=gd.SGD(), epochs=3, **given)


def test_integers_are_lost_while_they_are_converted(rng: Any, tmp_path: Path) -> None:
    X = mapped(tmp_path / "X.npy", rng.integers(0, 9, (N, D)))
    os.truncate(tmp_path / "X.npy", 5000)
    with pytest.raises(gd.DataLostError, match=r"^X"):
        gd.fit(X, np.ones(N), gd.SGD())


@pytest.mark.parametrize("size", [0, 4096, 500_000])
@pytest.mark.parametrize("kind", ["stream", "batches"])
def test_a_file_truncated_meanwhile(rng: Any, tmp_path: Path, kind: str, size: int) -> None:
    """The error and the checkpoint hold the work done; continued, it has the same bits."""
    X, y = data(rng, N, D)
    epochs = {"stream": 20_000, "batches": 30}[kind]  # several looks
    path, how = tmp_path / "X.npy", HOW[kind] | {"epochs": epochs, "tol": None}
    sgd = gd.SGD(lr=1e-3, momentum=0.9)
    there = mapped(path, X)
    with pytest.raises(gd.DataLostError) as caught:
        gd.fit(there, y, sgd, **how, progress=Cut(path, size), checkpoint=tmp_path / "state")
    reached = caught.value.fit
    assert isinstance(reached, gd.Fit)
    assert reached.epochs < epochs
    whole = gd.fit(X, y, sgd, **how)
    with pytest.raises(gd.DataLostError):  # zeros never stand in for rows
        gd.fit(there, y, sgd, **how)
    path.unlink()
    again = mapped(path, X)
    resumed = gd.fit(again, y, sgd, **how, checkpoint=tmp_path / "state")
    assert fits.bits(resumed) == fits.bits(whole)
    if reached.state.step == 0:
        rest = gd.fit(again, y, sgd, **(how | {"epochs": epochs - reached.epochs}), init=reached)
        assert rest.weights.tobytes() == whole.weights.tobytes()


@pytest.mark.parametrize("kind", ["batches", "exact"])
@pytest.mark.parametrize("grouped", [False, True], ids=["stacked", "grouped"])
def test_finished_problems_are_kept(rng: Any, tmp_path: Path, kind: str, grouped: bool) -> None:
    """And those alone: what is not as it would have been is not called done."""
    count, n = 300, 200
    X, y = data(rng, count, n, D)
    path, labels = tmp_path / "X.npy", np.repeat(np.arange(count), n)
    how = HOW[kind] | {"epochs": 40, "tol": None}

    def run(X: Array, progress: Any = False) -> gd.Fits:
        if grouped:
            return gd.fit_groups(
                X.reshape(-1, D), y.ravel(), labels, gd.SGD(), **how, progress=progress
            )
        return gd.fit(X, y, gd.SGD(), **how, progress=progress)  # type: ignore[return-value]

    whole = run(X)
    there = mapped(path, X)
    with pytest.raises(gd.DataLostError) as caught:
        run(there, Cut(path, X.nbytes // 2, 1))
    kept = caught.value.fit
    assert isinstance(kept, gd.Fits)
    done = (kept.status == whole.status) & (kept.epochs == whole.epochs) & ~np.isnan(kept.loss)
    assert 0 < done.sum() < count
    assert (kept.weights[done] == whole.weights[done]).all()
    assert grouped == (kept.groups is not None)


def test_moments_stay_as_they_were(rng: Any, tmp_path: Path) -> None:
    X, y = data(rng, N, D)
    moments = gd.Moments(D).update(X, y)
    before, there = moments.copy(), mapped(tmp_path / "X.npy", X)
    os.truncate(tmp_path / "X.npy", 5000)
    with pytest.raises(gd.DataLostError, match=r"^X"):
        moments.update(there, y)
    assert moments == before
    with pytest.raises(gd.DataLostError, match=r"^X"):
        gd.fit_rolling(there, y, 1000, gd.SGD(), step=500)


@pytest.mark.parametrize("method", ["gram", "stream"])
def test_chunks_that_map_a_file(rng: Any, tmp_path: Path, method: str) -> None:
    how: dict[str, Any] = {"sgd": gd.SGD(), "method": method, "epochs": 3, "tol": None}
    X, y = data(rng, N, D)
    there = mapped(tmp_path / "X.npy", X)
    chunks = [(there[i : i + 5000], y[i : i + 5000]) for i in range(0, N, 5000)]
    in_memory = [(np.array(a), b) for a, b in chunks]
    assert fits.bits(gd.fit(chunks, **how)) == fits.bits(gd.fit(in_memory, **how))
    os.truncate(tmp_path / "X.npy", X.nbytes // 2)
    # The file's header takes the place of two rows, which are within a page that is there.
    with pytest.raises(gd.ChunkError, match=r"chunk 1 \(from row 5000\) cannot be read: X"):
        gd.fit(chunks, **how)


CHILD = """
import faulthandler, os, sys, tempfile
import numpy as np, gdcore as gd
if "faulthandler" in sys.argv[1]:
    faulthandler.enable()
def lost():
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(80_000))
        file.flush()
        array = np.memmap(file.name, dtype=float, mode="r", shape=(1000, 10))
        os.truncate(file.name, 0)
    return array
try:
    gd.fit(lost(), np.ones(1000))
    print("fitted")
except gd.DataLostError:
    print("lost", flush=True)
if "during a fit" in sys.argv[1]:
    mapped = np.memmap(tempfile.TemporaryFile(), dtype=float, mode="w+", shape=(1000, 10))
    gd.fit(mapped, np.ones(1000), gd.SGD(), progress=lambda *_: lost().sum())
print(lost().sum())
"""


@pytest.mark.parametrize(
    "kind", ["plain", "faulthandler", "during a fit", "faulthandler during a fit"]
)
def test_any_other_sigbus_is_left_alone(kind: str) -> None:
    """The process dies of it, as it would have without gdcore; faulthandler tells where."""
    command = [sys.executable, "-c", CHILD, kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("lost\n", -signal.SIGBUS)
    assert ("Fatal Python error: Bus error" in done.stderr) == ("faulthandler" in kind)


@pytest.mark.parametrize(
    "view",
    [lambda a: a[::-1], lambda a: a[::3], lambda a: a[:, ::-1], lambda a: a.T[:, :7].T],
    ids=["reversed", "steps", "columns", "head"],
)
def test_views_are_watched_whole(rng: Any, tmp_path: Path, view: Callable[[Array], Array]) -> None:
    X, _ = data(rng, N, D)
    there = view(mapped(tmp_path / "X.npy", X))
    watch = gd._core.LostPages(there)
    os.truncate(tmp_path / "X.npy", 0)
    assert watch.count == 0
    there.sum()
    assert watch.count >= 1
    assert not there.any()


def test_other_errors_stay_what_they_are() -> None:
    """Memory of another owner is watched too; an error of another kind is nobody's cause."""
    X = np.frombuffer(bytes(800)).reshape(50, 2)
    with pytest.raises(ValueError, match="reduction") as caught:
        gd.fit(X, np.ones(50), gd.SGD(), reduction="bad")
    assert caught.value.__cause__ is not caught.value
