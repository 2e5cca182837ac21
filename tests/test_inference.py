"""Standard errors, p-values, intervals and summaries, against statsmodels and plain float64."""

from __future__ import annotations

import copy
import pickle
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gdcore as gd
import nist
from gdcore.results import interval as intervals
from inference import KINDS
from loops import each
from problems import Array
from sandwich import reference

OLS: Any = {"covariance": "ols"}
FIELDS = ("covariance", "sigma2", "r2", "df_resid")
READ = (*FIELDS, "stderr", "tvalues", "pvalues", "adj_r2")


@pytest.fixture
def special() -> Any:
    return pytest.importorskip("scipy.special")


def draw(rng: Any, n: int, d: int, t: int | None = None, dtype: Any = float) -> tuple[Array, Array]:
    """Return well-conditioned rows, whose errors grow with the first column."""
    X = rng.standard_normal((n, d)).astype(dtype)
    B = rng.standard_normal((d, 1 if t is None else t))
    noise = rng.standard_normal((n, B.shape[1])) * (0.5 + np.abs(X[:, :1]))
    Y = (X @ B + 1.5 + noise).astype(dtype)
    return X, Y[:, 0] if t is None else Y


def design(X: Array, fit_intercept: bool) -> Array:
    return np.column_stack([X, np.ones(len(X))]) if fit_intercept else X


