"""Arrays of other libraries: in without a copy, weights and predictions out in the same library."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from gdcore import plot
from loops import each

Array = Any
SGD = gd.SGD(momentum=0.5)


class Foreign:
    """An array of a small library that follows the array API standard."""

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)
        self.shape, self.ndim, self.dtype = self.array.shape, self.array.ndim, self.array.dtype

    device = "here"

    def __len__(self) -> int:
        return len(self.array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.array

    def __dlpack__(self, **how: Any) -> Any:
        return self.array.__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return SimpleNamespace(asarray=asarray, from_dlpack=lambda x, **how: Foreign(x))


def asarray(array: Any, *, device: str) -> Foreign:
    assert device == Foreign.device
    return Foreign(array)


class Library:
    """How a test makes and recognises the arrays of a library."""

    def __init__(self, kind: type, make: Callable[[Any], Any]) -> None:
        self.kind, self.make = kind, make

    def same(self, ours: Any, numpys: Any) -> None:
        """Assert that an array is of the library, and its bits, dtype and shape NumPy's."""
        assert isinstance(ours, self.kind), type(ours)
        got, wanted = np.asarray(ours), np.asarray(numpys)
        assert got.dtype == wanted.dtype
        assert got.shape == wanted.shape
        np.testing.assert_array_equal(got, wanted)


def libraries() -> Iterator[Any]:
    yield pytest.param("Foreign", id="standard")
    yield pytest.param("torch", id="torch")
    yield pytest.param("jax", id="jax")


@pytest.fixture(params=libraries())
def library(request: pytest.FixtureRequest, dtype: Any) -> Library:
    """Each library in turn."""
    if request.param == "torch":
        torch = request.getfixturevalue("torch")
        return Library(torch.Tensor, torch.from_numpy)
    if request.param == "jax":
        jax = pytest.importorskip("jax")
        if dtype == np.float64:
            pytest.skip("JAX's arrays are float32 unless asked")
        return Library(jax.Array, jax.numpy.asarray)
    return Library(Foreign, Foreign)


@pytest.fixture
def data(rng: np.random.Generator, dtype: Any) -> tuple[Array, Array]:
    return rng.normal(size=(40, 3)).astype(dtype), rng.normal(size=40).astype(dtype)


def compare(library: Library, ours: gd.Fit, numpys: gd.Fit) -> None:
    """Assert that two fits are equal: weights and intercept in the library, all else NumPy's."""
    library.same(ours.weights, numpys.weights)
    library.same(ours.intercept, numpys.intercept)
    assert ours.weights is ours.weights
    for name in ("loss", "epochs", "status", "lr", "momentum", "rank"):
        assert type(getattr(ours, name)) is type(getattr(numpys, name)), name
        np.testing.assert_array_equal(getattr(ours, name), getattr(numpys, name))
    assert (ours.state is None) == (numpys.state is None)
    for name in ("epoch", "loss", "weights", "intercept"):
        mine, its = getattr(ours.history, name), getattr(numpys.history, name)
        assert type(mine) is type(its)
        np.testing.assert_array_equal(mine, its)


@each("how", [{}, {"sgd": SGD}, {"sgd": SGD, "batch_size": 7}, {"sgd": SGD, "method": "gram"},
              {"sgd": SGD, "standardize": True}])  # fmt: skip
@each("t", [None, 2])
@pytest.mark.filterwarnings("ignore::gdcore.FitWarning")
def test_one_problem(library: Library, data: Any, t: int | None, how: dict[str, Any]) -> None:
    X, y = data
    y = y if t is None else np.stack([y, y[::-1]], axis=1)
    s, o = np.abs(y if t is None else y[:, 0]), np.sin(y)
    make = library.make
    numpys = gd.fit(X, y, offset=o, sample_weight=s, epochs=20, **how)
    ours = gd.fit(make(X), make(y), offset=make(o), sample_weight=make(s), epochs=20, **how)
    compare(library, ours, numpys)
    library.same(ours.predict(make(X)), numpys.predict(X))
    library.same(ours.predict(make(X), offset=make(o)), numpys.predict(X, offset=o))
    library.same(numpys.predict(make(X)), numpys.predict(X))
    predicted = ours.predict(X)  # rows decide, not the fit
    assert type(predicted) is np.ndarray
    np.testing.assert_array_equal(predicted, numpys.predict(X))


def test_intervals(library: Library, data: Any) -> None:
    """The ends are of the library of the rows, and of their dtype."""
    pytest.importorskip("scipy.special")
    X, y = data
    numpys = gd.fit(X, y, covariance="hc3")
    ours = gd.fit(library.make(X), library.make(y), covariance="hc3")
    assert type(ours.stderr) is np.ndarray
    np.testing.assert_array_equal(ours.pvalues, numpys.pvalues)
    for kind in ("confidence", "prediction"):
        wanted = numpys.predict(X, interval=kind)
        for found, known in zip(ours.predict(library.make(X), interval=kind), wanted, strict=True):
            library.same(found, known)


