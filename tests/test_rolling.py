"""gd.fit_rolling: the fit of each window against a fit of the same rows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bounds
import fits
import gdcore as gd
import problems
from fits import refused
from gdcore import Status
from loops import each
from problems import Array, Linear, canonical

L = problems.SEGMENT["float64"]


def draw(rng: Any, n: int = 60, d: int = 2, t: int | None = None, **how: Any) -> Linear:
    return problems.linear(rng, n, d, t, **({"parts": "b"} | how))


def whole_numbers(rng: Any, n: int, d: int, dtype: Any, t: int | None = None) -> Linear:
    """Draw data whose moments are exact in every order, so that rolling cannot change a bit."""
    y = problems.integers(rng, (n,) if t is None else (n, t), dtype, 5)
    return Linear(problems.integers(rng, (n, d), dtype, 5), y, np.zeros(d, dtype))


def arguments(problem: Linear) -> dict[str, Any]:
    return {
        "X": problem.X,
        "y": problem.y,
        "offset": problem.offset,
        "sample_weight": problem.sample_weight,
    }


def rolling(problem: Linear, window: int, sgd: Any = None, **how: Any) -> gd.RollingFit:
    return gd.fit_rolling(**arguments(problem), window=window, sgd=sgd or gd.SGD(), **how)


def windows(problem: Linear, window: int, step: int) -> list[Linear]:
    firsts = range(0, len(problem.X) - window + 1, step)
    return [fits.rows_of(problem, slice(first, first + window)) for first in firsts]


def window_bits(result: gd.RollingFit, k: int) -> list[Any]:
    """Return the result of a window, its numbers as bytes."""
    r = result
    numbers = (r.weights[k], r.intercept[k], r.loss[k])
    rates = r.lr[k], r.momentum[k], r.stability_limit[k], r.r2_lost[k]
    return [int(r.epochs[k]), Status(r.status[k]), *canonical(*numbers, *rates)]


def told_alone(problem: Linear, sgd: Any, **how: Any) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gd.FitWarning)
        fit = gd.fit(**arguments(problem), sgd=sgd or gd.SGD(), method="gram", history=0, **how)
    numbers = (fit.weights, fit.intercept, fit.loss)
    rates = [np.float64(x) for x in (fit.lr, fit.momentum, fit.stability_limit, fit.r2_lost)]
    return [fit.epochs, fit.status, *canonical(*numbers, *rates)]


SGDS = {
    "auto": gd.SGD(),
    "momentum": gd.SGD(momentum=0.5, weight_decay=0.1),
    "rate": gd.SGD(lr=0.002, momentum=0.3, dampening=0.2),
    "nesterov": gd.SGD(lr=0.002, momentum=0.3, nesterov=True),
}


@pytest.mark.filterwarnings("ignore:[0-9]+ windows?:gdcore.FitWarning")
@each("sgd", SGDS.values())
@each("window, step", [(9, 1), (20, 3), (7, 5), (4, 9), (40, 1), (1, 1)])
def test_whole_numbers_have_the_bits_of_a_fit_alone(
    rng: Any, dtype: Any, sgd: gd.SGD, window: int, step: int
) -> None:
    problem, how = whole_numbers(rng, 40, 2, dtype), {"epochs": 50}
    result = rolling(problem, window, sgd, step=step, **how)
    alone = windows(problem, window, step)
    assert result.first_row.tolist() == list(range(0, 40 - window + 1, step))
    assert len(result.loss) == len(alone)
    for k, part in enumerate(alone):
        assert window_bits(result, k) == told_alone(part, sgd, **how)


@pytest.mark.filterwarnings("ignore:[0-9]+ windows?:gdcore.FitWarning")
@each("how", [
    {"fit_intercept": False}, {"reduction": "half_sum"}, {"reduction": "half_mean", "tol": 1e-2},
    {"init": np.array([1.0, -1.0])}, {"init": (np.array([1.0, -1.0]), 2.0)},
    {"stop": "loss_equal", "tol": None},
])  # fmt: skip
def test_options(rng: Any, dtype: Any, how: dict[str, Any]) -> None:
    problem, how = whole_numbers(rng, 30, 2, dtype), {"epochs": 25, **how}
    result = rolling(problem, 12, **how)
    for k, part in enumerate(windows(problem, 12, 1)):
        assert window_bits(result, k) == told_alone(part, None, **how)


@pytest.mark.filterwarnings("ignore:[0-9]+ windows?:gdcore.FitWarning")
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 3), st.sampled_from([None, 1, 3]))
def test_any_shape(window: int, step: int, d: int, t: int | None) -> None:
    problem = whole_numbers(np.random.default_rng(window), 30, d, np.float64, t)
    result = rolling(problem, window, step=step, epochs=3, tol=None)
    alone = windows(problem, window, step)
    assert len(alone) == len(result.epochs) == (30 - window) // step + 1
    targets = () if t is None else (t,)
    assert result.weights.shape == (len(alone), d, *targets)
    assert result.intercept.shape == (len(alone), *targets)
    assert window_bits(result, -1) == told_alone(alone[-1], None, epochs=3, tol=None)


def test_the_same_bits_anywhere(rng: Any, dtype: Any) -> None:
    """On every instruction set and thread count."""
    problem, found = draw(rng, 3 * L, parts="bos", dtype=dtype), []
    for isa in ("reference", *gd._core.available_isas()):
        for threads in (1, 3):
            gd._core.set_isa(isa)
            result = rolling(problem, 2 * L + 7, step=101, epochs=5, tol=None, n_threads=threads)
            found.append([window_bits(result, k) for k in range(len(result.loss))])
    assert all(each == found[0] for each in found)


# Accuracy.


def distance_bound(problem: Linear, lr: float, epochs: int, weights: Array) -> float:
    """Bound the distance between two descents on moments apart by what rolling may add.

    Each step maps w to w - lr (H w - c), and |I - lr H| <= 1. It is off by lr (dH |w| + dc), where
    dS_ab <= 5 gamma sqrt(S_aa S_bb) (docs/numerics.md: 4 of the rows touched, and 1 of the fit
    alone), by the roundings of the gradient, at most 8 u of its largest, the first, and by that
    of the new parameters to the dtype. All of this for both descents.
    """
    dtype, n = problem.X.dtype, len(problem.X)
    u, gamma = bounds.unit(dtype), bounds.gamma(L, np.float64)
    if dtype == np.float64:
        gamma = gamma**2 + 6 * (n + 16) * bounds.unit(np.float64) ** 2
    ones = np.ones((n, 1))
    y = problem.y[:, None] - (0 if problem.offset is None else problem.offset[:, None])
    s = 1 if problem.sample_weight is None else problem.sample_weight[:, None]
    squares = np.sqrt(np.sum(s * np.hstack([problem.X, ones, y]).astype(float) ** 2, axis=0))
    size = float(np.abs(weights).max()) + 1.0
    scale = 2 * lr / (n if problem.sample_weight is None else problem.sample_weight.sum())
    moved = 5 * gamma * scale * squares.sum() ** 2 * size
    rounded = u * size + 8 * u * scale * squares.sum() ** 2 * size
    return float(2 * np.sqrt(len(squares)) * epochs * (moved + rounded))


@pytest.mark.filterwarnings("ignore:[0-9]+ windows?.*DIVERGED:gdcore.FitWarning")
@pytest.mark.filterwarnings("ignore:lr=:gdcore.LearningRateWarning")
@each("spike", [1.0, 1e9])
@each("parts", ["b", "bos"])
def test_off_a_fit_alone_by_no_more_than_the_bound(
    rng: Any, dtype: Any, parts: str, spike: float
) -> None:
    problem, window, epochs = draw(rng, 400, parts=parts, dtype=dtype), 50, 20
    problem.X[130] *= dtype.type(spike)
    sgd, how = gd.SGD(lr=0.05), {"epochs": epochs, "tol": None}
    result = rolling(problem, window, sgd, **how)
    for k in range(len(result.loss)):
        if spike > 1 and k <= 130 < k + window:
            continue
        part = fits.rows_of(problem, slice(k, k + window))
        alone = fits.parameters(gd.fit(**arguments(part), sgd=sgd, method="gram", **how))
        found = np.append(result.weights[k], result.intercept[k])
        limit = distance_bound(part, float(sgd.lr), epochs, alone)
        assert not np.linalg.norm(found.astype(float) - alone) > limit


def test_sums_are_recomputed_in_time(rng: Any) -> None:
    problem = draw(rng, 300)
    how: dict[str, Any] = {"epochs": 1, "tol": None}
    assert rolling(problem, 100, **how).recomputed == 4  # windows 0, 51, 102, 153
    assert rolling(problem, 100, **how, step=30).recomputed == 4  # 0, 2, 4, 6
    assert rolling(problem, 100, **how, step=60).recomputed == 4  # every one
    for spike in (40.0, 1e6):
        problem.X[120, 0] = spike  # leaves with window 121
        assert rolling(problem, 100, **how).recomputed == 5


def test_a_large_row_that_left_leaves_no_trace(rng: Any, dtype: Any) -> None:
    """The window after it is recomputed: it has the bits of a fit of its own."""
    problem = draw(rng, 60, dtype=dtype)
    problem.X[5] *= dtype.type(1e12)
    result = rolling(problem, 20, gd.SGD(lr=1e-30), epochs=2, tol=None)
    part = fits.rows_of(problem, slice(6, 26))
    assert window_bits(result, 6) == told_alone(part, gd.SGD(lr=1e-30), epochs=2, tol=None)


def test_a_loss_too_small_for_moments_is_read_from_the_rows(rng: Any) -> None:
    X = problems.integers(rng, (30, 1), np.float64, 9)
    result = gd.fit_rolling(X, 3 * X[:, 0] + 1, 10, gd.SGD(momentum=0.5), tol=1e-15)
    for k, part in enumerate(windows(Linear(X, 3 * X[:, 0] + 1, np.zeros(1)), 10, 1)):
        prediction = part.X @ result.weights[k] + result.intercept[k]
        assert result.loss[k] == pytest.approx(gd.mse(prediction, part.y), rel=0.5, abs=1e-31)


# How windows end.


def test_statuses(rng: Any) -> None:
    problem = draw(rng, 40)
    problem.X[20:] *= 1e3
    with pytest.warns() as log:
        result = rolling(problem, 10, gd.SGD(lr=0.05), epochs=100, tol=1e-2)
    found = result.status.tolist()
    counts = {s: found.count(s) for s in (Status.CONVERGED, Status.DIVERGED, Status.MAX_EPOCHS)}
    assert min(counts.values()) > 0
    rate, once = (str(w.message) for w in log)
    assert "above the stability limit" in rate
    assert once.startswith("31 windows: ")
    for status, count in counts.items():
        assert f"{count} {status}" in once
        first = f"{status} (the first is window {found.index(status)}"
        assert (first in once) == (status is not Status.CONVERGED)
    assert "R^2 up to" in once.partition("MAX_EPOCHS (")[2]
    assert np.isfinite(result.weights).all()
    with pytest.warns(gd.FitWarning, match="DIVERGED"), pytest.warns(gd.LearningRateWarning):
        few = rolling(problem, 10, gd.SGD(lr=1e-3), epochs=2, tol=None)
    assert few.status[0] == Status.MAX_EPOCHS
    assert few.status[-1] == Status.DIVERGED  # it grows, though it is still finite


def test_windows_without_a_weight_are_empty(rng: Any) -> None:
    problem = draw(rng, 30)
    weight = np.r_[np.ones(10), np.zeros(10), np.ones(10)]
    with pytest.warns(gd.FitWarning, match=r"6 EMPTY.*EMPTY \(the first is window 10\)"):
        result = gd.fit_rolling(
            problem.X, problem.y, 5, gd.SGD(), sample_weight=weight, init=[1.0, 2.0]
        )
    assert np.flatnonzero(result.status == Status.EMPTY).tolist() == list(range(10, 16))
    assert result.weights[12].tolist() == [1, 2]
    assert np.isnan(result.loss[12])


@each("after", [1, 3])
def test_interrupted_between_windows(rng: Any, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    monkeypatch.setattr("gdcore.data.slices.SECONDS", 0.0)
    problem, looks = draw(rng, 100), []

    class Core:
        Rolling = gd._core.Rolling

        def __init__(self, *given: Any, **options: Any) -> None:
            self.rolling = Core.Rolling(*given, **options)

        def advance(self, *how: Any) -> bool:
            looks.append(1)
            if len(looks) > after:
                raise KeyboardInterrupt
            return bool(self.rolling.advance(*how))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.rolling, name)

    monkeypatch.setattr("gdcore._core.Rolling", Core)
    with pytest.raises(gd.RollingInterrupted, match=r"after \d+ windows, which") as caught:
        rolling(problem, 30)
    monkeypatch.undo()
    kept, whole = caught.value.fit, rolling(problem, 30)
    assert 0 < len(kept.loss) < len(whole.loss)
    assert all(window_bits(kept, k) == window_bits(whole, k) for k in range(len(kept.loss)))


# Bad input.

X, Y = np.arange(12.0).reshape(6, 2) ** 1.5, np.arange(6.0)


@each("call, match, error", [
    (lambda: gd.fit_rolling(X, Y, 0), "window is 0.*from 1 to the 6 rows", ValueError),
    (lambda: gd.fit_rolling(X, Y, 7), "window is 7.*from 1 to the 6 rows", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2.0), "window is 2.0", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, step=0), "step is 0", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, step=True), "step is True", ValueError),
    (lambda: gd.fit_rolling(X, Y[:5], 2), r"y has shape \(5,\) and X \(6, 2\)", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, 0.1), "sgd is float", TypeError),
    (lambda: gd.fit_rolling(X, Y, 2, gd.SGD(lr=lambda e: 1.0)), "lr is a schedule", TypeError),
    (lambda: gd.fit_rolling(X, Y, 2, epochs=-1), "epochs is -1", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, init=[1.0]), "init", ValueError),
    (lambda: gd.fit_rolling(np.where(X > 5, np.nan, X), Y, 2), "X holds nan at row 1", ValueError),
    (lambda: gd.fit_rolling(np.r_[X, X * 1e-150], np.r_[Y, Y], 2), "squares of rows 6 to 7",
     ValueError),
    (lambda: gd.fit_rolling(X * 1e160, Y, 2), "squares of rows 0 to 1 leave", ValueError),
])  # fmt: skip
def test_bad_input(call: Any, match: str, error: type[Exception]) -> None:
    refused(call, match, error)
