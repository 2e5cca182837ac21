"""Fits on a GPU: every way in has the CPU's bits, and results are where the caller's arrays are."""

from __future__ import annotations

import gc
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cuda_arrays
import gdcore as gd
from cuda_arrays import asarray, asnumpy
from gdcore.selftest import all_cases
from loops import each

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.filterwarnings("ignore::gdcore.FitWarning", "ignore::gdcore.LearningRateWarning"),
]
needs_emulation = pytest.mark.skipif(
    cuda_arrays.driver() is None, reason="only the emulated driver fails when it is asked to"
)

Array = Any
SGD = gd.SGD(momentum=0.5)
SAME = ("loss", "epochs", "status", "lr", "momentum", "r2_lost", "stability_limit", "rank")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Assert that a test leaves no memory of the device behind."""
    yield
    if cuda_arrays.driver() is not None:
        gc.collect()
        assert cuda_arrays.bytes_in_use() == 0


@pytest.fixture
def data(rng: np.random.Generator, dtype: Any) -> tuple[Array, Array]:
    """Rows of more than a segment."""
    X = rng.normal(size=(700, 5)).astype(dtype)
    return X, (X @ [1, -2, 0.5, 3, 0] + rng.normal(size=700)).astype(dtype)


def same(ours: Any, cpus: Any) -> None:
    """Assert equal bits, dtypes and shapes."""
    assert (ours is None) == (cpus is None)
    got, wanted = np.asarray(ours), np.asarray(cpus)
    assert got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted, strict=True)


def there(ours: Any, cpus: Any) -> None:
    """Assert equal bits in an array of the caller's library on its device."""
    assert type(ours) is cuda_arrays.Array
    assert ours.device == 0
    same(ours.get(), cpus)


def compare(ours: gd.Fit, cpus: gd.Fit, array: Callable[[Any, Any], None] = there) -> None:
    """Assert that two fits are equal in every bit; `array` compares what the caller gets."""
    assert type(ours) is type(cpus)
    array(ours.weights, cpus.weights)
    array(ours.intercept, cpus.intercept)
    for name in SAME:
        same(getattr(ours, name), getattr(cpus, name))
    for name in ("epoch", "loss", "weights", "intercept"):
        same(getattr(ours.history, name), getattr(cpus.history, name))
    assert (ours.inference is None) == (cpus.inference is None)
    for one in fields(cpus.inference) if cpus.inference is not None else ():
        same(getattr(ours.inference, one.name), getattr(cpus.inference, one.name))
    assert ours.method_reason == cpus.method_reason
    assert (ours.state is None) == (cpus.state is None)
    for one in fields(cpus.state) if cpus.state is not None else ():
        same(getattr(ours.state, one.name), getattr(cpus.state, one.name))


def up(value: Any) -> Any:
    """Return arrays, and arrays in tuples, on the device."""
    if isinstance(value, tuple):
        return tuple(map(up, value))
    return asarray(value) if isinstance(value, np.ndarray) else value


def both(fit: Callable[..., Any], *given: Any, **how: Any) -> tuple[Any, Any]:
    """Return the fits of arrays on the device and on the CPU."""
    return fit(*map(up, given), **{k: up(v) for k, v in how.items()}), fit(*given, **how)


WAYS: dict[str, dict[str, Any]] = {
    "exact": {},
    "covariance": {"covariance": "ols"},
    "robust covariance": {"covariance": "hc3"},
    "covariance of a descent": {"sgd": SGD, "covariance": "hc2", "epochs": 500},
    "exact, standardised": {"standardize": True},
    "ridge": {"sgd": gd.SGD(weight_decay=0.1), "method": "exact"},
    "auto": {"sgd": SGD},
    "gram": {"sgd": gd.SGD(), "method": "gram", "history": 3},
    "stream": {"sgd": SGD, "method": "stream", "epochs": 30},
    "standardised": {"sgd": SGD, "method": "stream", "standardize": True, "epochs": 20},
    "heavy ball": {"sgd": gd.SGD(momentum="auto")},
    "nesterov": {
        "sgd": gd.SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        "method": "stream",
        "epochs": 12,
        "tol": None,
    },
    "schedule": {"sgd": gd.SGD(lr=lambda e: 0.1 / (1 + e)), "method": "stream", "epochs": 9},
    "equal losses": {"sgd": SGD, "stop": "loss_equal", "tol": None, "method": "gram"},
    "batches": {"sgd": SGD, "batch_size": 64, "epochs": 4},
    "batches in order": {"sgd": SGD, "batch_size": 100, "shuffle": False, "epochs": 3},
    "standardised batches": {"sgd": SGD, "batch_size": 64, "standardize": True, "epochs": 3},
    "diverging": {"sgd": gd.SGD(lr=50.0), "method": "stream", "epochs": 400},
}