def close(ours: Any, theirs: Any, rtol: float = 1e-10) -> None:
    """Assert that no number is off by more than a part of itself; NaN is off."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert (np.abs(ours - theirs) <= rtol * np.abs(theirs)).all(), (ours, theirs)


def same(ours: gd.Fit, theirs: gd.Fit) -> None:
    """Assert that two fits say the same, to the bit."""
    for name in READ:
        a, b = np.asarray(getattr(ours, name)), np.asarray(getattr(theirs, name))
        assert a.tobytes() == b.tobytes(), name


def equal_bits(ours: Any, theirs: Any) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()


# ---------------------------------------------------------------- numbers


@each("kind", KINDS)
@each("fit_intercept", [True, False])
@each("weighted", [False, True])
@each("n, d", [(30, 3), (200, 1), (700, 6)])
def test_like_statsmodels(
    rng: Any, special: Any, kind: Any, fit_intercept: bool, weighted: bool, n: int, d: int
) -> None:
    sm = pytest.importorskip("statsmodels.api")
    X, y = draw(rng, n, d)
    weight = rng.uniform(0.2, 3, n) if weighted else None
    offset = rng.standard_normal(n)
    A = design(X, fit_intercept)
    model = sm.WLS(y - offset, A, 1.0 if weight is None else weight)
    theirs = model.fit(cov_type="nonrobust" if kind == "ols" else kind.upper(), use_t=True)
    fit = gd.fit(
        X,
        y,
        covariance=kind,
        fit_intercept=fit_intercept,
        sample_weight=weight,
        offset=offset,
    )
    close(fit.parameters, theirs.params)
    close(fit.covariance, theirs.cov_params(), 1e-9)  # entries near 0 cancel
    close(fit.stderr, theirs.bse)
    close(fit.tvalues, theirs.tvalues)
    close(fit.pvalues, theirs.pvalues, 1e-9)  # as t^2 / 2 times the error of t in the tail
    for level in (0.95, 0.5, 0.999):
        close(fit.conf_int(level), theirs.conf_int(1 - level))
    close([fit.r2, fit.adj_r2], [theirs.rsquared, theirs.rsquared_adj])
    close(fit.sigma2, theirs.scale)
    assert fit.df_resid == theirs.df_resid
    new = rng.standard_normal((17, d))
    frame = theirs.get_prediction(design(new, fit_intercept)).summary_frame(alpha=0.1)
    for which, name in (("confidence", "mean_ci"), ("prediction", "obs_ci")):
        found = fit.predict(new, interval=which, level=0.9)
        assert found.mean.tobytes() == fit.predict(new).tobytes()
        close(found.lower, frame[f"{name}_lower"], 1e-9)
        close(found.upper, frame[f"{name}_upper"], 1e-9)


@each("kind", KINDS)
@each("fit_intercept", [True, False])
@each("weighted", [False, True])
@each("t", [None, 2])
def test_like_plain_numpy(
    rng: Any, special: Any, kind: Any, fit_intercept: bool, weighted: bool, t: int | None
) -> None:
    """Several targets stand along the last axis, as in the weights."""
    X, y = draw(rng, 60, 4, t)
    weight = rng.integers(0, 3, 60).astype(float) if weighted else None
    how: Any = {"fit_intercept": fit_intercept, "sample_weight": weight}
    fit = gd.fit(X, y, covariance=kind, offset=0.5, **how)
    p = 4 + fit_intercept
    ending = () if t is None else (t,)
    for name in ("parameters", "stderr", "tvalues", "pvalues"):
        assert getattr(fit, name).shape == (p, *ending)
        assert getattr(fit, name).dtype == np.float64
    assert fit.conf_int().shape == (p, *ending, 2)
    assert fit.covariance.shape == (*ending, p, p)
    new = rng.standard_normal((9, 4))
    bounds = fit.predict(new, interval="confidence")
    beyond = fit.predict(new, interval="prediction")
    for j in range(t or 1):
        of = (..., j) if t else ...
        known = reference(X, y[of], kind, offset=0.5, **how)
        error = np.sqrt(np.diagonal(known.covariance))
        close(fit.parameters[of], known.parameters, 1e-11)
        close(fit.stderr[of], error)
        close(fit.tvalues[of], known.parameters / error)
        assert fit.df_resid == known.df_resid
        close(np.asarray(fit.sigma2)[of], known.sigma2)
        close(np.asarray(fit.r2)[of], known.r2)
        adjusted = 1 - (1 - known.r2) * (known.df_resid + 4) / known.df_resid
        close(np.asarray(fit.adj_r2)[of], adjusted)
        quantile = special.stdtrit(known.df_resid, 0.975)
        close(np.diff(fit.conf_int()[of], axis=-1)[..., 0] if t is None else
              np.diff(fit.conf_int()[:, j], axis=-1)[..., 0], 2 * quantile * error)  # fmt: skip
        A = design(new, fit_intercept)
        variance = np.sum(A @ known.covariance * A, axis=1)
        close((bounds.upper - bounds.lower)[of], 2 * quantile * np.sqrt(variance), 1e-9)
        variance += known.sigma2
        close((beyond.upper - beyond.lower)[of], 2 * quantile * np.sqrt(variance), 1e-9)
        close(fit.pvalues[of], 2 * special.stdtr(known.df_resid, -np.abs(fit.tvalues[of])), 1e-15)


@each("kind", KINDS)
def test_float32(rng: Any, special: Any, kind: Any) -> None:
    """The rows are exact in float64, so that only the weights' rounding shows in t values, and only
    that of the ends in intervals.
    """
    X, y = draw(rng, 80, 3, dtype=np.float32)
    fit = gd.fit(X, y, covariance=kind)
    known = reference(X, y, kind)
    error, unit = np.sqrt(np.diagonal(known.covariance)), 2.0**-24
    # Products of float32 rows summed in float64 leave a relative error of a few thousand units of
    # float64 for these 80 rows, far below one of float32.
    close(fit.stderr, error, unit)
    rounded = unit * np.abs(known.parameters) / error
    assert (np.abs(fit.tvalues - known.parameters / error) <= 2 * rounded + 1e-6).all()
    found = fit.predict(X, interval="prediction")
    wide = replace(fit, weights=fit.weights.astype(float), intercept=float(fit.intercept))
    exact = wide.predict(X.astype(float), interval="prediction")
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == np.float32
        size = np.abs(X) @ np.abs(fit.weights) + np.abs(fit.intercept) + np.abs(theirs)
        assert (np.abs(ours - theirs) <= 6 * unit * size).all()  # 3 products, 3 sums, the end


@each("name", [*nist.NAMES, *nist.WITHOUT_INTERCEPT])
def test_nist(name: str) -> None:
    """As many digits of the certified standard deviations as the condition leaves."""
    known = nist.read(name)
    fit = gd.fit(known.X, known.y, covariance="ols", fit_intercept=known.has_intercept)
    certified = np.array(known.standard_deviations, float)
    ours = np.roll(fit.stderr, known.has_intercept)
    wanted = {"lower": 12, "average": 11, "higher": 6}[known.difficulty]
    if not known.residual_standard_deviation:  # Wampler1 and Wampler2: y is a polynomial
        assert (fit.stderr <= 1e-6 * np.abs(fit.parameters)).all()
        return
    assert nist.digits(ours, certified) >= wanted
    deviation = np.array([known.residual_standard_deviation], float)
    assert nist.digits([np.sqrt(fit.sigma2)], deviation) >= wanted


@each("name", [name for name in nist.NAMES if name not in ("Wampler1", "Wampler2")])
def test_intervals_on_hard_rows(special: Any, name: str) -> None:
    """Against fractions, within the rounding of the covariance; NaN where that is all there is."""
    given = nist.read(name)
    X, known = given.X, nist.rounded(given)
    fit = gd.fit(X, given.y, covariance="ols")
    found = fit.predict(X, interval="confidence")
    half = (found.upper - found.lower) / 2 / special.stdtrit(fit.df_resid, 0.975)
    if name == "Filip":  # a condition of 1e10, whose square float64 cannot hold
        assert np.isnan(half).mean() > 0.9
        return
    true = []
    for row in np.column_stack([np.ones(len(X)), X]).tolist():
        x = [Fraction(value) for value in row]
        image = [sum(a * b for a, b in zip(part, x, strict=True)) for part in known.inverse]
        true.append(float(known.variance * sum(a * b for a, b in zip(image, x, strict=True))))
    close(half, np.sqrt(true), 1e-7 if name == "Longley" else 1e-9)


def test_an_exact_line() -> None:
    """In fractions: y = 1, 2, 4 at x = 0, 1, 2 has slope 3/2 with variance 1/12."""
    fit = gd.fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 4.0], covariance="ols")
    close(fit.covariance, np.array([[1, -1], [-1, Fraction(5, 3)]], float) / 12, 1e-14)
    close([fit.sigma2, fit.r2], [float(Fraction(1, 6)), float(Fraction(27, 28))], 1e-14)
    assert fit.df_resid == 1
    # With one degree of freedom t is Cauchy's: P = 1 - 2 atan(t) / pi.
    pytest.importorskip("scipy.special")
    t = 1.5 * np.sqrt(12)
    close(fit.pvalues[0], 1 - 2 * np.arctan(t) / np.pi, 1e-13)


def test_tiny_probabilities_keep_their_digits(special: Any) -> None:
    """A t of 200 with 40 degrees of freedom: the tail's series, not 1 less the rest."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((42, 1))
    fit = gd.fit(X, 7 * X[:, 0] + 0.05 * rng.standard_normal(42), covariance="ols")
    p = fit.pvalues[0]
    assert 0 < p < 1e-50
    df, t = fit.df_resid, float(fit.tvalues[0])
    x = df / (df + t * t)  # the incomplete beta function's series (DLMF 8.17.8)
    total, term, n = 0.0, 1.0, 0
    while term > 1e-18 * total:
        total += term
        term *= x * (df / 2 + 0.5 + n) / (df / 2 + 1 + n)
        n += 1
    log = df / 2 * np.log(x) + np.log1p(-x) / 2 - np.log(df / 2) - special.betaln(df / 2, 0.5)
    close(p, np.exp(log) * total, 1e-12)