def test_without_an_intercept(library: Library, data: Any) -> None:
    X, y = data
    ours = gd.fit(library.make(X), y, fit_intercept=False)
    compare(library, ours, gd.fit(X, y, fit_intercept=False))


def test_only_x_decides(library: Library, data: Any) -> None:
    X, y = data
    assert type(gd.fit(X, library.make(y)).weights) is np.ndarray
    assert isinstance(gd.fit(library.make(X), y.tolist()).weights, library.kind)


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning")
def test_many_problems(library: Library, data: Any) -> None:
    X, y = data[0].reshape(4, 10, 3), data[1].reshape(4, 10)
    make = library.make
    for how in ({}, {"sgd": SGD, "epochs": 5, "tol": None}):
        numpys, ours = gd.fit(X, y, **how), gd.fit(make(X), make(y), **how)
        assert isinstance(ours, gd.Fits)
        assert isinstance(numpys, gd.Fits)
        compare(library, ours, numpys)
        assert repr(ours) == repr(numpys)
        compare(library, ours[-1], numpys[-1])
        library.same(ours.predict(make(X)), numpys.predict(X))
        library.same(ours.predict(make(X[0])), numpys.predict(X[0]))


def test_groups(library: Library, data: Any) -> None:
    X, y = data
    groups = np.arange(40) % 3
    make = library.make
    numpys, ours = gd.fit_groups(X, y, groups), gd.fit_groups(make(X), make(y), make(groups))
    compare(library, ours, numpys)
    np.testing.assert_array_equal(ours.groups, numpys.groups)
    assert type(ours.groups) is np.ndarray
    predicted = ours.predict(make(X), groups=groups)
    library.same(predicted, numpys.predict(X, groups=groups))


def test_windows(library: Library, data: Any) -> None:
    X, y = data
    numpys, ours = gd.fit_rolling(X, y, 9), gd.fit_rolling(library.make(X), library.make(y), 9)
    library.same(ours.weights, numpys.weights)
    library.same(ours.intercept, numpys.intercept)
    assert type(ours.loss) is np.ndarray
    assert repr(ours) == repr(numpys)
    back = pickle.loads(pickle.dumps(ours))
    assert type(back.weights) is np.ndarray
    np.testing.assert_array_equal(back.weights, numpys.weights)


@each("how", [{}, {"sgd": SGD}, {"sgd": SGD, "method": "stream"}, {"sgd": SGD, "batch_size": 5}])
@pytest.mark.filterwarnings("ignore::gdcore.FitWarning")
def test_chunks(library: Library, data: Any, how: dict[str, Any]) -> None:
    X, y = data
    cuts = [(X[:13], y[:13]), (X[13:20], y[13:20]), (X[20:], y[20:])]
    theirs = [(library.make(a), library.make(b)) for a, b in cuts]
    compare(library, gd.fit(theirs, epochs=5, **how), gd.fit(cuts, epochs=5, **how))


def test_chunks_of_a_data_loader(torch: Any, data: Any) -> None:
    X, y = data
    rows = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    fit = gd.fit(torch.utils.data.DataLoader(rows, batch_size=16))
    assert isinstance(fit.weights, torch.Tensor)
    assert fit.weights.tolist() == gd.fit([(X[:16], y[:16]), (X[16:], y[16:])]).weights.tolist()


def test_moments_give_numpy_arrays(library: Library, data: Any) -> None:
    X, y = data
    moments = gd.Moments(3, dtype=X.dtype).update(library.make(X), library.make(y))
    assert moments == gd.Moments(3, dtype=X.dtype).update(X, y)
    assert type(moments.fit().weights) is np.ndarray


def test_warm_starts(library: Library, data: Any) -> None:
    X, y = data
    make, how = library.make, {"epochs": 4, "tol": None}
    whole = gd.fit(X, y, SGD, epochs=8, tol=None)
    half = gd.fit(make(X), make(y), SGD, **how)
    np.testing.assert_array_equal(gd.fit(X, y, SGD, init=half, **how).weights, whole.weights)
    library.same(gd.fit(make(X), make(y), SGD, init=half, **how).weights, whole.weights)
    at = np.array([0.5, -1.0, 2.0], X.dtype), np.array(0.25, X.dtype)
    numpys = gd.fit(X, y, SGD, init=at, **how)
    compare(library, gd.fit(make(X), make(y), SGD, init=tuple(map(make, at)), **how), numpys)
    compare(library, gd.fit(make(X), make(y), SGD, init=make(at[0]), **how),
            gd.fit(X, y, SGD, init=at[0], **how))  # fmt: skip
    bare = replace(half, state=None)  # as when the state does not suit: from the weights alone
    np.testing.assert_array_equal(
        gd.fit(X, y, SGD, init=bare, **how).weights,
        gd.fit(X, y, SGD, init=(np.asarray(half.weights), np.asarray(half.intercept)), **how)
        .weights,
    )  # fmt: skip
    X, y = X.reshape(4, 10, 3), y.reshape(4, 10)
    many = gd.fit(make(X), make(y), SGD, **how)
    library.same(gd.fit(make(X), make(y), SGD, init=many, **how).weights,
                 gd.fit(X, y, SGD, epochs=8, tol=None).weights)  # fmt: skip


