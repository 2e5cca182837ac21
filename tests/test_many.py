"""Many problems in one call: each has the bits, status and history of a fit of its own."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
from conftest import THREADS
from fits import alone
from gdcore import Status
from loops import each

COUNT, N, D = 21, 37, 3
OPTIONS: dict[str, dict[str, Any]] = {
    "auto": {},
    "plain": {"lr": 0.05},
    "momentum": {"lr": 0.02, "momentum": 0.9, "dampening": 0.3},
    "nesterov": {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "diverging": {"lr": 1.5},
    "maximize": {"lr": 1e-3, "maximize": True},
    "schedule": {"lr": lambda epoch: 0.05 / (1 + epoch)},
}
METHODS = ["gram", "stream"]

every_option = each("options", OPTIONS.values())
every_method = each("method", METHODS)

# Problems end in every way there is; the warning has its own tests.
pytestmark = pytest.mark.filterwarnings("ignore:[0-9]+ problems?:gdcore.FitWarning")


def draw(
    rng: np.random.Generator,
    dtype: Any,
    shape: tuple[int, int, int] = (COUNT, N, D),
    t: int | None = None,
) -> tuple[Any, Any]:
    """Draw X and y of problems that differ in how soon they converge."""
    count, n, d = shape
    scale = np.linspace(0.2, 2.0, count)[:, None, None]
    X = rng.normal(size=shape) * scale
    weights = rng.normal(size=(count, d, t or 1))
    y = X @ weights + 1 + 0.1 * rng.normal(size=(count, n, t or 1))
    return X.astype(dtype), (y if t else y[..., 0]).astype(dtype)


def same(one: gd.Fit, many: gd.Fits, i: int, status: Status | None = None) -> None:
    """Assert that problem i of many is this fit, bit for bit, but for a status that is given."""
    ours, status = many[i], status or one.status
    assert ours.status is status, (i, ours.status, status)
    assert ours.epochs == one.epochs, i
    for name in ("weights", "intercept", "loss"):
        mine, theirs = np.asarray(getattr(ours, name)), np.asarray(getattr(one, name))
        assert mine.tobytes() == theirs.tobytes(), (i, name)
    if many.history.epoch.size:
        assert ours.history.loss.tobytes() == one.history.loss.tobytes(), i
        assert ours.history.epoch.tolist() == one.history.epoch.tolist(), i
    for name in ("lr", "momentum", "r2_lost"):
        mine, theirs = (np.float64(getattr(fit, name)) for fit in (ours, one))
        assert fits.canonical(mine) == fits.canonical(theirs), (i, name)


def pick(options: dict[str, Any], i: int) -> gd.SGD:
    return gd.SGD(**{k: v[i] if isinstance(v, np.ndarray) else v for k, v in options.items()})


@every_method
@every_option
@pytest.mark.filterwarnings("ignore::gdcore.LearningRateWarning")
def test_each_is_as_if_alone(rng: Any, dtype: Any, options: dict[str, Any], method: str) -> None:
    X, y = draw(rng, dtype)
    many = gd.fit(X, y, gd.SGD(**options), epochs=60, tol=1e-2, method=method)
    assert isinstance(many, gd.Fits)
    assert len(many) == COUNT
    for i in range(COUNT):
        same(alone(X[i], y[i], gd.SGD(**options), epochs=60, tol=1e-2, method=method), many, i)


@cache
def features_alone(dtype: Any, method: Any, d: int, intercept: bool) -> Any:
    """Return problems, options, and a fit of each."""
    X, y = draw(np.random.default_rng(d), dtype, (9, 40, d))
    how: dict[str, Any] = {"epochs": 25, "fit_intercept": intercept, "method": method}
    ones = [alone(*rows, gd.SGD(momentum=0.5), **how) for rows in zip(X, y, strict=True)]
    return X, y, how, ones


@each("d", [1, 2, 3, 7, 8, 15, 16, 20])
@every_method
def test_numbers_of_features(dtype: Any, isa: str, d: int, method: str) -> None:
    """On both sides of what lanes can hold: 16 parameters."""
    sgd = gd.SGD(momentum=0.5)
    for intercept in (True, False):
        X, y, how, ones = features_alone(dtype, method, d, intercept)
        many = gd.fit(X, y, sgd, **how)
        for i, one in enumerate(ones):
            same(one, many, i)


LENGTHS = [33, 1, 512, 2, 15, 7, 16, 8, 17, 511, 513, 64, 3, 31, 32, 48, 5, 100]
STEPS = (gd.SGD(), gd.SGD(lr=0.01, momentum=0.9))


@cache
def rows_alone(dtype: Any, method: Any, d: int) -> Any:
    """Return the rows of each problem, the options, and a fit of each."""
    rng = np.random.default_rng(d)
    X = [rng.normal(size=(n, d)).astype(dtype) for n in LENGTHS]
    y = [rng.normal(size=n).astype(dtype) for n in LENGTHS]
    how: dict[str, Any] = {"epochs": 30, "method": method, "fit_intercept": d != 3}
    return (
        X,
        y,
        how,
        [[alone(*rows, sgd, **how) for rows in zip(X, y, strict=True)] for sgd in STEPS],
    )


@each("method", [*METHODS, "auto"])
@each("d", [1, 2, 3, 4, 5])
@each("shuffled", [False, True])
def test_numbers_of_rows(
    rng: Any, dtype: Any, isa: str, d: int, method: str, shuffled: bool
) -> None:
    """Side by side in lanes: on both sides of the chains' 16 rows and of a segment's 512."""
    parts, targets, how, ones = rows_alone(dtype, method, d)
    groups = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    if shuffled:
        groups = rng.permutation(groups)
    place = np.argsort(groups, kind="stable")
    X, y = np.empty((len(groups), d), dtype), np.empty(len(groups), dtype)
    X[place], y[place] = np.concatenate(parts), np.concatenate(targets)
    for sgd, want in zip(STEPS, ones, strict=True):
        many = gd.fit_groups(X, y, groups, sgd, **how)
        for i, one in enumerate(want):
            same(one, many, i)


@every_method
@each("threads", THREADS)
@each("epochs", [255, 256, 257, 600])
def test_more_epochs_than_lanes_run_at_once(
    rng: Any, dtype: Any, threads: int, epochs: int, method: str
) -> None:
    """Lanes may all be taken when a run of theirs is over."""
    gd.set_num_threads(threads)
    X, y = draw(rng, dtype, (20, N, D))
    how: dict[str, Any] = {"epochs": epochs, "tol": None, "method": method}
    many = gd.fit(X, y, gd.SGD(lr=1e-3), **how)
    assert np.all(many.epochs == epochs)
    for i in range(20):
        same(alone(X[i], y[i], gd.SGD(lr=1e-3), **how), many, i)


def test_sums_of_zeros_of_any_sign(dtype: Any, isa: str) -> None:
    """All products of a feature underflow to -0; the weight is -0 and stays."""
    tiny, small = (1e-30, 1e-18) if dtype == np.float32 else (1e-240, 1e-90)
    X, y = np.full((8, 32, 1), tiny, dtype), np.full((8, 32), small, dtype)
    how: dict[str, Any] = {"init": (np.array([-0.0]), 0.0), "epochs": 3, "method": "stream"}
    many = gd.fit(X, y, gd.SGD(lr=0.1), **how)
    for i in range(8):
        same(alone(X[i], y[i], gd.SGD(lr=0.1), **how), many, i)


@each("threads", THREADS)
@each("count", [0, 1, 7, 8, 9, 16, 70])
def test_numbers_of_problems(rng: Any, dtype: Any, threads: int, count: int) -> None:
    gd.set_num_threads(threads)
    X, y = draw(rng, dtype, (count, N, D))
    sgd = gd.SGD(lr=0.1)
    many = gd.fit(X, y, sgd, epochs=300, tol=1e-3)
    assert many.weights.shape == (count, D)
    assert many.intercept.shape == many.loss.shape == many.status.shape == (count,)
    for i in range(count):
        same(alone(X[i], y[i], sgd, epochs=300, tol=1e-3), many, i)


def test_reference_loops(rng: Any, dtype: Any) -> None:
    """Without lanes and vectors."""
    X, y = draw(rng, dtype)
    sgd = gd.SGD(lr=0.05, momentum=0.9)
    ours = gd.fit(X, y, sgd, epochs=50)
    gd._core.set_isa("reference")
    want = gd.fit(X, y, sgd, epochs=50)
    for name in ("weights", "intercept", "loss", "epochs", "status", "lr"):
        assert getattr(ours, name).tobytes() == getattr(want, name).tobytes(), name


@every_method
def test_settings_of_their_own(rng: Any, dtype: Any, method: str) -> None:
    X, y = draw(rng, dtype)
    options = {
        "lr": rng.uniform(0.01, 0.2, COUNT),
        "weight_decay": np.where(rng.random(COUNT) < 0.5, 0.0, 0.3),
        "momentum": 0.5,
    }
    tol = rng.uniform(1e-4, 1e-1, COUNT)
    start = rng.normal(size=(COUNT, D)), rng.normal(size=COUNT)
    many = gd.fit(X, y, gd.SGD(**options), tol=tol, init=start, method=method)  # type: ignore[arg-type]
    for i in range(COUNT):
        begin = start[0][i], start[1][i]
        one = alone(X[i], y[i], pick(options, i), tol=tol[i], init=begin, method=method)
        same(one, many, i)


@every_method
@each("t", [None, 2])
@each("parts", ["o", "s", "os"])
@each("reduction", ["mean", "half_sum"])
def test_offsets_and_weights(
    rng: Any, dtype: Any, method: str, t: int | None, parts: str, reduction: Any
) -> None:
    X, y = draw(rng, dtype, t=t)
    given = {}
    if "o" in parts:
        given["offset"] = rng.normal(size=y.shape).astype(dtype)
    if "s" in parts:
        given["sample_weight"] = rng.integers(0, 4, (COUNT, N)).astype(dtype)
    how: dict[str, Any] = {"epochs": 30, "reduction": reduction, "method": method}
    many = gd.fit(X, y, **given, **how)
    for i in range(COUNT):
        own = {name: array[i] for name, array in given.items()}
        same(alone(X[i], y[i], gd.SGD(), **own, **how), many, i)


def test_mini_batches(rng: Any, dtype: Any) -> None:
    X, y = draw(rng, dtype)
    for lr in ("auto", 0.02):
        how: dict[str, Any] = {"epochs": 5, "batch_size": 8, "seed": 3}
        many = gd.fit(X, y, gd.SGD(lr=lr), **how)  # type: ignore[arg-type]
        assert many.method == "stream"
        for i in range(COUNT):
            same(alone(X[i], y[i], gd.SGD(lr=lr), **how), many, i)  # type: ignore[arg-type]


@each("history", [0, 1, 7])
def test_history(rng: Any, history: int) -> None:
    X, y = draw(rng, float)
    how: dict[str, Any] = {"epochs": 50, "tol": 1e-2, "history": history}
    many = gd.fit(X, y, gd.SGD(lr=0.1), **how)
    assert many.history.loss.shape == (COUNT, 50 // history if history else 0)
    for i in range(COUNT):
        one = alone(X[i], y[i], gd.SGD(lr=0.1), **how)
        assert many[i].history.loss.tobytes() == one.history.loss.tobytes()
        assert many[i].history.epoch.tolist() == one.history.epoch.tolist()


def test_a_record_too_large_is_left_out(rng: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("gdcore.solvers.many.RECORD_BYTES", 100)
    many = gd.fit(*draw(rng, float), sgd=gd.SGD(), epochs=50)
    assert many.history.loss.shape == (COUNT, 0)


@every_method
def test_strides_do_not_matter(rng: Any, dtype: Any, method: str) -> None:
    X, y = draw(rng, dtype)
    want = gd.fit(X, y, gd.SGD(), epochs=20, method=method)
    for one in (
        gd.fit(X[::-1], y[::-1], gd.SGD(), epochs=20, method=method)[COUNT - 1],
        gd.fit(np.asfortranarray(X), np.asfortranarray(y), gd.SGD(), epochs=20, method=method)[0],
        gd.fit(np.repeat(X, 2, axis=2)[..., ::2], y, gd.SGD(), epochs=20, method=method)[0],
    ):
        same(one, want, 0)


def test_warm_starts_continue(rng: Any, dtype: Any) -> None:
    X, y = draw(rng, dtype)
    sgd = gd.SGD(lr=0.05, momentum=0.9)
    whole = gd.fit(X, y, sgd, epochs=40, tol=None, history=0)
    half = gd.fit(X, y, sgd, epochs=20, tol=None, history=0)
    rest = gd.fit(X, y, sgd, epochs=20, tol=None, history=0, init=half)
    for name in ("weights", "intercept", "loss", "epochs"):
        assert getattr(whole, name).tobytes() == getattr(rest, name).tobytes(), name


@every_method
def test_bad_neighbours_change_nothing(rng: Any, dtype: Any, method: str) -> None:
    X, y = draw(rng, dtype)
    want = gd.fit(X, y, gd.SGD(), epochs=30, method=method)
    X, y = X.copy(), y.copy()
    weight = np.ones((COUNT, N), dtype)
    X[2, 5, 1], y[4, 0], X[6, 0, 0] = np.nan, np.inf, np.inf
    X[8] = 0
    X[10, :, 2] = X[10, :, 1]
    weight[12] = 0
    X[14] *= np.finfo(dtype).max ** 0.6
    many = gd.fit(X, y, gd.SGD(), epochs=30, sample_weight=weight, method=method)
    assert [many[i].status for i in (2, 4, 6, 12)] == [*[Status.INVALID] * 3, Status.EMPTY]
    assert np.isnan(many.weights[[2, 4, 6]]).all()
    assert many.weights[12].tolist() == [0, 0, 0]
    assert np.isnan(many.loss[[2, 4, 6, 12]]).all()
    assert many.counts()[Status.INVALID] >= 3
    assert "INVALID (the first is problem 2)" in many.message
    touched = {2, 4, 6, 8, 10, 12, 14}
    for i in set(range(COUNT)) - touched:
        assert many.weights[i].tobytes() == want.weights[i].tobytes()
        assert many.epochs[i] == want.epochs[i]


@each("threads", THREADS)
@each("t", [None, 2])
def test_closed_form(rng: Any, dtype: Any, threads: int, t: int | None) -> None:
    gd.set_num_threads(threads)
    X, y = draw(rng, dtype, t=t)
    X[3, :, 2] = 0
    X[5, 0, 0] = np.nan
    decay = np.where(np.arange(COUNT) % 2, 0.0, 0.2)
    many = gd.fit(X, y, gd.SGD(weight_decay=decay), method="exact")
    assert many.status[3] == Status.SINGULAR
    assert many.status[5] == Status.INVALID
    for i in set(range(COUNT)) - {5}:
        one = alone(X[i], y[i], gd.SGD(weight_decay=decay[i]), method="exact")
        assert many.weights[i].tobytes() == one.weights.tobytes()
        assert many.loss[i] == one.loss
        assert many.status[i] == one.status


def test_torch_trains_the_same_models(torch: Any, rng: Any) -> None:
    """The stacked loop that one writes in torch, in float64, against a derived bound each."""
    X, y = draw(rng, float, (5, 30, 2))
    lr, epochs = 0.05, 10
    W = torch.zeros(5, 2, 1, dtype=torch.float64, requires_grad=True)
    b = torch.zeros(5, 1, 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([W, b], lr=lr, momentum=0.5)
    for _ in range(epochs):
        optimizer.zero_grad()
        r = (torch.bmm(torch.tensor(X), W) + b)[..., 0] - torch.tensor(y)
        (r * r).mean(1).sum().backward()
        optimizer.step()
    for method in METHODS:
        many = gd.fit(X, y, gd.SGD(lr=lr, momentum=0.5), epochs=epochs, tol=None, method=method)
        # Each of 10 steps rounds sums of at most 30 terms of size |X|^2 |w| + |X| |y| < 60.
        bound = epochs * 2 * 64 * 60 * 2.0**-53
        difference = np.abs(many.weights - W.detach().numpy()[..., 0])
        assert np.all(difference <= bound)
        assert np.all(np.abs(many.intercept - b.detach().numpy()[:, 0, 0]) <= bound)


def test_predictions(rng: Any) -> None:
    X, y = draw(rng, float)
    many = gd.fit(X, y, gd.SGD(), epochs=20)
    rows = rng.normal(size=(4, D))
    assert many.predict(X).shape == (COUNT, N)
    assert many.predict(rows).shape == (COUNT, 4)
    for i in (0, COUNT - 1):
        assert many.predict(X)[i].tobytes() == many[i].predict(X[i]).tobytes()
        assert many.predict(rows)[i].tobytes() == many[i].predict(rows).tobytes()
    with pytest.raises(ValueError, match="X has shape"):
        many.predict(np.ones((COUNT + 1, 2, D)))
    with pytest.raises(ValueError, match="no groups"):
        many.predict(rows, groups=[0, 0, 0, 0])


def test_as_a_sequence(rng: Any) -> None:
    many = gd.fit(*draw(rng, float), sgd=gd.SGD(), epochs=20)
    assert [fit.epochs for fit in many] == many.epochs.tolist()  # type: ignore[attr-defined]
    assert many[-1].weights.tobytes() == many.weights[-1].tobytes()
    with pytest.raises(IndexError, match="problem 21"):
        many[COUNT]
    assert repr(many).startswith("Fits(21 problems, weights of shape (21, 3), float64: ")


def test_saved_and_loaded(rng: Any, tmp_path: Any) -> None:
    X, y = draw(rng, np.float32)
    sgd = gd.SGD(lr=0.05, momentum=0.9)
    half = gd.fit(X, y, sgd, epochs=20, tol=None)
    half.save(tmp_path / "many.npz")
    back = gd.load(tmp_path / "many.npz")
    assert isinstance(back, gd.Fits)
    for name in ("weights", "intercept", "loss", "epochs", "status", "lr", "rows", "r2_lost"):
        assert getattr(back, name).tobytes() == getattr(half, name).tobytes(), name
    assert back.momentum.tolist() == half.momentum.tolist() == [0.9] * len(half)
    assert back.history.loss.tobytes() == half.history.loss.tobytes()
    again = [gd.fit(X, y, sgd, epochs=20, tol=None, init=start) for start in (half, back)]
    assert again[0].weights.tobytes() == again[1].weights.tobytes()


def test_what_is_given_as_a_whole_number_is_returned_as_a_fraction(rng: Any) -> None:
    X, y = rng.normal(size=(5, 9, 2)), rng.normal(size=(5, 9))
    many: Any = gd.fit(X, y, gd.SGD(lr=1, momentum=0), epochs=0, tol=None)
    assert (many.lr.dtype, many.momentum.dtype) == (np.float64, np.float64)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "y": ({"y": np.ones(5)}, "y has shape"),
    "y of another count": ({"y": np.ones((3, 4))}, "y must be"),
    "no target": ({"y": np.ones((2, 4, 0))}, "no target"),
    "lr": ({"sgd": gd.SGD(lr=[0.1, 0.2, 0.3])}, r"lr has shape \(3,\); with 2 problems"),
    "weight_decay": ({"sgd": gd.SGD(weight_decay=[0.1])}, "weight_decay has shape"),
    "tol": ({"tol": np.ones(3)}, "tol has shape"),
    "negative tol": ({"tol": -np.ones(2)}, "tol is"),
    "init": ({"init": np.ones((3, 3))}, "init has weights of shape"),
    "weights": ({"sample_weight": -np.ones((2, 4))}, "sample_weight"),
    "shape of weights": ({"sample_weight": np.ones((3, 4))}, "sample_weight has shape"),
    "offset": ({"offset": np.ones((3, 4))}, "offset has shape"),
    "checkpoint": ({"checkpoint": "here"}, "checkpoint keeps one problem"),
    "batch": ({"batch_size": 5}, "batch_size"),
    "tol of nothing": ({"tol": np.array([None, None])}, "tol is"),
    "batch of gram": ({"batch_size": 2, "method": "gram"}, "takes no batch_size"),
}


@each("change, message", BAD.values())
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"X": np.ones((2, 4, 3)), "y": np.ones((2, 4))} | change
    with pytest.raises(ValueError, match=message):
        gd.fit(**arguments)


def test_arrays_of_settings_need_many_problems() -> None:
    with pytest.raises(ValueError, match="one for each of many problems"):
        gd.fit(np.ones((4, 3)), np.ones(4), gd.SGD(lr=[0.1, 0.2]))
    for lr in ([0.1, -1.0], [0.1, np.nan]):
        with pytest.raises(ValueError, match="lr is"):
            gd.SGD(lr=lr)  # type: ignore[arg-type]
    assert gd.SGD(lr=[0.1, 0.2]) == gd.SGD(lr=np.array([0.1, 0.2]))  # type: ignore[arg-type]
    assert gd.SGD(lr=[0.1, 0.2]) != gd.SGD(lr=[0.1, 0.3])  # type: ignore[arg-type]


def test_interrupted(rng: Any, monkeypatch: Any) -> None:
    """Ctrl-C keeps the problems that ended."""
    X, y = draw(rng, float, (200, N, D))
    want = gd.fit(X, y, gd.SGD(), epochs=30)
    monkeypatch.setattr("gdcore.data.problems.BLOCK_BYTES", 1)  # blocks of 16, not one of all

    def stop(done: int, count: int, loss: float) -> None:
        if done >= 64:
            raise KeyboardInterrupt

    with pytest.raises(gd.FitInterrupted) as caught:
        gd.fit(X, y, gd.SGD(), epochs=30, progress=stop)
    partial = caught.value.fit
    assert isinstance(partial, gd.Fits)
    assert partial.weights[:64].tobytes() == want.weights[:64].tobytes()
    assert not partial.weights[128:].any()


def test_paused_again_and_again(rng: Any, dtype: Any, monkeypatch: Any) -> None:
    """Blocks of no time at all: every problem is put aside and taken up in the middle."""
    X, y = draw(rng, dtype)
    for method in METHODS:
        want = gd.fit(X, y, gd.SGD(), epochs=50, method=method)
        with monkeypatch.context() as patch:
            patch.setattr("gdcore.data.slices.SECONDS", 1e-6)
            ours = gd.fit(X, y, gd.SGD(), epochs=50, method=method)
        assert ours.weights.tobytes() == want.weights.tobytes()
        assert ours.history.loss.tobytes() == want.history.loss.tobytes()


# Warm starts, records, statuses and warnings.


@each("every", [1, 3])
@each("options", [{"lr": 0.01}, {"lr": lambda epoch: 0.02 / (1 + epoch)}])  # fmt: skip
def test_histories_of_warm_starts(rng: Any, options: dict[str, Any], every: int) -> None:
    """Epochs are counted from the first start, and the record's length with them."""
    X, y = draw(rng, float)
    how: dict[str, Any] = {"tol": None, "history": every}
    many, ones = None, [None] * COUNT
    for epochs in (5, 4, 3):
        many = gd.fit(X, y, gd.SGD(**options), epochs=epochs, init=many, **how)
        for i in range(COUNT):
            ones[i] = alone(X[i], y[i], gd.SGD(**options), epochs=epochs, init=ones[i], **how)
            same(ones[i], many, i)  # type: ignore[arg-type]


