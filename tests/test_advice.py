"""What a refusal advises is done, and the fit then succeeds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import numpy as np
import pytest

import gdcore
import gdcore as gd
from gdcore import advice

# How close a fit of three epochs comes is not the matter here.
pytestmark = pytest.mark.filterwarnings("ignore::gdcore.FitWarning")

NUMBERS = np.array([[1.0, 5.0], [2.0, 3.0], [4.0, 4.0], [3.0, 1.0], [7.0, 2.0], [6.0, 9.0]])
Y = NUMBERS @ [2.0, -1.0] + 3
SGD = gd.SGD(lr=0.01)


def refused(call: Callable[..., Any], *arguments: Any, **how: Any) -> str:
    """Return the message, which is one sentence on one line."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call(*arguments, **how)
    message = str(caught.value)
    assert "\n" not in message
    return message


def follow(expression: str, message: str, **names: Any) -> Any:
    """Do what a message says."""
    assert expression in message, message
    names |= {"numpy": numpy, "gdcore": gdcore}
    return eval(expression, names)


def check(bad: Any, expression: str, want: Any = NUMBERS) -> None:
    """Refuse X in a fit and a product of matrices, then take what the messages advise."""
    message = refused(gd.fit, bad, Y, SGD, epochs=3)
    result = gd.fit(follow(expression, message, X=bad), Y, SGD, epochs=3, tol=None)
    same = gd.fit(np.asarray(want), Y, SGD, epochs=3, tol=None)
    np.testing.assert_allclose(result.weights, same.weights, rtol=1e-2)
    message = refused(gd.matmul, np.eye(6), bad)
    product = gd.matmul(np.eye(6), follow(expression.replace("X", "b"), message, b=bad))
    np.testing.assert_allclose(product, want, rtol=1e-2)


def test_sparse_matrices() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    for make in (sparse.csr_matrix, sparse.coo_array, sparse.csc_array, sparse.lil_matrix):
        check(make(NUMBERS), "X.toarray()")
        X = make(NUMBERS)
        message = refused(gd.fit, X, Y)
        assert "9.6e-05 MB" in message
        X = follow("X.tocsr()", message, X=X)
        chunks = message.partition("X = X.tocsr(); ")[2].removesuffix(".")
        result = follow(chunks, message, X=X, y=Y)
        np.testing.assert_allclose(result.predict(NUMBERS), Y, atol=0.1)
    y = sparse.csr_array(Y[:, None])
    message = refused(gd.fit, NUMBERS, y)
    gd.fit(NUMBERS, follow("y.toarray()", message, y=y), SGD, epochs=3)


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    X = torch.tensor(NUMBERS)
    check(X.bfloat16(), "X.float()")
    gd.fit(X.clone().requires_grad_(), Y, SGD, epochs=3)
    check(X.bfloat16().requires_grad_(), "X.detach().float()")
    check(X.to_sparse(), "X.to_dense()")
    away = torch.empty((6, 2), device="meta", requires_grad=True)
    assert "X is a tensor on meta, which has no numbers" in refused(gd.fit, away, Y)
    gd.fit(X.half(), Y, SGD, epochs=3)
    assert "y is a tensor on meta" in refused(gd.fit, X, torch.empty(6, device="meta"))
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    with pytest.raises(TypeError, match=r"groups is a tensor that is bfloat16; pass groups.float"):
        gd.fit_groups(X, Y, labels.bfloat16())
    with pytest.raises(TypeError, match="groups is a tensor on meta, which has no numbers"):
        gd.fit_groups(X, Y, labels.to("meta"))


def test_numbers_of_other_kinds() -> None:
    check(NUMBERS.astype(complex), "X.real")
    check(NUMBERS.astype(object), "X.astype(numpy.float64)")
    check(NUMBERS.astype(str), "X.astype(numpy.float64)")
    check(NUMBERS.astype(np.longdouble), "X.astype(numpy.float64)")
    check(NUMBERS.astype(str).tolist(), "numpy.asarray(X, numpy.float64)")
    check([[Decimal(x) for x in row] for row in NUMBERS], "numpy.asarray(X, numpy.float64)")
    check(np.ma.masked_array(NUMBERS, NUMBERS > 8), "X.filled(0)", NUMBERS * (NUMBERS <= 8))
    dates = NUMBERS.astype("M8[D]")
    check(dates, "(X - X.min()) / numpy.timedelta64(1, 'D')", NUMBERS - 1)
    check(NUMBERS.astype("m8[D]"), "X / numpy.timedelta64(1, 'D')")