@each("way", WAYS)
def test_one_problem(data: Any, way: str) -> None:
    X, y = data
    how = {"epochs": 200} | WAYS[way]
    compare(*both(gd.fit, X, y, **how))
    s, o = np.abs(y), np.sin(X[:, 0])
    s[::7] = 0
    compare(*both(gd.fit, X, y, sample_weight=s, offset=o, **how))


@each("way", ["exact", "gram", "stream", "batches"])
@each("reduction", ["sum", "half_mean"])
def test_several_targets_and_reductions(data: Any, way: str, reduction: Any) -> None:
    X, y = data
    y = np.stack([y, y[::-1]], axis=1)
    how = {"epochs": 20, "reduction": reduction} | WAYS[way]
    compare(*both(gd.fit, X, y, **how))
    compare(*both(gd.fit, X, y, fit_intercept=False, offset=y[:1], **how))


@each("d", [0, 1, 17, 40])
@each("way", ["exact", "gram", "stream", "batches"])
def test_sizes(rng: Any, dtype: Any, d: int, way: str) -> None:
    X, y = rng.normal(size=(130, d)).astype(dtype), rng.normal(size=130).astype(dtype)
    compare(*both(gd.fit, X, y, **({"epochs": 5} | WAYS[way])))


def test_strides(data: Any) -> None:
    """Rows backwards, columns side by side, every other row, one offset for all."""
    X, y = data
    columns = asarray(np.ascontiguousarray(X.T)).T
    reverse = asarray(X[::-1].copy())[::-1]
    twice = asarray(np.repeat(X, 2, axis=0))[::2]
    for rows in (columns, reverse, twice):
        for how in ({}, {"sgd": SGD, "batch_size": 50, "epochs": 2}, WAYS["stream"]):
            compare(gd.fit(rows, asarray(y), **how), gd.fit(X, y, **how))
    offset = np.asarray(0.5, X.dtype)
    compare(*both(gd.fit, X, y, offset=offset))


STACKS: dict[str, dict[str, Any]] = {
    "exact": {},
    "covariance": {"covariance": "ols"},
    "robust covariance": {"covariance": "hc3"},
    "covariance of descents": {"sgd": SGD, "covariance": "hc1", "epochs": 500},
    "gram": {"sgd": SGD, "method": "gram"},
    "stream": {"sgd": SGD, "method": "stream", "epochs": 15},
    "auto": {"sgd": gd.SGD(), "history": 2, "epochs": 40},
    "heavy ball": {"sgd": gd.SGD(momentum="auto"), "epochs": 60},
    "standardised": {"sgd": SGD, "standardize": True, "epochs": 30},
    "batches": {"sgd": SGD, "batch_size": 10, "epochs": 3},
    "a rate each": {"sgd": gd.SGD(lr=np.linspace(0.01, 0.2, 14)), "epochs": 20, "tol": None},
    "diverging": {"sgd": gd.SGD(lr=9.0), "epochs": 300, "method": "stream"},
}


@each("way", STACKS)
def test_many_problems(data: Any, way: str) -> None:
    X, y = data[0].reshape(14, 50, 5), data[1].reshape(14, 50)
    compare(*both(gd.fit, X, y, **STACKS[way]))
    s, o = np.abs(y), np.sin(y)
    s[3] = 0
    compare(*both(gd.fit, X, y, sample_weight=s, offset=o, **STACKS[way]))


@each("way", STACKS)
def test_groups(rng: Any, data: Any, way: str) -> None:
    X, y = data
    labels = np.append(np.arange(14), rng.integers(0, 14, 686))
    ours, cpus = both(gd.fit_groups, X, y, labels, **STACKS[way])
    compare(ours, cpus)
    same(ours.groups, cpus.groups)
    same(ours.rows, cpus.rows)
    compare(gd.fit_groups(asarray(X), asarray(y), labels, **STACKS[way]), cpus)
    compare(*both(gd.fit_groups, X, y, offsets=np.linspace(0, 700, 15).astype(int), **STACKS[way]))