def test_starts_at_several_epochs_record_nothing(rng: Any) -> None:
    X, y = draw(rng, float)
    first = gd.fit(X, y, gd.SGD(), epochs=40, tol=0.3)
    assert len(set(first.epochs.tolist())) > 1
    again = gd.fit(X, y, gd.SGD(), epochs=40, tol=1e-3, init=first)
    assert again.history.loss.shape == (COUNT, 0)
    for i in range(COUNT):
        begin = alone(X[i], y[i], gd.SGD(), epochs=40, tol=0.3)
        assert (
            again.weights[i].tobytes()
            == alone(X[i], y[i], gd.SGD(), epochs=40, tol=1e-3, init=begin).weights.tobytes()
        )


def test_momentum_outlives_plain_steps(rng: Any) -> None:
    X, y = draw(rng, float)
    many, one = None, None
    for sgd in (gd.SGD(lr=0.01, momentum=0.9), gd.SGD(lr=0.01), gd.SGD(lr=0.01, momentum=0.9)):
        many = gd.fit(X, y, sgd, epochs=5, tol=None, init=many)
        one = alone(X[0], y[0], sgd, epochs=5, tol=None, init=one)
        assert many.weights[0].tobytes() == one.weights.tobytes()
    damped = gd.SGD(lr=0.01, momentum=0.9, dampening=0.5)  # but for the first step
    start = gd.fit(X, y, damped, epochs=0, tol=None)
    many = gd.fit(X, y, damped, epochs=5, tol=None, init=start)
    one = alone(X[0], y[0], damped, epochs=5, tol=None)
    assert many.weights[0].tobytes() == one.weights.tobytes()


