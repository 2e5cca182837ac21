"""Names of data frames are kept, checked and used in every way in."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from fits import refused
from gdcore.data.columns import as_numbers

N = 40
RNG = np.random.default_rng(3)
A, B = RNG.normal(size=(2, N))
Y = 2 * A - 3 * B + 1 + 0.1 * RNG.normal(size=N)
GROUPS = np.arange(N) % 2


@pytest.fixture(params=["pandas", "polars", "pyarrow"])
def library(request: Any) -> Any:
    pytest.importorskip("narwhals")
    return pytest.importorskip(request.param)


def frame(library: Any, **columns: Any) -> Any:
    return library.table(columns) if library.__name__ == "pyarrow" else library.DataFrame(columns)


def series(library: Any, values: Any, name: str = "price") -> Any:
    if library.__name__ == "pyarrow":
        return library.array(values)
    return library.Series(values, name=name) if library.__name__ == "pandas" else library.Series(
        name, values
    )  # fmt: skip


def test_names_are_kept_and_used(library: Any, tmp_path: Path) -> None:
    X, y = frame(library, a=A, b=B), series(library, Y)
    fits = {
        "fit": gd.fit(X, y, method="exact"),
        "descent": gd.fit(X, y, gd.SGD(momentum=0.9), epochs=5000),
        "chunks": gd.fit([(X, y), (X, y)], method="exact"),
        "moments": gd.Moments(2).update(X, y).fit(gd.SGD(momentum=0.9), epochs=5000),
        "groups": gd.fit_groups(X, y, GROUPS, method="exact"),
        "one group": gd.fit_groups(X, y, GROUPS, method="exact")[1],
    }
    fits["fit"].save(tmp_path / "fit")
    fits["loaded"] = gd.load(tmp_path / "fit")
    fits["groups"].save(tmp_path / "fits")
    fits["groups loaded"] = gd.load(tmp_path / "fits")
    other = frame(library, text=["t"] * N, b=B, a=A)
    for name, fit in fits.items():
        assert fit.feature_names == ("a", "b"), name
        assert fit.target_name == (None if library.__name__ == "pyarrow" else "price"), name
        how = {"groups": GROUPS} if isinstance(fit, gd.Fits) else {}
        found = fit.predict(other, **how)
        assert found.tobytes() == fit.predict(np.stack([A, B], 1), **how).tobytes()
        assert np.abs(found - Y).max() < 0.4
        lacking = frame(library, a=A, c=B)
        refused(lambda fit=fit, how=how, X=lacking: fit.predict(X, **how), "X has no column 'b'")
    rolling = gd.fit_rolling(X, y, 10, gd.SGD())
    assert rolling.feature_names == ("a", "b")


def test_later_rows_are_read_by_the_first_names(library: Any) -> None:
    X, other, y = frame(library, a=A, b=B), frame(library, b=B, a=A), series(library, Y)
    lacking = frame(library, a=A, c=B)
    one = gd.fit([(X, y), (X, y)], method="exact")
    assert gd.fit([(X, y), (other, y)], method="exact").weights.tobytes() == one.weights.tobytes()
    refused(lambda: gd.fit([(X, y), (lacking, y)]), "chunk 1 .*X has no column 'b'")
    moments = gd.Moments(2).update(X, y)
    assert moments.copy().update(other, y) == moments.copy().update(X, y)
    assert moments.copy().update(other, y).downdate(other, y).n == N
    refused(lambda: moments.update(lacking, y), "X has no column 'b'")
    refused(lambda: moments + gd.Moments(2).update(other, y), "the same names and order")
    how: dict[str, Any] = {"sgd": gd.SGD(), "epochs": 2, "tol": None}
    fit, fits = gd.fit(X, y, **how), gd.fit_groups(X, y, GROUPS, **how)
    refused(lambda: gd.fit(other, y, gd.SGD(), init=fit), "init is a fit of the columns a, b")
    refused(lambda: gd.fit_groups(other, y, GROUPS, gd.SGD(), init=fits), "init is a fit of the")


def test_a_frame_without_rows_keeps_its_names(library: Any) -> None:
    X, y = frame(library, a=A[:0], b=B[:0]), series(library, Y[:0])
    with pytest.warns(gd.FitWarning, match="No rows to learn from"):
        assert gd.fit(X, y).feature_names == ("a", "b")
    assert gd.Moments(2).update(X, y).n == 0


def test_a_column_that_is_something_else_too(library: Any) -> None:
    X = frame(library, a=A, g=GROUPS, y=Y)
    call = {"X": X, "target": "y", "features": ["a"], "by": "g"}
    for change, message in (
        ({"features": ["a", "a"]}, "features names the column 'a' twice"),
        ({"features": ["a", "y"]}, "features names the column 'y' and so does target"),
        ({"features": ["a", "g"]}, "by names the column 'g' and so does features"),
        ({"target": "g"}, "by names the column 'g' and so does target"),
        ({"by": ["g", "g"]}, "by names the column 'g' twice"),
    ):
        refused(lambda change=change: gd.fit_groups(**(call | change)), message)
    if library.__name__ != "pyarrow":  # whose arrays have no names
        refused(lambda: gd.fit(X, X["y"]), "the target y is also the column 'y' of X")
        refused(lambda: gd.fit_groups(X, A, X["g"]), "groups is also the column 'g' of X")
        shifted = gd.fit(X, series(library, np.roll(Y, 1), "y"), method="exact")
        assert shifted.target_name == "y"  # the name alone may well be the same


def test_a_name_twice() -> None:
    pa = pytest.importorskip("pyarrow")
    frames = [pa.table([A, B, Y, GROUPS], names=["a", "a", "y", "g"])]
    pd = pytest.importorskip("pandas")
    frames += [pd.DataFrame(np.stack([A, B, Y, GROUPS], 1), columns=["a", "a", "y", "g"])]
    for X in frames:
        refused(lambda X=X: gd.fit(X, Y), "X has two columns 'a'")
        call = {"target": "y", "features": ["a"], "by": "g"}
        refused(lambda X=X, call=call: gd.fit_groups(X, **call), "two columns 'a'")
    fit = gd.fit(np.stack([A, B], 1), Y, method="exact")
    refused(lambda: fit.predict(pd.DataFrame(np.ones((1, 2)), columns=[1, "1"])), "two columns '1'")


def test_names_that_are_numbers() -> None:
    """They are kept as text, and either finds the column."""
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(np.stack([A, B], 1))
    fit = gd.fit(X, pd.Series(Y, name=7), method="exact")
    assert fit.feature_names == ("0", "1")
    assert fit.target_name == "7"
    for other in (pd.DataFrame({1: B, 0: A}), pd.DataFrame({"1": B, "0": A})):
        assert fit.predict(other).tobytes() == fit.predict(np.stack([A, B], 1)).tobytes()
    table = pd.DataFrame(np.stack([A, Y, GROUPS], 1))
    want = gd.fit_groups(A[:, None], Y, GROUPS, method="exact").weights[:, 0].tolist()
    for names in ({"features": [0], "target": 1, "by": [2]}, {"features": 0, "target": 1, "by": 2},
                  {"features": "0", "target": "1", "by": "2"}):  # fmt: skip
        found = gd.fit_groups(table, method="exact", **names)
        assert found.weights[:, 0].tolist() == want
        assert found.groups.tolist() == [0, 1]
        assert found.feature_names == ("0",)


def kinds(library: Any) -> dict[str, Any]:
    """Return columns of 0, 1, 2, 3 or of booleans, each of another type."""
    values, flags = [0, 1, 2, 3], [False, True, True, False]
    decimals = [Decimal(v) / 10 for v in values]
    if library.__name__ == "pyarrow":
        return {"int": library.array(values, library.int8()), "decimal": library.array(decimals),
                "bool": library.array(flags),
                "category": library.array(values).dictionary_encode()}  # fmt: skip
    if library.__name__ == "polars":
        return {"int": library.Series(values), "decimal": library.Series(decimals),
                "wide": library.Series(values, dtype=library.Int128),
                "bool": library.Series(flags)}  # fmt: skip
    return {
        "int": library.array(values, "Int64"), "bool": library.array(flags, "boolean"),
        "float": library.array(values, "Float32"), "decimal": decimals,
        "object": np.array(values, object), "sparse": library.arrays.SparseArray(values),
        "category": library.Categorical(values),
    }  # fmt: skip


def test_columns_of_other_types(library: Any) -> None:
    y = np.array([1.0, 2.0, 4.0, 8.0])
    for name, column in kinds(library).items():
        X = frame(library, x=column)
        numbers = [float(v) for v in X["x"].to_pylist()] if hasattr(X["x"], "to_pylist") else [
            float(v) for v in X["x"].to_list()
        ]  # fmt: skip
        want = gd.fit(np.array(numbers)[:, None], y, method="exact")
        fit = gd.fit(X, y, method="exact")
        assert fit.weights.dtype == np.float64 or name == "float"
        assert np.allclose(fit.weights, want.weights, rtol=1e-6)
        groups = gd.fit_groups(
            frame(library, x=column, y=y, g=[0] * 4), target="y", features="x", by="g",
            method="exact",
        )  # fmt: skip
        assert np.allclose(groups.weights[0], want.weights, rtol=1e-6)
        assert np.allclose(gd.fit(X, series(library, y), method="exact").weights, want.weights)


def test_nulls_and_text(library: Any) -> None:
    """They are refused by column and row, in X and in whatever goes with it."""
    missing = series(library, [1, 2, None, 4])
    if library.__name__ == "pandas":
        missing = missing.astype("Int64")
    good = np.arange(4.0)
    X, holed = frame(library, a=good), frame(library, a=good, b=missing, c=good)
    for call, name in (
        (lambda: gd.fit(holed, good), "the column 'b'"),
        (lambda: gd.fit([(holed, good)]), "the column 'b'"),
        (lambda: gd.Moments(3).update(holed, good), "the column 'b'"),
        (lambda: gd.fit_groups(holed, good, [0, 0, 1, 1]), "the column 'b'"),
        (lambda: gd.fit_groups(holed, target="a", features="b", by="c"), "the column 'b'"),
        (lambda: gd.fit_groups(holed, target="a", features="c", by="b"), "the column 'b' of by"),
        (lambda: gd.fit_rolling(holed, good, 2), "the column 'b'"),
        (lambda: gd.fit(X, missing), "y"),
        (lambda: gd.fit(X, good, sample_weight=missing), "sample_weight"),
        (lambda: gd.fit(X, good, offset=missing), "offset"),
    ):
        refused(call, f"{name} has 1 missing value, the first in row 2")
    text = frame(library, a=good, b=["1", "2", "3", "4"])
    refused(
        lambda: gd.fit(text, good),
        "the column 'b' holds .*'.*leave it out, or encode it as numbers",
    )
    bad = frame(library, a=good, b=[1.0, 2.0, np.inf, 4.0])
    refused(lambda: gd.fit(bad, good, gd.SGD()), "X holds inf at row 2, column 'b'")


def test_one_column_and_rows_elsewhere(library: Any) -> None:
    """Objects that are not frames yet: the advice works."""
    x = series(library, A)
    refused(lambda: gd.fit(x, Y), r"Reshape a single feature with X.to_numpy\(\)\[:, None\]")
    assert gd.fit(x.to_numpy()[:, None], Y, method="exact").weights.shape == (1,)
    if library.__name__ == "polars":
        lazy = library.LazyFrame({"a": A})
        assert gd.fit(lazy, Y, method="exact").feature_names == ("a",)
    if library.__name__ == "pyarrow":
        batch = library.record_batch({"a": A, "b": B})
        assert gd.fit(batch, library.array(Y), method="exact").feature_names == ("a", "b")


def test_targets_of_a_frame(library: Any) -> None:
    X = frame(library, a=A)
    one = gd.fit(X, frame(library, y=Y), method="exact")
    assert one.target_name == "y"
    assert one.weights.shape == (1, 1)
    two = gd.fit(X, frame(library, y=Y, z=B), method="exact")
    assert two.target_name is None
    assert two.weights.shape == (1, 2)
    refused(lambda: gd.fit(X, frame(library, y=Y, a=A)), "the target y is also the column 'a'")


def test_single_precision(library: Any) -> None:
    """It stays where all columns have it: integers and booleans are float64, as in arrays."""
    a, y = A.astype(np.float32), Y.astype(np.float32)
    assert gd.fit(frame(library, a=a), y, method="exact").weights.dtype == np.float32
    mixed = frame(library, a=a, b=B > 0)
    assert gd.fit(mixed, y, method="exact").weights.dtype == np.float64


def test_frames_of_one_float_are_not_copied() -> None:
    pd = pytest.importorskip("pandas")
    block = np.asfortranarray(np.stack([A, B], 1))
    given, names = as_numbers(pd.DataFrame(block, columns=["a", "b"], copy=False), "X")
    assert names == ("a", "b")
    assert np.shares_memory(given, block)


def test_numbers_beyond_float64() -> None:
    X = pytest.importorskip("pandas").DataFrame({"a": np.array([10**400, 1], object)})
    refused(lambda: gd.fit(X, [1.0, 2.0]), "the column 'a' holds numbers that float64 has no room")


def test_without_narwhals() -> None:
    pytest.importorskip("pyarrow")
    code = """
import sys
sys.modules["narwhals"] = None
import gdcore as gd, pyarrow
print(gd.fit([[1.0], [2.0], [4.0]], pyarrow.array([1.0, 2.0, 4.0]), method="exact").weights.shape)
try:
    gd.fit(pyarrow.table({"a": [1.0, 2.0]}), [1.0, 2.0])
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[0] == "(1,)"
    assert "pip install 'gdcore[frames]'" in run.stdout