def test_a_bad_problem_changes_no_other(data: Any) -> None:
    X, y = data[0].reshape(14, 50, 5).copy(), data[1].reshape(14, 50)
    X[2, 4, 1], X[5] = np.nan, 0
    for how in (STACKS["exact"], STACKS["gram"], STACKS["stream"]):
        compare(*both(gd.fit, X, y, **how))
    labels = np.arange(700) % 14
    X = X.reshape(700, 5)
    for how in (STACKS["exact"], STACKS["stream"]):
        compare(*both(gd.fit_groups, X, y.ravel(), labels, **how))


def test_moments(data: Any) -> None:
    X, y = data
    s, o = np.abs(y), np.sin(y)
    s[::5], o[::7] = 0, y[::7]
    ours, cpus = (gd.Moments(5, dtype=X.dtype) for _ in range(2))
    X = X.copy()
    X[:300, 2] = 0
    for cut in (slice(0, 3), slice(3, 640), slice(640, 700)):
        more = {"sample_weight": s[cut], "offset": o[cut]}
        cpus.update(X[cut], y[cut], **more)
        ours.update(up(X[cut]), up(y[cut]), **{k: up(v) for k, v in more.items()})
    assert ours == cpus
    same(ours.fit().weights, cpus.fit().weights)
    assert type(ours.fit().weights) is np.ndarray
    mine, its = (m._statistics.closed() for m in (ours, cpus))
    for name in ("hi", "lo", "gone", "filled"):
        same(getattr(mine, name), getattr(its, name))
    more = {"sample_weight": s[300:], "offset": o[300:]}
    cpus.downdate(X[300:], y[300:], **more)
    ours.downdate(up(X[300:]), up(y[300:]), **{k: up(v) for k, v in more.items()})
    assert ours == cpus
    if X.dtype == np.float32:
        with pytest.raises(TypeError, match="float32 on a CUDA device and these moments float64"):
            gd.Moments(5).update(up(X), up(y))


@each("how", [{}, {"sgd": SGD}, {"standardize": True, "step": 7}])
def test_windows(data: Any, how: dict[str, Any]) -> None:
    ours, cpus = both(gd.fit_rolling, data[0], data[1], 60, **({"step": 13} | how))
    there(ours.weights, cpus.weights)
    there(ours.intercept, cpus.intercept)
    for one in ("first_row", "loss", "status", "epochs", "lr", "momentum", "r2_lost"):
        same(getattr(ours, one), getattr(cpus, one))
    assert ours.recomputed == cpus.recomputed


@each("way", ["exact", "gram", "stream", "batches", "standardised batches"])
@each("parts", ["", "so"])
def test_chunks(data: Any, way: str, parts: str) -> None:
    X, y = data
    how = {"epochs": 3} | WAYS[way]
    weight = np.abs(y) if "s" in parts else None
    offset = np.sin(y) if "o" in parts else None
    cuts = [slice(0, 100), slice(100, 101), slice(101, 690), slice(690, 700)]
    chunks = [(X[c], y[c], *(None if a is None else a[c] for a in (weight, offset))) for c in cuts]
    cpus = gd.fit(chunks, **how)
    compare(gd.fit([up(chunk) for chunk in chunks], **how), cpus)
    compare(gd.fit(chunks, device="cuda", **how), cpus, same)


def test_chunks_in_two_places(data: Any) -> None:
    X, y = data
    with pytest.raises(
        gd.ChunkError, match=r"chunk 1 .*in the host's memory and the chunks before"
    ):
        gd.fit([up((X, y)), (X, y)])


@each("way", ["exact", "gram", "stream", "batches"])
def test_numpy_arrays_on_the_device(data: Any, way: str) -> None:
    X, y = data
    how = {"epochs": 5} | WAYS[way]
    more = {"sample_weight": np.abs(y), "offset": 0.5}
    for device in ("cuda", "cuda:0"):
        compare(gd.fit(X, y, device=device, **more, **how), gd.fit(X, y, **more, **how), same)
    compare(gd.fit(X[::-1].tolist(), y.tolist(), device="cuda", **how),
            gd.fit(X[::-1].tolist(), y.tolist(), **how), same)  # fmt: skip
    stack = X.reshape(7, 100, 5), y.reshape(7, 100)
    compare(gd.fit(*stack, device="cuda", **how), gd.fit(*stack, **how), same)
    labels = np.arange(700) % 9
    compare(gd.fit_groups(X, y, labels, device="cuda", **how),
            gd.fit_groups(X, y, labels, **how), same)  # fmt: skip
    if "batch_size" not in how and way != "stream":
        ours, cpus = (gd.fit_rolling(X, y, 90, step=50, device=d) for d in ("cuda", "cpu"))
        same(ours.weights, cpus.weights)
    compare(gd.fit(up(X), up(y), device="cuda", **how), gd.fit(X, y, **how))