# ---------------------------------------------------------------- many problems


@each("kind", ["ols", "hc3"])
@each("t", [None, 2])
@each("fit_intercept", [True, False])
def test_each_of_many_has_the_bits_of_one(
    rng: Any, special: Any, kind: Any, t: int | None, fit_intercept: bool
) -> None:
    how: Any = {"covariance": kind, "fit_intercept": fit_intercept}
    X, y = draw(rng, 5 * 20, 3, t)
    stack_X, stack_y = X.reshape(5, 20, 3), y.reshape(5, 20, *y.shape[1:])
    labels = np.repeat(["e", "d", "c", "b", "a"], [9, 30, 21, 20, 20])
    stack, grouped = gd.fit(stack_X, stack_y, **how), gd.fit_groups(X, y, labels, **how)
    p, ending = 3 + fit_intercept, () if t is None else (t,)
    new = rng.standard_normal((7, 3))
    owners = np.array(["a", "e", "c", "a", "b", "d", "a"])
    assert stack.covariance.shape == (5, *ending, p, p)
    for name in ("parameters", "stderr", "tvalues", "pvalues"):
        assert getattr(stack, name).shape == (5, p, *ending)
    assert stack.conf_int().shape == (5, p, *ending, 2)
    for name in ("sigma2", "r2", "adj_r2"):
        assert getattr(stack, name).shape == (5, *ending)
    assert stack.df_resid.tolist() == [20 - p] * 5
    assert grouped.df_resid.tolist() == (np.array([20, 20, 21, 30, 9]) - p).tolist()
    for interval in ("confidence", "prediction"):
        ask: Any = {"interval": interval, "level": 0.8}
        together = stack.predict(new, **ask)
        apart = stack.predict(stack_X, **ask)
        owned = grouped.predict(new, groups=owners, **ask)
        for i in range(5):
            alone = gd.fit(stack_X[i], stack_y[i], **how)
            same(stack[i], alone)
            equal_bits([part[i] for part in together], alone.predict(new, **ask))
            equal_bits([part[i] for part in apart], alone.predict(stack_X[i], **ask))
            label = str(grouped.groups[i])
            alone = gd.fit(X[labels == label], y[labels == label], **how)
            same(grouped[i], alone)
            mine = owners == label
            equal_bits([part[mine] for part in owned], alone.predict(new[mine], **ask))
    same(stack, gd.fit(stack_X, stack_y, n_threads=1, **how))


