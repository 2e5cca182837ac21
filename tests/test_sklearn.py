"""The estimators for scikit-learn: its own checks, its own models as peers, the bits of gdcore."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("sklearn.callback")

from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LinearRegression, Ridge, SGDRegressor
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

import gdcore as gd
from gdcore.sklearn import FitConvergenceWarning, GDRegressor, GroupedGDRegressor
from loops import each

RNG = np.random.default_rng(16)
N, D = 120, 3
X = RNG.normal(size=(N, D)) + np.array([0.0, 1.0, -2.0])
STORES = np.array(["north", "east", "south", "west"])[RNG.integers(0, 4, N)]
SLOPES = {"north": 1.0, "east": 2.0, "south": -1.0, "west": 0.5}
Y = X @ [1.0, -2.0, 0.5] + [SLOPES[s] for s in STORES] * X[:, 0] + 3
Y += 0.1 * RNG.normal(size=N)
TWO = np.c_[Y, X[:, 1] - Y]
WEIGHTS = RNG.uniform(0.5, 2.0, N)
EPS = np.finfo(np.float64).eps
NEAR = {"rtol": 1e3 * EPS, "atol": 1e3 * EPS}  # columns with a condition number of about 5
FULL_BATCH: list[dict[str, Any]] = [
    {},
    {"method": "descent"},
    {"method": "gram", "lr": 0.1, "weight_decay": 0.1},
    {"method": "stream", "standardize": True},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": "auto", "standardize": True},
    {"momentum": 0.5, "fit_intercept": False},
    {"weight_decay": 0.1, "fit_intercept": False, "standardize": True},
    {"weight_decay": 0.1, "decay_intercept": True, "warm_start": True, "momentum": 0.5},
]
SETTINGS = [*FULL_BATCH, {"batch_size": 16, "random_state": 3, "max_iter": 20, "tol": None}]
SAME = np.testing.assert_array_equal
Array = npt.NDArray[Any]


def frame(library: str, stores: Any = STORES) -> Any:
    module = pytest.importorskip(library)
    make = module.table if library == "pyarrow" else module.DataFrame
    return make({"price": X[:, 0], "store": stores, "size": X[:, 1], "age": X[:, 2]})


@pytest.fixture(params=["pandas", "polars", "pyarrow"])
def table(request: Any) -> Any:
    return frame(request.param)


def quietly(estimator: Any, *data: Any, **metadata: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gd.FitWarning)
        return estimator.fit(*data, **metadata)


def checks_that_fail(estimator: Any) -> set[str]:
    """Return the names of scikit-learn's checks that an estimator does not pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(results) > 50
    skipped = [r for r in results if r["status"] == "skipped"]
    for result in skipped:  # the one check that needs an environment variable of SciPy's
        assert result["check_name"] == "check_array_api_input", result
    return {r["check_name"] for r in results if r["status"] not in ("passed", "skipped")}


# ---------------------------------------------------------------- scikit-learn's own checks


@each("settings", FULL_BATCH)
def test_every_check_of_scikit_learn_passes(settings: dict[str, Any]) -> None:
    assert checks_that_fail(GDRegressor(**settings)) == set()


@each("settings", [{}, {"unknown": "nan"}, {"momentum": 0.5}, {"standardize": True}])
def test_every_check_of_scikit_learn_passes_by_group(settings: dict[str, Any]) -> None:
    settings = {"unknown": "global"} | settings
    assert checks_that_fail(GroupedGDRegressor(groups=0, **settings)) == set()


def test_checks_that_predict_unknown_groups_see_the_error() -> None:
    assert checks_that_fail(GroupedGDRegressor(groups=0)) == {
        "check_fit_idempotent",  # predicts the rows of a test set, each a group of its own
        "check_sample_weight_equivalence_on_dense_data",  # predicts rows of weight 0
    }


def test_tags() -> None:
    for estimator in (GDRegressor(), GroupedGDRegressor()):
        tags = get_tags(estimator)
        assert tags.estimator_type == "regressor"
        assert tags.target_tags.multi_output
        assert not tags.input_tags.sparse


# ---------------------------------------------------------------- peers


@each("y", [Y, TWO])
@each("weights", [None, WEIGHTS])
@each("fit_intercept", [True, False])
def test_the_default_is_least_squares(y: Array, weights: Any, fit_intercept: bool) -> None:
    peer = LinearRegression(fit_intercept=fit_intercept).fit(X, y, weights)
    model = GDRegressor(fit_intercept=fit_intercept).fit(X, y, weights)
    descent = GDRegressor(fit_intercept=fit_intercept, momentum="auto", tol=0.0)
    for fitted, near in ((model, NEAR), (quietly(descent, X, y, weights), {"atol": 1e-11})):
        for name in ("coef_", "intercept_"):
            ours, theirs = getattr(fitted, name), getattr(peer, name)
            assert np.shape(ours) == np.shape(theirs)
            np.testing.assert_allclose(ours, theirs, **near)
        assert fitted.predict(X).shape == peer.predict(X).shape
        assert fitted.score(X, y, weights) == pytest.approx(peer.score(X, y, weights), abs=1e-12)


@each("y", [Y, TWO])
@each("weights", [None, WEIGHTS])
@each("alpha", [0.01, 3.0, 1000.0])
def test_weight_decay_is_ridge_s_alpha_over_the_rows(y: Array, weights: Any, alpha: float) -> None:
    rows = (N if weights is None else weights.sum()) * y[0].size
    peer = Ridge(alpha).fit(X, y, weights)
    model = GDRegressor(weight_decay=2 * alpha / rows).fit(X, y, weights)
    np.testing.assert_allclose(model.coef_, peer.coef_, **NEAR)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, **NEAR)

    peer = make_pipeline(StandardScaler(), Ridge(alpha)).fit(X, y)
    model = GDRegressor(weight_decay=2 * alpha / y.size, standardize=True).fit(X, y)
    np.testing.assert_allclose(model.predict(X), peer.predict(X), rtol=1e-11, atol=1e-11)