def test_frames_on_the_device(data: Any) -> None:
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(data[0], columns=list("abcde"))
    ours = gd.fit(X, data[1], device="cuda")
    compare(ours, gd.fit(X, data[1]), same)
    assert ours.feature_names == tuple("abcde")


def test_predictions(data: Any) -> None:
    X, y = data
    offset = np.sin(y)
    two = np.stack([y, -y], axis=1)
    for targets in (y, two):
        ours, cpus = both(gd.fit, X, targets)
        o = offset if targets.ndim == 1 else offset[:, None]
        for model in (ours, cpus):
            there(model.predict(up(X)), cpus.predict(X))
            there(model.predict(up(X), offset=up(o)), cpus.predict(X, offset=o))
        same(ours.predict(X), cpus.predict(X))
        stack = X.reshape(14, 50, 5), targets.reshape(14, 50, *targets.shape[1:])
        ours, cpus = both(gd.fit, *stack)
        there(ours.predict(up(stack[0])), cpus.predict(stack[0]))
        there(ours.predict(up(X)), cpus.predict(X))
        labels = np.arange(700) % 9
        ours, cpus = both(gd.fit_groups, X, targets, labels)
        there(ours.predict(up(X), groups=up(labels)), cpus.predict(X, groups=labels))
        compare(ours[4], cpus[4])


def test_the_core_s_own_arrays(data: Any) -> None:
    """A library that is not known gives arrays that others import by DLPack."""
    X, y = (gd._core.DeviceArray.from_host(a) for a in data)
    ours, cpus = gd.fit(X, y), gd.fit(*data)
    assert type(ours.weights) is gd._core.DeviceArray
    same(ours.weights.numpy(), cpus.weights)
    same(ours.predict(X, offset=y).numpy(), cpus.predict(data[0], offset=data[1]))


def test_warm_starts(data: Any) -> None:
    X, y = data
    how = {"epochs": 6, "tol": None}
    half, cpus = both(gd.fit, X, y, SGD, **how)
    whole = gd.fit(X, y, SGD, init=cpus, **how)
    compare(gd.fit(up(X), up(y), SGD, init=half, **how), whole)
    compare(gd.fit(up(X), up(y), SGD, init=cpus, **how), whole)
    compare(gd.fit(X, y, SGD, init=half, **how), whole, same)
    at = np.arange(5).astype(X.dtype), np.asarray(0.5, X.dtype)
    compare(*both(gd.fit, X, y, SGD, init=at, **how))
    compare(*both(gd.fit, X, y, SGD, init=at[0], **how))


@each("way", ["gram", "stream", "batches"])
def test_a_checkpoint_goes_between_devices(data: Any, tmp_path: Path, way: str) -> None:
    """Begun on the CPU, continued on the GPU, ended on the CPU: the bits of one run."""
    X, y = data
    how = WAYS[way] | {"tol": None, "epochs": 12}
    whole = gd.fit(X, y, **how)

    def stop(epoch: int, epochs: int, loss: float) -> None:
        if epoch >= 3:
            raise KeyboardInterrupt

    path = tmp_path / "state"
    with pytest.raises(gd.FitInterrupted):
        gd.fit(X, y, checkpoint=path, progress=stop, **how)
    resumed = gd.fit(up(X), up(y), checkpoint=path, **how)
    there(resumed.weights, whole.weights)
    same(resumed.history.loss, whole.history.loss)
    same(gd.fit(X, y, checkpoint=path, **how).weights, whole.weights)


