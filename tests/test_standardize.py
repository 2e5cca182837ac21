"""Standardised columns, momentum="auto" and decay_intercept=False, in every way in, bit for bit."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
from bounds import Array
from conftest import ISAS
from everyday import data_sets
from loops import settings_restored

SGDS = (
    gd.SGD(),
    gd.SGD(lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.1),
    gd.SGD(momentum="auto"),
    gd.SGD(lr=0.1, weight_decay=0.3, decay_intercept=False),
    gd.SGD(lr=0.05, momentum=0.5, dampening=0.2, weight_decay=0.2, decay_intercept=False),
)


def draw(dtype: Any, n: int = 70, d: int = 3, t: int | None = None, seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, n, d])
    X = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-2, 3, d) + rng.integers(-9, 9, d)
    y = rng.standard_normal((n,) if t is None else (n, t)) + (X[:, 0] if t is None else X[:, :1])
    return X.astype(dtype), y.astype(dtype), rng.uniform(0.1, 2, n).astype(dtype)


def descend_in_torch(
    X: Array, y: Array, weight: Array | None, sgd: gd.SGD, epochs: int, fit_intercept: bool
) -> tuple[Array, Array]:
    """Standardise in NumPy, descend in torch on float64, and return the data's parameters."""
    import torch

    s = np.ones(len(y)) if weight is None else weight.astype(np.float64)
    X, y = X.astype(np.float64), y.astype(np.float64)
    mean = np.average(X, axis=0, weights=s) if fit_intercept else np.zeros(X.shape[1])
    deviation = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=s))
    center = np.average(y, weights=s) if fit_intercept else 0.0
    Z, target, row = (torch.from_numpy(a) for a in ((X - mean) / deviation, y - center, s))
    w = torch.zeros(X.shape[1], dtype=torch.float64, requires_grad=True)
    # The intercept 0 of the data's units is -(mean of y) where y is centred.
    b = torch.tensor(-center, dtype=torch.float64, requires_grad=True)
    how = {"momentum": sgd.momentum, "dampening": sgd.dampening, "nesterov": sgd.nesterov}
    spared = 0.0 if not sgd.decay_intercept else sgd.weight_decay
    groups: list[dict[str, Any]] = [{"params": [w], "weight_decay": sgd.weight_decay}]
    if fit_intercept:
        groups.append({"params": [b], "weight_decay": spared})
    optimizer = torch.optim.SGD(groups, lr=float(sgd.lr), **how)  # type: ignore[arg-type]
    for _ in range(epochs):
        optimizer.zero_grad()
        loss = (row * (Z @ w + b - target) ** 2).sum() / row.sum()
        loss.backward()
        optimizer.step()
    weights = w.detach().numpy() / deviation
    return weights, b.item() + center - mean @ weights


@pytest.mark.torch
def test_steps_are_those_of_torch_on_standardised_columns() -> None:
    off = []
    for sgd in SGDS:
        if isinstance(sgd.lr, str):
            continue
        for method in ("gram", "stream"):
            for weighted in (False, True):
                for fit_intercept in (True, False):
                    X, y, weight = draw(np.float64)
                    given = weight if weighted else None
                    answer = gd.fit(
                        X, y, sgd, epochs=20, tol=None, method=method, standardize=True,
                        sample_weight=given, fit_intercept=fit_intercept,
                    )  # fmt: skip
                    w, b = descend_in_torch(X, y, given, sgd, 20, fit_intercept)
                    scale = np.abs(w).max() + np.abs(b)
                    error = max(np.abs(answer.weights - w).max(), np.abs(answer.intercept - b))
                    if not error <= 1e-11 * scale:
                        off.append((sgd, method, weighted, fit_intercept, error / scale))
    assert off == []


@pytest.mark.torch
def test_decay_spares_the_intercept_as_a_parameter_group_of_torch() -> None:
    import torch

    X, y, _ = draw(np.float64)
    for sgd in SGDS[3:]:
        answer = gd.fit(X / 100, y, sgd, epochs=30, tol=None)
        A, target = torch.from_numpy(X / 100), torch.from_numpy(y)
        w = torch.zeros(X.shape[1], dtype=torch.float64, requires_grad=True)
        b = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD(
            [{"params": [w], "weight_decay": sgd.weight_decay}, {"params": [b]}],
            lr=sgd.lr,
            momentum=sgd.momentum,
            dampening=sgd.dampening,
        )
        for _ in range(30):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(A @ w + b, target).backward()
            optimizer.step()
        np.testing.assert_allclose(answer.weights, w.detach().numpy(), rtol=1e-9)
        np.testing.assert_allclose(answer.intercept, b.item(), rtol=1e-9)