def test_some_of_many_keep_no_memory_of_the_rest(rng: Any, special: Any) -> None:
    X, y = draw(rng, 400, 1, 2)
    fits = gd.fit(X.reshape(100, 4, 1), y.reshape(100, 4, 2), covariance="ols")
    for part in (fits[3], fits[2:9], fits[fits.rows > 3]):
        for name in FIELDS:
            base = getattr(np.asarray(getattr(part, name)), "base", None)
            assert base is None or base.nbytes <= np.asarray(getattr(part, name)).nbytes
    same(fits[2:9][1], fits[3])
    assert isinstance(fits[3].inference.reason, str)
    assert fits[2:9].inference.reason.shape == (7,)


def test_rows_in_chunks_and_moments(rng: Any, special: Any) -> None:
    X, y = draw(rng, 600, 2)
    pieces = [(X[:250], y[:250]), (X[250:], y[250:])]
    for kind in ("ols", "hc2"):
        whole, chunked = gd.fit(X, y, covariance=kind), gd.fit(pieces, covariance=kind)
        for name in READ:
            close(getattr(chunked, name), getattr(whole, name), 1e-9)
        assert str(chunked.summary()) == str(whole.summary())
        found = chunked.predict(X, interval="prediction")
        close(found.upper, whole.predict(X, interval="prediction").upper, 1e-9)
    moments = gd.Moments(2).update(X, y).fit(covariance="ols")
    close(moments.pvalues, gd.fit(X, y, covariance="ols").pvalues, 1e-8)


def test_blocks_change_no_bit(rng: Any, special: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = draw(rng, 4 * 50, 3, 2)
    labels = rng.integers(0, 4, 200)
    one = gd.fit(X, y, covariance="ols")
    stack = gd.fit(X.reshape(4, 50, 3), y.reshape(4, 50, 2), covariance="ols")
    groups = gd.fit_groups(X, y, labels, covariance="ols")

    def all_of_them() -> list[gd.Prediction]:
        return [
            one.predict(X, interval="confidence"),
            stack.predict(X[:60], interval="prediction"),
            groups.predict(X, groups=labels, interval="confidence"),
        ]

    whole = all_of_them()
    for size in (1, 30, 100):
        monkeypatch.setattr(intervals, "_BLOCK", size)
        monkeypatch.setattr(intervals, "_FEWEST_ROWS", 1)
        for ours, theirs in zip(all_of_them(), whole, strict=True):
            equal_bits(ours, theirs)


def test_an_interval_without_width(special: Any) -> None:
    """Weights without an error leave none to predictions: 0, not NaN."""
    fit = gd.fit([[1.0], [2.0], [3.0]], [2.0, 4.0, 6.0], covariance="hc0", fit_intercept=False)
    assert fit.stderr.tolist() == [0.0]
    equal_bits(fit.predict([[5.0]], interval="confidence"), [np.array([10.0])] * 3)


def test_empty_inputs(special: Any) -> None:
    fit = gd.fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 4.0], covariance="ols")
    found = fit.predict(np.empty((0, 1)), interval="prediction")
    assert [part.shape for part in found] == [(0,)] * 3
    none = gd.fit(np.empty((0, 5, 2)), np.empty((0, 5)), covariance="ols")
    assert none.stderr.shape == none.pvalues.shape == (0, 3)
    assert none.conf_int().shape == (0, 3, 2)
    assert none.predict(np.zeros((4, 2)), interval="confidence").lower.shape == (0, 4)
    assert "Problems:" in str(none.summary())


# ---------------------------------------------------------------- where they mean nothing


