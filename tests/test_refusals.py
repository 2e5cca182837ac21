"""One fault, one refusal: the same sentence in every way in, or the same status."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gdcore as gd

Array = np.ndarray[Any, Any]

ROWS = 12
RNG = np.random.default_rng(0)
X = RNG.standard_normal((ROWS, 2))
Y = X.sum(axis=1) + RNG.standard_normal(ROWS)
ONES = np.ones(ROWS)
SGD = gd.SGD(lr=0.01)


def one_chunk(X: Any, y: Any, sample_weight: Any = None, offset: Any = None) -> list[Any]:
    return [(X, y, sample_weight, offset)]


def first_chunk(sample_weight: Any = None, offset: Any = None) -> list[Any]:
    """Return good rows that have what the second chunk has; of no weight, so that it decides."""
    weight = None if sample_weight is None else np.zeros(ROWS)
    return one_chunk(X, Y, weight, None if offset is None else np.ones(ROWS))


# Each takes X, y and perhaps sample_weight and offset of one problem.
ALONE: dict[str, Callable[..., Any]] = {
    "exact": lambda X, y, **how: gd.fit(X, y, method="exact", **how),
    "gram": lambda X, y, **how: gd.fit(X, y, SGD, method="gram", **how),
    "stream": lambda X, y, **how: gd.fit(X, y, SGD, method="stream", **how),
    "batches": lambda X, y, **how: gd.fit(X, y, SGD, batch_size=3, **how),
    "rolling": lambda X, y, **how: gd.fit_rolling(X, y, ROWS, **how),
    "moments": lambda X, y, **how: gd.Moments(2).update(X, y, **how).fit(),
    "chunks": lambda X, y, **how: gd.fit(one_chunk(X, y, **how), sgd=SGD),
    "chunks exact": lambda X, y, **how: gd.fit(one_chunk(X, y, **how), method="exact"),
    "chunks stream": lambda X, y, **how: gd.fit(one_chunk(X, y, **how), sgd=SGD, method="stream"),
    "second chunk": lambda X, y, **how: gd.fit([*first_chunk(**how), *one_chunk(X, y, **how)]),
}
MANY: dict[str, Callable[..., Any]] = {
    "stack": lambda X, y, **how: gd.fit(
        stacked(X), stacked(y), SGD, **{name: stacked(value) for name, value in how.items()}
    ),
    "stack exact": lambda X, y, **how: gd.fit(
        stacked(X), stacked(y), method="exact", **{k: stacked(v) for k, v in how.items()}
    ),
    "groups": lambda X, y, **how: gd.fit_groups(X, y, np.zeros(ROWS, int), SGD, **how),
    "groups exact": lambda X, y, **how: gd.fit_groups(
        X, y, np.zeros(ROWS, int), method="exact", **how
    ),
}


def stacked(value: Any) -> Any:
    if isinstance(value, str):  # an option
        return value
    return value[None] if isinstance(value, np.ndarray) else [value]


def put(array: Array, at: Any, value: Any, dtype: Any = None) -> Array:
    array = array.astype(dtype or array.dtype)
    array[at] = value
    return array


def said(way: Callable[..., Any], changes: dict[str, Any]) -> str:
    """Return the sentence without what only this way in adds: a chunk, the axis of problems."""
    with pytest.raises((ValueError, TypeError)) as caught:
        way(**({"X": X, "y": Y} | changes))
    text = re.sub(r"^chunk \d+ \(from row \d+\): ", "", str(caught.value))
    text = text.replace("problem 0, ", "").replace("index [0, 4]", "row 4").replace("[0, 4]", "[4]")
    text = re.sub(r"sample_weight is [\d.e+-]+;", "sample_weight is out of range;", text)  # or all
    text = re.sub(r"\(1, (\d+)\)", r"(\1,)", text)
    return re.sub(r"\(1, (\d+, \d+)\)", r"(\1)", text)


VALUES: dict[str, dict[str, Any]] = {
    f"{value} in {name}": {name: put(array, at, value)}
    for value in (np.nan, np.inf, -np.inf)
    for name, array, at in (("X", X, (3, 1)), ("y", Y, 4), ("offset", ONES, 4))
}
FAULTS: dict[str, dict[str, Any]] = {
    "NaN weight": {"sample_weight": put(ONES, 4, np.nan)},
    "infinite weight": {"sample_weight": put(ONES, 4, np.inf)},
    "negative weight": {"sample_weight": put(ONES, 4, -0.5)},
    "tiny weights": {"sample_weight": ONES * 1e-310},
    "huge weights": {"sample_weight": ONES * 1e308},
    "word in X": {"X": put(X, (3, 1), "red", object)},
    "None in X": {"X": put(X, (3, 1), None, object)},
    "None in y": {"y": put(Y, 4, None, object)},
    "words": {"X": np.full((ROWS, 2), "red")},
    "text": {"X": X.astype(str)},
    "bytes": {"y": Y.astype(bytes)},
    "objects": {"X": X.astype(object)},
    "complex X": {"X": X.astype(complex)},
    "complex y": {"y": Y.astype(complex)},
    "complex weights": {"sample_weight": ONES.astype(complex)},
    "complex offset": {"offset": ONES.astype(complex)},
    "dates": {"X": X.astype("M8[s]")},
    "durations": {"y": Y.astype("m8[s]")},
    "long doubles": {"X": X.astype(np.longdouble)},
    "masked X": {"X": np.ma.masked_array(X, X > 1)},
    "ragged": {"X": [*X.tolist()[:-1], [1.0]]},
    "no targets": {"y": np.empty((ROWS, 0))},
    "short weights": {"sample_weight": ONES[:-1]},
    "short offset": {"offset": ONES[:-1]},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_arguments(fault: str) -> None:
    if fault == "long doubles" and np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("longdouble is float64 here")
    want = said(ALONE["exact"], FAULTS[fault])
    name = next(iter(FAULTS[fault]))
    assert want.startswith((name, f"the largest {name}"))
    for way, function in (ALONE | MANY).items():
        assert said(function, FAULTS[fault]) == want, way


@pytest.mark.parametrize("fault", VALUES)
def test_values_that_are_not_finite(fault: str) -> None:
    """One problem is refused; of many, the one that holds it is INVALID and the rest are fitted."""
    want = said(ALONE["exact"], VALUES[fault])
    value, _, name = fault.split()
    assert re.match(rf"{name} holds {value} at row \d", want)
    way_out = ", or pass missing='drop'" if value == "nan" else ""  # infinity is always an error
    assert want.endswith(f"; drop or fill such rows before fitting{way_out}.")
    for way, function in ALONE.items():
        assert said(function, VALUES[fault]) == want, way
    for way, function in MANY.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", gd.FitWarning)
            fits = function(**({"X": X, "y": Y} | VALUES[fault]))
        assert fits.status.tolist() == [gd.Status.INVALID], way
        assert np.isnan(fits.weights).all()


MISSING: dict[str, dict[str, Any]] = {
    name: fault
    for name, fault in (VALUES | FAULTS).items()
    if name.startswith("nan in") or name in ("NaN weight", "None in X", "None in y", "masked X")
}


@pytest.mark.parametrize("fault", MISSING)
def test_the_way_out_of_missing_values(fault: str) -> None:
    """The refusal names missing='drop', which helps in every way in."""
    helped: dict[str, Callable[..., Any]] = {
        name: (lambda X, y, way=way, **how: way(X, y, **how, missing="drop"))
        for name, way in (ALONE | MANY).items()
        if not name.startswith(("chunks", "second", "moments"))
    }
    helped["moments"] = lambda X, y, **how: gd.Moments(2).update(X, y, **how, missing="drop").fit()
    helped["chunks"] = lambda X, y, **how: gd.fit(one_chunk(X, y, **how), missing="drop")
    if fault not in VALUES:
        assert said(ALONE["exact"], MISSING[fault]).endswith(", or pass missing='drop'.")
    for name, way in helped.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", gd.FitWarning)
            fit = way(**({"X": X, "y": Y} | MISSING[fault]))
        assert np.isfinite(fit.weights).all() or name == "rolling", name
        assert np.all(np.asarray(fit.rows) < ROWS), name


def test_rows_that_do_not_match() -> None:
    for changes in ({"y": Y[:-1]}, {"X": X[:-1]}, {"y": np.ones((5, 2))}):
        want = said(ALONE["exact"], changes)
        assert re.match(r"y has shape .* and X \(\d+, 2\); with X \(n, d\), y must be", want)
        for way, function in ALONE.items():
            assert said(function, changes) == want, way
        said(MANY["stack"], changes)


def test_what_is_missing() -> None:
    for changes in ({"X": None}, {"y": None}, {"X": X[:, 0]}, {"X": np.ones((2, 2, 2, 2))}):
        for function in ALONE.values():
            assert next(iter(changes)) in said(function, changes)


def test_rows_that_count_for_nothing() -> None:
    for way, function in (ALONE | MANY).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", gd.FitWarning)
            result = function(X, Y, sample_weight=ONES * 0)
        assert set(np.ravel(result.status).tolist()) == {gd.Status.EMPTY}, way
