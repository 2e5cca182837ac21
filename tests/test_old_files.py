"""Files and pickles written by gdcore 0.1.0 load, and mean what they did (data/v0.1.0/make.py)."""

from __future__ import annotations

import pickle
import pickletools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gdcore as gd

FOLDER = Path(__file__).parent / "data" / "v0.1.0"


def _inputs() -> Any:
    """Return what the script that wrote the files defines, without running it."""
    text = (FOLDER / "make.py").read_text("utf-8").replace("from gdcore import storage\n", "")
    names: dict[str, Any] = {"__file__": str(FOLDER / "make.py"), "__name__": "make"}
    exec(compile(text, "make.py", "exec"), names)
    return names


OLD = _inputs()
X, Y, SGD = OLD["X"], OLD["Y"], OLD["SGD"]
DESCENT: dict[str, Any] = {"epochs": 40, "tol": None}


def unpickled(name: str) -> Any:
    return pickle.loads((FOLDER / f"{name}.pickle").read_bytes())


def same(ours: Any, old: Any) -> None:
    """Assert that two fits have the same bits, history and state included."""
    assert type(ours) is type(old)
    for name in ("weights", "intercept", "loss", "epochs", "lr", "momentum"):
        assert np.asarray(getattr(ours, name)).tobytes() == np.asarray(getattr(old, name)).tobytes()
    assert np.array_equal(ours.status, old.status)
    assert ours.method == old.method
    assert np.array_equal(ours.rank, old.rank)
    for name in ("epoch", "loss", "weights", "intercept"):
        mine, its = getattr(ours.history, name), getattr(old.history, name)
        assert (mine is None) == (its is None)
        assert mine is None or mine.tobytes() == its.tobytes()
    assert (ours.state is None) == (old.state is None)
    if ours.state is not None:
        mine, its = ours.state.as_dict(), old.state.as_dict()
        assert mine.keys() == its.keys()
        assert [n for n in mine if not np.array_equal(mine[n], its[n], equal_nan=True)] == []


def descent() -> gd.Fit:
    return gd.fit(X, Y, SGD, method="stream", **DESCENT)


def groups(**how: Any) -> Any:
    return gd.fit_groups(X, Y, OLD["LABELS"], SGD, **DESCENT, history=1, **how)


def test_fits() -> None:
    same(descent(), gd.load(FOLDER / "fit.npz"))
    same(gd.fit(X, Y), gd.load(FOLDER / "exact.npz"))
    scaled = gd.fit(X, Y, gd.SGD(lr=0.1, momentum=0.5), **DESCENT, standardize=True)
    same(scaled, gd.load(FOLDER / "standardized.npz"))


def test_a_loaded_fit_starts_another() -> None:
    """Velocity and epoch continue: 40 + 20 epochs have the bits of 60."""
    old = gd.load(FOLDER / "fit.npz")
    further = gd.fit(X, Y, SGD, epochs=20, tol=None, method="stream", init=old)
    whole = gd.fit(X, Y, SGD, epochs=60, tol=None, method="stream")
    assert further.weights.tobytes() == whole.weights.tobytes()
    assert further.epochs == 60


def test_fits_of_groups() -> None:
    for name, labels in (("groups", OLD["LABELS"]), ("names", None)):
        old = gd.load(FOLDER / f"{name}.npz")
        assert isinstance(old, gd.Fits)
        if labels is None:
            same(gd.fit_groups(X, Y, [f"g{d.day}" for d in OLD["LABELS"]]), old)
            assert old.groups.tolist() == ["g1", "g2", "g3"]
        else:
            same(groups(), old)
            assert old.groups.tolist() == sorted(set(labels))
        everywhere = old.predict(X[:2])  # (groups, rows)
        assert np.array_equal(old.predict(X[:2], groups=old.groups[:2]), everywhere.diagonal())


@pytest.mark.parametrize("name", ["checkpoint", "chunks"])
def test_checkpoints_resume(name: str, tmp_path: Path) -> None:
    """From the middle, to the bits of a fit that never stopped."""
    path = tmp_path / "checkpoint.npz"
    shutil.copy(FOLDER / f"{name}.npz", path)
    with np.load(path) as file:
        begun = int(file["state_epoch"])
    assert 0 < begun < 100
    data = (X, Y) if name == "checkpoint" else (OLD["CHUNKS"],)
    seen: list[int] = []
    resumed = gd.fit(
        *data, **OLD["OPTIONS"], checkpoint=path, progress=lambda done, *_: seen.append(done)
    )
    whole = gd.fit(*data, **OLD["OPTIONS"])
    assert min(epoch for epoch in seen if epoch) >= begun
    assert resumed.weights.tobytes() == whole.weights.tobytes()
    assert resumed.history.loss.tobytes() == whole.history.loss.tobytes()


def test_pickles() -> None:
    """They name the modules that the classes lived in: gdcore.result, gdcore.state."""
    same(descent(), unpickled("fit"))
    same(groups(), unpickled("fits"))
    assert unpickled("sgd") == SGD
    assert isinstance(unpickled("state"), gd.SGDState)
    moments = gd.Moments(3).update(X, Y, offset=0.5).downdate(X[:2], Y[:2], offset=0.5)
    moments.update(X[:5], Y[:5], sample_weight=np.arange(5.0))
    old = unpickled("moments")
    assert old == moments
    assert old.fit().weights.tobytes() == moments.fit().weights.tobytes()
    assert old.update(X, Y) == moments.update(X, Y)


def test_pickles_name_public_classes_only() -> None:
    """So that the next move of a file breaks none of them."""
    things = [descent(), groups(), SGD, gd.Moments(3).update(X, Y), gd.Status.CONVERGED]
    for thing in things:
        data = pickle.dumps(thing)
        names = [text for _, text, _ in pickletools.genops(data) if isinstance(text, str)]
        assert {n for n in names if n.startswith("gdcore")} <= {"gdcore", "gdcore.results.state"}
        assert type(pickle.loads(data)) is type(thing)
    for name in gd.__all__:
        assert getattr(getattr(gd, name), "__module__", "gdcore").partition(".")[0] == "gdcore"


def test_windows() -> None:
    """0.1.0 called their count of recomputed sums otherwise."""
    ours, old = gd.fit_rolling(X, Y, 10), unpickled("rolling")
    assert isinstance(old, gd.RollingFit)
    assert old.recomputed == ours.recomputed > 0
    for name in ("first_row", "weights", "intercept", "loss"):
        assert getattr(ours, name).tobytes() == getattr(old, name).tobytes()