@each("alpha", [0.0, 0.01])
def test_steps_are_those_of_sgd_regressor(alpha: float) -> None:
    """Its loss is half of the square, and so is its gradient."""
    peer = SGDRegressor(
        alpha=alpha, learning_rate="constant", eta0=0.02, max_iter=3, tol=None, shuffle=False
    ).fit(X, Y)
    model = GDRegressor(
        lr=0.01, weight_decay=2 * alpha, batch_size=1, max_iter=3, tol=None, shuffle=False
    ).fit(X, Y)
    # 360 steps that contract, each with a few roundings of numbers below 10
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=0, atol=360 * 10 * 4 * EPS)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, rtol=0, atol=360 * 10 * 4 * EPS)


@each("settings", SETTINGS)
@each("y", [Y, TWO])
@each("dtype", ["float64", "float32"])
def test_bits_are_those_of_fit(settings: dict[str, Any], y: Array, dtype: str) -> None:
    rows = X.astype(dtype)
    model = quietly(GDRegressor(**settings), rows, y, WEIGHTS)
    names = ("lr", "momentum", "weight_decay", "nesterov", "decay_intercept")
    sgd = gd.SGD(**{name: getattr(model, name) for name in names})
    descent = any(settings.get(name) for name in ("lr", "momentum", "batch_size"))
    method = settings.get("method", "auto" if descent else "exact")
    seed = int(np.random.RandomState(3).randint(np.iinfo(np.int32).max))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gd.FitWarning)
        fit = gd.fit(
            rows,
            y.astype(dtype),
            sgd,
            sample_weight=WEIGHTS.astype(dtype),
            epochs=model.max_iter,
            batch_size=model.batch_size,
            seed=seed if model.batch_size else 0,
            tol=model.tol,
            method="auto" if method == "descent" else method,
            fit_intercept=model.fit_intercept,
            standardize=model.standardize,
        )
    SAME(model.coef_, fit.weights.T)
    SAME(model.intercept_, fit.intercept)
    SAME(model.predict(rows), fit.predict(rows))
    assert {model.coef_.dtype, model.predict(rows).dtype} == {np.dtype(dtype)}
    assert model.coef_.flags.c_contiguous
    assert model.fit_.status == fit.status
    assert model.n_iter_ == len(model.loss_curve_) == max(fit.epochs, 1)
    SAME(model.loss_curve_, fit.history.loss if fit.epochs else [fit.loss])


# ---------------------------------------------------------------- parameters


@each(
    "settings, method",
    [
        ({}, "exact"),
        ({"weight_decay": 0.1, "standardize": True}, "exact"),
        ({"momentum": np.float32(0.0)}, "exact"),
        ({"lr": 0.1}, "gram"),
        ({"lr": lambda epoch: 0.1}, "gram"),
        ({"momentum": 0.5}, "gram"),
        ({"momentum": "auto"}, "gram"),
        ({"batch_size": 8}, "stream"),
        ({"method": "descent"}, "gram"),
        ({"method": "stream"}, "stream"),
        ({"method": "exact", "momentum": 0.5}, "exact"),
    ],
)
def test_the_method_that_parameters_ask_for(settings: dict[str, Any], method: str) -> None:
    assert quietly(GDRegressor(**settings), X, Y).fit_.method == method


@each(
    "settings, error, said",
    [
        ({"lr": "fast"}, ValueError, "lr is 'fast'; pass a positive number, 'auto' or a schedule"),
        ({"lr": -1}, ValueError, "lr is -1; it must be a positive number"),
        ({"lr": None}, TypeError, "lr is None"),
        ({"momentum": None}, ValueError, "momentum is None; it must be 'auto' or a finite number"),
        ({"momentum": -0.5}, ValueError, "momentum is -0.5"),
        ({"weight_decay": -1}, ValueError, "weight_decay is -1; it must be a finite number"),
        ({"weight_decay": np.ones(2)}, ValueError, "weight_decay is an array"),
        ({"nesterov": True}, ValueError, "Nesterov momentum requires a momentum"),
        ({"nesterov": "no"}, TypeError, "nesterov is 'no'; it must be True or False"),
        ({"fit_intercept": None}, TypeError, "fit_intercept is None; it must be True or False"),
        ({"method": "newton"}, ValueError, "'auto', 'exact', 'descent', 'gram', 'stream'"),
        ({"max_iter": 0}, ValueError, "max_iter is 0; it must be a whole number, 1 or larger"),
        ({"max_iter": 2.5}, ValueError, "max_iter is 2.5"),
        ({"batch_size": 0}, ValueError, "batch_size is 0; it must be a whole number"),
        ({"batch_size": N + 1}, ValueError, f"from 1 to the {N} rows of X"),
        ({"batch_size": 8, "method": "exact"}, ValueError, "takes no batch_size; drop it"),
        ({"batch_size": 8, "momentum": "auto"}, ValueError, "leave out batch_size"),
        ({"tol": -1.0}, ValueError, "tol is -1.0; it must be a number, 0 or larger, or None"),
        ({"random_state": "x"}, ValueError, "cannot be used to seed"),
    ],
)
def test_bad_parameters_are_named(settings: dict[str, Any], error: Any, said: str) -> None:
    for estimator in (GDRegressor(**settings), GroupedGDRegressor(**settings)):
        metadata = {} if isinstance(estimator, GDRegressor) else {"groups": np.zeros(N, int)}
        if "array" in said and metadata:
            continue  # one for each group
        with pytest.raises(error) as raised:
            estimator.fit(X, Y, **metadata)
        assert said.replace(f" the {N} rows of X", "") in str(raised.value) or metadata