def test_ctrl_c(data: Any) -> None:
    """Ctrl-C ends a fit between two slices; what it reached is on the device, and goes on."""
    X, y = data
    how: dict[str, Any] = {"method": "stream", "tol": None}
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    begin = time.monotonic()
    with pytest.raises(gd.FitInterrupted) as error:
        gd.fit(up(X), up(y), SGD, epochs=10**6, **how)
    assert time.monotonic() - begin < 10
    reached = error.value.fit
    done = reached.epochs
    assert done > 0
    cpus = gd.fit(X, y, SGD, epochs=done, **how)
    there(reached.weights, cpus.weights)
    further = gd.fit(up(X), up(y), SGD, init=reached, epochs=2, **how)
    compare(further, gd.fit(X, y, SGD, init=cpus, epochs=2, **how))


def test_progress(data: Any) -> None:
    X, y = data
    seen: list[tuple[int, int, float]] = []
    gd.fit(
        up(X), up(y), SGD, method="stream", epochs=5, tol=None, progress=lambda *a: seen.append(a)
    )
    assert seen[-1][:2] == (5, 5)
    gd.fit(up(X.reshape(14, 50, 5)), up(y.reshape(14, 50)), SGD, progress=lambda *a: seen.append(a))
    assert seen[-1][:2] == (14, 14)


def test_pickles_and_files(data: Any, tmp_path: Path) -> None:
    ours, cpus = both(gd.fit, *data)
    ours.save(tmp_path / "fit")
    for back in (pickle.loads(pickle.dumps(ours)), gd.load(tmp_path / "fit")):
        compare(back, cpus, same)
    assert repr(gd.load(tmp_path / "fit")) == repr(cpus)
    assert repr(ours) == repr(cpus)


# Mistakes.


def test_arrays_in_two_places(data: Any) -> None:
    X, y = data
    for given in ((up(X), y), (X, up(y))):
        with pytest.raises((TypeError, ValueError), match=r"X.*y"):
            gd.fit(*given)
    for name in ("offset", "sample_weight"):
        with pytest.raises((TypeError, ValueError), match=rf"X.*{name}"):
            gd.fit(up(X), up(y), **{name: y})
    with pytest.raises((TypeError, ValueError), match=r"X.*offset"):
        gd.fit(X, y).predict(up(X), offset=y)


def test_words_for_devices(data: Any) -> None:
    X, y = data
    for fit in (gd.fit, gd.fit_rolling):
        more = (20,) if fit is gd.fit_rolling else ()
        for word in ("gpu", "cuda:", "cuda:x", "CUDA", 0):
            with pytest.raises(ValueError, match="it must be 'cpu', 'cuda' or 'cuda:1'"):
                fit(X, y, *more, device=word)
        with pytest.raises(ValueError, match="X is on CUDA device 0 and device is 'cpu'; leave"):
            fit(up(X), up(y), *more, device="cpu")
        with pytest.raises(ValueError, match="X is on CUDA device 0 and device is 'cuda:1'"):
            fit(up(X), up(y), *more, device="cuda:1")
    compare(gd.fit(X, y, device="cpu"), gd.fit(X, y), same)
    for call in (gd.selftest, lambda device: gd.fit(X, y, device=device)):
        with pytest.raises(ValueError, match="there is no GPU 77; this process sees"):
            call(device="cuda:77")


def test_wrong_numbers_are_named(data: Any) -> None:
    """The errors are those of the CPU."""
    X, y = data
    for row, how in ((3, {}), (650, {}), (650, {"sgd": SGD}), (650, WAYS["stream"])):
        bad = X.copy()
        bad[row, 2] = np.inf
        with pytest.raises(ValueError, match=rf"X holds inf at row {row}, column 2"):
            gd.fit(up(bad), up(y), **how)
        bad = y.copy()
        bad[row] = np.nan
        with pytest.raises(ValueError, match=rf"y holds nan at row {row}"):
            gd.fit(up(X), up(bad), **how)
    weight = np.ones_like(y)
    weight[7] = -1
    for bad, wanted in ((weight, r"sample_weight\[7\] is -1"), (weight[:5], "shape")):
        with pytest.raises(ValueError, match=wanted):
            gd.fit(up(X), up(y), sample_weight=up(bad))
    for given in ((X[0], y), (X, y[:5]), (X[:, :0], y)):
        with pytest.raises(ValueError, match="shape") as ours:
            gd.fit(*map(up, given), fit_intercept=False)
        with pytest.raises(ValueError, match="shape") as cpus:
            gd.fit(*given, fit_intercept=False)
        assert str(ours.value) == str(cpus.value)
    with pytest.raises(ValueError, match="offset has shape"):
        gd.fit(up(X), up(y), offset=up(y[:3]))
    with pytest.raises(TypeError, match="y is missing"):
        gd.fit(up(X))