def alone(X: Array, y: Array, sgd: gd.SGD, **options: Any) -> list[Any]:
    answer = gd.fit(X, y, sgd, **options)
    return [answer.weights.tobytes(), np.asarray(answer.intercept).tobytes(), answer.epochs]


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning", "ignore::gdcore.LearningRateWarning")
def test_many_problems_have_the_bits_of_each_alone(dtype: Any) -> None:
    off = []
    shapes = ((5, 2, None), (12, 1, None), (70, 3, None), (70, 3, 2), (30, 6, None))
    extras: tuple[dict[str, Any], ...] = ({"epochs": 150}, {"batch_size": 4, "epochs": 30})
    for sgd, (n, d, t), standardize, extra in product(SGDS, shapes, (False, True), extras):
        if "batch_size" in extra and sgd.momentum == "auto":
            continue
        how = {"standardize": standardize, **extra}
        parts = [draw(dtype, n, d, t, seed)[:2] for seed in range(5)]
        X, y = (np.stack(part) for part in zip(*parts, strict=True))
        want = [alone(X[i], y[i], sgd, **how) for i in range(5)]
        flat = np.concatenate(X), np.concatenate(y)
        for isa in ISAS:
            gd._core.set_isa(isa)
            stack = gd.fit(X, y, sgd, **how)
            groups = gd.fit_groups(*flat, np.repeat(np.arange(5), n), sgd, **how)
            for many in (stack, groups):
                for i in range(5):
                    one = [many.weights[i].tobytes(), many.intercept[i].tobytes()]
                    if [*one, int(many.epochs[i])] != want[i]:
                        off.append((isa, sgd, n, d, t, standardize, extra, type(many), i))
    assert off == []


def few_epochs(dtype: Any) -> dict[Any, list[Any]]:
    """Return the bits of fits of five epochs."""
    found: dict[Any, list[Any]] = {}
    for i, (n, d, t), method in product(
        range(len(SGDS)), ((1030, 3, None), (700, 20, None), (600, 4, 3)), ("gram", "stream")
    ):
        X, y, weight = draw(dtype, n, d, t)
        how = {"epochs": 5, "standardize": True, "method": method, "sample_weight": weight}
        found[i, n, method] = alone(X, y, SGDS[i], **how)
    return found


by_reference = cache(few_epochs)


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning", "ignore::gdcore.LearningRateWarning")
def test_the_reference_and_every_thread_count_agree(isa_and_threads: Any, dtype: Any) -> None:
    with settings_restored():
        gd._core.set_isa("reference")
        gd.set_num_threads(1)
        theirs = by_reference(dtype)
    assert [key for key, ours in few_epochs(dtype).items() if ours != theirs[key]] == []


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning", "ignore::gdcore.LearningRateWarning")
def test_chunks_have_the_bits_of_the_rows_in_memory() -> None:
    X, y, _ = draw(np.float32, 1300)
    chunks = [(X[a : a + 300], y[a : a + 300]) for a in range(0, 1300, 300)]
    ways: tuple[Callable[..., Any], ...] = (
        lambda **how: gd.fit(X, y, **how),
        lambda **how: gd.fit(chunks, **how),
    )
    for sgd in SGDS:
        for method in ("gram", "stream"):
            how = {"sgd": sgd, "epochs": 6, "method": method, "standardize": True}
            if method == "stream" and sgd.lr == "auto" and sgd.momentum != "auto":
                continue  # lr comes from moments, or from passes over X
            one, other = (way(**how) for way in ways)
            assert one.weights.tobytes() == other.weights.tobytes()
            assert one.intercept == other.intercept
            assert (one.epochs, one.status) == (other.epochs, other.status)


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning", "ignore::gdcore.LearningRateWarning")
def test_a_warm_start_continues_where_the_fit_ended(tmp_path: Path) -> None:
    X, y, _ = draw(np.float64)
    for sgd in SGDS:
        for method in ("gram", "stream"):
            how = {"method": method, "standardize": True, "tol": None}
            first = gd.fit(X, y, sgd, epochs=20, **how)
            first.save(tmp_path / "first.npz")
            fixed = sgd
            if sgd.momentum == "auto":  # chosen once, for the first call's epochs
                fixed = gd.SGD(lr=first.lr, momentum=first.momentum)
            whole = gd.fit(X, y, fixed, epochs=50, **how)
            for start in (first, gd.load(tmp_path / "first.npz")):
                more = gd.fit(X, y, sgd, init=start, epochs=30, **how)
                assert more.weights.tobytes() == whole.weights.tobytes()
                assert more.intercept == whole.intercept
            stack = gd.fit(X[None], y[None], sgd, epochs=20, **how)
            stack.save(tmp_path / "stack.npz")
            for begun in (stack, gd.load(tmp_path / "stack.npz")):
                again = gd.fit(X[None], y[None], sgd, init=begun, epochs=30, **how)
                assert again.weights.tobytes() == whole.weights.tobytes()