def test_bad_data_is_refused() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    model = GDRegressor().fit(X, Y)
    for error, said, call in (
        (TypeError, "Sparse data was passed for X", lambda: model.fit(sparse.csr_array(X), Y)),
        (TypeError, "Sparse data was passed for X", lambda: model.predict(sparse.csr_array(X))),
        (ValueError, "weights must be finite, 0 or larger", lambda: model.fit(X, Y, -WEIGHTS)),
        (ValueError, r"sample_weight has shape \(5,\)", lambda: model.fit(X, Y, WEIGHTS[:5])),
        (ValueError, "sample_weight is zero in every row", lambda: model.fit(X, Y, 0 * WEIGHTS)),
        (ValueError, "sample_weight contains NaN", lambda: model.fit(X, Y, WEIGHTS * np.nan)),
        (ValueError, "inconsistent numbers of samples", lambda: model.fit(X, Y[1:])),
        (NotFittedError, "not fitted yet", lambda: GDRegressor().predict(X)),
        (NotFittedError, "not fitted yet", lambda: GDRegressor().to_linear_regression()),
        (NotFittedError, "not fitted yet", lambda: GroupedGDRegressor(0).predict(X)),
    ):
        with pytest.raises(error, match=said):
            call()


def test_parameters_without_effect_are_named() -> None:
    with pytest.warns(gd.FitWarning, match=r"max_iter, tol, warm_start had no effect.*'descent'"):
        GDRegressor(max_iter=5, tol=None, warm_start=True).fit(X, Y)
    for settings in ({}, {"method": "exact", "max_iter": 5}, {"momentum": 0.5, "max_iter": 900}):
        GDRegressor(**settings).fit(X, Y)  # a warning would be an error


def test_mini_batches_are_reproducible() -> None:
    how: dict[str, Any] = {"batch_size": 8, "max_iter": 3, "tol": None}

    def fitted(state: Any) -> Array:
        return GDRegressor(**how, random_state=state).fit(X, Y).coef_

    SAME(fitted(1), fitted(1))
    SAME(fitted(np.random.RandomState(1)), fitted(1))
    assert (fitted(1) != fitted(2)).any()
    assert (fitted(None) != fitted(None)).any()
    assert (GDRegressor(**how, shuffle=False).fit(X, Y).coef_ != fitted(1)).any()
    state = np.random.RandomState(1)
    GDRegressor(momentum=0.5, random_state=state).fit(X, Y)  # full batches draw nothing
    assert state.randint(1 << 30) == np.random.RandomState(1).randint(1 << 30)


@each("settings", [s for s in SETTINGS if "method" not in s and s.get("momentum") != "auto"])
def test_warm_starts_continue(settings: dict[str, Any]) -> None:
    settings = {"lr": 0.05} | settings | {"tol": None, "warm_start": True}
    model = GDRegressor(**settings | {"max_iter": 7})
    halves = model.fit(X, Y).loss_curve_, model.fit(X, Y).loss_curve_
    whole = GDRegressor(**settings | {"max_iter": 14}).fit(X, Y)
    SAME(model.coef_, whole.coef_)
    SAME(np.concatenate(halves), whole.loss_curve_)
    assert (model.n_iter_, model.fit_.epochs, whole.n_iter_) == (7, 14, 14)
    with pytest.raises(ValueError, match=r"warm_start continues from weights of shape \(3,\)"):
        model.fit(X[:, :2], Y)
    assert model.fit(X, Y[:, None]).coef_.shape == (1, D)
    assert model.n_iter_ == 7
    if model.fit_intercept:
        with pytest.raises(ValueError, match="a fit with an intercept; set fit_intercept=True"):
            pickle.loads(pickle.dumps(model)).set_params(fit_intercept=False).fit(X, Y)
    cold = clone(model).set_params(warm_start=False, max_iter=7)
    SAME(cold.fit(X, Y).coef_, cold.fit(X, Y).coef_)


def test_a_descent_that_starts_at_its_end_counts_one_pass() -> None:
    model = GDRegressor(momentum=0.5, warm_start=True).fit(X, Y)
    assert model.n_iter_ > 1
    assert model.fit(X, Y).n_iter_ == 1
    SAME(model.loss_curve_, [model.fit_.loss])
    assert GDRegressor(momentum=0.5).fit(X, 0 * Y).n_iter_ == 1


# ---------------------------------------------------------------- partial fits


