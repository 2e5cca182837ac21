"""CONVERGED means that nothing is left to gain, and the other ends say how far they are off."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from bounds import Array
from everyday import data_sets, r2_lost

WAYS: dict[str, Callable[..., Any]] = {
    "array": lambda X, y, *a, **k: gd.fit(X, y, *a, **k),
    "stream": lambda X, y, *a, **k: gd.fit(X, y, *a, **k, method="stream"),
    "stack": lambda X, y, *a, **k: gd.fit(X[None], y[None], *a, **k)[0],
    "groups": lambda X, y, *a, **k: gd.fit_groups(X, y, np.zeros(len(y), int), *a, **k)[0],
    "chunks": lambda X, y, *a, **k: gd.fit([(X[:40], y[:40]), (X[40:], y[40:])], None, *a, **k),
    "moments": lambda X, y, *a, **k: (
        gd.Moments(X.shape[1], dtype=X.dtype).update(X, y).fit(*a, **k)
    ),
}


def rolling(X: Array, y: Array, *args: Any, **options: Any) -> tuple[Array, Array, str]:
    fit = gd.fit_rolling(X, y, len(y), *args, **options)
    return fit.weights[0], fit.intercept[0], fit.status[0]


def everyday(dtype: Any) -> list[tuple[str, Array, Array]]:
    return [(name, X.astype(dtype), y.astype(dtype)) for name, (X, y) in data_sets().items()]


def test_the_default_answer_is_least_squares_in_every_way_in(dtype: Any) -> None:
    most = 1e-12 if dtype == np.float64 else 1e-6
    off = []
    for name, X, y in everyday(dtype):
        for way, fit in WAYS.items():
            if way == "stream":  # asks for descent
                continue
            answer = fit(X, y)
            if not (
                answer.status == "CONVERGED"
                and r2_lost(X, y, answer.weights, answer.intercept) <= most
            ):
                off.append((name, way, answer.status))
        weights, intercept, status = rolling(X, y)
        if not (status == "CONVERGED" and r2_lost(X, y, weights, intercept) <= most):
            off.append((name, "rolling", status))
    assert off == []


def test_descents_are_within_tol_or_say_how_far(dtype: Any) -> None:
    least = 2.0**-13 if dtype == np.float32 else 1e-6
    off = []
    for name, X, y in everyday(dtype):
        for way, fit in WAYS.items():
            for standardize in (False, True):
                with warnings.catch_warnings(record=True) as log:
                    warnings.simplefilter("always")
                    answer = fit(X, y, sgd=gd.SGD(), standardize=standardize, epochs=300)
                lost = r2_lost(X, y, answer.weights, answer.intercept)
                if answer.status == "CONVERGED":
                    right = lost <= 4 * least**2 * (1 + 1e-9) and not log
                else:
                    right = bool(log) and math.isclose(
                        answer.r2_lost, lost, rel_tol=1e-3, abs_tol=1e-9
                    )
                if not right:
                    off.append((name, way, standardize, answer.status, lost, answer.r2_lost))
    assert off == []


def test_standardised_columns_and_a_heavy_ball_arrive(dtype: Any) -> None:
    off = []
    for name, X, y in everyday(dtype):
        for way, fit in WAYS.items():
            sgd = gd.SGD(momentum="auto")
            answer = fit(X, y, sgd=sgd, standardize=True)
            if answer.status != "CONVERGED":
                off.append((name, way, answer.message))
    assert off == []


def test_the_same_in_every_unit_offset_and_scale() -> None:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((50, 3))
    y = X @ [1.0, 2.0, -1.0] + rng.standard_normal(50)
    first = gd.fit(X, y, gd.SGD(), standardize=True)
    assert first.status == "CONVERGED"
    for scale, offset in ((1e-12, 0.0), (1e9, 0.0), (1.0, 1e6), (1e-3, -1e4), (1e6, 1e9)):
        moved = gd.fit(X * scale + offset, y, gd.SGD(), standardize=True)
        assert moved.status == "CONVERGED"
        assert abs(moved.epochs - first.epochs) <= 1
        turned = gd.fit(X, y * scale + offset, gd.SGD(), standardize=True)
        assert turned.status == "CONVERGED"
        assert r2_lost(X, y * scale + offset, turned.weights, turned.intercept) <= 4e-12


def test_a_warm_start_at_the_answer_takes_no_epoch() -> None:
    for _, X, y in everyday(np.float64):
        best = gd.fit(X, y)
        for standardize in (False, True):
            again = gd.fit(
                X, y, gd.SGD(), init=(best.weights, best.intercept), standardize=standardize
            )
            assert (again.status, again.epochs) == ("CONVERGED", 0)


def test_every_target_has_to_arrive() -> None:
    rng = np.random.default_rng(2)
    X = rng.standard_normal((60, 2))
    y = np.c_[1e6 + 1e6 * X[:, 0], 50 + X[:, 1]] + rng.standard_normal((60, 2)) * [1e5, 0.1]
    answer = gd.fit(X, y, gd.SGD())
    assert answer.status == "CONVERGED"
    for u in range(2):
        lost = r2_lost(X, y[:, u], answer.weights[:, u], answer.intercept[u])
        assert lost <= 4e-12


def test_the_predicted_epochs_are_those_it_takes() -> None:
    for sgd, standardize in (
        (gd.SGD(), False),
        (gd.SGD(momentum=0.9), False),
        (gd.SGD(momentum=0.9, nesterov=True), False),
        (gd.SGD(momentum=0.5, dampening=0.2), True),
        (gd.SGD(lr=0.1), True),
    ):
        X, y = data_sets()["cubic" if standardize else "daily returns"]
        with pytest.warns(gd.FitWarning) as log:
            gd.fit(X, y, sgd, epochs=2, standardize=standardize)
        said = re.search(r"this descent takes (?:about )?([0-9.e+]+) epochs", str(log[0].message))
        assert said is not None
        needed = round(float(said[1]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = gd.fit(X, y, sgd, epochs=int(1.1 * needed) + 2, standardize=standardize)
        assert answer.status == "CONVERGED"
        assert 0.9 * needed - 2 <= answer.epochs <= 1.1 * needed + 2


def test_a_descent_that_cannot_arrive_says_so_before_its_first_step() -> None:
    X, y = data_sets()["kelvin and pascal"]
    with pytest.raises(gd.FitWarning, match="this descent takes too many epochs to converge"):
        gd.fit(X, y, gd.SGD())  # warnings are errors
    with pytest.warns(gd.FitWarning, match="method='exact' needs none") as log:
        answer = gd.fit(X, y, gd.SGD())
    assert len(log) == 1
    assert answer.status == "MAX_EPOCHS"
    assert "R^2 is" in answer.message
    assert answer.r2_lost > 1e-6


def test_without_tol_every_epoch_is_run() -> None:
    X, y = data_sets()["years"]
    answer = gd.fit(X, y, gd.SGD(), epochs=7, tol=None)  # warnings are errors
    assert (answer.status, answer.epochs) == ("MAX_EPOCHS", 7)
    assert answer.message == "Ended after all 7 epochs."


def test_dependent_columns_converge_and_say_their_rank() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal(40)
    y = 2 * x + rng.standard_normal(40)
    for X in (np.c_[x, 2 * x], np.c_[x, np.ones(40)]):
        answer = gd.fit(X, y, gd.SGD())
        assert answer.status == "CONVERGED"
        assert "Rank 2 of 3: other weights fit as well." in answer.message


def test_a_constant_y_has_no_r2() -> None:
    X = np.random.default_rng(4).standard_normal((30, 2))
    for value in (7.1, 0.0, -1e9):
        answer = gd.fit(X, np.full(30, value), gd.SGD())
        assert answer.status == "CONVERGED"
        np.testing.assert_allclose(answer.predict(X), value, rtol=1e-6, atol=1e-9)
    with pytest.warns(gd.FitWarning, match="3 epochs of this descent end short of the best fit"):
        answer = gd.fit(1e3 + X, np.full(30, 7.1), gd.SGD(), epochs=3)
    assert "R^2 is not defined" in answer.message


def test_rounding_errors_that_stop_a_descent_are_a_stall() -> None:
    X, y = (a.astype(np.float32) for a in data_sets()["daily returns"])
    with pytest.warns(gd.FitWarning):
        answer = gd.fit(X, y, gd.SGD(), epochs=10**7, history=0)
    assert answer.status == "STALLED"
    assert 0 < answer.r2_lost < 1e-2
    assert "R^2 is" in answer.message


def test_an_intercept_too_large_for_float32_is_a_stall() -> None:
    """Standardised columns arrive at once, the rounded weights of the columns as given do not."""
    rng = np.random.default_rng(9)
    X = (1e5 + rng.standard_normal((60, 2))).astype(np.float32)
    y = (X[:, 0] - 1e5 + 0.1 * rng.standard_normal(60)).astype(np.float32)
    for method in ("gram", "stream"):
        with pytest.warns(gd.FitWarning, match="Stalled"):
            answer = gd.fit(X, y, gd.SGD(momentum="auto"), standardize=True, method=method)
        assert answer.status == "STALLED"
        assert answer.epochs < 20
        assert answer.r2_lost > 1e-7


def test_mini_batches_are_judged_at_the_end_of_each_epoch() -> None:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((64, 2))
    y = X @ [1.0, 2.0] + 3  # without noise mini-batches arrive
    answer = gd.fit(X, y, gd.SGD(lr=0.1), batch_size=16, epochs=2000)
    assert answer.status == "CONVERGED"
    assert r2_lost(X, y, answer.weights, answer.intercept) <= 4e-12


def test_an_unknown_loss_of_r2_is_said_to_be_unknown() -> None:
    rng = np.random.default_rng(6)
    X = rng.standard_normal((40, 8))
    with pytest.warns(gd.FitWarning, match="is not known"):
        gd.fit(X, X.sum(axis=1), gd.SGD(), method="stream", epochs=3)


def test_rows_of_weight_0_count_in_nothing() -> None:
    X, y = data_sets()["cubic"]
    weight = np.ones(len(y))
    weight[::3] = 0
    kept = weight > 0
    wild = y.copy()
    wild[::3] = 1e9
    with pytest.warns(gd.FitWarning):
        a = gd.fit(X, wild, gd.SGD(), sample_weight=weight, standardize=True)
    with pytest.warns(gd.FitWarning):
        b = gd.fit(X[kept], y[kept], gd.SGD(), standardize=True)
    assert a.status == b.status
    np.testing.assert_allclose(a.r2_lost, b.r2_lost, rtol=1e-6)


def test_climbing_never_converges() -> None:
    X, y = data_sets()["daily returns"]
    with pytest.warns(gd.LearningRateWarning, match="no top"), pytest.warns(gd.FitWarning):
        answer = gd.fit(X, y, gd.SGD(lr=0.1, maximize=True), epochs=50)
    assert answer.status != "CONVERGED"


def test_small_y_in_float32_is_not_constant() -> None:
    rng = np.random.default_rng(7)
    X = rng.standard_normal((40, 3)).astype(np.float32)
    y = (X @ [1, 2, 3] + rng.standard_normal(40)).astype(np.float32)
    for scale in (1e-18, 1e-20, 1e-30):
        small = y * np.float32(scale)
        for way, fit in WAYS.items():
            answer = fit(X, small, sgd=gd.SGD())
            lost = r2_lost(X, small, answer.weights, answer.intercept)
            assert (way, answer.status) == (way, "CONVERGED")
            assert lost <= 4 * 2.0**-26


def test_columns_that_exact_distinguishes_are_not_dependent() -> None:
    rng = np.random.default_rng(8)
    x = np.tile(np.arange(10.0), 5)
    for offset in (3.5e6, 5e6, 8e6):  # of float32, whose moments are sums of doubles
        X = (offset + x).astype(np.float32)[:, None]
        y = (x + rng.standard_normal(50)).astype(np.float32)
        assert gd.fit(X, y).status == "CONVERGED"
        for sgd in (gd.SGD(), gd.SGD(momentum="auto")):
            with pytest.warns(gd.FitWarning):
                answer = gd.fit(X, y, sgd)
            lost = r2_lost(X, y, answer.weights, answer.intercept)
            assert answer.status == "MAX_EPOCHS"
            assert answer.r2_lost == pytest.approx(lost, rel=0.05)


def test_rounding_errors_that_make_a_cycle_end_it_in_chunks_too() -> None:
    rng = np.random.default_rng(116)
    X = (10 ** rng.uniform(0.5, 1.5) + rng.standard_normal((40, 1))).astype(np.float32)
    noise = rng.standard_normal(40) * 10 ** rng.uniform(-4, 0)
    y = (X[:, 0] + noise + 10 ** rng.uniform(0, 4)).astype(np.float32)
    ends = []
    for data in ((X, y), ([(X[:20], y[:20]), (X[20:], y[20:])], None)):
        with pytest.warns(gd.FitWarning):
            answer = gd.fit(*data, gd.SGD(momentum=0.9), epochs=4000, method="stream", history=0)
        ends.append((answer.status, answer.epochs))
    assert ends[0][0] == "STALLED"
    assert ends[0][1] < 4000
    assert ends[0] == ends[1]


def test_the_advice_holds_when_it_is_followed() -> None:
    sets = data_sets()
    rng = np.random.default_rng(9)
    X = rng.standard_normal((80, 3)) @ rng.standard_normal((3, 3))
    sets["correlated"] = X, X.sum(axis=1) + 2 + rng.standard_normal(80)
    followed = 0
    for name, (X, y) in sets.items():
        for given in (gd.SGD(), gd.SGD(momentum=0.9), gd.SGD(momentum="auto")):
            with pytest.warns(gd.FitWarning) as log:
                gd.fit(X, y, given, epochs=2)
            for what, sgd, standardize in (
                ("this descent takes", given, False),
                ("standardize=True", given, True),
                ("momentum='auto'", gd.SGD(momentum="auto"), False),
                ("both", gd.SGD(momentum="auto"), True),
            ):
                said = re.search(f"{what} (?:about )?([0-9.e+]+) epoch", str(log[0].message))
                if said is None or float(said[1]) > 1e5:
                    continue
                needed, followed = float(said[1]), followed + 1
                epochs = round(needed * (1.05 if needed >= 1000 else 1))  # two digits were said
                answer = gd.fit(X, y, sgd, epochs=epochs, standardize=standardize, history=0)
                assert (name, what, answer.status) == (name, what, "CONVERGED")
                assert answer.epochs >= 0.9 * needed
    assert followed > 20


def test_a_loss_that_stays_the_same_may_be_far_from_the_best() -> None:
    X, y = (a.astype(np.float32) for a in data_sets()["kelvin and pascal"])
    answer = gd.fit(X, y, gd.SGD(), stop="loss_equal")
    assert answer.status == "CONVERGED"
    assert f"R^2 is {answer.r2_lost:.2g} below" in answer.message