def test_invalid_problems_start_again(rng: Any, dtype: Any) -> None:
    X, y = draw(rng, float)
    bad = X.copy()
    bad[2, 5, 0] = np.nan
    first = gd.fit(bad, y, gd.SGD(), epochs=10)
    again = gd.fit(X.astype(dtype), y.astype(dtype), gd.SGD(), epochs=10, init=first)
    fresh = gd.fit(X.astype(dtype), y.astype(dtype), gd.SGD(), epochs=10)
    assert again.weights[2].tobytes() == fresh.weights[2].tobytes()


@each("reduction", ["mean", "sum"])
@each("epochs", [0, 20])
@pytest.mark.filterwarnings("ignore::gdcore.LearningRateWarning")
def test_statuses_of_mini_batches(rng: Any, reduction: Any, epochs: int) -> None:
    X, y = draw(rng, float, (5, 20, 1))
    how: dict[str, Any] = {"batch_size": 1, "reduction": reduction, "epochs": epochs, "tol": None}
    for lr in (0.02, 0.2, 0.9, "auto"):
        many = gd.fit(X, y, gd.SGD(lr=lr), **how)
        for i in range(5):
            same(alone(X[i], y[i], gd.SGD(lr=lr), **how), many, i)


def test_a_late_nan_is_named(rng: Any) -> None:
    X, y = draw(rng, float)
    X[2, 35, 0] = np.nan
    many = gd.fit(X, y, gd.SGD(lr=0.01), batch_size=8, shuffle=False, epochs=3)
    assert many.status[2] == Status.INVALID
    assert not (np.delete(many.status, 2) == Status.INVALID).any()