def test_pickles_copies_and_files_are_numpys(library: Library, data: Any, tmp_path: Path) -> None:
    X, y = data
    for shape in ((40,), (4, 10)):
        rows, targets = X.reshape(*shape, 3), y.reshape(shape)
        numpys = gd.fit(rows, targets)
        ours = gd.fit(library.make(rows), library.make(targets))
        ours.save(tmp_path / "fit.npz")
        backs = pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours), gd.load(tmp_path / "fit.npz")
        for back in backs:
            assert type(back) is type(ours)
            assert type(back.weights) is np.ndarray
            np.testing.assert_array_equal(back.weights, numpys.weights)
            np.testing.assert_array_equal(back.intercept, numpys.intercept)
            np.testing.assert_array_equal(back.predict(X), numpys.predict(X))
        changed = replace(ours, lr=0.5)
        library.same(changed.weights, numpys.weights)
        library.same(ours.weights, numpys.weights)


def test_ctrl_c_keeps_the_library(library: Library, data: Any) -> None:
    X, y = map(library.make, data)

    def stop(epoch: int, epochs: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(gd.FitInterrupted) as error:
        gd.fit(X, y, SGD, progress=stop)
    assert isinstance(error.value.fit.weights, library.kind)


def test_pictures(library: Library, data: Any) -> None:
    X, y = data
    pytest.importorskip("matplotlib")
    way = plot.data.way_of(gd.fit(library.make(X), library.make(y), SGD, epochs=3, tol=None), None)
    its = plot.data.way_of(gd.fit(X, y, SGD, epochs=3, tol=None), None)
    np.testing.assert_array_equal(way.weights, its.weights)
    np.testing.assert_array_equal(way.intercepts, its.intercepts)


@pytest.mark.torch
def test_tensors_are_not_copied(torch: Any, data: Any) -> None:
    X = torch.from_numpy(data[0])
    for rows in (X, X.T.contiguous().T, X[::2]):
        (array,) = gd._core.prepare(("X", rows))
        assert array.__array_interface__["data"][0] == rows.data_ptr()
    fit = gd.fit(X, torch.from_numpy(data[1]))
    fit.weights[0] = 7.0  # the memory is the fit's own
    assert pickle.loads(pickle.dumps(fit)).weights[0] == 7.0


def test_numpy_arrays_stay_as_they_are(data: Any) -> None:
    X, y = data
    fit = gd.fit(X, y)
    assert fit.home is None
    assert vars(fit)["weights"] is fit.weights
    assert type(fit.intercept) is X.dtype.type
    for kind in (list, tuple):
        assert type(gd.fit(kind(X), kind(y)).weights) is np.ndarray
    with pytest.raises(AttributeError):
        gd.Fit.weights  # noqa: B018
    with pytest.raises(AttributeError):
        object.__new__(gd.Fit).weights  # noqa: B018


def test_numpy_views_of_tensors(torch: Any, data: Any) -> None:
    X, y = data[0], data[1]
    views = (
        torch.from_numpy(np.array(X)).clone().numpy(),
        torch.from_numpy(np.array(y)).clone().numpy(),
    )
    assert not isinstance(views[0].base, np.ndarray)
    assert gd.fit(*views).weights.tolist() == gd.fit(X, y).weights.tolist()


def test_options_of_many_problems_are_tensors(torch: Any) -> None:
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((2, 9, 2)), rng.standard_normal((2, 9))
    lr, tol = np.array([0.1, 0.2]), np.array([1e-3, 1e-9])
    numpys = gd.fit(X, y, gd.SGD(lr=lr), tol=tol)
    tensors = torch.from_numpy(lr).requires_grad_(), torch.from_numpy(tol)
    ours = gd.fit(X, y, gd.SGD(lr=tensors[0]), tol=tensors[1])
    assert ours[torch.tensor(1)].lr == 0.2
    with pytest.raises(ValueError, match="tol is tensor"):
        gd.fit(X, y, gd.SGD(), tol=torch.ones(2, device="meta"))
    assert ours.weights.tolist() == numpys.weights.tolist()
    assert ours.epochs.tolist() == numpys.epochs.tolist()


def test_labels_that_need_gradients(torch: Any) -> None:
    rng = np.random.default_rng(3)
    X, y, labels = rng.standard_normal((8, 1)), rng.standard_normal(8), np.repeat([0.5, 1.5], 4)
    fits = gd.fit_groups(X, y, torch.from_numpy(labels).requires_grad_())
    assert fits.groups.tolist() == [0.5, 1.5]