def test_collections() -> None:
    check({"a": NUMBERS[:, 0], "b": NUMBERS[:, 1]}, "numpy.column_stack(list(X.values()))")
    for make in (lambda: (row for row in NUMBERS), lambda: map(list, NUMBERS)):
        X = make()
        message = refused(gd.fit, X, Y)
        got = follow("list(X)", message, X=X)
        np.testing.assert_array_equal(got, NUMBERS)
    y: Any = dict(zip("abcdef", Y, strict=True))
    message = refused(gd.fit, NUMBERS, y)
    gd.fit(NUMBERS, follow("numpy.array(list(y.values()))", message, y=y), SGD, epochs=3)
    y = (value for value in Y)
    message = refused(gd.fit, NUMBERS, y)
    assert "chunks" not in message
    gd.fit(NUMBERS, follow("list(y)", message, y=y), SGD, epochs=3)
    assert "pass a list" in refused(gd.fit, {1.0, 2.0}, Y)
    assert "row 0 has length 2 and row 1 has length 1" in refused(gd.fit, [[1, 2], [3]], Y)
    assert "row 0 has length 2 and row 2 is one number" in refused(gd.fit, [[1, 2], [3, 4], 5], Y)
    for path in ("table.csv", Path("table.csv")):
        assert "gdcore.read_chunks(path" in refused(gd.fit, path, Y)
    labels = (i % 2 for i in range(6))
    assert "groups is generator; pass a list" in refused(gd.fit_groups, NUMBERS, Y, labels)
    for groups in ("ababab", {0, 1}, dict.fromkeys(range(6)).keys(), 7):
        assert "pass a list, one label for each row" in refused(gd.fit_groups, NUMBERS, Y, groups)


def test_arrays_that_convert_themselves_to_nothing() -> None:
    """Arrays like CuPy's, whose conversion raises TypeError."""

    class OnGpu:
        __cuda_array_interface__ = property(lambda self: {"shape": (6, 2)})

        def __array__(self, *args: Any, **how: Any) -> Any:
            raise TypeError("Implicit conversion to a NumPy array is not allowed.")

        def get(self) -> Any:
            return NUMBERS

    check(OnGpu(), "X.get()")


def test_matrices_of_numpy() -> None:
    X = NUMBERS.view(np.matrix)
    want = gd.fit(NUMBERS, Y).weights
    for fit in (gd.fit(X, Y), gd.fit([(X, Y)]), gd.Moments(2).update(X, Y).fit()):
        np.testing.assert_allclose(fit.weights, want)
        assert fit.predict(X).shape == (6,)


def test_entries_that_are_not_numbers() -> None:
    for entry, words in (
        (
            None,
            "holds None at row 4, column 1 (counted from 0); drop or fill such rows before fitting",
        ),
        ("red", "holds 'red' at row 4, column 1 (counted from 0), which is not a real number"),
        (1j, "holds 1j at row 4, column 1"),
        (datetime(2020, 1, 1), "count days, for example (dates - dates.min())"),
    ):
        X = NUMBERS.astype(object)
        X[4, 1] = entry
        for bad in (X, X.tolist()):
            if entry != 1j or bad is X:
                assert words in refused(gd.fit, bad, Y)
        y = Y.astype(object)
        y[2] = entry
        assert f"y has dtype object and holds {entry!r} at row 2 (" in refused(gd.fit, NUMBERS, y)
    stack = np.stack([NUMBERS, NUMBERS]).astype(object)
    stack[1, 2, 0] = "red"
    assert "at problem 1, row 2, column 0" in refused(gd.fit, stack, np.stack([Y, Y]))


def test_frames_that_are_not_there_yet() -> None:
    """Frames such as Dask's are not computed unasked."""
    pandas = pytest.importorskip("pandas")

    class Lazy:
        columns = ("a", "b")

        def compute(self) -> Any:
            return pandas.DataFrame(NUMBERS, columns=list(self.columns))

    lazy = Lazy()
    gd.fit(follow("X.compute()", refused(gd.fit, lazy, Y), X=lazy), Y, SGD, epochs=3)


def test_frames_that_hold_words() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": NUMBERS[:, 0], "b": list("xyzxyz")})
    assert "'x'" in refused(gd.fit, frame[["b"]], Y)
    message = refused(gd.fit, NUMBERS, frame["b"])
    assert message.endswith("encode it as numbers.")


