"""fit(checkpoint=...): killed at any moment and started again, a fit comes to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
import problems
from fits import Cut, bits, cut_after, refused
from gdcore import Status
from loops import each
from problems import Linear
from saved_files import full_disk, other_files, rewrite, stored

EPOCHS = 9
FEW_EPOCHS = 5


def schedule(epoch: int) -> float:
    return 1e-3 / (1 + epoch)


WAYS: dict[str, tuple[gd.SGD, dict[str, Any]]] = {
    "plain": (gd.SGD(), {"method": "stream"}),
    "momentum": (
        gd.SGD(momentum=0.9, nesterov=True, weight_decay=0.01),
        {"history": 2, "method": "stream"},
    ),
    "schedule": (gd.SGD(lr=schedule, momentum=0.5), {"method": "stream"}),
    "batches": (gd.SGD(), {"batch_size": 1000, "seed": 5}),
    "batches with momentum": (gd.SGD(lr=1e-4, momentum=0.9), {"batch_size": 1000, "history": 3}),
    "batches in order": (gd.SGD(lr=schedule), {"batch_size": 777, "shuffle": False}),
    "no history": (gd.SGD(momentum=0.5), {"history": 0, "batch_size": 3000}),
}
every_way = each("way", WAYS)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look up after every million of multiplications, and write the checkpoint each time.

    Without waiting for the disk: no power is cut here.
    """
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr("gdcore.data.slices.SECONDS", 0.0)
    monkeypatch.setattr(
        "gdcore.solvers.progress._Callback.quiet", np.inf
    )  # only the descent looks up
    monkeypatch.setattr("gdcore.results.checkpoint.Checkpoint.seconds", 0.0)
    monkeypatch.setattr("gdcore.results.checkpoint.time", SimpleNamespace(monotonic=lambda: 0.0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fit.checkpoint"


@cache
def drawn(dtype: Any) -> Linear:
    problem = problems.linear(np.random.default_rng(3), 8000, 64, dtype=dtype, parts="b")
    problem.X[:] += 3
    return problem


def large(dtype: Any = np.float64) -> Linear:
    """Draw a problem of which an epoch takes a look or two, and mini-batches part of one.

    One direction stands out, so that the limit of lr is soon found.
    """
    return drawn(np.dtype(dtype)).map(np.copy)


def small(dtype: Any = np.float64) -> Linear:
    return problems.linear(np.random.default_rng(4), 40, 3, dtype=dtype, parts="b")


def tiny() -> Linear:
    """Return a problem whose steps of lr 0.01 end by being too small."""
    return Linear(np.ones((4, 1), "f4"), np.full(4, 3, "f4"), np.zeros(1, "f4"))


# Cut short and started again.


@cache
def uncut(way: str, dtype: Any) -> list[Any]:
    """Return the bits of a fit that nothing cut."""
    sgd, how = WAYS[way]
    return bits(fits.fit(large(dtype), sgd, epochs=FEW_EPOCHS, tol=None, **how))


@each("way, looks, error", [
    *((way, *end) for way in WAYS for end in ((1, Cut), (4, KeyboardInterrupt))),
    *((way, *end) for way in ("plain", "batches") for end in ((3, Cut), (1, KeyboardInterrupt))),
])  # fmt: skip
def test_cut_once(eager: None, path: Path, way: str, looks: int, error: Any) -> None:
    """An error leaves the file of the look before; Ctrl-C writes it."""
    sgd, how = WAYS[way]
    options = {"epochs": FEW_EPOCHS, "tol": None, **how}
    with pytest.raises(error):
        fits.fit(large(), sgd, checkpoint=path, progress=cut_after(looks, error), **options)
    assert path.exists() == (looks > 1 or error is KeyboardInterrupt)
    if path.exists():
        assert stored(path)["state_epoch"] < FEW_EPOCHS
    resumed = fits.fit(large(), sgd, checkpoint=path, **options)
    assert bits(resumed) == uncut(way, np.float64)


@each("way, dtype", [
    *((way, np.float64) for way in WAYS),
    *((way, np.float32) for way in ("momentum", "schedule", "batches with momentum")),
])  # fmt: skip
def test_cut_at_every_look(eager: None, path: Path, dtype: Any, way: str) -> None:
    """Each run gets two looks further; some stop between the batches of an epoch."""
    sgd, how = WAYS[way]
    problem, options = large(dtype), {"epochs": FEW_EPOCHS, "tol": None, **how}
    steps, cuts = [], 0
    while True:
        try:
            done = fits.fit(problem, sgd, checkpoint=path, progress=cut_after(2), **options)
            break
        except Cut:
            cuts += 1
            steps.append(int(stored(path)["state_step"]))
    assert cuts >= 3
    if "batch_size" in how:
        assert any(steps)
    assert bits(done) == uncut(way, dtype)
    assert os.listdir(path.parent) == [path.name]


def test_threads_and_instruction_sets_may_change(eager: None, path: Path) -> None:
    options: dict[str, Any] = {"epochs": EPOCHS, "tol": None, "method": "stream"}
    want = bits(fits.fit(large(), **options))
    for isa in gd._core.available_isas():
        gd._core.set_isa(isa)
        with pytest.raises(Cut):
            fits.fit(large(), checkpoint=path, progress=cut_after(3), **options)
    result = fits.fit(large(), checkpoint=path, n_threads=7, **options)
    assert bits(result) == want


def test_layouts_may_change(eager: None, path: Path) -> None:
    options: dict[str, Any] = {"epochs": EPOCHS, "tol": None, "method": "stream"}
    with pytest.raises(Cut):
        fits.fit(large(), checkpoint=path, progress=cut_after(3), **options)
    moved = large().map(problems.LAYOUTS["fortran-mixed"])
    result = fits.fit(moved, checkpoint=path, **options)
    assert bits(result) == bits(fits.fit(large(), **options))


def test_a_warm_start_with_a_checkpoint(eager: None, path: Path) -> None:
    sgd = gd.SGD(lr=1e-4, momentum=0.9)
    options: dict[str, Any] = {"tol": None, "batch_size": 1000}
    first = fits.fit(large(), sgd, epochs=3, **options)
    with pytest.raises(Cut):
        fits.fit(
            large(), sgd, epochs=6, init=first, checkpoint=path, progress=cut_after(3), **options
        )
    second = fits.fit(large(), sgd, epochs=6, init=first, checkpoint=path, **options)
    want = fits.fit(large(), sgd, epochs=9, **options)
    assert bits(fits.joined([first, second])) == bits(want)


@each("batch_size", [None, 1000])
def test_convergence_after_a_cut(eager: None, path: Path, batch_size: int | None) -> None:
    """The norm of the gradient is summed again; the last loss is in the file."""
    problem, sgd = large(), gd.SGD(lr=0.25)
    problem.X[:] -= 3
    problem.y[:] = problem.X[:, 0]
    for stop in ("gradient", "loss_equal"):
        options: dict[str, Any] = {
            "tol": 0.1, "stop": stop, "batch_size": batch_size, "method": "stream",
        }  # fmt: skip
        want = fits.fit(problem, sgd, **options)
        assert want.status is Status.CONVERGED
        with pytest.raises(Cut):
            fits.fit(problem, sgd, checkpoint=path, progress=cut_after(3), **options)
        assert bits(fits.fit(problem, sgd, checkpoint=path, **options)) == bits(want)
        path.unlink()


@pytest.mark.filterwarnings("ignore::gdcore.LearningRateWarning", "ignore::gdcore.FitWarning")
@each("batch_size, lr", [(None, 0.2), (2000, 0.05)])
def test_divergence_after_a_cut(eager: None, path: Path, batch_size: int | None, lr: float) -> None:
    """Cut at every look, the one before the overflow too: the last finite weights all the same."""
    problem, sgd = large(np.float32), gd.SGD(lr=lr)
    options: dict[str, Any] = {"batch_size": batch_size, "method": "stream"}
    want = fits.fit(problem, sgd, **options)
    assert want.status is Status.DIVERGED
    assert want.epochs > 1
    for looks in range(1, 1000):
        path.unlink(missing_ok=True)
        try:
            how = {"checkpoint": path, **options}
            fits.fit(problem, sgd, progress=cut_after(looks), **how)
        except Cut:
            assert bits(fits.fit(problem, sgd, **how)) == bits(want), looks
        else:
            break
    assert looks > 4


def test_an_epoch_half_done_is_not_a_stall(eager: None, path: Path) -> None:
    """The first half of the rows moves the weights, the second cannot; cut between the two."""
    X = np.zeros((32_768, 28))
    X[: len(X) // 2, 0] = np.linspace(1, 2, len(X) // 2)
    options: dict[str, Any] = {
        "batch_size": len(X) // 2, "shuffle": False, "fit_intercept": False, "epochs": 4,
    }  # fmt: skip

    def run(**more: Any) -> gd.Fit:
        with pytest.warns(gd.FitWarning, match="Ended after all 4 epochs"):
            return gd.fit(X, X[:, 0] + 1, gd.SGD(lr=0.01), **options, **more)

    want = run()
    assert want.status is Status.MAX_EPOCHS
    cut_between = 0
    for looks in range(2, 9):
        path.unlink(missing_ok=True)
        with pytest.raises(KeyboardInterrupt):
            gd.fit(
                X,
                X[:, 0] + 1,
                gd.SGD(lr=0.01),
                checkpoint=path,
                progress=cut_after(looks, KeyboardInterrupt),
                **options,
            )
        cut_between += int(stored(path)["state_step"])
        assert bits(run(checkpoint=path)) == bits(want), looks
    assert cut_between > 0


# Killed.

CHILD = """
import os, signal, sys
from types import SimpleNamespace
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import gdcore, gdcore.data.slices, gdcore.results.checkpoint, gdcore.solvers.progress
gdcore.solvers.progress._Callback.quiet = float("inf")
gdcore.data.slices.SECONDS = gdcore.results.checkpoint.Checkpoint.seconds = 0.0
gdcore.results.checkpoint.time = SimpleNamespace(monotonic=lambda: 0.0)
import fits, test_checkpoint

looks = int(sys.argv[3])
def kill(*_):
    global looks
    looks -= 1
    if looks == 0:
        os.kill(os.getpid(), signal.SIGKILL)

sgd = gdcore.SGD(lr=1e-4, momentum=float(sys.argv[4]))
fits.fit(test_checkpoint.large(), sgd, epochs=9, tol=None, batch_size=int(sys.argv[5]) or None,
         checkpoint=sys.argv[2], progress=kill, method="stream")
"""


@each("looks, momentum, batch_size", [(5, 0.9, 0), (7, 0.9, 1000)])
def test_killed(path: Path, looks: int, momentum: float, batch_size: int) -> None:
    """A process that dies of SIGKILL between two looks leaves a whole file."""
    child = fits.python(CHILD, __file__, path, looks, momentum, batch_size, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    found = stored(path)
    assert 0 < found["state_epoch"] < 9
    assert not batch_size or found["state_step"] > 0
    sgd = gd.SGD(lr=1e-4, momentum=momentum)
    options: dict[str, Any] = {
        "epochs": 9, "tol": None, "batch_size": batch_size or None, "method": "stream",
    }  # fmt: skip
    resumed = fits.fit(large(), sgd, checkpoint=path, **options)
    assert bits(resumed) == bits(fits.fit(large(), sgd, **options))


LONG = """
import sys
import numpy as np, gdcore as gd
rng = np.random.default_rng(8)
X, y = rng.standard_normal((500, 20)), rng.standard_normal(500)
gd.fit(X, y, gd.SGD(momentum=0.9), epochs=10**9, tol=None, history=100_000, batch_size=100,
       checkpoint=sys.argv[1])
"""


def test_killed_from_outside(path: Path) -> None:
    """At a time of its own choosing, with nothing changed: the file is written every second."""
    with subprocess.Popen([sys.executable, "-c", LONG, path]) as child:
        deadline = time.monotonic() + 60
        while not path.exists():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.kill()
    epochs = int(stored(path)["state_epoch"]) + 100
    rng = np.random.default_rng(8)
    X, y, sgd = rng.standard_normal((500, 20)), rng.standard_normal(500), gd.SGD(momentum=0.9)
    options: dict[str, Any] = {
        "epochs": epochs, "tol": None, "history": 100_000, "batch_size": 100,
    }  # fmt: skip
    resumed = gd.fit(X, y, sgd, checkpoint=path, **options)
    assert bits(resumed) == bits(gd.fit(X, y, sgd, **options))


# Finished.

ENDS: dict[str, tuple[Callable[[], Linear], gd.SGD, dict[str, Any]]] = {
    "converged": (small, gd.SGD(), {}),
    "converged-momentum": (small, gd.SGD(momentum=0.5), {"history": 3}),
    "loss-equal": (lambda: small(np.float32), gd.SGD(), {"stop": "loss_equal", "tol": None}),
    "max_epochs": (small, gd.SGD(), {"epochs": 4}),
    "max_epochs-tol-none": (small, gd.SGD(), {"epochs": 4, "tol": None}),
    "batches": (small, gd.SGD(lr=0.01), {"epochs": 4, "batch_size": 7}),
    "batches-converged": (small, gd.SGD(lr=0.01), {"tol": 0.1, "batch_size": 7}),
    "schedule": (small, gd.SGD(lr=schedule), {"epochs": 4}),
    "no-epochs": (small, gd.SGD(), {"epochs": 0}),
    "diverged": (small, gd.SGD(lr=50.0), {}),
    "diverged-batches": (small, gd.SGD(lr=50.0), {"batch_size": 7}),
    "stalled": (tiny, gd.SGD(lr=1e-2), {"epochs": 5000}),
    "max_epochs-stuck": (tiny, gd.SGD(lr=1e-2), {"epochs": 5000, "tol": None}),
    "stalled-batches": (tiny, gd.SGD(lr=1e-2), {"epochs": 5000, "batch_size": 2, "shuffle": False}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::gdcore.LearningRateWarning", "ignore::gdcore.FitWarning")
@each("end", ENDS)
def test_a_finished_checkpoint_returns_what_it_was(path: Path, end: str) -> None:
    """The same bits and the same status, now and every time."""
    make, sgd, how = ENDS[end]
    want = fits.fit(make(), sgd, **how)
    status = end.partition("-")[0].upper()
    if status in Status.__members__:
        assert want.status.name == status
    first = fits.fit(make(), sgd, checkpoint=path, **how)
    assert bits(first) == bits(want)
    for _ in range(2):
        assert bits(fits.fit(make(), sgd, checkpoint=path, **how)) == bits(want)


def test_a_finished_checkpoint_continues_if_given_more_epochs(path: Path) -> None:
    """A finer tol continues it too."""
    for batch_size in (None, 7):
        options: dict[str, Any] = {"batch_size": batch_size, "tol": None}
        fits.fit(small(), gd.SGD(lr=0.01), epochs=5, checkpoint=path, **options)
        result = fits.fit(small(), gd.SGD(lr=0.01), epochs=12, checkpoint=path, **options)
        assert bits(result) == bits(fits.fit(small(), gd.SGD(lr=0.01), epochs=12, **options))
        path.unlink()
    fits.fit(small(), tol=1e-2, checkpoint=path)
    finer = fits.fit(small(), tol=1e-5, checkpoint=path)
    assert bits(finer) == bits(fits.fit(small(), tol=1e-5))


# Files of other fits, damaged files, files that cannot be written.

DATA: dict[str, Callable[[Linear], Any]] = {
    "X": lambda p: {"X": np.nextafter(p.X, 9)},
    "y": lambda p: {"y": p.y + np.eye(40)[7]},
    "offset": lambda p: {"offset": 1.0},
    "sample_weight": lambda p: {"sample_weight": np.arange(1.0, 41)},
    "reduction": lambda p: {"reduction": "half_mean"},
    "rows": lambda p: {"X": p.X[:-1], "y": p.y[:-1]},
    "columns": lambda p: {"X": p.X[:, :2], "init": None},
    "targets": lambda p: {"y": np.stack([p.y, p.y], axis=1), "init": None},
    "dtype": lambda p: {"X": p.X.astype("f4"), "y": p.y.astype("f4")},
    "intercept": lambda p: {"fit_intercept": False, "init": p.weights},
    "signed zero": lambda p: {"y": np.where(np.arange(40) == 3, -0.0, p.y)},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "lr": {"sgd": gd.SGD(lr=0.02)},
    "momentum": {"sgd": gd.SGD(lr=0.01, momentum=0.5)},
    "auto": {"sgd": gd.SGD()},
    "schedule": {"sgd": gd.SGD(lr=schedule)},
    "batch_size": {"batch_size": 8},
    "full batch": {"batch_size": None},
    "shuffle": {"shuffle": False},
    "seed": {"seed": 1},
    "history": {"history": 2},
    "start": {"init": np.ones(3)},
}


def refit(path: Path, **changes: Any) -> gd.Fit:
    problem = small()
    problem.y[3] = 0.0
    options: dict[str, Any] = {"X": problem.X, "y": problem.y, "sgd": gd.SGD(lr=0.01)}
    options |= {"batch_size": 7, "epochs": 5, "tol": None}
    options |= {"init": (problem.weights, 0.0), "checkpoint": path}
    return gd.fit(**(options | changes))


@each("kind", DATA)
def test_a_checkpoint_of_another_problem(path: Path, kind: str) -> None:
    refit(path)
    before, problem = path.read_bytes(), small()
    problem.y[3] = 0.0
    changes = DATA[kind](problem)
    message = refused(lambda: refit(path, **changes), "is of another problem.*file")
    assert str(path) in message
    assert path.read_bytes() == before


@each("kind", SETTINGS)
def test_a_checkpoint_of_other_settings(path: Path, kind: str) -> None:
    """The message says which."""
    refit(path)
    word = {"full batch": "method, batch_size"}.get(kind, kind)
    word = "sgd" if "sgd" in SETTINGS[kind] else word
    refused(lambda: refit(path, **SETTINGS[kind]), f"was made with another {word};")


def test_a_checkpoint_of_another_version(path: Path) -> None:
    refit(path)
    rewrite(path, version=2)
    refused(lambda: refit(path), "has version 2; this gdcore reads version 1")


def test_a_checkpoint_of_chunks_with_longer_sums_of_numerics_v1(path: Path) -> None:
    """Such rows are known by moments, which have other bits; those of fewer rows are the same."""
    longest = gd._core.SEGMENT["float64"] * gd._core.FAN_IN
    y = np.arange(longest + 1.0) % 7
    how: Any = {"sgd": gd.SGD(lr=0.1), "epochs": 2, "method": "gram", "tol": None}
    for rows, data in ((longest, {}), (longest + 1, {"data": "of v1"})):
        path.unlink(missing_ok=True)
        chunks = [(y[:rows, None] - 3, y[:rows])]
        fit = gd.fit(chunks, checkpoint=path, **how)
        rewrite(path, numerics=1, **data)
        if rows == longest:
            same = gd.fit(chunks, checkpoint=path, **how)
            assert same.weights.tobytes() == fit.weights.tobytes()
        else:
            with pytest.raises(ValueError, match=r"262144 rows that gdcore 0\.1 wrote"):
                gd.fit(chunks, checkpoint=path, **how)


def test_a_saved_fit_is_not_a_checkpoint(path: Path) -> None:
    gd.fit([[1.0]], [1.0], gd.SGD()).save(path)
    refused(lambda: refit(path), "is a gdcore-fit file, not a gdcore-checkpoint")


@each("kind", other_files(b""))
def test_damaged_checkpoints(path: Path, kind: str) -> None:
    refit(path)
    path.write_bytes(other_files(path.read_bytes())[kind])
    assert str(path) in refused(lambda: refit(path), "not a gdcore checkpoint")


@each("name, value", [
    ("state_params", np.zeros(7)), ("state_velocity", np.zeros(2)), ("state_epoch", -5),
    ("state_step", -1), ("state_epoch_sums", np.zeros(3)), ("state_params", np.array("x")),
])  # fmt: skip
def test_inconsistent_checkpoints(path: Path, name: str, value: Any) -> None:
    """A whole file whose entries do not go together: a sentence, no crash."""
    refit(path)
    rewrite(path, **{name: value})
    refused(lambda: refit(path, epochs=9), "checkpoint|state")


def test_no_byte_of_a_checkpoint_can_be_wrong_unseen(path: Path) -> None:
    """A file with one byte changed is refused, or resumes to the same bits: 300 of them."""
    want = bits(refit(path))
    whole, rng = path.read_bytes(), np.random.default_rng(6)
    seen = 0
    for position in rng.integers(len(whole), size=300):
        damaged = bytearray(whole)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            assert bits(refit(path)) == want
        except ValueError:
            seen += 1
    assert seen > 100


@each("kind", ["folder", "missing", "file"])
def test_a_checkpoint_that_cannot_be_written_fails_before_the_fit(
    tmp_path: Path, kind: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    path = {
        "folder": tmp_path / "folder",
        "missing": tmp_path / "none" / "fit",
        "file": tmp_path / "file" / "fit",
    }[kind]
    looks: list[Any] = []
    with pytest.raises(OSError, match=str(path)):
        refit(path, progress=lambda *call: looks.append(call))
    assert looks == []


def test_a_full_disk_leaves_the_last_checkpoint(
    eager: None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"epochs": EPOCHS, "tol": None, "method": "stream"}
    with pytest.raises(Cut):
        fits.fit(large(), checkpoint=path, progress=cut_after(3), **options)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match=f"cannot write {path}: No space left on device"):
            fits.fit(large(), checkpoint=path, **options)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    result = fits.fit(large(), checkpoint=path, **options)
    assert bits(result) == bits(fits.fit(large(), **options))


def test_no_checkpoint_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refit(None)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_a_relative_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    gd.fit([[1.0]], [1.0], checkpoint="here.npz")
    assert os.listdir(tmp_path) == ["here.npz"]
