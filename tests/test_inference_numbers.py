"""The numbers of covariances against fractions and NIST, and why there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gdcore as gd
import inference
import nist
from inference import KINDS
from loops import each

U = 2.0**-53


def bound(X: Any, n: int) -> float:
    """Return how far an entry of C may be off beside the norms of its rows.

    The factor is that of columns off by eps of their length (docs/numerics.md, the closed form);
    its inverse, the leverages and the residuals are off by a few times as much times the condition
    number of columns of one length, three times for a product of two rows and the residuals.
    """
    p = X.shape[1]
    values = np.linalg.svd(X / np.linalg.norm(X, axis=0), compute_uv=False)
    eps = p**0.5 * 10 * max(n, 64) * p * U
    return float(20 * eps * values[0] / values[-1])


@each("kind", KINDS)
@each("intercept", [True, False])
@each("weighted", [True, False])
def test_against_fractions(
    rng: Any, dtype: Any, kind: Any, intercept: bool, weighted: bool
) -> None:
    """In all kinds of fits; the data are float32 numbers where fits of float32 are."""
    n, d = 14, 3
    X = rng.normal(size=(n, d)).astype(dtype)
    y = (X[:, 0] - X[:, 1] + 5 + rng.normal(size=n)).astype(dtype)
    weight = rng.integers(0, 4, n).astype(dtype) if weighted else None
    want = inference.exact(X, y, weight, kind, intercept)
    A = np.hstack([X, np.ones((n, int(intercept)))]).astype(float)
    A = A if weight is None else A * np.sqrt(weight.astype(float))[:, None]
    tolerance = bound(A, n)
    how: dict[str, Any] = {"fit_intercept": intercept, "covariance": kind}
    twice = None if weight is None else np.tile(weight, 2)
    fits: dict[str, Any] = {
        "alone": gd.fit(X, y, sample_weight=weight, **how),
        "descent": gd.fit(X, y, gd.SGD(), epochs=50_000, sample_weight=weight, **how),
        "offset": gd.fit(X, y, sample_weight=weight, offset=np.zeros_like(y), **how),
        "chunks": gd.fit(
            [
                (X[a:b], y[a:b]) if weight is None else (X[a:b], y[a:b], weight[a:b])
                for a, b in ((0, 5), (5, n))
            ],
            **how,
        ),
        "groups": gd.fit_groups(
            np.tile(X, (2, 1)), np.tile(y, 2), np.repeat([0, 1], n), sample_weight=twice, **how
        ),
    }
    if kind == "ols":
        moments = gd.Moments(d, dtype=dtype).update(X, y, sample_weight=weight)
        fits["moments"] = moments.fit(**how)
    length = np.sqrt(np.diag(want.covariance))
    for name, fit in fits.items():
        found, i = inference.of(fit), 0 if name == "groups" else ...
        assert np.asarray(found.reason, object)[i] == "", name
        assert np.asarray(found.df_resid)[i] == want.df_resid, name
        errors = np.abs(found.covariance[i] - want.covariance) / np.outer(length, length)
        assert errors.max() <= tolerance, name
        assert abs(np.asarray(found.sigma2)[i] - want.sigma2) <= tolerance * want.sigma2, name
        assert abs(np.asarray(found.r2)[i] - want.r2) <= tolerance, name


@each("kind", KINDS)
@each("n", [64, 65, 512, 1200])
def test_rows_of_many_blocks_and_segments(rng: Any, dtype: Any, kind: Any, n: int) -> None:
    """Against the formulas in extended precision, for two targets."""
    X, weight = rng.normal(size=(n, 3)).astype(dtype), rng.uniform(0.5, 2, n).astype(dtype)
    y = (rng.normal(size=(n, 2)) * (1 + np.abs(X[:, :1]))).astype(dtype)
    found = inference.of(gd.fit(X, y, sample_weight=weight, covariance=kind))
    root = np.sqrt(weight.astype(np.longdouble))[:, None]
    A = np.hstack([X, np.ones((n, 1))]).astype(np.longdouble) * root
    inverse = np.linalg.inv((A.T @ A).astype(float)).astype(np.longdouble)
    inverse = inverse @ (2 * np.eye(4) - A.T @ A @ inverse)  # one step of Newton's iteration
    leverage = ((A @ inverse) * A).sum(axis=1)
    for u in range(2):
        target = root[:, 0] * y[:, u]
        squares = (target - A @ (inverse @ (A.T @ target))) ** 2
        factor = squares / (1 - leverage) ** {"hc2": 1, "hc3": 2}.get(kind, 0)
        want = inverse @ (A.T * factor) @ A @ inverse * (n / (n - 4) if kind == "hc1" else 1)
        if kind == "ols":
            want = inverse * squares.sum() / (n - 4)
        length = np.sqrt(np.diag(want))
        errors = np.abs(found.covariance[u] - want) / np.outer(length, length)
        assert errors.max() <= bound(A.astype(float), n)
        assert abs(found.sigma2[u] * (n - 4) / squares.sum() - 1) <= bound(A.astype(float), n)


@each("name", nist.NAMES + nist.WITHOUT_INTERCEPT)
@each("way", ["rows", "moments"])
def test_nist(name: str, way: str) -> None:
    """The standard deviations of the rows as rounded, to the digits that their condition leaves.

    Residuals that are 0 in fractions are rounding errors of y.
    """
    reference = nist.read(name)
    X, y, intercept = reference.X, reference.y, reference.has_intercept
    how: dict[str, Any] = {"fit_intercept": intercept, "covariance": "ols"}
    if way == "rows":
        found = inference.of(gd.fit(X, y, **how))
    else:
        found = inference.of(gd.Moments(X.shape[1]).update(X, y).fit(**how))
    true = nist.rounded(reference)
    ours = np.roll(np.diag(found.covariance), 1 if intercept else 0)
    exact = np.array(true.variances, float)
    A = np.hstack([X, np.ones((len(X), int(intercept)))])
    tolerance = bound(A, len(X))
    least = (tolerance * np.abs(y).max()) ** 2
    assert abs(found.sigma2 - float(true.variance)) <= tolerance * float(true.variance) + least
    scale = exact / float(true.variance) if true.variance else ours / found.sigma2
    assert (np.abs(ours - exact) <= 2 * tolerance * exact + 2 * scale * least).all()


def test_digits_of_nist() -> None:
    """How many digits of the certified values there are: float64 data, each set once."""
    digits = {"Norris": 13, "Pontius": 13, "Longley": 12, "Wampler3": 13, "Wampler4": 13,
              "Wampler5": 13, "Filip": 7, "NoInt1": 14, "NoInt2": 14}  # fmt: skip
    for name, least in digits.items():
        reference = nist.read(name)
        how: Any = {"fit_intercept": reference.has_intercept, "covariance": "ols"}
        for fit in (
            gd.fit(reference.X, reference.y, **how),
            gd.Moments(reference.X.shape[1]).update(reference.X, reference.y).fit(**how),
        ):
            found = np.sqrt(np.diag(inference.of(fit).covariance))
            found = np.roll(found, 1) if reference.has_intercept else found
            certified = np.array(reference.standard_deviations, float)
            assert nist.digits(found, certified) >= least, name


def test_rows_of_no_weight_do_not_count(rng: Any, dtype: Any) -> None:
    X, y = rng.normal(size=(40, 3)).astype(dtype), rng.normal(size=40).astype(dtype)
    weight = np.repeat([0, 1], 20).astype(dtype)
    for kind in KINDS:
        ours = inference.of(gd.fit(X, y, sample_weight=weight, covariance=kind))
        alone = inference.of(gd.fit(X[20:], y[20:], covariance=kind))
        assert ours.df_resid == alone.df_resid == 16
        np.testing.assert_allclose(ours.covariance, alone.covariance, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(ours.sigma2, alone.sigma2, rtol=1e-12)


def test_shapes(rng: Any, dtype: Any) -> None:
    X, y = rng.normal(size=(3, 20, 2)).astype(dtype), rng.normal(size=(3, 20, 4)).astype(dtype)
    for kind in ("ols", "hc2"):
        one = inference.of(gd.fit(X[0], y[0, :, 0], covariance=kind))
        assert one.covariance.shape == (3, 3)
        assert np.ndim(one.sigma2) == np.ndim(one.r2) == np.ndim(one.df_resid) == 0
        several = inference.of(gd.fit(X[0], y[0], covariance=kind))
        assert several.covariance.shape == (4, 3, 3)
        assert several.sigma2.shape == several.r2.shape == (4,)
        assert several.covariance[0].tobytes() == one.covariance.tobytes()
        many = inference.of(gd.fit(X, y[..., 0], covariance=kind))
        assert many.covariance.shape == (3, 3, 3)
        assert many.sigma2.shape == many.df_resid.shape == many.reason.shape == (3,)
        both = inference.of(gd.fit(X, y, covariance=kind, fit_intercept=False))
        assert both.covariance.shape == (3, 4, 2, 2)
        assert both.r2.shape == (3, 4)
        assert inference.of(gd.fit(X[:0], y[:0], covariance=kind)).covariance.shape == (0, 4, 3, 3)
        for found in (one, several, many, both):
            assert found.kind == kind
            assert found.covariance.dtype == np.float64
            transposed = np.swapaxes(found.covariance, -1, -2)
            assert transposed.tobytes() == np.ascontiguousarray(found.covariance).tobytes()


def ends(rng: Any) -> dict[str, tuple[dict[str, Any], str]]:
    """Return arguments of fits that have no covariance, and a part of the reason."""
    X = rng.normal(size=(20, 3))
    y = X @ [1.0, 2, 3] + rng.normal(size=20)
    wide = np.hstack([X, X[:, :1]])
    return {
        "dependent": ({"X": wide, "y": y}, "dependent"),
        "dependent, descent": ({"X": wide, "y": y, "sgd": gd.SGD(), "epochs": 9999}, "dependent"),
        "as many rows as parameters": ({"X": X[:4], "y": y[:4]}, "degrees of freedom"),
        "fewer rows": ({"X": X[:2], "y": y[:2]}, "degrees of freedom"),
        "no rows": ({"X": X[:0], "y": y[:0]}, "no row counts"),
        "no weight": ({"X": X, "y": y, "sample_weight": 0 * y}, "no row counts"),
        "ridge": ({"X": X, "y": y, "sgd": gd.SGD(weight_decay=1), "method": "exact"}, "decay"),
        "decay": ({"X": X, "y": y, "sgd": gd.SGD(weight_decay=1)}, "decay"),
        "epochs": ({"X": X, "y": y, "sgd": gd.SGD(), "epochs": 1}, "not at the minimum"),
        "diverged": ({"X": X, "y": y, "sgd": gd.SGD(lr=99), "epochs": 50}, "not at the minimum"),
        "no tol": ({"X": X, "y": y, "sgd": gd.SGD(), "tol": None}, "not at the minimum"),
    }


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning", "ignore::gdcore.LearningRateWarning")
@each("kind", ["ols", "hc0", "hc3"])
def test_no_covariance(rng: Any, dtype: Any, kind: Any) -> None:
    """All is NaN but the degrees of freedom, alone and in a stack, and the reason says why."""
    for name, (given, reason) in ends(rng).items():
        arrays = {
            key: value.astype(dtype) if isinstance(value, np.ndarray) else value
            for key, value in given.items()
        }
        stacked = {
            key: np.stack([value, value]) if isinstance(value, np.ndarray) else value
            for key, value in arrays.items()
        }
        one = inference.of(gd.fit(**arrays, covariance=kind))
        many = inference.of(gd.fit(**stacked, covariance=kind))
        weight = given.get("sample_weight", np.ones(len(given["X"])))
        df = np.count_nonzero(weight) - given["X"].shape[1] - 1
        assert reason in one.reason, name
        assert one.df_resid == df, name
        assert many.df_resid.tolist() == [df, df], name
        assert all(reason in each_reason for each_reason in many.reason), name
        for found in (one, many):
            assert np.isnan(found.covariance).all(), name
            assert np.isnan(found.sigma2).all(), name
            assert np.isnan(found.r2).all(), name


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning")
@each("kind", ["ols", "hc3"])
def test_a_bad_problem_changes_no_other(rng: Any, dtype: Any, kind: Any) -> None:
    X, y = rng.normal(size=(4, 20, 2)).astype(dtype), rng.normal(size=(4, 20)).astype(dtype)
    alone = inference.bits(gd.fit(X[3], y[3], covariance=kind))
    X[0, 3, 1], X[1, :, 1] = np.nan, X[1, :, 0]
    fits = gd.fit(X, y, covariance=kind)
    found = inference.of(fits)
    assert list(fits.status) == ["INVALID", "SINGULAR", "CONVERGED", "CONVERGED"]
    assert inference.bits(fits, 3) == alone
    assert "NaN" in found.reason[0]
    assert "dependent" in found.reason[1]
    assert np.isnan(found.covariance[:2]).all()
    assert found.df_resid.tolist() == [17] * 4


@each("kind", KINDS)
def test_a_row_of_leverage_one(rng: Any, dtype: Any, kind: Any) -> None:
    """It has no residual: hc2 and hc3 would divide 0 by 0."""
    X, y = rng.normal(size=(20, 2)).astype(dtype), rng.normal(size=20).astype(dtype)
    X = np.hstack([X, np.eye(20, 1, -7, dtype=dtype)])
    found = inference.of(gd.fit(X, y, covariance=kind))
    assert np.isfinite([found.sigma2, found.r2]).all()
    assert np.isnan(found.covariance).all() == (kind in ("hc2", "hc3"))
    assert ("leverage 1" in found.reason) == (kind in ("hc2", "hc3"))


def test_targets_without_residuals_or_spread(rng: Any) -> None:
    X = rng.normal(size=(20, 3))
    for given in ((X, X @ [1.0, 2, 3] + 4), (X, np.full(20, 7.0))):
        fits = [gd.fit(*given, covariance=kind) for kind in KINDS]
        fits.append(gd.Moments(3).update(*given).fit(covariance="ols"))
        for fit in fits:
            found = inference.of(fit)
            assert found.reason == ""
            assert 0 <= found.sigma2 <= 1e-28
            assert np.abs(found.covariance).max() <= 1e-28
    assert np.isnan(inference.of(gd.fit(X, np.full(20, 7.0), covariance="ols")).r2)
    assert inference.of(gd.fit(X, X @ [1.0, 2, 3] + 4, covariance="ols")).r2 == 1


def test_columns_of_any_size(rng: Any) -> None:
    """Of 1e-150 to 1e150: entries are those of ordinary columns, times powers of ten."""
    X, y = rng.normal(size=(30, 3)), rng.normal(size=30)
    size = np.array([2.0**-500, 1, 2.0**300])
    scale = np.append(1 / size, 1)
    for kind in KINDS:
        found = inference.of(gd.fit(X * size, y, covariance=kind)).covariance
        plain = inference.of(gd.fit(X, y, covariance=kind)).covariance
        np.testing.assert_allclose(found / scale / scale[:, None], plain, rtol=1e-12, atol=1e-15)


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning")
def test_moments_that_know_no_residuals(rng: Any) -> None:
    """float32 sums, and what is left of large rows that were taken out."""
    X = rng.integers(-9, 9, (30, 2)).astype(np.float32)
    exact = X @ np.float32([1, 2])
    found = inference.of(gd.Moments(2, dtype=np.float32).update(X, exact).fit(covariance="ols"))
    assert "rounding errors" in found.reason
    assert np.isnan(found.covariance).all()
    moments = gd.Moments(2).update(X, exact).update(X[:5] * 1e3, exact[:5])
    moments.downdate(X[:5] * 1e3, exact[:5])
    assert "rounding errors" in inference.of(moments.fit(covariance="ols")).reason
    y = exact + rng.normal(size=30)
    moments = gd.Moments(2).update(X, y).update(X[:5], y[:5]).downdate(X[:5], y[:5])
    np.testing.assert_allclose(
        inference.of(moments.fit(covariance="ols")).covariance,
        inference.of(gd.fit(X.astype(float), y, covariance="ols")).covariance,
        rtol=1e-12,
        atol=1e-18,
    )
    assert inference.of(gd.Moments(2).fit(covariance="ols")).reason == "no row counts."


def test_refusals(rng: Any) -> None:
    """Where rows cannot be read again, the message names the way out."""
    X, y = rng.normal(size=(20, 2)), rng.normal(size=20)
    chunks = [(X[:9], y[:9]), (X[9:], y[9:])]
    with pytest.raises(ValueError, match=r"hc1.*read once.*covariance='ols'"):
        gd.fit(iter(chunks), covariance="hc1")
    assert inference.of(gd.fit(iter(chunks), covariance="ols")).reason == ""
    with pytest.raises(ValueError, match=r"moments keep no rows.*gdcore\.fit"):
        gd.Moments(2).update(X, y).fit(covariance="hc3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="choose one of None, 'ols'"):
        gd.Moments(2).update(X, y).fit(covariance="white")  # type: ignore[arg-type]
    for bad in ("HC3", 3, True, X):
        with pytest.raises(ValueError, match="covariance is"):
            gd.fit(X, y, covariance=bad)  # type: ignore[arg-type]
    shrinks = iter([chunks, chunks[:1]])
    with pytest.raises(gd.ChunkError, match="9 rows when they were read again and 20 before"):
        gd.fit(lambda: next(shrinks), covariance="hc0")


def test_interrupted_with_the_weights(monkeypatch: pytest.MonkeyPatch, rng: Any) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    X, y = rng.normal(size=(20, 2)), rng.normal(size=20)
    monkeypatch.setattr("gdcore.solvers.exact.reader", interrupted)
    with pytest.raises(gd.FitInterrupted) as info:
        gd.fit(X, y, covariance="hc3")
    assert info.value.fit.weights.tobytes() == gd.fit(X, y).weights.tobytes()