@each("kind", ["ols", "hc3"])
@pytest.mark.filterwarnings("ignore::gdcore.FitWarning", "ignore::gdcore.LearningRateWarning")
def test_nan_with_its_reason(rng: Any, kind: Any) -> None:
    """Alone, in a stack and in the summary; the degrees of freedom are known all the same."""
    X, y = draw(rng, 30, 2)
    dependent = np.column_stack([X[:, 0], 2 * X[:, 0]])
    cases: list[tuple[str, Array, Array, Any, dict[str, Any], str]] = [
        ("SINGULAR", dependent, y, None, {}, "the columns of X are dependent"),
        ("CONVERGED", X, y, gd.SGD(weight_decay=0.1), {"method": "exact"}, "weight decay"),
        ("CONVERGED", X[:3], y[:3], None, {}, "no degrees of freedom"),
        ("MAX_EPOCHS", X, y, gd.SGD(lr=1e-4), {"epochs": 2}, "not at the minimum"),
        ("DIVERGED", X, y, gd.SGD(lr=1e4), {"epochs": 500}, "not at the minimum"),
        ("EMPTY", X[:0], y[:0], None, {}, "no row counts"),
        ("EMPTY", X, y, None, {"sample_weight": np.zeros(30)}, "no row counts"),
    ]
    for status, rows, target, sgd, how, reason in cases:
        weights = how.get("sample_weight")
        stacked = {**how, "sample_weight": weights[None]} if weights is not None else how
        one = gd.fit(rows, target, sgd, covariance=kind, **how)
        many = gd.fit(rows[None], target[None], sgd, covariance=kind, **stacked)
        counted = 0 if weights is not None else len(target)
        for fit in (one, many[0]):
            assert fit.status == status
            assert reason in fit.inference.reason
            assert np.isnan([*fit.stderr, *fit.tvalues, fit.sigma2, fit.r2, fit.adj_r2]).all()
            assert fit.df_resid == counted - 3
            text = str(fit.summary())
            assert f"No standard errors: {fit.inference.reason}" in text
            assert (fit.message in text) == (status != "CONVERGED")
        if not len(target):
            continue
        pytest.importorskip("scipy.special")
        assert np.isnan(one.pvalues).all()
        assert np.isnan(one.conf_int()).all()
        found = one.predict(X, interval="prediction")
        assert np.isnan([found.lower, found.upper]).all()
        assert found.mean.tobytes() == one.predict(X).tobytes()


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning")
def test_one_bad_group_spoils_no_other(rng: Any, special: Any) -> None:
    X, y = draw(rng, 30, 2)
    X[10:20, 1] = X[10:20, 0]
    labels = np.repeat(["a", "b", "c", "d"], [10, 10, 8, 2])
    fits = gd.fit_groups(X, y, labels, covariance="hc1")
    same(fits[0], gd.fit(X[:10], y[:10], covariance="hc1"))
    same(fits[2], gd.fit(X[20:28], y[20:28], covariance="hc1"))
    assert np.isnan(fits.stderr[[1, 3]]).all()
    text = str(fits.summary())
    for label, reason in (("b", "the columns of X are dependent"), ("d", "there are no degrees")):
        first = f"(the first is group '{label}')"
        assert f"1 of 4 problems have no standard errors {first}: {reason}" in text


def test_rows_that_do_not_count(rng: Any) -> None:
    """Weights of 0 count in nothing; a weight of 2 is no second row."""
    X, y = draw(rng, 40, 2)
    weight = np.repeat([1.0, 0.0], 20)
    for kind in KINDS:
        part = gd.fit(X[:20], y[:20], covariance=kind)
        fit = gd.fit(X, y, sample_weight=weight, covariance=kind)
        assert fit.df_resid == part.df_resid == 17
        close(fit.stderr, part.stderr)
        close([fit.sigma2, fit.r2, fit.adj_r2], [part.sigma2, part.r2, part.adj_r2])
        double = gd.fit(X[:20], y[:20], sample_weight=np.full(20, 2.0), covariance=kind)
        close(double.stderr, part.stderr)
        close(double.sigma2, 2 * part.sigma2)


# ---------------------------------------------------------------- without a covariance


def test_without_covariance(tmp_path: Path) -> None:
    """The error says what to do; copies, pickles and what asks by `hasattr` are not disturbed."""
    one = gd.fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 4.0])
    many = gd.fit_groups([[0.0], [1.0], [0.0], [1.0]], [1.0, 2.0, 4.0, 3.0], [1, 1, 2, 2])
    for fit in (one, many):
        for name in READ:
            assert not hasattr(fit, name)
            with pytest.raises(gd.NoCovarianceError, match=rf"^{name} .* covariance='ols'"):
                getattr(fit, name)
        with pytest.raises(gd.NoCovarianceError, match=r"^conf_int\(\) needs"):
            fit.conf_int()
        with pytest.raises(gd.NoCovarianceError, match=r"^interval='confidence' needs"):
            fit.predict([[1.0]], interval="confidence")
        assert fit.parameters.shape == (*np.shape(fit.weights)[:-1], 2)
        text = str(fit.summary())
        assert "coef" in text
        assert "std err" not in text
        assert "fit again with covariance='ols'" in text
        assert copy.copy(fit).inference is None
        assert pickle.loads(pickle.dumps(fit)).inference is None
        fit.save(tmp_path / "fit.npz")
        assert gd.load(tmp_path / "fit.npz").inference is None
        repr(fit)
    assert issubclass(gd.NoCovarianceError, ValueError)
    assert issubclass(gd.NoCovarianceError, AttributeError)