def test_data_too_small_or_all_zero(rng: Any, dtype: Any) -> None:
    X, y = draw(rng, dtype)
    tiny = X * dtype.type(np.finfo(dtype).tiny) ** dtype.type(0.6)
    assert (gd.fit(tiny, y, gd.SGD(), fit_intercept=False).status == Status.INVALID).all()
    flat = gd.fit(np.zeros_like(X), y, gd.SGD(), fit_intercept=False)
    assert (flat.lr == 1).all()


def test_progress_ends_at_the_end(rng: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("gdcore.data.problems.BLOCK_BYTES", 1)
    seen: list[int] = []
    gd.fit(
        *draw(rng, float, (200, N, D)),
        sgd=gd.SGD(),
        epochs=9,
        progress=lambda done, *_: seen.append(done),
    )
    assert seen == sorted(seen)
    assert seen[-1] == 200


def test_a_file_with_states_of_other_sizes(rng: Any, tmp_path: Any) -> None:
    X, y = draw(rng, float)
    gd.fit(X, y, gd.SGD(), epochs=3).save(tmp_path / "f.npz")
    arrays = dict(np.load(tmp_path / "f.npz"))
    arrays["state_velocity"], arrays["state_epoch"] = np.zeros((9, 2)), np.zeros(3, int)
    np.savez(tmp_path / "g.npz", **arrays)
    start = gd.load(tmp_path / "g.npz")
    gd.fit(X, y, gd.SGD(lr=0.1, momentum=0.5), init=start, epochs=3)  # from the weights alone
    del arrays["state_moving"]
    np.savez(tmp_path / "h.npz", **arrays)
    with pytest.raises(ValueError, match="'moving' is missing"):
        gd.load(tmp_path / "h.npz")


def test_many_rates_of_a_schedule_are_refused(rng: Any) -> None:
    with pytest.raises(ValueError, match="at most 1000000 epochs"):
        gd.fit(*draw(rng, float), gd.SGD(lr=lambda epoch: 0.1), epochs=10**10)


@every_method
def test_a_rate_too_large_for_some_warns_once(rng: Any, method: str) -> None:
    """With the first problem that diverged, its limit, and how many did; no warning without one."""
    X, y = rng.standard_normal((6, 40, 3)), rng.standard_normal((6, 40))
    X[2] *= 10
    X[4] *= 20
    how: dict[str, Any] = {"method": method, "epochs": 30, "tol": None}
    match = "lr=0.3 is above the stability limit .* of problem 2, one of 2 that diverged; use"
    with pytest.warns(gd.LearningRateWarning, match=match) as log:
        fits = gd.fit(X, y, gd.SGD(lr=0.3), **how)
    assert [w.category for w in log] == [gd.LearningRateWarning, gd.FitWarning]
    assert {Path(w.filename).name for w in log} == {"test_many.py"}
    assert (fits.status == gd.Status.DIVERGED).tolist() == [False, False, True, False, True, False]
    assert f"limit {gd.fit(X[2], y[2], gd.SGD(), epochs=0).stability_limit:.6g} " in str(
        log[0].message
    )
    rates = np.where(np.arange(6) % 2, 0.3, 1e-4)
    gd.fit(X, y, gd.SGD(lr=rates), **how)  # no rate is too large, so no warning
    labels = np.repeat(10 * np.arange(6), 40)
    with pytest.warns(gd.LearningRateWarning, match=match.replace("problem 2", "group 20")) as log:
        gd.fit_groups(X.reshape(-1, 3), y.ravel(), labels, gd.SGD(lr=0.3), **how)
    assert {Path(w.filename).name for w in log} == {"test_many.py"}


def test_losses_that_only_a_subnormal_number_holds() -> None:
    """Moments give the loss within rounding errors that are large for a subnormal number."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((300, 64, 2))
    y = (X @ rng.standard_normal((300, 2, 1)))[..., 0] + 2e-4 * rng.standard_normal((300, 64))
    y *= 10 ** rng.uniform(-19.1, -18.5, (300, 1))
    X, y = X.astype(np.float32), y.astype(np.float32)
    how: dict[str, Any] = {"epochs": 60, "tol": None, "method": "gram", "fit_intercept": False}
    many = gd.fit(X, y, gd.SGD(lr=0.3), **how)
    for i in range(300):
        same(alone(X[i], y[i], gd.SGD(lr=0.3), **how), many, i)


def test_each_of_many_says_how_much_r2_it_lost(rng: Any) -> None:
    X, y = draw(rng, float)
    fits, whole = (gd.fit(X, y, gd.SGD(lr=0.01), epochs=9, tol=tol) for tol in (1e-6, None))
    assert set(fits.status.tolist()) == {Status.MAX_EPOCHS}
    for i in (0, 5):
        lost = f"R^2 is {fits.r2_lost[i]:.2g} below that of the best fit."
        assert fits[i].message == f"Ended after all 9 epochs. {lost} {Status.MAX_EPOCHS.advice}"
        assert alone(X[i], y[i], gd.SGD(lr=0.01), epochs=9).message.startswith(
            f"Ended after all 9 epochs. {lost}"
        )
        assert whole[i].message == "Ended after all 9 epochs."