def test_a_warm_start_on_other_data_starts_from_the_weights() -> None:
    X, y, _ = draw(np.float64)
    first = gd.fit(X, y, gd.SGD(lr=0.1, momentum=0.9), standardize=True, epochs=9, tol=None)
    for standardize in (False, True):
        still = gd.fit(
            10 * X, y, gd.SGD(lr=1e-9), init=first, epochs=0, tol=None, standardize=standardize
        )
        np.testing.assert_allclose(still.weights, first.weights, rtol=1e-13)
        np.testing.assert_allclose(still.intercept, first.intercept, rtol=1e-12)
    sgd, plain = gd.SGD(lr=1e-6, momentum=0.9), (first.weights, first.intercept)
    moved, same = (gd.fit(X, y, sgd, init=init, epochs=3, tol=None) for init in (first, plain))
    assert moved.weights.tobytes() == same.weights.tobytes()


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning")
def test_a_checkpoint_resumes_to_the_same_bits(tmp_path: Path) -> None:
    X, y, _ = draw(np.float64)
    for k, sgd in enumerate(SGDS[:3]):
        path, calls = tmp_path / f"{k}.npz", 0
        how: dict[str, Any] = {"standardize": True, "epochs": 40, "batch_size": None}
        if sgd.momentum != "auto":
            how["batch_size"] = 8

        def stop(*_: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise KeyboardInterrupt

        whole = gd.fit(X, y, sgd, **how)
        with contextlib.suppress(gd.FitInterrupted):
            gd.fit(X, y, sgd, **how, checkpoint=path, progress=stop)
        resumed = gd.fit(X, y, sgd, **how, checkpoint=path)
        assert fits.bits(resumed) == fits.bits(whole)
    with pytest.raises(ValueError, match="standardize"):
        gd.fit(X, y, SGDS[0], epochs=40, batch_size=8, checkpoint=tmp_path / "0.npz")


def test_history_and_start_are_in_the_units_of_the_data() -> None:
    X, y, _ = draw(np.float64)
    answer = gd.fit(X, y, gd.SGD(lr=0.1), standardize=True, epochs=9, tol=None)
    assert answer.history.weights is not None
    assert answer.history.intercept is not None
    np.testing.assert_array_equal(answer.history.weights[-1], answer.weights)
    np.testing.assert_array_equal(answer.history.intercept[-1], answer.intercept)
    assert answer.start is not None
    assert not answer.start.weights.any()
    np.testing.assert_allclose(answer.loss, gd.mse(answer.predict(X), y), rtol=1e-12)


def test_a_constant_column_keeps_weight_0() -> None:
    X, y, _ = draw(np.float64)
    X[:, 1] = 1e7 + 0.1
    for method in ("gram", "stream"):
        answer = gd.fit(X, y, gd.SGD(), standardize=True, method=method)
        assert answer.status == "CONVERGED"
        assert answer.weights[1] == 0
        assert "Rank 3 of 4" in answer.message


def test_every_window_is_the_fit_of_its_rows() -> None:
    X, y, _ = draw(np.float64, 60, 2)
    for sgd in (gd.SGD(), gd.SGD(momentum="auto"), gd.SGD(lr=0.1, decay_intercept=False)):
        rolling = gd.fit_rolling(X, y, 30, sgd, step=10, standardize=True)
        for k, first in enumerate(rolling.first_row):
            rows = slice(first, first + 30)
            one = gd.fit(X[rows], y[rows], sgd, standardize=True, method="gram")
            assert rolling.status[k] == one.status == "CONVERGED"
            assert abs(int(rolling.epochs[k]) - one.epochs) <= 1
            np.testing.assert_allclose(rolling.weights[k], one.weights, rtol=1e-6)
            np.testing.assert_allclose(rolling.intercept[k], one.intercept, rtol=1e-6)


def test_a_heavy_ball_takes_about_the_root_of_the_epochs() -> None:
    X, y = data_sets()["daily returns"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = gd.fit(X, y, gd.SGD(), epochs=200_000, history=0)
        ball = gd.fit(X, y, gd.SGD(momentum="auto"), epochs=200_000, history=0)
    assert plain.status == ball.status == "CONVERGED"
    assert ball.epochs**2 <= 10 * plain.epochs
    assert 0 < ball.momentum < 1


def test_options_that_exclude_each_other_are_refused() -> None:
    X, y, _ = draw(np.float64)
    for options in ({"lr": 0.1}, {"nesterov": True}, {"dampening": 0.1}, {"maximize": True}):
        with pytest.raises(ValueError, match="leave out"):
            gd.SGD(momentum="auto", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size"):
        gd.fit(X, y, gd.SGD(momentum="auto"), batch_size=8)
    with pytest.raises(ValueError, match="needs the data"):
        gd.SGD(momentum="auto").stability_limit(1.0)
    w = np.zeros(2)
    spared = gd.SGD(lr=0.1, decay_intercept=False)
    with pytest.raises(ValueError, match="cannot tell the intercept"):
        spared.step(w, w, spared.init(w))
    with pytest.raises(ValueError, match="overflow or underflow float64; scale"):
        gd.fit(1e200 * X, y, gd.SGD(), standardize=True)


def test_a_heavy_ball_is_chosen_for_each_of_many_as_if_alone() -> None:
    rng = np.random.default_rng(11)
    X, y = rng.standard_normal((9, 40, 3)), rng.standard_normal((9, 40))
    X[8] = 0  # flat without an intercept: the other problems keep their momentum
    X[7] *= 1e-140  # squares out of range: no spectrum
    sgd = gd.SGD(momentum="auto")
    for options in (
        {"method": "stream", "epochs": 2},  # fewer epochs than moments are summed for otherwise
        {"method": "stream", "tol": None, "epochs": 20},
        {"method": "gram", "fit_intercept": False},
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            many = gd.fit(X, y, sgd, **options)
            assert many.status[7] == "INVALID"
            with pytest.raises(ValueError, match=r"spectrum|underflow"):
                gd.fit(X[7], y[7], sgd, **options)
            for i in (*range(7), 8):
                alone = gd.fit(X[i], y[i], sgd, **options)
                assert alone.status == many.status[i]
                assert (alone.epochs, alone.lr) == (many.epochs[i], many.lr[i])
                assert alone.momentum == many.momentum[i]
                np.testing.assert_array_equal(alone.weights, many.weights[i])


def test_a_heavy_ball_needs_a_spectrum_in_every_way_in() -> None:
    X, y = np.ones((3, 600)), np.ones(3)
    for fit in (
        lambda sgd: gd.fit(X, y, sgd),
        lambda sgd: gd.fit(X[None], y[None], sgd),
        lambda sgd: gd.fit_groups(X, y, np.zeros(3, int), sgd),
        lambda sgd: gd.fit_rolling(X, y, 3, sgd),
        lambda sgd: gd.fit([(X, y)], None, sgd),
        lambda sgd: gd.Moments(600).update(X, y).fit(sgd),
    ):
        with pytest.raises(ValueError, match="up to 512 parameters"):
            fit(gd.SGD(momentum="auto"))


def test_a_heavy_ball_keeps_its_rates_only_on_the_same_curvature() -> None:
    rng = np.random.default_rng(12)
    X = rng.standard_normal((60, 2))
    y = X @ [1.0, 2.0] + rng.standard_normal(60)
    sgd = gd.SGD(momentum="auto")
    with pytest.warns(gd.FitWarning):
        begun = gd.fit(X, y, sgd, epochs=3)
    with pytest.warns(gd.FitWarning):
        many = gd.fit(X[None], y[None], sgd, epochs=3)
    again = gd.fit(X, y, sgd, init=begun)
    assert (again.lr, again.momentum) == (begun.lr, begun.momentum)
    other = np.r_[X, 30 * rng.standard_normal((3, 2))], np.r_[y, rng.standard_normal(3)]
    for X_new, y_new, options in (
        (10 * X, y, {}),
        (*other, {}),
        (*other, {"standardize": True}),
        (X, y, {"sgd": gd.SGD(momentum="auto", weight_decay=50.0)}),
    ):
        how: dict[str, Any] = {"sgd": sgd} | options
        warm = gd.fit(X_new, y_new, init=begun, **how)
        assert warm.status == "CONVERGED"
        alike = gd.fit(X_new[None], y_new[None], init=many, **how)[0]
        np.testing.assert_array_equal(warm.weights, alike.weights)
    settled = gd.fit(X, y, sgd, init=gd.fit(X, y, sgd))  # no step was due
    assert gd.fit(10 * X, y, sgd, init=settled).status == "CONVERGED"


def test_a_heavy_ball_that_ends_higher_than_its_first_start() -> None:
    rng = np.random.default_rng(13)
    X, y = rng.standard_normal((4, 30, 2)), rng.standard_normal((4, 30))
    sgd = gd.SGD(momentum="auto")
    begun = gd.fit(X, 1e-3 * y, sgd)
    with pytest.warns(gd.FitWarning):
        many = gd.fit(X, y, sgd, init=begun, epochs=1)
    for i in range(4):
        with pytest.warns(gd.FitWarning):
            alone = gd.fit(X[i], y[i], sgd, init=begun[i], epochs=1)
        assert alone.status == many.status[i]
