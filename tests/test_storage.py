"""Fit.save and gdcore.load: every bit back, whole files or none, a sentence for any other file."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
import problems
from fits import bits, refused
from gdcore import Status
from loops import each
from saved_files import full_disk, other_files, rewrite, stored


def fitted(dtype: Any = np.float64, t: int | None = None, **how: Any) -> gd.Fit:
    rng = np.random.default_rng(5)
    problem = problems.linear(rng, 40, 3, t, dtype=dtype, parts=how.pop("parts", "b"))
    return fits.fit(problem, how.pop("sgd", None), **({"epochs": 5, "tol": None} | how))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.fit"


FITS: dict[str, dict[str, Any]] = {
    "plain": {},
    "several targets": {"t": 2},
    "no intercept": {"parts": "", "t": 2},
    "momentum": {"sgd": gd.SGD(momentum=0.9)},
    "converged": {"epochs": 1000, "tol": 1e-6},
    "batches": {"batch_size": 7, "sgd": gd.SGD(lr=0.01)},
    "exact": {"method": "exact"},
    "no history": {"history": 0},
    "no epochs": {"epochs": 0},
    "infinite limit": {"parts": ""},
}


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal to the bit, and of the same type."""
    if a is None or isinstance(a, str | bool):
        return type(a) is type(b) and a == b
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "__dataclass_fields__"):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    x, y = np.asarray(a), np.asarray(b)
    return (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


@each("kind", FITS)
def test_round_trip(path: Path, dtype: Any, kind: str) -> None:
    """Every field has the same bits."""
    fit = fitted(dtype, **FITS[kind])
    fit.save(path)
    back = gd.load(path)
    assert type(back) is gd.Fit
    assert bits(back) == bits(fit)
    assert back.status is fit.status
    assert back.message == fit.message
    for field in fields(gd.Fit):
        if field.name != "state":
            assert same(getattr(fit, field.name), getattr(back, field.name)), field.name
    assert type(back.loss) is type(fit.loss)
    assert type(back.intercept) is type(fit.intercept)
    X = np.ones((2, 3), dtype)
    assert problems.canonical(back.predict(X)) == problems.canonical(fit.predict(X))
    back.save(path.with_suffix(".again"))
    assert bits(gd.load(path.with_suffix(".again"))) == bits(fit)


def test_names(path: Path) -> None:
    fit = replace(fitted(), feature_names=("âge", "b m i", ""), target_name="y")
    fit.save(path)
    assert gd.load(path).feature_names == ("âge", "b m i", "")
    assert gd.load(path).target_name == "y"


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning", "ignore::gdcore.LearningRateWarning")
def test_every_status(path: Path) -> None:
    X, y = np.ones((4, 1)), np.full(4, 3.0)
    made = {
        "CONVERGED": gd.fit(X, y, gd.SGD()),
        "MAX_EPOCHS": gd.fit(X, y, gd.SGD(lr=1e-3), epochs=1),
        "DIVERGED": gd.fit(X, y, gd.SGD(lr=5.0)),
        "STALLED": fits.seed_000(np.float32, epochs=10**6, history=0),
        "SINGULAR": gd.fit(X, y, method="exact"),
        "EMPTY": gd.fit(X[:0], y[:0], gd.SGD()),
    }
    assert list(made) == [s.name for s in Status if s is not Status.INVALID]  # of many alone
    for name, fit in made.items():
        assert fit.status.name == name
        fit.save(path)
        assert bits(gd.load(path)) == bits(fit)
        assert gd.load(path).message == fit.message


def test_weights_that_were_not_recorded(path: Path) -> None:
    fit = fitted()
    fit = replace(fit, history=gd.History(fit.history.epoch, fit.history.loss))
    fit.save(path)
    assert gd.load(path).history.weights is None
    assert gd.load(path).history.loss.tolist() == fit.history.loss.tolist()


def test_the_name_is_taken_as_it_is(path: Path) -> None:
    for name in (path, str(path), os.fspath(path) + ".npz"):
        fitted().save(name)
        assert bits(gd.load(name)) == bits(fitted())
    assert sorted(os.listdir(path.parent)) == ["model.fit", "model.fit.npz"]


def test_a_file_is_replaced_by_one_of_ordinary_permissions(path: Path) -> None:
    """A model gets the permissions of any new file of this user."""
    path.write_text("old")
    fitted().save(path)
    plain = path.with_name("plain")
    plain.write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_files_are_plain_npz(path: Path) -> None:
    """NumPy reads them, and without unpickling."""
    fit = fitted(t=2)
    fit.save(path)
    entries = stored(path)
    np.testing.assert_array_equal(entries["weights"], fit.weights)
    assert all(a.dtype.kind in "fiuUb" for a in entries.values())
    meta = json.loads(str(entries["meta"]))
    assert (meta["format"], meta["version"]) == ("gdcore-fit", 1)


def test_a_full_disk_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted(epochs=2).save(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match=f"cannot write {path}: No space left on device"):
        fitted().save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


LIMITED = """
import resource, signal, sys
import gdcore as gd, numpy as np
fit = gd.fit(np.ones((3, 2000)), np.ones(3), epochs=2)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    fit.save(sys.argv[1])
except OSError as error:
    print(error)
"""


def test_a_file_too_large_for_the_system(path: Path) -> None:
    """A write that the system really refuses half-way."""
    pytest.importorskip("resource")
    path.write_text("old")
    done = fits.python(LIMITED, path)
    assert done.stdout == f"cannot write {path}: File too large\n"
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == [path.name]


@each("kind", ["folder", "missing", "file"])
def test_names_that_cannot_be_written(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    path = {
        "folder": tmp_path / "folder",
        "missing": tmp_path / "none" / "fit",
        "file": tmp_path / "file" / "fit",
    }[kind]
    assert str(path) in refused(lambda: fitted().save(path), "cannot write", OSError)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@each("kind", other_files(b""))
def test_damaged_files(path: Path, kind: str) -> None:
    fitted().save(path)
    path.write_bytes(other_files(path.read_bytes())[kind])
    assert str(path) in refused(lambda: gd.load(path), "not a gdcore fit")


def test_damaged_files_are_closed(path: Path) -> None:
    """A file that cannot be read is not kept open: on some systems it could not be deleted."""
    fitted().save(path)
    path.write_bytes(path.read_bytes()[:-30])
    script = "import sys, gdcore\ntry:\n    gdcore.load(sys.argv[1])\nexcept ValueError: pass"
    done = fits.python(script, path, PYTHONWARNINGS="always", PYTHONDEVMODE="1")
    assert "ResourceWarning" not in done.stderr


def test_no_byte_of_a_file_can_be_wrong_unseen(path: Path) -> None:
    """A file with one byte changed is refused, or gives the same bits: 400 of them."""
    fit = fitted()
    fit.save(path)
    whole, rng, seen = path.read_bytes(), np.random.default_rng(7), 0
    for position in rng.integers(len(whole), size=400):
        damaged = bytearray(whole)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            assert bits(gd.load(path)) == bits(fit)
        except ValueError:
            seen += 1
    assert seen > 100


def test_another_version(path: Path) -> None:
    fitted().save(path)
    rewrite(path, version=2)
    message = refused(lambda: gd.load(path), "has version 2; this gdcore reads version 1")
    assert str(path) in message


def test_other_forms(path: Path) -> None:
    gd.fit([[1.0]], [1.0], checkpoint=path)
    refused(lambda: gd.load(path), "is a gdcore-checkpoint file, not a gdcore-fit")
    with path.open("wb") as file:
        np.savez(file, weights=np.ones(3))
    refused(lambda: gd.load(path), "not a gdcore fit")
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    refused(lambda: gd.load(path), "not a gdcore fit")


@each("meta", ["[1, 2]", "3", "null", '{"format": "gdcore-fit"}', "{}", "{", ""])
def test_malformed_meta_data(path: Path, meta: str) -> None:
    fitted().save(path)
    entries = stored(path) | {"meta": np.array(meta)}
    with path.open("wb") as file:
        np.savez(file, **entries)
    refused(lambda: gd.load(path), "gdcore fit")


@each("missing", ["weights", "intercept", "history_loss", "state_params"])
def test_missing_entries(path: Path, missing: str) -> None:
    fitted().save(path)
    entries = stored(path)
    del entries[missing]
    with path.open("wb") as file:
        np.savez(file, **entries)
    name = missing.partition("_")[2] or missing
    assert str(path) in refused(lambda: gd.load(path), f"'{name}' is missing")


def test_an_unknown_status(path: Path) -> None:
    fitted().save(path)
    rewrite(path, status="ASCENDED")
    refused(lambda: gd.load(path), "ASCENDED")


class Trap:
    """Unpickled, it would leave a mark."""

    def __reduce__(self) -> Any:
        return os.putenv, ("GDCORE_TRAP", "1")


def test_nothing_is_unpickled(path: Path) -> None:
    fitted().save(path)
    entries = stored(path) | {"weights": np.array([Trap()], object)}
    with path.open("wb") as file:
        np.savez(file, **entries)
    refused(lambda: gd.load(path), "not a gdcore fit")


@each("name", ["none", "folder"])
def test_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=str(tmp_path / name)):  # Python's own sentence
        gd.load(tmp_path / name)