def test_wrong_kinds() -> None:
    """In every way in; None is what leaving it out means."""
    X, y = np.arange(8.0).reshape(4, 2) ** 2, np.arange(4.0)
    ways: list[Any] = [
        lambda **how: gd.fit(X, y, **how),
        lambda **how: gd.fit(X[None], y[None], **how),
        lambda **how: gd.fit_groups(X, y, [1, 1, 1, 1], **how),
    ]
    for way in ways:
        for wrong in ("hc4", "OLS", "", True, 3, ["ols"]):
            with pytest.raises(ValueError, match=r"choose one of None, 'ols', 'hc0', 'hc1', 'hc2'"):
                way(covariance=wrong)
        with pytest.raises(
            ValueError, match=r"covariance is for fits at the minimum, .* leave out"
        ):
            way(covariance="ols", sgd=gd.SGD(), batch_size=2)
        assert way(covariance=None).inference is None


def test_wrong_values() -> None:
    X, y = [[0.0], [1.0], [2.0]], [1.0, 2.0, 4.0]
    for fit in (gd.fit(X, y, covariance="ols"), gd.fit([X], [y], covariance="ols")):
        with pytest.raises(ValueError, match=r"interval is 'both'; choose one of 'confidence', 'p"):
            fit.predict(X, interval="both")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"level is 0\.9, but there is no interval; pass inte"):
            fit.predict(X, level=0.9)
        for level in (0, 1, 95, -0.5, np.nan, True, "0.9", None, [0.9]):
            wrong: Any = level
            asked = [
                (fit.conf_int, {}),
                (fit.summary, {}),
                (fit.predict, {"X": X, "interval": "confidence"}),
            ]
            for ask, how in asked:
                with pytest.raises(ValueError, match=r"it must be between 0 and 1, such as 0\.95"):
                    ask(level=wrong, **how)


# ---------------------------------------------------------------- files and copies


@each("t", [None, 2])
def test_files_pickles_and_copies(rng: Any, tmp_path: Path, special: Any, t: int | None) -> None:
    X, y = draw(rng, 40, 2, t)
    one = gd.fit(X, y, covariance="hc1")
    many = gd.fit_groups(X, y, rng.integers(0, 3, 40), covariance="hc1")
    for fit in (one, many):
        fit.save(tmp_path / "fit.npz")
        for other in (
            gd.load(tmp_path / "fit.npz"),
            pickle.loads(pickle.dumps(fit)),
            copy.copy(fit),
            copy.deepcopy(fit),
            replace(fit, target_name=None),
        ):
            same(other, fit)
            assert other.inference is not None
            assert other.inference.kind == "hc1"
            assert str(other.summary()) == str(fit.summary())
            equal_bits(other.predict(X[:1], interval="prediction"),
                       fit.predict(X[:1], interval="prediction"))  # fmt: skip
    same(gd.load(tmp_path / "fit.npz")[1], many[1])


def test_a_damaged_file(tmp_path: Path) -> None:
    gd.fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 4.0], covariance="ols").save(tmp_path / "fit.npz")
    with np.load(tmp_path / "fit.npz") as file:
        arrays = {name: file[name] for name in file.files if name != "inference_sigma2"}
    np.savez(tmp_path / "fit.npz", **arrays)
    with pytest.raises(ValueError, match="only a part of a gdcore fit: 'sigma2' is missing"):
        gd.load(tmp_path / "fit.npz")


def test_a_warm_start_ignores_it(rng: Any) -> None:
    X, y = draw(rng, 40, 2)
    with_it, without = gd.fit(X, y, covariance="ols"), gd.fit(X, y)
    for start in (with_it, without):
        assert gd.fit(X, y, gd.SGD(), init=start).inference is None
    first, second = (gd.fit(X, y, gd.SGD(), epochs=3, tol=None, init=s) for s in (with_it, without))
    assert first.weights.tobytes() == second.weights.tobytes()


# ---------------------------------------------------------------- summaries

ONE = """\
                             Linear model
=====================================================================
Target:       sales               Status:         CONVERGED
Rows:         5                   R-squared:      0.9822
Df residuals: 3                   Adj. R-squared: 0.9762
Covariance:   ols                 Sigma:          0.2608
Method:       exact
=====================================================================
               coef   std err         t     P>|t|    [0.025    0.975]
---------------------------------------------------------------------
price        1.0600    0.0825    12.854     0.001    0.7976    1.3224
intercept    0.8800    0.2020     4.357     0.022    0.2372    1.5228
=====================================================================
Standard errors assume errors of one variance (covariance='ols')."""


