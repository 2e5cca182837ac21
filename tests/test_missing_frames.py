"""Nulls of data frames, series and labels: rows with one do not count if asked to."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from gdcore import Status

pytest.importorskip("narwhals")
pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

Array = np.ndarray[Any, Any]
N = 60
RNG = np.random.default_rng(0)
HOLES = RNG.random(N) < 0.15
X = RNG.standard_normal((N, 2))
Y = X @ [1.0, -2.0] + RNG.standard_normal(N)

pytestmark = pytest.mark.filterwarnings("ignore::gdcore.FitWarning")


def same(one: gd.Fit, other: gd.Fit) -> None:
    """Assert that fits have the same bits, and were fitted to as many rows."""
    for name in ("weights", "intercept", "loss", "rows"):
        a, b = np.asarray(getattr(one, name)), np.asarray(getattr(other, name))
        assert (a.dtype, a.tolist()) == (b.dtype, b.tolist()), name


def with_nulls(values: list[Any]) -> list[Any]:
    return [None if hole else value for hole, value in zip(HOLES, values, strict=True)]


def without(values: list[Any]) -> list[Any]:
    return [value for hole, value in zip(HOLES, values, strict=True) if not hole]


def number_columns() -> Iterator[tuple[str, Callable[[list[Any]], Any], list[Any]]]:
    """Yield kinds of columns of numbers: a name, what makes one, and values."""
    small = RNG.integers(-99, 99, N).tolist()
    large = (RNG.integers(0, 2**62, N) + 2**61).tolist()  # that float64 rounds
    floats = RNG.standard_normal(N).astype(np.float32).astype(float).tolist()
    bools = (RNG.random(N) < 0.5).tolist()
    decimals = [Decimal(value) / 8 for value in small]
    for name, values in (
        ("Int8", small), ("Int64", large), ("UInt64", large), ("Float32", floats),
        ("Float64", floats), ("boolean", bools),
    ):  # fmt: skip
        yield f"pandas {name}", lambda v, name=name: pd.Series(v, dtype=name), values
        yield f"pandas array {name}", lambda v, name=name: pd.array(v, dtype=name), values
    yield "pandas float", lambda v: pd.Series(v, dtype="float64"), floats
    yield "pandas category", lambda v: pd.Series(v).astype("category"), small
    yield "pandas object", lambda v: pd.Series(v, dtype=object), small
    yield "pandas Arrow", lambda v: pd.Series(v, dtype=pd.ArrowDtype(pa.int32())), small
    for kind, values in (
        (pl.Int8, small), (pl.Int64, large), (pl.UInt64, large), (pl.Int128, large),
        (pl.Float32, floats), (pl.Float64, floats), (pl.Boolean, bools),
        (pl.Decimal(9, 3), decimals),
    ):  # fmt: skip
        yield f"polars {kind}", lambda v, kind=kind: pl.Series(v, dtype=kind), values
    for kind, values in (
        (pa.int8(), small), (pa.int64(), large), (pa.uint64(), large), (pa.float32(), floats),
        (pa.float64(), floats), (pa.bool_(), bools), (pa.decimal128(9, 3), decimals),
        (pa.dictionary(pa.int8(), pa.int64()), small),
    ):  # fmt: skip
        yield f"Arrow {kind}", lambda v, kind=kind: pa.array(v, kind), values


def test_columns_of_numbers() -> None:
    """The numbers, and their dtype, are those of the column without its nulls."""
    y = np.arange(float(N))
    for name, make, values in number_columns():
        given, kept = make(with_nulls(values)), make(without(values))
        kept_X = np.array([float(v) for v in without(values)])[:, None]
        for dtype in (np.float32, np.float64):
            rows = X[:, :1].astype(dtype)
            found = gd.fit(rows, given, missing="drop")
            want = gd.fit(rows[~HOLES], kept)
            try:
                same(found, want)
            except AssertionError as error:
                raise AssertionError(f"{name}, {dtype.__name__}: {error}") from error
        weights = gd.fit(kept_X, y[~HOLES]).weights
        if not name.startswith("pandas array"):
            frame = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "Arrow": pa.table}
            make_frame = frame[name.split()[0]]
            fit = gd.fit(make_frame({"x": given}), y, missing="drop")
            assert fit.dropped == HOLES.sum(), name
            assert fit.feature_names == ("x",)
            assert np.allclose(fit.weights, weights, rtol=1e-6), name
        with pytest.raises((ValueError, TypeError), match=r"or pass missing='drop'\.$"):
            gd.fit(rows, given)


def frames(**columns: list[Any]) -> dict[str, Any]:
    """Return a frame of each library."""
    return {
        "pandas": pd.DataFrame(columns),
        "polars": pl.DataFrame(columns, strict=False),
        "Arrow": pa.table(columns),
        "lazy": pl.LazyFrame(columns, strict=False),
    }


def test_a_frame_of_rows() -> None:
    a, b, y = X[:, 0].tolist(), with_nulls(X[:, 1].tolist()), Y.tolist()
    y[7], a[9] = None, None
    gaps = HOLES.copy()
    gaps[[7, 9]] = True
    want = gd.fit(X[~gaps], Y[~gaps])
    for library, frame in frames(a=a, b=b).items():
        for target in (y, pl.Series(y), pd.Series(y)):
            same(gd.fit(frame, target, missing="drop"), want)
        with pytest.raises(ValueError, match=r"'a' has 1 missing value, .* or pass missing='drop'"):
            gd.fit(frame, Y)
        if library != "lazy":
            fit = gd.Moments(2).update(frame, y, missing="drop").fit()
            assert (fit.rows, fit.feature_names) == (want.rows, ("a", "b"))
            assert np.allclose(fit.weights, want.weights, rtol=1e-12)
            chunk = gd.fit([(frame, np.array(y, float))], missing="drop")
            assert (chunk.rows, chunk.dropped) == (want.rows, gaps.sum())
    empty = pl.DataFrame({"a": [None] * N, "b": X[:, 1]})  # whose column a has no dtype
    assert gd.fit(empty, Y, missing="drop").status is Status.EMPTY


def test_a_prediction_of_a_gap_is_nan() -> None:
    """It drops no rows: gaps in a frame are those of an array that holds NaN."""
    a, b, y = X[:, 0].tolist(), with_nulls(X[:, 1].tolist()), Y.tolist()
    y[7], base = None, with_nulls(Y.tolist())
    second, target, offset = (np.array(column, float) for column in (b, y, base))  # None is NaN
    rows = np.stack([X[:, 0], second], 1)
    fit = gd.fit(X, Y)
    groups = gd.fit_groups(X, Y, np.arange(N) % 2)
    rolling = gd.fit_rolling(X, Y, 5)
    for library, frame in frames(a=a, b=b).items():
        numbers = frames(y=y, base=base)["polars" if library == "lazy" else library]
        for predict in (fit.predict, groups.predict, rolling.predict):
            found, want = predict(frame), predict(rows)
            assert found.tobytes() == want.tobytes(), library
            assert np.isnan(found[..., HOLES]).all(), library
            found = predict(frame, offset=numbers["base"])
            assert found.tobytes() == predict(rows, offset=offset).tobytes(), library
        for predict in (fit.residuals, lambda X, y: groups[0].residuals(X, y)):
            found, want = predict(frame, numbers["y"]), predict(rows, target)
            assert found.tobytes() == want.tobytes(), library


def test_groups_of_a_frame() -> None:
    """Gaps in any column that is named, those of weights and offsets too."""
    rng = np.random.default_rng(1)
    label = rng.choice(list("abc"), N).tolist()
    weight, offset = rng.random(N).tolist(), rng.random(N).tolist()
    columns = {"a": X[:, 0].tolist(), "b": with_nulls(X[:, 1].tolist()), "y": Y.tolist()}
    columns |= {
        "w": [None, *weight[1:]],
        "o": [*offset[:-1], None],
        "g": [*label[:5], None, *label[6:]],
    }
    gaps = HOLES.copy()
    gaps[[0, -1, 5]] = True
    kept = np.flatnonzero(~gaps)
    names: dict[str, Any] = {
        "target": "y",
        "features": ["a", "b"],
        "sample_weight": "w",
        "offset": "o",
    }
    for frame in frames(**columns).values():
        found = gd.fit_groups(frame, **names, by="g", missing="drop")
        want = gd.fit_groups(
            X[kept], Y[kept], np.array(label)[kept],
            sample_weight=np.array(weight)[kept], offset=np.array(offset)[kept],
        )  # fmt: skip
        same(found, want)
        assert found.groups.tolist() == want.groups.tolist()
        with pytest.raises(ValueError, match=r"missing.* or pass missing='drop'"):
            gd.fit_groups(frame, **names, by="g")


def test_a_group_of_a_frame_that_is_empty() -> None:
    columns: dict[str, list[Any]] = {
        "x": [1, 2, None, 4],
        "y": [1, 2, 3, 4],
        "g": ["a", "a", "b", None],
    }
    for frame in frames(**columns).values():
        fits = gd.fit_groups(frame, target="y", features="x", by="g", missing="drop")
        assert fits.groups.tolist() == ["a", "b"]
        assert (fits.rows.tolist(), fits.dropped.tolist()) == ([2, 0], [0, 1])
        assert fits.status[1] is Status.EMPTY


CODES = RNG.integers(0, 4, N)
LABELS: dict[str, list[Any]] = {
    "floats": [1.5, 2.5, 3.5, 4.5],
    "integers": [1, 2, 3, 4],
    "text": list("abcd"),
    "dates": [datetime.date(2020, 1, day) for day in (1, 2, 3, 4)],
    "times": [datetime.datetime(2020, 1, day) for day in (1, 2, 3, 4)],
    "tuples": [("a", 1), ("a", 2), ("b", 1), ("b", 2)],
}
MAKERS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "objects": lambda labels: _objects(labels),
    "pandas": pd.Series,
    "category": lambda labels: pd.Series(labels).astype("category"),
    "index": pd.Index,
    "polars": pl.Series,
    "Arrow": pa.array,
    "Arrow chunks": lambda labels: pa.chunked_array([pa.array(labels[:9]), pa.array(labels[9:])]),
}


def _objects(labels: list[Any]) -> Array:
    array = np.empty(len(labels), object)
    array[:] = labels
    return array


def check_labels(given: Any, kept: Any) -> None:
    """Assert that rows without a label count in no group."""
    found = gd.fit_groups(X, Y, given, missing="drop")
    want = gd.fit_groups(X[~HOLES], Y[~HOLES], kept)
    same(found, want)
    assert found.groups.tolist() == want.groups.tolist()
    with pytest.raises((ValueError, TypeError), match=r"or pass missing='drop'\.$"):
        gd.fit_groups(X, Y, given)


@pytest.mark.parametrize("kind", LABELS)
def test_labels(kind: str) -> None:
    labels = [LABELS[kind][code] for code in CODES]
    for name, make in MAKERS.items():
        if kind == "tuples" and name not in ("list", "tuple", "objects"):
            continue  # columns do not hold tuples
        kept = make(without(labels))
        if name in ("pandas", "category") and kind == "integers":
            kept = make([float(label) for label in without(labels)])  # None makes them floats
        if name == "index" and kind == "integers":
            kept = make([float(label) for label in without(labels)])
        check_labels(make(with_nulls(labels)), kept)
    if kind != "tuples":
        array = np.array(labels)
        check_labels(np.ma.masked_array(array, HOLES), array[~HOLES])


def test_labels_that_do_not_equal_themselves() -> None:
    floats = np.where(HOLES, np.nan, CODES)
    kept = floats[~HOLES]
    check_labels(floats, kept)
    check_labels(pl.Series(floats), pl.Series(kept))
    check_labels(pd.Series(CODES).where(~HOLES).astype("Int64"), pd.Series(kept).astype("Int64"))
    days = np.where(HOLES, np.datetime64("NaT"), np.datetime64("2020-01-01") + CODES)
    check_labels(days, days[~HOLES])
    pairs = [("a", float("nan") if hole else code) for hole, code in zip(HOLES, CODES, strict=True)]
    check_labels(pairs, without(pairs))
    missing = gd.fit_groups(X, Y, [None] * N, missing="drop")
    assert len(missing) == 0


def test_labels_of_several_columns() -> None:
    """A row without one of its labels is in no group."""
    letters, numbers = (["a", "b", "a", None, "b"] * 12), ([1, 2, None, 1, 2, 1] * 10)
    columns = {"x": X[:, 0].tolist(), "y": Y.tolist(), "k": letters, "m": numbers}
    keys = list(zip(letters, numbers, strict=True))
    at = [i for i, key in enumerate(keys) if None not in key]
    want = gd.fit_groups(X[at, :1], Y[at], [keys[i] for i in at])
    for frame in frames(**columns).values():
        fits = gd.fit_groups(frame, target="y", features="x", by=["k", "m"], missing="drop")
        same(fits, want)
        assert fits.groups.tolist() == want.groups.tolist()