def test_weightless_and_featureless(data: Any) -> None:
    X, y = data
    assert gd.fit(up(X), up(y), sample_weight=up(np.zeros_like(y))).status == "EMPTY"
    compare(*both(gd.fit, np.zeros_like(X), y, gd.SGD()))
    compare(*both(gd.fit, X[:0], y[:0]))


TWO_DEVICES = """
import numpy as np, gdcore as gd
from cuda_arrays import asarray
rng = np.random.default_rng(0)
X, y = rng.normal(size=(600, 3)), rng.normal(size=600)
first, second = ((asarray(X, device=i), asarray(y, device=i)) for i in (0, 1))
cpus, sgd = gd.fit(X, y), gd.SGD(momentum=0.5)
for i, rows in enumerate((first, second)):
    fit = gd.fit(*rows)
    assert fit.weights.device == fit.predict(rows[0]).device == i
    np.testing.assert_array_equal(fit.weights.get(), cpus.weights)
    for how in ({"sgd": sgd, "method": "stream"}, {"sgd": sgd, "batch_size": 50, "epochs": 2}):
        ours = gd.fit(*rows, **how).weights.get()
        np.testing.assert_array_equal(ours, gd.fit(X, y, **how).weights)
        np.testing.assert_array_equal(ours, gd.fit(X, y, device=f"cuda:{i}", **how).weights)
assert fit.predict(first[0]).device == 0
for call in (
    lambda: gd.fit(first[0], second[1]),
    lambda: gd.fit(*second, sample_weight=first[1]),
    lambda: gd.fit(*second, device="cuda:0"),
    lambda: gd.fit([first, second]),
):
    try:
        call()
    except ValueError as error:
        print(error)
"""


@needs_emulation
def test_two_devices() -> None:
    """Rows are fitted on their own device, and what comes from another is named."""
    errors = printed(TWO_DEVICES, EMULATION_DEVICES="2")
    assert len(errors) == 4
    assert re.search("X is .*device 0 and y .*device 1", errors[0])
    assert re.search("device 1 and sample_weight .*device 0", errors[1])
    assert "X is on CUDA device 1 and device is 'cuda:0'" in errors[2]
    assert "it is on CUDA device 1 and the chunks before it on CUDA device 0" in errors[3]


CALLS: dict[str, Callable[[Array, Array], Any]] = {
    "exact": lambda X, y: gd.fit(X, y),
    "gram": lambda X, y: gd.fit(X, y, SGD),
    "stream": lambda X, y: gd.fit(X, y, SGD, method="stream", epochs=2, tol=None),
    "batches": lambda X, y: gd.fit(X, y, SGD, batch_size=60, epochs=2),
    "stack": lambda X, y: gd.fit_groups(X, y, offsets=range(0, 701, 50), sgd=SGD, epochs=3),
    "exact stack": lambda X, y: gd.fit_groups(X, y, offsets=range(0, 701, 50)),
    "groups": lambda X, y: gd.fit_groups(X, y, np.arange(700) % 9, SGD, method="stream", epochs=3),
    "windows": lambda X, y: gd.fit_rolling(X, y, 90, step=60),
    "chunks": lambda X, y: gd.fit([(X[:300], y[:300]), (X[300:], y[300:])], sgd=SGD),
    "moments": lambda X, y: gd.Moments(5, dtype=np.float32).update(X, y).fit(),
    "predict": lambda X, y: gd.fit(X, y).predict(X),
}


def ends(run: Callable[[], Any], used: int) -> Any:
    """Return the result of a call each of whose allocations failed once before."""
    for k in count(1):
        with cuda_arrays.emulating(fail_allocation=k):
            result, error = attempt(run)
        if error is None:
            assert k > 1
            return result
        assert "no room for" in error
        gc.collect()
        assert cuda_arrays.bytes_in_use() == used
        assert k < 400


def attempt(run: Callable[[], Any]) -> tuple[Any, str | None]:
    """Return the result of a call, or what its MemoryError says."""
    try:
        return run(), None
    except MemoryError as error:
        return None, str(error)