def line(**how: Any) -> gd.Fit:
    fit = gd.fit(np.arange(5.0)[:, None], [1.0, 1.6, 3.2, 4.2, 5.0], covariance="ols", **how)
    return replace(fit, feature_names=("price",), target_name="sales")


def test_the_text_of_a_summary(special: Any) -> None:
    summary = line().summary()
    assert str(summary) == repr(summary) == ONE
    assert " [0.05     0.95]" in str(line().summary(level=0.9))
    assert " 0.99995]" in str(line().summary(level=0.9999))
    gaps = gd.fit(np.arange(6.0)[:, None], [1.0, 1.6, np.nan, 3.2, 4.2, 5.0], missing="drop")
    assert "Rows:          5 " in str(gaps.summary())
    assert "Rows left out: 1\n" in str(gaps.summary())
    unnamed = str(replace(line(), feature_names=None, target_name=None).summary())
    assert "\nx1 " in unnamed
    assert "Target:       y " in unnamed


def test_the_html_of_a_summary(special: Any) -> None:
    """It is well formed, and names are escaped."""
    from xml.etree import ElementTree

    fit = replace(line(), feature_names=("<b>&",))
    tree = ElementTree.fromstring(fit.summary()._repr_html_())
    facts, table = tree.findall("table")
    assert [cell.text for cell in facts.findall("tr")[0]] == ["Target", "sales"]
    rows = [[cell.text for cell in row] for row in table.findall("tr")]
    assert rows[0] == [None, "coef", "std err", "t", "P>|t|", "[0.025", "0.975]"]
    assert rows[1] == ["<b>&", "1.0600", "0.0825", "12.854", "0.001", "0.7976", "1.3224"]
    assert len(rows) == 3


def test_a_block_for_each_target(rng: Any, special: Any) -> None:
    X, y = draw(rng, 30, 2, 3)
    text = str(gd.fit(X, y, covariance="hc2").summary())
    assert "Target:       3 columns" in text
    assert text.count("Target y[:, ") == text.count("coef") == 3
    assert text.count("\nintercept") == 3
    assert text.endswith("(covariance='hc2').")


def test_a_summary_says_why_numbers_are_missing() -> None:
    """For each reason of many, how many problems it holds for, and the first of them."""
    nan, reasons = (
        np.nan,
        np.array(["", "too few rows.", "", "dependent.", "too few rows."], object),
    )
    V, s = np.full((5, 2, 2), nan), np.full(5, nan)
    V[::2], s[::2] = np.eye(2), 1.0
    X, y = np.arange(20.0).reshape(5, 4, 1), np.arange(20.0).reshape(5, 4) ** 2
    fits = gd.fit(X, y)
    many = replace(fits, inference=gd.Inference("ols", V, s, s, np.full(5, 2), reasons))
    text = str(many.summary())
    assert (
        "2 of 5 problems have no standard errors (the first is problem 1): too few rows.\n"
        "1 of 5 problems have no standard errors (the first is problem 3): dependent.\n"
    ) in text
    assert "problem 1  x1" in text
    lines = str(many[3].summary()).splitlines()
    assert "No standard errors: dependent." in lines
    assert any(
        text.split()[2:] == ["nan"] * len(text.split()[2:]) for text in lines if "x1 " in text
    )
    assert "No standard errors" not in str(many[0].summary())
    pytest.importorskip("scipy.special")
    assert np.isnan(many.pvalues[1]).all()
    assert np.isfinite(many.pvalues[0]).all()
    found = many.predict(X, interval="confidence")
    assert np.isnan(found.lower[[1, 3]]).all()
    assert np.isfinite(found.mean).all()


