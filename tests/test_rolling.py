"""gd.fit_rolling: the fit of each window against a fit of the same rows."""

from __future__ import annotations

import datetime
import pickle
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


# Windows of rows, of time, expanding; half-lives; groups; missing rows.


def regression(rng: Any, n: int = 120, d: int = 2, dtype: Any = np.float64) -> tuple[Array, Array]:
    X = rng.standard_normal((n, d)).astype(dtype)
    noise = 0.5 * rng.standard_normal(n)
    return X, (X @ np.arange(1.0, d + 1) + 3 + noise).astype(dtype)


def least_squares(X: Array, y: Array, weight: Any = 1.0) -> Array:
    """Return the weights and the intercept, by LAPACK in float64."""
    root = np.sqrt(np.broadcast_to(weight, len(y)))[:, None]
    A = np.column_stack([X, np.ones(len(X))]).astype(float) * root
    return np.linalg.lstsq(A, y * root[:, 0], rcond=None)[0]


def parameters(result: gd.RollingFit, k: int) -> Array:
    return np.append(result.weights[k], result.intercept[k]).astype(float)


def close(found: Array, expected: Array, rtol: float = 1e-10) -> bool:
    return bool(np.linalg.norm(found - expected) <= rtol * np.linalg.norm(expected))


def quiet(*given: Any, **how: Any) -> gd.RollingFit:
    """Fit windows of which the first may have too few rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gd.FitWarning)
        return gd.fit_rolling(*given, **how)


def same(a: gd.RollingFit, b: gd.RollingFit) -> bool:
    fields = ("first_row", "last_row", "rows", "weights", "intercept", "loss", "r2_lost", "rank")
    alike = all(getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in fields)
    return alike and a.status.tolist() == b.status.tolist()


@each("n, window, step", [(1, 1, 1), (60, 1, 1), (60, 60, 1), (60, 7, 3), (60, 25, 1), (60, 2, 9)])
def test_windows_are_those_of_lstsq(rng: Any, n: int, window: int, step: int) -> None:
    """Those of fewer rows than parameters too: SINGULAR, and of least norm."""
    X, y = regression(rng, n)
    result = quiet(X, y, window, step=step)
    assert result.last_row.tolist() == list(range(window - 1, n, step))
    assert (result.last_row - result.first_row == window - 1).all()
    assert (result.rows == window).all()
    for k, last in enumerate(result.last_row.tolist()):
        rows = slice(last - window + 1, last + 1)
        assert close(parameters(result, k), least_squares(X[rows], y[rows]), 1e-9)
        assert (result.status[k] == Status.SINGULAR) == (window < 3)
        assert result.rank[k] == min(window, 3)


def test_windows_that_expand(rng: Any) -> None:
    X, y = regression(rng)
    result = quiet(X, y, None)
    assert result.first_row.tolist() == [0] * 120
    assert result.rows.tolist() == list(range(1, 121))
    assert result.recomputed == 1
    assert result.status.tolist() == [Status.SINGULAR] * 2 + [Status.CONVERGED] * 118
    for k in range(120):
        assert close(parameters(result, k), least_squares(X[: k + 1], y[: k + 1]))
    later = gd.fit_rolling(X, y, None, min_rows=10, step=7)
    assert later.last_row.tolist() == list(range(9, 120, 7))


def test_statsmodels_has_the_same_windows(rng: Any) -> None:
    rolling_ols = pytest.importorskip("statsmodels.regression.rolling").RollingOLS
    X, y = regression(rng)
    holed = np.where(rng.random(120) < 0.15, np.nan, y)
    A = np.column_stack([X, np.ones(120)])
    for target, window, how, peers in [
        (y, 30, {}, {}),
        (y, 30, {"min_rows": 5}, {"min_nobs": 5, "expanding": True}),
        (holed, 30, {"missing": "drop", "min_rows": 10}, {"missing": "drop", "min_nobs": 10}),
    ]:
        ours = gd.fit_rolling(X, target, window, align=True, **how)
        theirs = rolling_ols(target, A, window=window, **peers).fit(params_only=True).params
        both = np.isfinite(theirs[:, 0])
        assert both.sum() > 60
        found = np.column_stack([ours.weights, ours.intercept])
        np.testing.assert_allclose(found[both], theirs[both], rtol=1e-9, atol=1e-12)
        if "missing" not in how:
            assert np.array_equal(np.isfinite(found[:, 0]), both)


def test_pandas_has_the_same_slopes_and_counts(rng: Any) -> None:
    pd = pytest.importorskip("pandas")
    X, y = regression(rng, d=1)
    holed = np.where(rng.random(120) < 0.2, np.nan, y)
    x, series = pd.Series(X[:, 0]), pd.Series(holed)
    ours = gd.fit_rolling(X, holed, 20, min_rows=8, missing="drop", align=True)
    over = pd.DataFrame({"x": x.where(series.notna()), "y": series}).rolling(20, min_periods=8)
    slope = over.cov().unstack()["x"]["y"] / over.var()["x"]
    np.testing.assert_allclose(ours.weights[:, 0], slope.to_numpy(), rtol=1e-9)
    counts = series.rolling(20, min_periods=0).count().to_numpy()
    ended = ours.first_row >= 0
    assert np.array_equal(ours.rows[ended], counts[ended])
    mean = quiet(np.empty((120, 0)), y, None, half_life=6.5)
    expected = pd.Series(y).ewm(halflife=6.5).mean()
    np.testing.assert_allclose(mean.intercept, expected.to_numpy(), rtol=1e-12)


def test_polars_ols_has_the_same_windows(rng: Any) -> None:
    """Rolling, expanding and recursive: the last two begin with a weak prior there."""
    pl, _ = pytest.importorskip("polars"), pytest.importorskip("polars_ols")
    X, y = regression(rng)
    frame, target = pl.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": y}), pl.col("y").least_squares
    how = {"add_intercept": True, "mode": "coefficients", "null_policy": "ignore"}
    prior = {"initial_state_covariance": 1e9}
    rolling = {"window_size": 30, "min_periods": 10}
    for theirs, ours, rtol in [
        (target.rolling_ols("a", "b", **rolling, **how), {"window": 30, "min_rows": 10}, 1e-9),
        (target.expanding_ols("a", "b", **prior, **how), {"window": None}, 1e-6),
        (
            target.rls("a", "b", half_life=20.0, **prior, **how),
            {"window": None, "half_life": 20},
            1e-6,
        ),
    ]:
        expected = frame.select(theirs.alias("fit"))["fit"].struct.unnest().to_numpy()
        result = quiet(X, y, align=True, **ours)
        found = np.column_stack([result.weights, result.intercept])
        np.testing.assert_allclose(found[15:], expected[15:], rtol)


# Times.


def dates(rng: Any, n: int = 120) -> Array:
    """Draw times that rise, some of them equal."""
    hours = np.sort(rng.integers(0, 24 * 200, n))
    hours[40:43] = hours[40]
    return np.datetime64("2021-03-01", "h") + hours


def test_windows_in_time_are_those_of_pandas(rng: Any) -> None:
    """They do not hold rows that are as old as they are long, nor later rows of the same time."""
    pd = pytest.importorskip("pandas")
    X, y = regression(rng)
    times = dates(rng)
    times[50] = times[49] + np.timedelta64(30, "D")
    times[51:] += times[50] - times[51]
    result = quiet(X, y, datetime.timedelta(days=30), times=times)
    counts = pd.Series(y, index=times.astype("M8[ns]")).rolling("30D").count().to_numpy()
    assert np.array_equal(result.rows, counts)
    assert result.rows[50] < result.rows[49] + 1
    assert result.last_row.tolist() == list(range(120))
    for k in range(120):
        rows = slice(result.first_row[k], k + 1)
        assert close(parameters(result, k), least_squares(X[rows], y[rows]), 1e-9)


def test_times_of_every_kind(rng: Any) -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    pa = pytest.importorskip("pyarrow")
    X, y = regression(rng)
    times, days = dates(rng), datetime.timedelta(days=30)
    expected = quiet(X, y, days, times=times)
    moments = times.astype("M8[us]")
    series = pd.Series(moments)
    aware = series.dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")
    numbers = (times - times[0]) / np.timedelta64(1, "D")
    for as_given, window in [
        (times.astype("M8[s]"), np.timedelta64(30, "D")),
        (times.astype("M8[ns]"), np.timedelta64(30 * 24 * 3600, "s")),
        (series, pd.Timedelta("30D")),
        (pd.DatetimeIndex(series), days),
        (aware, days),
        (pl.Series(moments), days),
        (pl.Series(moments).dt.replace_time_zone("Asia/Tokyo"), days),
        (pa.array(moments), days),
        (moments.tolist(), days),
        (aware.dt.to_pydatetime().tolist(), days),
        (numbers, 30),
        (np.round(numbers * 24).astype(int), 720),
    ]:
        assert same(quiet(X, y, window, times=as_given), expected)
    whole = times.astype("M8[D]")
    by_day = quiet(X, y, days, times=whole)
    for as_given in (whole.tolist(), pl.Series(whole)):
        assert same(quiet(X, y, days, times=as_given), by_day)
    finer = quiet(X, y, np.timedelta64(30 * 24 - 1, "h"), times=whole)
    assert same(finer, quiet(X, y, np.timedelta64(30 * 24 - 1, "h"), times=whole.astype("M8[ns]")))


# Half-lives.


@each("window, step", [(40, 1), (40, 7), (None, 1), (None, 5)])
def test_half_lives_are_those_of_weighted_least_squares(
    rng: Any, dtype: Any, window: int | None, step: int
) -> None:
    X, y = regression(rng, 150, dtype=dtype)
    weight = rng.uniform(0.5, 2, 150).astype(dtype)
    rtol = 1e-10 if dtype == np.float64 else 1e-5
    for half_life in (0.8, 3, 25.5, 1e6):
        result = quiet(X, y, window, half_life=half_life, step=step, sample_weight=weight)
        for k, last in enumerate(result.last_row.tolist()):
            rows = slice(result.first_row[k], last + 1)
            ages = last - np.arange(result.first_row[k], last + 1)
            expected = least_squares(X[rows], y[rows], weight[rows] * 0.5 ** (ages / half_life))
            if result.rows[k] >= 6:
                assert close(parameters(result, k), expected, rtol)


def test_half_lives_in_time(rng: Any) -> None:
    X, y = regression(rng)
    times = dates(rng)
    week, month = np.timedelta64(7, "D"), np.timedelta64(30, "D")
    result = quiet(X, y, month, times=times, half_life=week)
    for k in range(120):
        rows = slice(result.first_row[k], k + 1)
        ages = (times[k] - times[rows]) / week
        if result.rows[k] >= 6:
            assert close(parameters(result, k), least_squares(X[rows], y[rows], 0.5**ages))
    hours = (times - times[0]) / np.timedelta64(1, "h")
    assert same(quiet(X, y, 720.0, times=hours, half_life=168.0), result)
    by_rows = gd.fit_rolling(X, y, 25, times=times, half_life=week)
    ages = (times[119] - times[95:]) / week
    assert close(parameters(by_rows, -1), least_squares(X[95:], y[95:], 0.5**ages))


def test_old_rows_leave_no_trace(rng: Any) -> None:
    """Rows of 100 half-lives are out of the window, however large they are."""
    X, y = regression(rng, 600)
    result = quiet(X, y, None, half_life=2)
    later = quiet(X[300:], y[300:], None, half_life=2)
    assert result.recomputed > 1
    for k in range(210, 300):  # its own window has 200 rows
        assert close(parameters(result, 300 + k), parameters(later, k), 1e-13)
    X[:300] *= 1e12
    y[:300] *= 1e12
    large = quiet(X, y, None, half_life=2)
    for k in range(210, 300):
        assert close(parameters(large, 300 + k), parameters(later, k), 1e-13)


def test_a_feature_that_only_old_rows_have(rng: Any) -> None:
    """Its sums fade without an error, and in the end it is a column of zeros."""
    X, y = regression(rng, 2500)
    X[20:, 1] = 0
    result = quiet(X, y, None, half_life=1.5)
    assert result.status[100] == Status.CONVERGED
    assert (result.status[200:] == Status.SINGULAR).all()
    assert (result.weights[200:, 1] == 0).all()
    assert np.isfinite(result.weights).all()


# Groups and threads.


def test_groups_have_the_bits_of_each_alone(rng: Any, dtype: Any) -> None:
    X, y = regression(rng, 700, dtype=dtype)
    labels = rng.choice(["d", "a", "c", "b"], 700, p=[0.5, 0.3, 0.19, 0.01])
    times = np.sort(rng.uniform(0, 100, 700))
    weight = rng.uniform(0.5, 2, 700).astype(dtype)
    for window, how in [
        (20, {}), (20, {"step": 7, "min_rows": 5}), (None, {"half_life": 12.5}),
        (15, {"times": times}),
        (15, {"times": times, "half_life": 4, "min_rows": 5}), (20, {"sgd": gd.SGD(), "tol": 1e-2}),
    ]:  # fmt: skip
        result = quiet(X, y, window, groups=labels, sample_weight=weight, **how)
        aligned = quiet(X, y, window, groups=labels, sample_weight=weight, align=True, **how)
        assert np.array_equal(aligned.groups, labels)
        for label in "abcd":
            rows = np.flatnonzero(labels == label)
            mine = dict(how) | ({"times": times[rows]} if "times" in how else {})
            if window == 20 and len(rows) < 20:
                assert (label in result.groups) == (len(rows) >= how.get("min_rows", 20))
                continue
            alone = quiet(X[rows], y[rows], window, sample_weight=weight[rows], **mine)
            here = result.groups == label
            for name in ("weights", "intercept", "loss", "epochs", "rows", "r2_lost"):
                expected = getattr(alone, name)
                assert getattr(result, name)[here].tobytes() == expected.tobytes()
                at = rows[alone.last_row]
                assert getattr(aligned, name)[at].tobytes() == expected.tobytes()
            assert np.array_equal(result.first_row[here], rows[alone.first_row])
            assert np.array_equal(result.last_row[here], rows[alone.last_row])


def test_threads_change_no_bit(rng: Any, dtype: Any) -> None:
    X, y = regression(rng, 6000, 6, dtype)
    for window, how in [
        (50, {}),
        (400, {"step": 3}),
        (None, {"half_life": 20}),
        (50, {"half_life": 9}),
    ]:
        found = [quiet(X, y, window, n_threads=threads, **how) for threads in (1, 2, 5)]
        assert all(same(each, found[0]) for each in found)
        assert {each.recomputed for each in found} == {found[0].recomputed}
        assert found[0].recomputed > 2


# Entries of the result.


def test_align_puts_windows_where_they_end(rng: Any) -> None:
    X, y = regression(rng)
    y = np.column_stack([y, -y])
    plain = gd.fit_rolling(X, y, 20, step=3)
    aligned = gd.fit_rolling(X, y, 20, step=3, align=True)
    ends = np.zeros(120, bool)
    ends[plain.last_row] = True
    assert len(aligned) == 120
    for name in ("weights", "intercept", "loss", "rows", "first_row", "last_row", "rank"):
        assert getattr(aligned, name)[ends].tobytes() == getattr(plain, name).tobytes()
    assert np.isnan(aligned.weights[~ends]).all()
    assert np.isnan(aligned.loss[~ends]).all()
    assert (aligned.status[~ends] == Status.EMPTY).all()
    assert (aligned.first_row[~ends] == -1).all()
    assert aligned.last_row.tolist() == list(range(120))
    assert aligned.message.endswith("Without enough rows: 86.")
    assert "EMPTY" not in aligned.message


def test_min_rows(rng: Any) -> None:
    X, y = regression(rng)
    result = gd.fit_rolling(X, y, 20, min_rows=5)
    assert result.rows.tolist() == list(range(5, 20)) + [20] * 101
    assert result.weights[15:].tobytes() == gd.fit_rolling(X, y, 20).weights.tobytes()
    times = np.r_[np.arange(60.0), 1000 + np.arange(60.0)]
    sparse = gd.fit_rolling(X, y, 10, times=times, min_rows=8)
    assert sparse.last_row.tolist() == list(range(7, 120))
    few = sparse.rows < 8
    assert np.flatnonzero(few).tolist() == list(range(53, 60))
    assert np.isnan(sparse.weights[few]).all()
    assert (sparse.status[few] == Status.EMPTY).all()


def test_missing_rows_are_left_out(rng: Any, dtype: Any) -> None:
    """Windows in time are those of the rows kept, but for the slides between them."""
    X, y = regression(rng, dtype=dtype)
    times = np.arange(120.0)
    gone = rng.random(120) < 0.2
    holed = X.copy(), y.copy(), np.zeros(120, dtype)
    for j, row in enumerate(np.flatnonzero(gone)):
        (holed[0][:, 1], holed[1], holed[2])[j % 3][row] = np.nan
    found = quiet(
        holed[0], holed[1], 15, offset=holed[2], times=times, missing="drop", half_life=9.0
    )
    kept = quiet(X[~gone], y[~gone], 15, times=times[~gone], half_life=9.0)
    few = found.rows[~gone] < 4
    assert few.sum() < 10
    rtol = 1e-12 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(found.weights[~gone][~few], kept.weights[~few], rtol)
    assert np.array_equal(found.rows[~gone], kept.rows)
    by_rows = quiet(holed[0], holed[1], 20, offset=holed[2], missing="drop", min_rows=1)
    counts = [int((~gone[max(0, i - 19) : i + 1]).sum()) for i in range(120)]
    assert by_rows.rows.tolist() == counts
    refused(lambda: gd.fit_rolling(*holed[:2], 9), "holds nan", ValueError)


def test_rows_without_a_label_are_in_no_window(rng: Any) -> None:
    X, y = regression(rng, d=1)
    gone = rng.random(120) < 0.2
    gone[[0, 119]] = True
    numbers = rng.integers(0, 3, 120)
    for labels, none in (
        (numbers.astype(float), np.nan),
        (np.array(list("abc"), object)[numbers], None),
        (np.datetime64("2020-01-01") + numbers, np.datetime64("NaT")),
    ):
        labels[gone] = none
        refused(lambda labels=labels: gd.fit_rolling(X, y, 9, groups=labels), "missing='drop'")
        for align in (False, True):
            how: Any = {"window": 9, "min_rows": 1, "fit_intercept": False, "align": align}
            found = gd.fit_rolling(X, y, groups=labels, missing="drop", **how)
            alone = gd.fit_rolling(X[~gone], y[~gone], groups=labels[~gone], **how)
            at = ~gone if align else slice(None)
            assert found.weights[at].tobytes() == alone.weights.tobytes()
            assert found.groups[at].tolist() == alone.groups.tolist()
            predictions = found.predict(X)
            assert predictions[~gone].tobytes() == alone.predict(X[~gone]).tobytes()
            assert np.isnan(predictions[gone]).all()
        assert np.isnan(found.weights[gone]).all()
        assert set(map(str, found.groups[gone])) == {str(none)}


def test_predict(rng: Any) -> None:
    X, y = regression(rng)
    groups = rng.integers(0, 3, 120)
    offset = rng.standard_normal(120)
    for step, align in ((1, False), (1, True), (4, False), (4, True)):
        result = gd.fit_rolling(X, y, 15, step=step, groups=groups, align=align)
        for lag in (0, 1, 3):
            found = result.predict(X, lag=lag, offset=offset)
            expected = np.full(120, np.nan)
            for g in range(3):
                rows = np.flatnonzero(groups == g)
                alone = gd.fit_rolling(X[rows], y[rows], 15, step=step)
                for place, row in enumerate(rows):
                    ended = np.flatnonzero(alone.last_row <= place - lag)
                    if len(ended):
                        fit = alone[int(ended[-1])]
                        expected[row] = fit.predict(X[row : row + 1])[0] + offset[row]
            np.testing.assert_allclose(found, expected, rtol=1e-13)
    two = gd.fit_rolling(X, np.column_stack([y, -y]), 15, covariance="ols")
    at = np.array([3, 3, -1])
    predictions = two.predict(X[:3], windows=at)
    for i, k in enumerate(at.tolist()):
        assert predictions[i].tobytes() == two[k].predict(X[i : i + 1])[0].tobytes()
    pytest.importorskip("scipy.special")
    how: Any = {"interval": "prediction", "level": 0.9}
    for found in (two.predict(X, **how), two.predict(X, windows=np.arange(120) % 106, **how)):
        assert found.lower.shape == (120, 2)
    for name, value in found._asdict().items():
        assert value[7].tobytes() == getattr(two[7].predict(X[7:8], **how), name)[0].tobytes()
    ends = two.predict(X, lag=1, **how)
    assert np.isnan(ends.upper[:15]).all()
    assert (ends.lower[15:] < ends.mean[15:]).all()


def test_one_window_as_a_fit(rng: Any) -> None:
    X, y = regression(rng)
    result = gd.fit_rolling(X, y, 20)
    fits = list(result)
    assert len(fits) == len(result) == 101
    assert fits[7].weights.tobytes() == result.weights[7].tobytes()
    assert fits[7].loss == result.loss[7]
    assert fits[7].status is Status.CONVERGED
    assert fits[7].message == "Solved in closed form."
    assert fits[7].rows == 20
    refused(lambda: result[101], "window 101 is not among", IndexError)
    refused(lambda: result["a"], "whole number", TypeError)
    assert same(pickle.loads(pickle.dumps(result)), result)


# Data that is hard.


def test_prices_far_from_zero(rng: Any) -> None:
    """Levels of 10 000 that move by cents: nearly dependent on the intercept, yet not singular."""
    walk = 1e4 + np.cumsum(0.01 * rng.standard_normal((400, 2)), axis=0)
    y = walk @ [0.7, 0.2] + 0.005 * rng.standard_normal(400)
    for how in ({}, {"half_life": 10}):
        result = gd.fit_rolling(walk, y, 30, **how)
        for k in range(0, len(result), 7):
            rows, ages = slice(k, k + 30), 29 - np.arange(30)
            weight = 0.5 ** (ages / 10) if how else 1.0
            root = np.sqrt(np.broadcast_to(weight, 30))[:, None]
            mean = (root**2 * walk[rows]).sum(axis=0) / (root**2).sum()
            expected = least_squares(walk[rows] - mean, y[rows], weight)[:2]
            assert close(result.weights[k], expected, 1e-7)


def test_constant_and_collinear_windows(rng: Any) -> None:
    X, y = regression(rng)
    X[40:70, 0] = 5.0
    X[80:110, 1] = 2 * X[80:110, 0]
    result = quiet(X, y, 10)
    singular = [k for k in range(111) if 40 <= k <= 60 or 80 <= k <= 100]
    assert np.flatnonzero(result.status == Status.SINGULAR).tolist() == singular
    for k in range(111):
        rows = slice(k, k + 10)
        assert close(parameters(result, k), least_squares(X[rows], y[rows]), 1e-9)


# Covariances.


def agree(found: Any, expected: Any, rtol: float = 1e-10) -> None:
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-300)


@each("fit_intercept", [True, False])
@each("half_life", [None, 9.5])
def test_statsmodels_has_the_same_inference(
    rng: Any, fit_intercept: bool, half_life: float | None
) -> None:
    sm = pytest.importorskip("statsmodels.api")
    X, y = regression(rng)
    weight = rng.uniform(0.5, 2, 120)
    weight[30:33] = 0
    how: dict[str, Any] = {"fit_intercept": fit_intercept, "half_life": half_life}
    result = gd.fit_rolling(X, y, 25, sample_weight=weight, covariance="ols", **how)
    A = np.column_stack([X, np.ones(120)]) if fit_intercept else X
    for k in range(0, 96, 5):
        rows = np.arange(k, k + 25)
        rows = rows[weight[rows] > 0]
        faded = 1.0 if half_life is None else 0.5 ** ((k + 24 - rows) / half_life)
        theirs = sm.WLS(y[rows], A[rows], weights=weight[rows] * faded).fit()
        agree(result.covariance[k], theirs.cov_params())
        agree(result.stderr[k], theirs.bse)
        agree(result.sigma2[k], theirs.scale)
        agree(result.r2[k], theirs.rsquared)
        agree(result.df_resid[k], theirs.df_resid)
        one = result[k]
        assert one.stderr.tobytes() == result.stderr[k].tobytes()
        if half_life is None:
            assert "Covariance" in str(one.summary())
    assert str(result.summary()) == str(result[-1].summary())


def test_rolling_ols_has_the_same_errors(rng: Any) -> None:
    rolling_ols = pytest.importorskip("statsmodels.regression.rolling").RollingOLS
    X, y = regression(rng)
    ours = gd.fit_rolling(X, y, 30, covariance="ols", align=True)
    theirs = rolling_ols(y, np.column_stack([X, np.ones(120)]), window=30)
    agree(ours.stderr[29:], theirs.fit(cov_type="nonrobust").bse[29:], 1e-9)
    assert np.isnan(ours.stderr[:29]).all()
    assert set(ours.inference.reason[:29]) == {"no window with min_rows rows ends there."}
    assert set(ours.inference.reason[29:]) == {""}


def test_inference_is_that_of_each_window_alone(rng: Any, dtype: Any) -> None:
    """Of windows solved from moments, and of those solved from rows; with several targets too."""
    X, y = regression(rng, dtype=dtype)
    y = np.column_stack([y, rng.standard_normal(120).astype(dtype)])
    rtol = 1e-9 if dtype == np.float64 else 1e-4
    for shift in (0, 300) if dtype == np.float32 else (0, 1e5):
        moved = X + dtype.type(shift)
        for targets in (y, y[:, 0]):
            result = gd.fit_rolling(moved, targets, 40, step=9, covariance="ols")
            for k, first in enumerate(result.first_row.tolist()):
                rows = slice(first, first + 40)
                alone = gd.fit(moved[rows], targets[rows], covariance="ols")
                slopes = (slice(0, 2), slice(0, 2))
                agree(result.covariance[k][(..., *slopes)], alone.covariance[(..., *slopes)], rtol)
                agree(result.sigma2[k], alone.sigma2, rtol)
                agree(result.r2[k], alone.r2, rtol)
                assert result.df_resid[k] == alone.df_resid


def test_residuals_too_small_for_moments_are_read_from_the_rows(rng: Any) -> None:
    X, _ = regression(rng)
    y = 1e6 + X @ [1.0, 2.0] + 1e-6 * rng.standard_normal(120)
    result = gd.fit_rolling(X, y, 40, covariance="ols")
    for k in range(0, 81, 10):
        alone = gd.fit(X[k : k + 40], y[k : k + 40] - 1e6, covariance="ols")
        agree(result.sigma2[k], alone.sigma2, 1e-4)  # y itself is rounded to 1e-10


@pytest.mark.filterwarnings("ignore:[0-9]+ windows?:gdcore.FitWarning")
def test_inference_says_why_it_is_nan(rng: Any) -> None:
    X, y = regression(rng)
    X[50:80, 1] = 3
    weight = np.ones(120)
    weight[100:] = 0
    result = gd.fit_rolling(X, y, 10, sample_weight=weight, covariance="ols")
    reason = np.asarray(result.inference.reason)
    assert "dependent" in reason[60]
    assert "no degrees of freedom" in reason[97]
    assert reason[110] == "no row counts."
    nan = np.isnan(result.sigma2)
    assert np.array_equal(nan, reason != "")
    assert np.array_equal(nan, np.isnan(result.stderr).all(axis=1))
    small = gd.fit_rolling(X, y, 3, covariance="ols")
    assert "no degrees of freedom" in small.inference.reason[0]
    ridge = gd.fit_rolling(X, y, 10, gd.SGD(weight_decay=0.1), method="exact", covariance="ols")
    assert "weight decay" in ridge.inference.reason[0]
    assert np.isnan(ridge.stderr).all()


def test_inference_of_groups_has_the_bits_of_each_alone(rng: Any) -> None:
    X, y = regression(rng)
    labels = rng.integers(0, 3, 120)
    result = gd.fit_rolling(X, y, 12, groups=labels, covariance="ols")
    for label in range(3):
        rows = labels == label
        alone = gd.fit_rolling(X[rows], y[rows], 12, covariance="ols")
        here = result.groups == label
        assert result.covariance[here].tobytes() == alone.covariance.tobytes()
        assert result.r2[here].tobytes() == alone.r2.tobytes()


def test_no_rows_and_no_windows() -> None:
    """A group may be smaller than the window, and a series may be empty."""
    X, y = np.ones((4, 2)), np.ones(4)
    for how in ({}, {"covariance": "ols"}, {"half_life": 3}):
        for result in (
            gd.fit_rolling(X, y, 3, groups=[1, 1, 2, 2], **how),
            gd.fit_rolling(X[:0], y[:0], None, **how),
            gd.fit_rolling(X[:0], y[:0], 3, align=True, groups=[], **how),
            gd.fit_rolling(X[:0], y[:0], 3, times=np.empty(0), **how),
        ):
            assert len(result) == len(result.rows) == len(result.first_row) == 0
            assert result.weights.shape == (0, 2)
            assert result.message == "0 windows: none."
        aligned = gd.fit_rolling(X, y, 9, align=True, **how)
        assert np.isnan(aligned.weights).all()
        assert aligned.status.tolist() == [Status.EMPTY] * 4
        assert np.isnan(aligned.predict(X)).all()
        assert aligned.message == "0 windows: none. Without enough rows: 4."
        assert aligned[0].message == "No window with min_rows rows ends there; the weights are NaN."
        assert repr(gd.fit_rolling(X, y, 9, groups=y, **how)).endswith("float64: none)")
        assert aligned[0].rows == 0


def test_windows_with_fewer_rows_than_parameters_say_what_helps(rng: Any) -> None:
    X, y = regression(rng, d=2)
    for how, ways in (
        ({"window": None}, r"2 SINGULAR have fewer rows than the 3 parameters: pass min_rows=3\."),
        ({"window": 2}, r"119 SINGULAR have fewer .* parameters: make the windows longer\."),
    ):
        with pytest.warns(gd.FitWarning, match=ways):
            gd.fit_rolling(X, y, **how)
    assert set(gd.fit_rolling(X, y, None, min_rows=3).status) == {Status.CONVERGED}


# Frames.


def test_to_frame(rng: Any) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("narwhals")
    X, y = regression(rng)
    frame = pd.DataFrame(X, columns=["a", "b"])
    labels, times = rng.choice(["x", "y"], 120), dates(rng)
    result = gd.fit_rolling(
        frame, y, 30, groups=labels, times=times, covariance="ols", align=True, min_rows=10
    )
    table = result.to_frame()
    assert list(table.columns) == [
        "group", "time", "last_row", "rows", "status", "loss", "weight_a", "weight_b", "intercept",
        "r2", "stderr_a", "stderr_b", "stderr_intercept",
    ]  # fmt: skip
    assert table["group"].tolist() == labels.tolist()
    assert np.array_equal(table["time"].to_numpy().astype("M8[h]"), times)
    assert np.array_equal(table["weight_b"], result.weights[:, 1], equal_nan=True)
    assert np.array_equal(table["stderr_a"], result.stderr[:, 0], equal_nan=True)
    assert set(table["status"]) == {"CONVERGED", "EMPTY"}
    several = gd.fit_rolling(X, np.column_stack([y, -y]), 30)
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    assert isinstance(several.to_frame("polars"), pl.DataFrame)
    assert isinstance(several.to_frame("pyarrow"), pa.Table)
    assert several.to_frame("polars").columns == [
        "last_row", "rows", "status", "loss", "weight_0_0", "weight_0_1", "weight_1_0",
        "weight_1_1", "intercept_0", "intercept_1",
    ]  # fmt: skip
    assert "<table" in several._repr_html_()
    assert repr(several).startswith("RollingFit(91 windows, weights of shape (91, 2, 2), float64")


# Bad input.

X, Y = np.arange(12.0).reshape(6, 2) ** 1.5, np.arange(6.0)
DATES, DAY = np.datetime64("2020-01-01") + np.arange(6), datetime.timedelta(days=1)


@each("call, match, error", [
    (lambda: gd.fit_rolling(X, Y, 0), "window is 0.*from 1 to the 6 rows", ValueError),
    (lambda: gd.fit_rolling(X, Y, 7), "window is 7.*from 1 to the 6 rows", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2.0), "window is 2.0", ValueError),
    (lambda: gd.fit_rolling(X[None], Y[None], 2), "two dimensions.*gdcore.fit alone", ValueError),
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
    (lambda: gd.fit_rolling(X * 1e160, Y, 2, groups=[1, 2, 1, 2, 1, 2]),
     "squares of rows 0 to 2 of group 1 leave", ValueError),
    (lambda: gd.fit_rolling(X, Y, "30D"), r"window is '30D'.*datetime.timedelta", TypeError),
    (lambda: gd.fit_rolling(X, Y, DAY), r"window is .*pass times=", ValueError),
    (lambda: gd.fit_rolling(X, Y, -DAY, times=DATES), "longer than 0", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2.5, times=DATES), "must be a length of time", TypeError),
    (lambda: gd.fit_rolling(X, Y, np.timedelta64(1, "M"), times=DATES), "not a fixed", ValueError),
    (lambda: gd.fit_rolling(X, Y, DAY, times=DATES[::-1]), "times falls at row 1.*argsort",
     ValueError),
    (lambda: gd.fit_rolling(X, Y, DAY, times=DATES[[0, 2, 1, 3, 4, 5]], groups=[1, 2, 2, 1, 1, 1]),
     r"times falls at row 2.*groups\[order\]", ValueError),
    (lambda: gd.fit_rolling(X, Y, DAY, times=DATES[:5]), r"times has shape \(5,\)", ValueError),
    (lambda: gd.fit_rolling(X, Y, DAY, times=[*DATES[:5], np.datetime64("NaT")]), "times holds NaT",
     ValueError),
    (lambda: gd.fit_rolling(X, Y, DAY, times=list("abcdef")), "times holds", TypeError),
    (lambda: gd.fit_rolling(X, Y, DAY, times=Y), "with times that are numbers", ValueError),
    (lambda: gd.fit_rolling(X, Y, 0, times=Y), "window is 0; with times", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, half_life=0), "half_life is 0", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, half_life=np.nan), "half_life is nan", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, half_life=DAY), "half_life is .*pass times=", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, half_life=3, times=DATES), "half_life is 3; with times that",
     TypeError),
    (lambda: gd.fit_rolling(X, Y, 2, half_life=1, reduction="sum"), "with half_life the loss is a",
     ValueError),
    (lambda: gd.fit_rolling(X, np.column_stack([Y, np.where(Y > 4, np.nan, Y)]), 2, missing="drop"),
     "missing values in different rows; fit each", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, half_life=1e-300), "half_life is too small", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, min_rows=3), "min_rows is 3.*from 1 to window, 2", ValueError),
    (lambda: gd.fit_rolling(X, Y, None, min_rows=0), "min_rows is 0", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, align="yes"), "align is 'yes'", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, missing="skip"), "missing is 'skip'", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, groups=[1, 2]), r"groups has shape \(2,\)", ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, covariance="hc1"), "covariance is 'hc1'.*'ols' alone",
     ValueError),
    (lambda: gd.fit_rolling(X, Y, 2, gd.SGD(), covariance="ols"), "leave out sgd", ValueError),
    (lambda: gd.fit_rolling(X, Y, 4).predict(X[:2]), "X has 2 rows and 6 were fitted", ValueError),
    (lambda: gd.fit_rolling(X, Y, 4).predict(X[:, :1]), r"of shape \(m, 2\)", ValueError),
    (lambda: gd.fit_rolling(X, Y, 4).predict(X, interval="prediction"), "needs the covariance",
     gd.NoCovarianceError),
    (lambda: gd.fit_rolling(X, Y, 4).predict(X, level=0.9), "there is no interval", ValueError),
    (lambda: gd.fit_rolling(X, Y, 4).predict(X, lag=-1), "lag is -1", ValueError),
    (lambda: gd.fit_rolling(X, Y, 4).predict(X, windows=[9] * 6), "windows holds 9", ValueError),
    (lambda: gd.fit_rolling(X, Y, 4).predict(X, windows=[0]), r"windows has shape \(1,\)",
     ValueError),
])  # fmt: skip
def test_bad_input(call: Any, match: str, error: type[Exception]) -> None:
    refused(call, match, error)