@each("settings", [s for s in FULL_BATCH if s.get("method") != "stream"])
@each("y", [Y, TWO])
@each("dtype", ["float64", "float32"])
def test_partial_fits_do_not_depend_on_the_cuts(
    settings: dict[str, Any], y: Array, dtype: str
) -> None:
    settings = settings | {"warm_start": False}
    rows, y = X.astype(dtype), y.astype(dtype)

    def fitted(*cuts: int) -> Any:
        model = GDRegressor(**settings)
        parts = (np.split(a, cuts) for a in (rows, y, WEIGHTS.astype(dtype)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", gd.FitWarning)  # few rows are singular
            for part in zip(*parts, strict=True):
                assert model.partial_fit(*part) is model
        return model

    whole, pieces = fitted(), fitted(2, 50, 51)
    SAME(pieces.coef_, whole.coef_)
    assert pieces.moments_ == whole.moments_
    assert pieces.moments_.n == N
    at_once = quietly(GDRegressor(**settings), rows, y, WEIGHTS)
    bound = 1e-5 if dtype == "float32" else 1e-6 if at_once.fit_.method != "exact" else 1e-12
    np.testing.assert_allclose(pieces.predict(rows), at_once.predict(rows), atol=bound, rtol=bound)
    assert not hasattr(pieces.fit(rows, y), "moments_")


def test_partial_fits_refuse_what_moments_cannot_do() -> None:
    for settings in ({"batch_size": 8}, {"method": "stream"}):
        model = GDRegressor(**settings)
        assert not hasattr(model, "partial_fit")
        with pytest.raises(AttributeError) as raised:
            model.partial_fit(X, Y)
        assert "keeps second moments, not rows" in str(raised.value.__cause__)
    model = GDRegressor().fit(X, Y)
    with pytest.warns(gd.FitWarning, match="partial_fit begins a new model"):
        model.partial_fit(X[:50], Y[:50])
    SAME(model.coef_, GDRegressor().partial_fit(X[:50], Y[:50]).coef_)
    kept = model.coef_
    for error, said, data in (
        (ValueError, "X has 2 features", (X[:, :2], Y)),
        (ValueError, r"y has shape \(120, 2\)", (X, TWO)),
        (ValueError, "weights must be finite", (X, Y, -WEIGHTS)),
    ):
        with pytest.raises(error, match=said):
            model.partial_fit(*data)
        assert model.moments_.n == 50
        assert model.coef_ is kept
    small = GDRegressor().partial_fit(X.astype(np.float32), Y)
    with pytest.raises(TypeError, match=r"X is float64 .*astype\(np.float32\), or begin"):
        small.partial_fit(X, Y)
    assert model.partial_fit(X.astype(np.float32), Y).coef_.dtype == np.float64


# ---------------------------------------------------------------- other forms of a model


@each("y", [Y, TWO])
@each("sgd", [None, gd.SGD(momentum=0.5)])
def test_models_from_fits_and_to_linear_regression(y: Array, sgd: Any) -> None:
    pd = pytest.importorskip("pandas")
    for rows in (X, X.astype(np.float32), pd.DataFrame(X, columns=["a", "b", "c"])):
        fit = gd.fit(rows, y, sgd)
        model = GDRegressor.from_fit(fit)
        assert model.fit_intercept
        assert model.fit_.status == fit.status
        assert model.n_features_in_ == D
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # names fit names
            SAME(model.predict(rows), fit.predict(rows))
            peer = model.to_linear_regression()
            near = {"rtol": 0, "atol": 64 * np.finfo(fit.weights.dtype).eps * 30}
            np.testing.assert_allclose(peer.predict(rows), fit.predict(rows), **near)
        assert isinstance(peer, LinearRegression)
        assert b"gdcore" not in pickle.dumps(peer)
        peer.coef_[...] = 0  # a copy
        assert model.coef_.any()
    for wrong, said in (
        (3, "fit is int"),
        (gd.fit(X[None], Y[None]), r"pass one of them, fits\[i\]"),
    ):
        with pytest.raises(TypeError, match=said):
            GDRegressor.from_fit(wrong)  # type: ignore[arg-type]


def test_models_of_a_loaded_fit_and_without_intercept(tmp_path: Any) -> None:
    gd.fit(X, Y, fit_intercept=False).save(tmp_path / "fit.npz")
    model = GDRegressor.from_fit(gd.load(tmp_path / "fit.npz"))
    assert not model.fit_intercept
    SAME(model.predict(X), GDRegressor(fit_intercept=False).fit(X, Y).predict(X))
    assert model.intercept_ == model.to_linear_regression().intercept_ == 0


@each("model", [GDRegressor(momentum=0.5), GroupedGDRegressor(), GDRegressor()])
def test_pickles_clones_and_pictures(model: Any) -> None:
    metadata = {} if isinstance(model, GDRegressor) else {"groups": STORES}
    fitted = clone(model).fit(X, Y, **metadata)
    restored = pickle.loads(pickle.dumps(fitted))
    SAME(restored.predict(X, **metadata), fitted.predict(X, **metadata))
    assert not hasattr(clone(fitted), "coef_")
    assert repr(clone(fitted)) == repr(model)
    assert type(model).__name__ in fitted._repr_html_()


# ---------------------------------------------------------------- warnings


def test_warnings_are_scikit_learn_s_and_gdcore_s() -> None:
    slow = GDRegressor(lr=1e-3, max_iter=5)
    for kind in (gd.FitWarning, ConvergenceWarning, FitConvergenceWarning):
        with pytest.warns(kind, match="short of|below that of") as caught:
            slow.fit(X, Y)
        assert [w.filename for w in caught] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", kind)
            slow.fit(X, Y)
            slow.set_callbacks(Watch()).fit(X, Y)
            slow.set_callbacks()
            GroupedGDRegressor(lr=1e-3, max_iter=5).fit(X, Y, groups=STORES)
    with pytest.warns(gd.FitWarning) as caught:
        gd.fit(X, Y, gd.SGD(lr=1e-3), epochs=5)
    assert {w.category for w in caught} == {gd.FitWarning}  # the class is as before


def test_advice_names_parameters_of_the_estimators() -> None:
    with pytest.warns(FitConvergenceWarning, match=r"pass weight_decay=0.01, decay_intercept=F"):
        GDRegressor().fit(X[:2], Y[:2])
    GDRegressor(weight_decay=0.01, decay_intercept=False).fit(X[:2], Y[:2])
    with pytest.warns(FitConvergenceWarning, match="momentum='auto'"):
        GDRegressor(lr=1e-3, max_iter=5).fit(X, Y)


def test_threads_keep_their_warnings_apart() -> None:
    """Plain fits in one thread keep FitWarning while estimators fit in others."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        def plain() -> None:
            for _ in range(20):
                gd.fit(X, Y, gd.SGD(lr=1e-3), epochs=5)

        def estimators() -> None:
            for _ in range(20):
                GDRegressor(lr=1e-3, max_iter=5).fit(X, Y)

        threads = [threading.Thread(target=work) for work in (plain, estimators, plain)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    kinds = [w.category for w in caught]
    assert kinds.count(gd.FitWarning) == 40
    assert kinds.count(FitConvergenceWarning) == 20


# ---------------------------------------------------------------- callbacks


class Watch:
    """A callback that sees every task, and ends the descent after some epochs."""

    def __init__(self, last: int = -1) -> None:
        self.last = last
        self.tasks: list[tuple[str, int]] = []
        self.weights: list[Array] = []
        self.open = 0

    def setup(self, estimator: Any, context: Any) -> None:
        self.open += 1
        self.most = context.max_subtasks

    def teardown(self, estimator: Any, context: Any) -> None:
        self.open -= 1

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        self.tasks.append((context.task_name, context.task_id))

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> bool:
        self.weights.append(fitted_estimator.coef_.copy())
        return len(self.tasks) > self.last >= 0


@each("settings", [*SETTINGS, {"lr": lambda epoch: 0.1 / (1 + epoch), "max_iter": 200}])
@each("y", [Y, TWO])
@each("seconds", [0.0, 0.1])
def test_callbacks_change_no_bits(
    settings: dict[str, Any], y: Array, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gdcore.sklearn.epochs.BLOCK_SECONDS", seconds)  # blocks of 1, or of more
    watch = Watch()
    model = quietly(GDRegressor(**settings).set_callbacks(watch), X, y, WEIGHTS)
    alone = quietly(GDRegressor(**settings), X, y, WEIGHTS)
    for name in ("coef_", "intercept_", "loss_curve_", "n_iter_"):
        SAME(getattr(model, name), getattr(alone, name))
    assert model.fit_.status == alone.fit_.status
    assert watch.open == 0
    by_epoch = alone.fit_.method != "exact"
    count = alone.n_iter_ if by_epoch else 0
    assert watch.tasks == [("fit", 0), *(("epoch", i) for i in range(count))]
    assert watch.most == (alone.max_iter if by_epoch else 0)
    SAME(watch.weights[-1], alone.coef_)
    if by_epoch and model.momentum != "auto":
        few = GDRegressor(**settings | {"max_iter": 3, "tol": None, "warm_start": False})
        SAME(watch.weights[2], few.fit(X, y, WEIGHTS).coef_)


@each("seconds", [0.0, 0.1])
@each("settings", [{"lr": 1.0}, {"tol": 0.0}, {"momentum": 0.9, "tol": 0.0, "standardize": True}])
@each("shift", [0.0, 300.0])
def test_callbacks_change_no_ending(
    settings: dict[str, Any], seconds: float, shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of descents that diverge or stall, nor of those that look so for a while."""
    monkeypatch.setattr("gdcore.sklearn.epochs.BLOCK_SECONDS", seconds)
    rows = (X[:40] + shift).astype(np.float32)
    settings = {"method": "descent", "max_iter": 300} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = GDRegressor(**settings).fit(rows, Y[:40])
        model = GDRegressor(**settings).set_callbacks(Watch()).fit(rows, Y[:40])
    for name in ("coef_", "intercept_", "loss_curve_", "n_iter_"):
        SAME(getattr(model, name), getattr(alone, name))
    for name in ("status", "loss", "message"):
        assert getattr(model.fit_, name) == getattr(alone.fit_, name)


@each("last", [1, 2, 5, 8])
def test_callbacks_end_a_descent(last: int) -> None:
    how: dict[str, Any] = {"momentum": 0.5, "warm_start": True}
    model = GDRegressor(**how).set_callbacks(Watch(last)).fit(X, Y)  # a warning would be an error
    alone = GDRegressor(**how, max_iter=last, tol=None).fit(X, Y)
    for name in ("coef_", "intercept_", "loss_curve_", "n_iter_"):
        SAME(getattr(model, name), getattr(alone, name))
    assert model.fit_.loss == pytest.approx(alone.fit_.loss, rel=1e-12)
    assert model.set_callbacks().fit(X, Y).fit_.status == "CONVERGED"  # a warm start continues


def test_callbacks_of_scikit_learn() -> None:
    pd = pytest.importorskip("pandas")
    rows = pd.DataFrame(X, columns=["a", "b", "c"])
    monitor = ScoringMonitor(scoring="r2")
    model = GDRegressor(momentum=0.5).set_callbacks(monitor).fit(rows, Y)
    scores = [entry["r2"] for entry in monitor.get_logs().data]
    assert len(scores) == model.n_iter_ + 1
    assert scores[0] == scores[-1] == model.score(rows, Y)  # the fit, then its epochs
    assert scores[1] < scores[-1]
    monitor = ScoringMonitor(
        scoring=lambda model, *data, **how: {"score": model.score(*data, **how)}
    )
    weights = np.where(np.arange(N) % 3, WEIGHTS, 0)
    grouped = GroupedGDRegressor().set_callbacks(monitor).fit(X, Y, weights, groups=STORES)
    (entry,) = monitor.get_logs().data
    assert entry["score"] == grouped.score(X, Y, weights, groups=STORES)
    search = GridSearchCV(GDRegressor(momentum=0.5), {"weight_decay": [0.0, 0.1]}, cv=2)
    watch = Watch()
    watch.max_propagation_depth = None  # type: ignore[attr-defined]
    search.set_callbacks(watch)
    watch.on_fit_task_end = lambda estimator, context: False  # type: ignore[method-assign]
    search.fit(X, Y)
    assert ("epoch", 0) in watch.tasks


def test_callbacks_see_weights_that_a_whole_history_has_no_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gdcore.solvers.descent.RECORD_BYTES", 10 * 4 * 8)
    monkeypatch.setattr("gdcore.sklearn.epochs.BLOCK_BYTES", 10 * 4 * 8)
    how: dict[str, Any] = {"momentum": 0.5, "tol": None, "max_iter": 40}
    watch = Watch()
    model = GDRegressor(**how).set_callbacks(watch).fit(X, Y)
    assert len(watch.weights) == 41
    SAME(watch.weights[39], model.coef_)
    SAME(model.coef_, GDRegressor(**how).fit(X, Y).coef_)


def test_a_callback_that_fails_is_torn_down() -> None:
    watch = Watch()
    watch.on_fit_task_end = None  # type: ignore[assignment, method-assign]
    with pytest.raises(TypeError):
        GDRegressor(momentum=0.5).set_callbacks(watch).fit(X, Y)
    assert watch.open == 0


# ---------------------------------------------------------------- groups


@each("settings", SETTINGS)
@each("y", [Y, TWO])
def test_groups_have_the_bits_of_fit_groups(settings: dict[str, Any], y: Array, table: Any) -> None:
    settings = {k: v for k, v in settings.items() if k != "warm_start"}
    model = quietly(GroupedGDRegressor("store", **settings), table, y, WEIGHTS)
    beside = quietly(GroupedGDRegressor(**settings), X, y, WEIGHTS, groups=STORES)
    for i, label in enumerate(np.unique(STORES)):
        its = label == STORES
        alone = quietly(GDRegressor(**settings), X[its], y[its], WEIGHTS[its])
        for one in (model, beside):
            assert one.groups_[i] == label
            SAME(one.coef_[i], alone.coef_)
            SAME(one.intercept_[i], alone.intercept_)
            assert one.n_iter_[i] == alone.n_iter_
        SAME(model.predict(table)[its], alone.predict(X[its]))
    assert model.fits_.feature_names == ("price", "size", "age")
    assert model.n_features_in_ == 4
    assert model.feature_names_in_.tolist() == ["price", "store", "size", "age"]
    SAME(beside.predict(X, groups=STORES), model.predict(table))
    assert model.score(table, y, WEIGHTS) == beside.score(X, y, WEIGHTS, groups=STORES)


def test_labels_by_position_and_of_several_columns(table: Any) -> None:
    whole = GroupedGDRegressor("store").fit(table, Y)
    for groups in (1, -3, [1], ("store",), np.array([1])):
        SAME(GroupedGDRegressor(groups).fit(table, Y).coef_, whole.coef_)
    years = np.arange(N) % 3 + 2020
    objects = np.empty((N, 5), object)
    objects[:, :3], objects[:, 3], objects[:, 4] = X, STORES, years
    model = GroupedGDRegressor([3, 4]).fit(objects, Y)
    assert model.groups_.tolist() == sorted({*zip(STORES.tolist(), years.tolist(), strict=True)})
    fits = gd.fit_groups(X, Y, [*zip(STORES.tolist(), years.tolist(), strict=True)])
    SAME(model.coef_, fits.weights)
    backwards = slice(None, None, -1)
    SAME(model.predict(objects[backwards]), model.predict(objects)[backwards])
    SAME(model.predict(objects[5:6]), model.predict(objects)[5:6])
    numbers = np.c_[years, X]
    SAME(GroupedGDRegressor(0).fit(numbers, Y).coef_, gd.fit_groups(X, Y, years).weights)
    means = GroupedGDRegressor(0).fit(years[:, None], Y)  # no features are left
    np.testing.assert_allclose(means.intercept_[0], Y[years == 2020].mean(), **NEAR)
    names_alone = table.select(["store"]) if hasattr(table, "select") else table[["store"]]
    assert GroupedGDRegressor("store").fit(names_alone, Y).coef_.shape == (4, 0)


@each("kind", ["int", "uint8", "text", "bytes", "day", "second", "tuple", "mixed", "pandas"])
def test_labels_of_many_kinds(kind: str) -> None:
    number = np.arange(N) % 5
    days = np.datetime64("2024-02-28") + number
    labels: Any = {
        "int": number,
        "uint8": number.astype(np.uint8),
        "text": [f"s{i}" for i in number],
        "bytes": np.array([b"%d" % i for i in number]),
        "day": days,
        "second": days.astype("datetime64[s]"),
        "tuple": [(int(i), "a") for i in number],
        "mixed": [int(i) if i else "none" for i in number],
    }.get(kind)
    if kind == "pandas":
        labels = pytest.importorskip("pandas").Categorical.from_codes(number, list("abcde"))
    model = GroupedGDRegressor().fit(X, Y, groups=labels)
    assert len(model.groups_) == 5
    fits = gd.fit_groups(X, Y, number)
    place = [list(map(str, model.groups_)).index(str(model.groups_[0]))]
    assert place == [0]
    SAME(model.predict(X, groups=labels), fits.predict(X, groups=number))
    if kind == "day":  # another unit of the same days, and another time of day
        SAME(model.predict(X, groups=days.astype("datetime64[ns]")), model.predict(X, groups=days))
        with pytest.raises(ValueError, match="120 rows belong to groups that were not fitted"):
            model.predict(X, groups=days + np.timedelta64(5, "h"))
    if kind == "mixed":
        for missing in (None, np.nan):
            with pytest.raises(ValueError, match="1 missing label, the first in row 7"):
                model.predict(X, groups=[*labels[:7], missing, *labels[8:]])


def test_unknown_groups(table: Any) -> None:
    known = STORES != "west"
    rows = table[known] if hasattr(table, "iloc") else table.filter(known.tolist())
    model = GroupedGDRegressor("store", unknown="global").fit(rows, Y[known])
    of_all = GDRegressor().fit(X[known], Y[known])
    SAME(model.global_.weights, of_all.coef_)
    assert model.global_.feature_names == ("price", "size", "age")
    predictions = model.predict(table)
    SAME(predictions[known], model.predict(rows))
    SAME(predictions[~known], of_all.predict(X[~known]))
    assert 0.5 < model.score(table, Y) < 1

    model.set_params(unknown="nan")
    SAME(np.isnan(model.predict(table)), ~known)
    model.set_params(unknown="raise")
    count = np.count_nonzero(~known)
    with pytest.raises(
        ValueError, match=rf"^{count} rows belong to groups that were not fitted: 'w"
    ):
        model.predict(table)
    plain = GroupedGDRegressor("store").fit(rows, Y[known]).set_params(unknown="global")
    assert not hasattr(plain, "global_")
    with pytest.raises(ValueError, match="no model of all rows; fit again"):
        plain.predict(table)
    with pytest.raises(ValueError, match="unknown is 'mean'; choose one of 'raise', 'nan', 'glob"):
        model.set_params(unknown="mean").predict(table)
    two = GroupedGDRegressor("store", unknown="nan").fit(rows, TWO[known]).predict(table)
    SAME(np.isnan(two), np.c_[~known, ~known])


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_missing_labels(library: str) -> None:
    """They are in no group that was fitted; the advice names no argument of other functions."""
    away, advice = STORES == "west", r"row \d+ .counted from 0.; drop such rows, or give them a l"
    texts = [None if out else store for out, store in zip(away, STORES.tolist(), strict=True)]
    table, gaps = frame(library), frame(library, texts)
    model = GroupedGDRegressor("store", unknown="global").fit(table, Y)
    found = model.predict(gaps)
    SAME(found[away], model.global_.predict(X[away]))
    SAME(found[~away], model.predict(table)[~away])
    SAME(np.isnan(model.set_params(unknown="nan").predict(gaps)), away)
    for call in (model.fit, lambda X, y: model.set_params(unknown="raise").predict(X)):
        with pytest.raises(
            ValueError, match=rf"{away.sum()} missing labels, the first in {advice}"
        ):
            call(gaps, Y)

    rows, holed = (
        np.array(list(zip(stores, STORES, X[:, 0], strict=True)), object)
        for stores in (STORES, texts)
    )
    two = GroupedGDRegressor([0, 1], unknown="nan").fit(rows, Y)
    SAME(np.isnan(two.predict(holed)), away)


def test_rows_of_weight_zero_are_no_group() -> None:
    weights = np.where(STORES == "west", 0.0, WEIGHTS)
    kept = weights > 0
    model = GroupedGDRegressor(unknown="global").fit(X, Y, weights, groups=STORES)
    alone = GroupedGDRegressor(unknown="global").fit(
        X[kept], Y[kept], weights[kept], groups=STORES[kept]
    )
    assert model.groups_.tolist() == ["east", "north", "south"]
    SAME(model.predict(X, groups=STORES), alone.predict(X, groups=STORES))


def test_one_bad_group_does_not_spoil_the_others() -> None:
    rows, labels = np.r_[X, X[:1]], [*STORES, "zero"]
    with pytest.warns(FitConvergenceWarning, match=r"5 problems: 4 CONVERGED, 1 SINGULAR.*'zero'"):
        model = GroupedGDRegressor().fit(rows, np.r_[Y, 1.0], groups=labels)
    assert model.fits_.counts() == {"CONVERGED": 4, "SINGULAR": 1}
    SAME(model.coef_[:4], GroupedGDRegressor().fit(X, Y, groups=STORES).coef_)


def test_one_rate_for_each_group() -> None:
    decay = np.array([0.0, 0.1, 0.2, 0.3])
    model = GroupedGDRegressor(weight_decay=decay).fit(X, Y, groups=STORES)
    its = model.groups_[2] == STORES
    SAME(model.coef_[2], GDRegressor(weight_decay=0.2).fit(X[its], Y[its]).coef_)


def test_bad_groups_are_named(table: Any) -> None:
    fitted = GroupedGDRegressor("store").fit(table, Y)
    dictionaries = np.array([{"a": 1}] * N)
    for error, said, call in (
        (ValueError, "there are no labels", lambda: GroupedGDRegressor().fit(X, Y)),
        (ValueError, "two sets of labels", lambda: fitted.predict(table, groups=STORES)),
        (ValueError, "X has no column 'shop'; it has 'price'", lambda: fit_by("shop", table)),
        (ValueError, "X is an array without names", lambda: fit_by("store", X)),
        (ValueError, "names column 4; X has 4 columns", lambda: fit_by(4, table)),
        (ValueError, "at least one column, and each once", lambda: fit_by([], table)),
        (ValueError, "at least one column, and each once", lambda: fit_by(["store", 1], table)),
        (TypeError, "groups holds 1.5", lambda: fit_by(1.5, table)),
        (TypeError, "groups holds True", lambda: fit_by(True, table)),
        (ValueError, "'raise', 'nan', 'global'", lambda: fit_beside(STORES, unknown="mean")),
        (ValueError, r"groups has shape \(5,\)", lambda: fit_beside(STORES[:5])),
        (ValueError, r"groups has shape \(\)", lambda: fit_beside("west")),
        (ValueError, "120 missing labels", lambda: fit_beside([None] * N)),
        (ValueError, "groups contains NaN", lambda: fit_beside(np.full(N, np.nan))),
        (TypeError, "a label that cannot be hashed", lambda: fit_beside(dictionaries)),
        (ValueError, "1 missing label, ", lambda: fit_beside(np.ma.masked_equal(np.arange(N), 3))),
        (ValueError, "one for each of many problems", lambda: rates_and_global()),
    ):
        with pytest.raises(error, match=said):
            call()


def fit_by(groups: Any, rows: Any) -> Any:
    return GroupedGDRegressor(groups).fit(rows, Y)


def fit_beside(labels: Any, **settings: Any) -> Any:
    return GroupedGDRegressor(**settings).fit(X, Y, groups=labels)


def rates_and_global() -> Any:
    return fit_beside(STORES, weight_decay=np.ones(4), unknown="global")


# ---------------------------------------------------------------- among scikit-learn's tools


def test_searches_and_cross_validation() -> None:
    pipe = make_pipeline(StandardScaler(), GDRegressor(momentum=0.5))
    peer = make_pipeline(StandardScaler(), LinearRegression())
    np.testing.assert_allclose(cross_val_score(pipe, X, Y), cross_val_score(peer, X, Y), atol=1e-5)
    grid = {"gdregressor__weight_decay": [0.0, 10.0], "gdregressor__standardize": [True, False]}
    search = GridSearchCV(pipe, grid, cv=3).fit(X, Y)
    assert search.best_params_["gdregressor__weight_decay"] == 0
    incremental = learning_curve(
        GDRegressor(), X, Y, cv=3, train_sizes=[20, 80], exploit_incremental_learning=True
    )
    np.testing.assert_allclose(incremental[2], learning_curve(
        LinearRegression(), X, Y, cv=3, train_sizes=[20, 80]
    )[2], atol=1e-9)  # fmt: skip


def test_inspection() -> None:
    model = GDRegressor().fit(X, Y)
    importance = permutation_importance(model, X, Y, random_state=0, n_repeats=3)
    assert np.argmin(importance.importances_mean) == 2
    found = partial_dependence(model, X, [0], grid_resolution=5)
    slope = np.diff(found["average"][0]) / np.diff(found["grid_values"][0])
    np.testing.assert_allclose(slope, model.coef_[0], rtol=1e-10)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_parallel_jobs_have_the_same_bits(backend: str) -> None:
    joblib = pytest.importorskip("joblib")
    model = GroupedGDRegressor(groups=0)
    rows = np.c_[np.arange(N) % 3, X]
    alone = cross_val_predict(model, rows, Y, cv=3)
    with joblib.parallel_backend(backend, n_jobs=2):
        SAME(cross_val_predict(model, rows, Y, cv=3), alone)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_of_neighbours(library: str) -> None:
    table = frame(library)
    scale = ColumnTransformer(
        [("scale", StandardScaler(), ["price", "size", "age"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform=library)
    pipe = make_pipeline(scale, GroupedGDRegressor("store")).fit(table, Y)
    assert pipe[-1].feature_names_in_.tolist() == ["price", "size", "age", "store"]
    whole = GroupedGDRegressor("store").fit(table, Y)
    np.testing.assert_allclose(pipe.predict(table), whole.predict(table), rtol=1e-10, atol=1e-10)
    assert cross_val_score(pipe, table, Y, cv=3).min() > 0.9
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        whole.predict(table[["store", "price", "size", "age"]])


def test_metadata_is_routed() -> None:
    weights = np.where(np.arange(N) % 4 == 0, 5.0, 1.0)
    metadata = {"sample_weight": weights, "groups": STORES}
    with config_context(enable_metadata_routing=True):
        grouped = GroupedGDRegressor()
        for request in ("set_fit_request", "set_score_request"):
            getattr(grouped, request)(groups=True, sample_weight=True)
        grouped.set_predict_request(groups=True)
        weighted = GDRegressor().set_fit_request(sample_weight=True)
        weighted.set_score_request(sample_weight=True)
        for model, given in ((grouped, metadata), (weighted, {"sample_weight": weights})):
            expected = []
            for train, test in KFold(3).split(X):
                parts = [{k: v[i] for k, v in given.items()} for i in (train, test)]
                fitted = clone(model).fit(X[train], Y[train], **parts[0])
                expected.append(fitted.score(X[test], Y[test], **parts[1]))
            SAME(cross_val_score(model, X, Y, params=given, cv=KFold(3)), expected)
            SAME(cross_validate(model, X, Y, params=given, cv=KFold(3))["test_score"], expected)
        pipe = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), grouped)
        grid = {"groupedgdregressor__weight_decay": [0.0, 1.0]}
        search = GridSearchCV(pipe, grid, cv=3).fit(X, Y, **metadata)
        assert search.best_params_ == {"groupedgdregressor__weight_decay": 0.0}
        whole = clone(grouped).fit(StandardScaler().fit_transform(X), Y, **metadata)
        SAME(search.best_estimator_[-1].coef_, whole.coef_)


# ---------------------------------------------------------------- an optional package


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_gdcore_does_not_import_scikit_learn() -> None:
    assert run("import gdcore, sys; print('sklearn' in sys.modules)").strip() == "False"
    absent = run("import sys; sys.modules['sklearn'] = None; import gdcore.sklearn")
    assert "ImportError: gdcore.sklearn needs scikit-learn 1.9 or newer; run: pip install" in absent
    assert "'gdcore[sklearn]'" in absent