def test_weights_out_of_range() -> None:
    """The same refusal by every method and in every way in; scaled, the same answer."""
    ways: dict[str, Callable[..., Any]] = {
        "stream": lambda X, y, w: gd.fit(X, y, SGD, sample_weight=w, method="stream"),
        "gram": lambda X, y, w: gd.fit(X, y, SGD, sample_weight=w, method="gram"),
        "exact": lambda X, y, w: gd.fit(X, y, sample_weight=w, method="exact"),
        "batches": lambda X, y, w: gd.fit(X, y, SGD, sample_weight=w, batch_size=2),
        "stack": lambda X, y, w: gd.fit(X[None], y[None], sample_weight=w[None], method="exact"),
        "groups": lambda X, y, w: gd.fit_groups(X, y, np.zeros(len(y), int), sample_weight=w),
        "rolling": lambda X, y, w: gd.fit_rolling(X, y, len(y), sample_weight=w),
        "moments": lambda X, y, w: gd.Moments(2, dtype=X.dtype).update(X, y, sample_weight=w).fit(),
        "chunks": lambda X, y, w: gd.fit([(X, y, w)]),
    }
    for dtype, extremes in (("f8", (1e-310, 1e308, 1e-200, 1e200)), ("f4", (1e-44, 1e38, 1e35))):
        X, y = NUMBERS.astype(dtype), Y.astype(dtype)
        for extreme in extremes:
            weight = np.full(6, extreme, dtype)
            for name, way in ways.items():
                message = refused(way, X, y, weight)
                assert "the largest sample_weight is" in message, name
                scaled = follow(
                    "sample_weight / sample_weight.max()", message, sample_weight=weight
                )
                got, want = way(X, y, scaled), way(X, y, np.ones(6, dtype))
                np.testing.assert_allclose(got.weights, want.weights, rtol=1e-6)


def test_small_weights_beside_large_ones() -> None:
    """They hardly count, in one chunk or in several."""
    weight = np.array([1, 1, 1, 1, 1e-310, 1e-200])
    want = gd.fit(NUMBERS[:4], Y[:4] ** 2, method="exact")
    cuts = slice(0, 4), slice(4, 6)
    for got in (
        gd.fit(NUMBERS, Y**2, sample_weight=weight, method="exact"),
        gd.fit([(NUMBERS, Y**2, weight)], method="exact"),
        gd.fit([(NUMBERS[s], Y[s] ** 2, weight[s]) for s in cuts], method="exact"),
    ):
        np.testing.assert_allclose(got.weights, want.weights, rtol=1e-9)


# Options under the names of other libraries.


def test_options_of_the_descent() -> None:
    ways: list[Callable[..., Any]] = [
        lambda **how: gd.fit(NUMBERS, Y, **how),
        lambda **how: gd.fit([(NUMBERS, Y)], **how),
        lambda **how: gd.fit_groups(NUMBERS, Y, np.zeros(6, int), **how),
        lambda **how: gd.fit_rolling(NUMBERS, Y, 6, **how),
        lambda **how: gd.Moments(2).update(NUMBERS, Y).fit(**how),
    ]
    asked: list[tuple[dict[str, Any], str]] = [
        ({"lr": 0.01}, "sgd=gdcore.SGD(lr=0.01)"),
        ({"momentum": 0.5}, "sgd=gdcore.SGD(momentum=0.5)"),
        ({"weight_decay": 0.1}, "sgd=gdcore.SGD(weight_decay=0.1)"),
        ({"learning_rate": 0.01}, "sgd=gdcore.SGD(lr=0.01)"),
        ({"alpha": 0.1}, "sgd=gdcore.SGD(weight_decay=0.1)"),
        ({"l2": 0.1}, "sgd=gdcore.SGD(weight_decay=0.1)"),
        ({"max_iter": 9}, "epochs="),
        ({"n_iter": 9}, "epochs="),
        ({"epoch": 9}, "did you mean epochs=?"),
    ]
    for way in ways:
        for wrong, right in asked:
            message = refused(way, **wrong)
            assert f"takes no {next(iter(wrong))}=" in message
            assert right in message
            how = {"epochs": 9}
            if right.startswith("sgd="):
                how = {"sgd": follow(right.removeprefix("sgd="), message)}
            way(**how, tol=None)
        assert "n_threads" in refused(way, cheese=1) or way is ways[-1]
    assert "pass gdcore.SGD(lr=0.1)" in refused(gd.fit, NUMBERS, Y, 0.1)


def test_alpha_of_ridge_regression() -> None:
    """The rule in the message gives scikit-learn's weights."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    message = refused(gd.fit, NUMBERS, Y, alpha=3.0)
    decay = follow("2 * alpha / n", message, alpha=3.0, n=6)
    got = gd.fit(NUMBERS, Y, gd.SGD(weight_decay=decay), method="exact", fit_intercept=False)
    want = linear_model.Ridge(alpha=3.0, fit_intercept=False).fit(NUMBERS, Y)
    np.testing.assert_allclose(got.weights, want.coef_, rtol=1e-9)


def test_every_advised_name_exists() -> None:
    """Each option that another library's name is translated to is one of `fit` or `SGD`."""
    for name in advice.MEANS:
        message = refused(gd.fit, NUMBERS, Y, **{name: 1})
        assert "; it is" in message or "standardize" in advice.MEANS[name]