@needs_emulation
@each("call", CALLS)
def test_no_room(rng: Any, call: str) -> None:
    """Each allocation of a call fails once: an error, nothing is left, the next call is right."""
    X, y = rng.normal(size=(700, 5)).astype(np.float32), rng.normal(size=700).astype(np.float32)
    rows, wanted = (up(X), up(y)), CALLS[call](X, y)
    result = ends(lambda: CALLS[call](*rows), cuda_arrays.bytes_in_use())
    same(asnumpy(getattr(result, "weights", result)), getattr(wanted, "weights", wanted))


@needs_emulation
def test_no_room_for_numpy_arrays(data: Any) -> None:
    X, y = data
    compare(ends(lambda: gd.fit(X, y, device="cuda"), 0), gd.fit(X, y), same)


COPIES = """
import os, numpy as np, gdcore as gd
from cuda_arrays import asarray
rng = np.random.default_rng(0)
X, y = (asarray(rng.normal(size=s).astype(np.float32)) for s in ((8000, 20), 8000))
sgd, log = gd.SGD(lr=0.1), open(os.environ["EMULATION_LOG"])
how = {"epochs": 3, "tol": None}
calls = {
    "exact": lambda: gd.fit(X, y),
    "gram": lambda: gd.fit(X, y, sgd, method="gram", **how),
    "stream": lambda: gd.fit(X, y, sgd, method="stream", **how),
    "batches": lambda: gd.fit(X, y, sgd, batch_size=500, **how),
    "groups": lambda: gd.fit_groups(X, y, np.arange(8000) % 5, sgd, method="gram", **how),
    "moments": lambda: gd.Moments(20, dtype=np.float32).update(X, y),
    "chunks": lambda: gd.fit([(X[:4500], y[:4500]), (X[4500:], y[4500:])], sgd=sgd, **how),
    "standardised": lambda: gd.fit(X, y, sgd, method="stream", standardize=True, **how),
}
for name, call in calls.items():
    log.read()
    call()
    copies = [line.split() for line in log.read().splitlines() if line.startswith("copy to host")]
    print(name, sum(int(words[3]) for words in copies) / X.inner.nbytes)
"""


def printed(script: str, **variables: str) -> list[str]:
    """Run a script in a process with a driver of its own; return the lines that it prints."""
    variables["PYTHONPATH"] = str(Path(__file__).parent)
    command = [sys.executable, "-W", "ignore", "-c", script]
    env = os.environ | variables
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@needs_emulation
def test_rows_stay_where_they_are(tmp_path: Path) -> None:
    """What comes back to the host is a small part of the rows: sums, and the last open segment."""
    (tmp_path / "log").touch()
    lines = printed(COPIES, EMULATION_LOG=str(tmp_path / "log"))
    parts = {name: float(part) for name, part in map(str.split, lines)}
    assert len(parts) == 8
    assert all(0 < part < 0.25 for part in parts.values()), parts


def test_selftest() -> None:
    """Every frozen digest, on the device."""
    report = gd.selftest("cuda")
    assert report, str(report)
    assert report.device == "cuda:0"
    assert report.device_name in str(report)
    assert report.isas == ()


@pytest.fixture
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the self-test run one case in ten, and some squared errors."""
    monkeypatch.setattr(sys.modules["gdcore.selftest"], "all_cases", lambda: chosen_cases())


def chosen_cases() -> Iterator[Any]:
    for i, case in enumerate(all_cases()):
        if i % 10 == 0 or "mse none" in case[0]:
            yield case


def test_commands(few_cases: None) -> None:
    from commands import DIABETES, good

    fit = "fit", DIABETES, "--target", "progression", "--json", "--device"
    ours, cpus = (json.loads(good(*fit, device).stdout) for device in ("cuda", "cpu"))
    assert ours == cpus
    assert good("selftest", "--device", "cuda").stdout == f"{gd.selftest('cuda')}\n"
    assert "same bits everywhere" in str(gd.selftest("cuda:0"))


def test_selftest_sees_a_wrong_bit(few_cases: None, monkeypatch: pytest.MonkeyPatch) -> None:
    right = gd._core.mse

    def wrong(pred: Any, target: Any, reduction: str) -> Any:
        loss = asnumpy(right(pred, target, reduction))
        return np.nextafter(loss, loss.dtype.type(np.inf))

    monkeypatch.setattr(gd._core, "mse", wrong)
    report = gd.selftest("cuda")
    assert not report
    assert all("mse" in failure for failure in report.failures)