def test_a_summary_of_many_is_short(rng: Any, special: Any) -> None:
    X, y = draw(rng, 3000, 2)
    labels = [f"s{k:04d}" for k in range(1000) for _ in range(3)]
    fits = gd.fit_groups(X, y, labels, covariance="ols")
    lines = str(fits.summary()).splitlines()
    assert len(lines) <= 40
    assert any(text.startswith("group 's0000'  x1 ") for text in lines)
    assert "Problems: 1000 " in str(fits.summary())
    assert "3 to 3, 3000 in all" in str(fits.summary())
    assert "The table shows the first 5 problems of 1000; fits[i].summary() shows another." in lines
    wide = gd.fit(*(part[None] for part in draw(rng, 90, 60)), covariance="ols")
    assert len(str(wide.summary()).splitlines()) <= 50


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning")
def test_targets_with_gaps_of_their_own_have_the_bits_of_each_alone(
    rng: Any, special: Any, tmp_path: Path
) -> None:
    """In a fit, stacks, groups and chunks, from files too: one df_resid and reason a target."""
    X, y = draw(rng, 60, 2, 3)
    y[rng.random((60, 3)) < 0.2] = np.nan
    y[3:, 2] = np.nan  # no degrees of freedom
    labels = rng.integers(0, 2, 60)
    how: Any = {"missing": "drop", "covariance": "hc1"}

    def check(fit: gd.Fit, rows: Array, t: int = 3, *, to_the_bit: bool = True) -> None:
        for j in range(t):
            kept = rows & ~np.isnan(y[:, j])
            alone = gd.fit(X[kept], y[kept, j], covariance="hc1")
            assert (fit.inference.reason[j] == "") == (alone.inference.reason == "")
            for name in READ:
                value = np.asarray(getattr(fit, name))
                value = value[:, j] if name in ("stderr", "tvalues", "pvalues") else value[j]
                np.testing.assert_allclose(value, getattr(alone, name), 1e-9 * (not to_the_bit))
            np.testing.assert_allclose(fit.conf_int()[:, j], alone.conf_int(), 1e-9)
            for kind in ("confidence", "prediction"):
                found = fit.predict(X[:5], interval=kind)
                for ours, theirs in zip(found, alone.predict(X[:5], interval=kind), strict=True):
                    np.testing.assert_allclose(ours[:, j], theirs, 1e-9)

    everywhere = np.ones(60, bool)
    one, stack = gd.fit(X, y, **how), gd.fit(X[None], y[None], **how)
    groups = gd.fit_groups(X, y, labels, **how)
    chunked = gd.fit([(X[a : a + 17], y[a : a + 17]) for a in range(0, 60, 17)], **how)
    for fit in (one, stack[0]):
        check(fit, everywhere)
    check(chunked, everywhere, 2, to_the_bit=False)
    for i, label in enumerate(groups.groups):
        check(groups[i], labels == label)
    assert groups.predict(X, groups=labels, interval="prediction").lower.shape == (60, 3)
    assert groups.predict(X, interval="prediction").lower.shape == (2, 60, 3)
    for fit in (one, groups):
        fit.save(tmp_path / "fit.npz")
        read = gd.load(tmp_path / "fit.npz")
        same(read, fit)
        assert read.inference.reason.tolist() == fit.inference.reason.tolist()
    text = str(one.summary())
    assert text.count("Df residuals") == 3
    assert "No standard errors for y[:, 2]: there are no degrees of freedom" in text
    assert "2 of 2 problems have no standard errors for a target" in str(groups.summary())


def test_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard errors and t values need NumPy alone; the rest names what to install."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "scipy"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    fit = line()
    close(fit.stderr, np.sqrt([0.0068, 0.0408]), 1e-13)
    close(fit.tvalues, [1.06, 0.88] / np.sqrt([0.0068, 0.0408]), 1e-13)
    text = str(fit.summary())
    assert "std err" in text
    assert "P>|t|" not in text
    assert "pip install 'gdcore[stats]'" in text
    for ask in (
        lambda: fit.pvalues,
        fit.conf_int,
        lambda: fit.predict([[1.0]], interval="confidence"),
    ):
        with pytest.raises(ImportError, match=r"pip install 'gdcore\[stats\]'"):
            ask()
    assert fit.predict([[1.0]]).shape == (1,)


# ---------------------------------------------------------------- other libraries


def test_a_frame_has_the_bits_of_arrays(rng: Any, special: Any) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("narwhals")
    X, y = draw(rng, 30, 2)
    frame = pd.DataFrame({"b": X[:, 1], "a": X[:, 0], "y": y})
    fit = gd.fit(frame[["a", "b"]], frame["y"], covariance="hc3")
    same(fit, gd.fit(X, y, covariance="hc3"))
    assert "\na " in str(fit.summary())
    equal_bits(fit.predict(frame, interval="prediction"), fit.predict(X, interval="prediction"))


def test_tensors(rng: Any, special: Any) -> None:
    """The intervals are tensors of the dtype of the predictions; all else is NumPy's."""
    torch = pytest.importorskip("torch")
    for dtype in (np.float32, np.float64):
        X, y = draw(rng, 30, 2, dtype=dtype)
        ours = gd.fit(torch.from_numpy(X), torch.from_numpy(y), covariance="hc3")
        plain = gd.fit(X, y, covariance="hc3")
        same(ours, plain)
        assert isinstance(ours.stderr, np.ndarray)
        assert str(ours.summary()) == str(plain.summary())
        found = ours.predict(torch.from_numpy(X), interval="confidence")
        assert all(isinstance(part, torch.Tensor) for part in found)
        equal_bits([part.numpy() for part in found], plain.predict(X, interval="confidence"))
