"""Bad input to fit: one sentence that says what is wrong, or a right answer; never a crash."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
import problems
from fits import refused
from gdcore import Status
from loops import each
from problems import LAYOUTS, Array

METHODS: dict[str, dict[str, Any]] = {
    "auto": {},
    "stream": {"method": "stream"},
    "gram": {"method": "gram"},
    "batches": {"batch_size": 2},
    "no epochs": {"epochs": 0},
    "exact": {"method": "exact"},
}
every_method = each("how", METHODS.values())
GOOD = np.arange(12.0).reshape(6, 2) ** 1.5
Y = GOOD @ [1.0, 2.0] + 3


def ones(*shape: int) -> Array:
    return np.ones(shape)


# Shapes.

SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "rows": ({"y": ones(7)}, r"y has shape \(7,\) and X \(6, 2\).*\(n, d\).*\(n,\) or \(n, t\)"),
    "rows of targets": ({"y": ones(5, 2)}, r"y has shape \(5, 2\) and X \(6, 2\).*\(n, t\)"),
    "targets of targets": ({"y": ones(6, 2, 1)}, r"y has shape \(6, 2, 1\) and X \(6, 2\)"),
    "one number": ({"y": 1.0}, r"y has shape \(\) and X \(6, 2\)"),
    "no targets": ({"y": ones(6, 0)}, r"y has shape \(6, 0\).*no target"),
    "X with one axis": ({"X": ones(6)}, r"X has shape \(6,\).*\(n, d\).*X\[:, None\]"),
    "X with three axes": ({"X": ones(2, 3, 2)}, r"y has shape \(6,\) and X \(2, 3, 2\).*\(count,"),
    "X with four axes": ({"X": ones(2, 3, 2, 1)}, r"X has shape \(2, 3, 2, 1\).*\(n, d\)"),
    "X without axes": ({"X": 1.0}, r"X has shape \(\).*\(n, d\)"),
    "nothing to fit": ({"X": ones(6, 0), "fit_intercept": False}, r"X has shape \(6, 0\).*nothing"),
    "offset": ({"offset": ones(5)}, r"offset has shape \(5,\).*y's.*\(6,\)"),
    "offset of targets": ({"offset": ones(6, 2)}, r"offset has shape \(6, 2\).*\(6,\)"),
    "weights": ({"sample_weight": ones(5)}, r"sample_weight has shape \(5,\).*\(6,\)"),
    "weights of columns": ({"sample_weight": ones(6, 1)}, r"sample_weight .*\(6, 1\).*\(6,\)"),
    "init": ({"init": ones(3)}, r"init .*weights of shape \(3,\).*\(2,\)"),
    "init with a target": ({"init": ones(2, 1)}, r"init .*weights of shape \(2, 1\).*\(2,\)"),
    "init of three": ({"init": (ones(2), 0.0, 1.0)}, r"init"),
    "init's intercept": ({"init": (ones(2), ones(2))}, r"init .*intercept of shape \(2,\).*\(\)"),
    "init's unwanted intercept": ({"init": (ones(2), 1.0), "fit_intercept": False}, "intercept"),
}


def call(changes: dict[str, Any]) -> Any:
    return lambda: gd.fit(**({"X": GOOD, "y": Y} | changes))


@each("kind", SHAPES)
@every_method
def test_shapes(how: Any, kind: str) -> None:
    changes, match = SHAPES[kind]
    refused(call(how | changes), match, (ValueError, TypeError))


def test_an_earlier_fit_of_another_shape() -> None:
    fit = gd.fit(ones(5, 3), ones(5), gd.SGD())
    refused(call({"init": fit}), r"init is a fit with weights of shape \(3,\).*\(2,\)")
    several = gd.fit(GOOD, np.stack([Y, Y], 1))
    refused(call({"init": several}), r"init is a fit with weights of shape \(2, 2\).*\(2,\)")
    with_intercept = gd.fit(GOOD, Y)
    refused(call({"init": with_intercept, "fit_intercept": False}), "intercept")
    without = gd.fit(GOOD, Y, fit_intercept=False)
    on = {"init": without, "epochs": 1, "tol": None, "sgd": gd.SGD()}
    assert call(on)().intercept != 0  # starts at zero


# Dtypes.

WRONG: dict[str, Any] = {
    "complex": lambda a: a.astype(complex),
    "object": lambda a: a.astype(object),
    "string": lambda a: a.astype(str),
    "bytes": lambda a: a.astype(bytes),
    "longdouble": lambda a: a.astype(np.longdouble),
    "date": lambda a: a.astype("M8[s]"),
    "duration": lambda a: a.astype("m8[s]"),
    "ragged": lambda a: [[1.0, 2.0], [3.0]],
    "dictionary": lambda a: {"a": 1},
    "set": lambda a: {1.0, 2.0},
    "words": lambda a: ["one", "two"],
}
PLACES: dict[str, Any] = {
    "X": lambda bad: {"X": bad(GOOD)},
    "y": lambda bad: {"y": bad(Y)},
    "offset": lambda bad: {"offset": bad(Y)},
    "sample_weight": lambda bad: {"sample_weight": bad(Y)},
    "init": lambda bad: {"init": bad(ones(2))},
    "init pair": lambda bad: {"init": (bad(ones(2)), 0.0)},
    "intercept": lambda bad: {"init": (ones(2), bad(ones(1)))},
}


@each("kind", WRONG)
@each("place", PLACES)
def test_dtypes(kind: str, place: str) -> None:
    """The message names the argument, and the dtype where there is one."""
    if kind == "longdouble" and np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("longdouble is float64 here")
    message = refused(call(PLACES[place](WRONG[kind])), place.split()[0], TypeError)
    named = {"date": "datetime64", "duration": "timedelta64", "string": "<U", "bytes": "|S"}
    if kind in ("complex", "object", "longdouble", *named):
        assert named.get(kind, kind) in message or str(WRONG[kind](Y).dtype) in message


@each("changes", [
    {"X": None}, {"y": None}, {"init": (None, 0.0)}, {"init": (ones(2), None)},
])  # fmt: skip
def test_none_is_not_an_array(changes: dict[str, Any]) -> None:
    refused(call(changes), f"(?i){next(iter(changes))}", TypeError)


# Values.

PLACED = {"first": (0, 0), "last": (9999, 2), "after a block": (4096, 1), "middle": (5000, 0)}


@every_method
@each("value", [np.nan, np.inf, -np.inf])
@each("place", PLACED)
def test_bad_values_of_X(dtype: Any, how: Any, value: float, place: str) -> None:
    """The first of them is named by row and column."""
    X = problems.normal(np.random.default_rng(1), (10_000, 3), dtype)
    row, column = PLACED[place]
    X[row, column] = value
    X[9999, 2] = value
    for data in (X, LAYOUTS["fortran-mixed"](X)):
        refused(
            lambda data=data: gd.fit(data, ones(10_000).astype(dtype), **how),
            rf"X holds {value} at row {row}, column {column} \(counted from 0\)",
        )


@every_method
@each("value", [np.nan, np.inf, -np.inf])
@each("d", [1, 2])
@each("fit_intercept", [False, True])
def test_bad_values_everywhere(how: Any, value: float, d: int, fit_intercept: bool) -> None:
    """In each of the arrays, with one or two columns and few rows."""
    X, y = GOOD[:, :d].copy(), Y.copy()
    options = how | {"fit_intercept": fit_intercept}
    bad = X.copy()
    bad[3, d - 1] = value
    refused(lambda: gd.fit(bad, y, **options), rf"X holds {value} at row 3, column {d - 1} ")
    one = np.full((1, 1), value)
    refused(lambda: gd.fit(one, y[:1], **(options | {"batch_size": None})), "row 0, column 0")
    y[4] = value
    refused(lambda: gd.fit(X, y, **options), rf"y holds {value} at row 4 ")
    several = np.stack([Y, y], axis=1)
    refused(lambda: gd.fit(X, several, **options), rf"y holds {value} at row 4, column 1 ")
    refused(lambda: gd.fit(X, Y, offset=y, **options), rf"offset holds {value} at row 4 ")
    refused(lambda: gd.fit(X, Y, offset=value, **options), rf"offset holds {value} at row 0 ")
    weight = ones(6)
    weight[2] = value
    refused(
        lambda: gd.fit(X, Y, sample_weight=weight, **options), rf"sample_weight\[2\] is {value}"
    )


@every_method
def test_bad_values_in_rows_of_no_weight(how: Any) -> None:
    """Rows of no weight are checked too: zero times NaN is NaN."""
    X, weight = GOOD.copy(), ones(6)
    X[3, 1], weight[3] = np.nan, 0
    refused(lambda: gd.fit(X, Y, sample_weight=weight, **how), "X holds nan at row 3, column 1")


@each("value", [np.nan, np.inf])
def test_bad_starts(value: float) -> None:
    refused(call({"init": [1.0, value]}), "init holds NaN or infinity")
    refused(call({"init": (ones(2), value)}), "init holds NaN or infinity")


def test_negative_weights() -> None:
    refused(call({"sample_weight": [1, 1, 1, -0.5, 1, 1]}), r"sample_weight\[3\] is -0.5.*0 or la")


@every_method
def test_squares_that_overflow(dtype: Any, how: Any) -> None:
    """Finite data whose squares are not: a sentence, or the right answer from the closed form."""
    big = dtype.type(np.sqrt(np.finfo(dtype).max)) * dtype.type(16)
    X, y = GOOD.astype(dtype) * big, Y.astype(dtype)
    try:
        result = gd.fit(X, y, gd.SGD(), **how)
    except ValueError as error:
        assert "overflow" in str(error)  # noqa: PT017
        assert re.search("(standardize|scale) the columns of X", str(error))  # noqa: PT017
        return
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.weights * float(big), [1, 2], rtol=1e-3)


@every_method
def test_targets_whose_squares_overflow(how: Any) -> None:
    """The message blames neither lr nor divergence."""
    huge = Y * 1e200
    try:
        result = gd.fit(GOOD, huge, gd.SGD(), **how)
    except ValueError as error:
        assert "overflow" in str(error)  # noqa: PT017
        return
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.weights, [1e200, 2e200], rtol=1e-9)


# Few rows, and columns without information.


@every_method
@each("t", [None, 2])
def test_no_rows(how: Any, t: int | None) -> None:
    y = np.empty((0,) if t is None else (0, t))
    options = {k: v for k, v in how.items() if k != "batch_size"}
    with pytest.warns(gd.FitWarning, match="No rows"):
        result = gd.fit(np.empty((0, 3)), y, gd.SGD(), **options)
    assert result.status is Status.EMPTY
    assert not result.weights.any()


@each("batch_size", [None, 1])
def test_one_row(batch_size: int | None) -> None:
    """Fitted exactly, from the nearest of all the lines through it."""
    result = gd.fit([[3.0, 4.0]], [26.0], gd.SGD(), batch_size=batch_size)
    assert result.status is Status.CONVERGED
    np.testing.assert_allclose(result.weights, [3, 4], rtol=1e-6)
    np.testing.assert_allclose(result.intercept, 1, rtol=1e-6)
    with pytest.warns(gd.FitWarning, match="dependent"):
        exact = gd.fit([[3.0, 4.0]], [26.0], method="exact")
    np.testing.assert_allclose(exact.weights, [3, 4])


def test_no_columns() -> None:
    """The intercept is then the mean."""
    for how in METHODS["stream"], METHODS["exact"]:
        result = gd.fit(np.empty((6, 0)), Y, **how)
        assert result.status is Status.CONVERGED
        np.testing.assert_allclose(result.intercept, Y.mean())
        assert result.weights.shape == (0,)
        np.testing.assert_allclose(result.predict(np.empty((2, 0))), [Y.mean()] * 2)


@each("columns", [
    ones(6, 2), GOOD[:, [0, 0]], GOOD * [1, 0], np.zeros((6, 2)),
])  # fmt: skip
def test_columns_that_say_little(columns: Array) -> None:
    """Descent fits them as well as they allow; the closed form says so."""
    descent = gd.fit(columns, Y, gd.SGD(momentum=0.9), tol=1e-10, epochs=20_000)
    assert descent.status is Status.CONVERGED
    with pytest.warns(gd.FitWarning, match="dependent"):
        exact = gd.fit(columns, Y, method="exact")
    np.testing.assert_allclose(descent.loss, exact.loss, rtol=1e-9)
    np.testing.assert_allclose(fits.parameters(descent), fits.parameters(exact), atol=1e-6)


# Options.

OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "epochs-negative": ({"epochs": -1}, "epochs is -1; it must be a whole number from 0"),
    "epochs-fraction": ({"epochs": 2.5}, "epochs is 2.5; it must be a whole number"),
    "epochs-float": ({"epochs": 10.0}, "epochs is 10.0; it must be a whole number"),
    "epochs-none": ({"epochs": None}, "epochs is None"),
    "epochs-text": ({"epochs": "10"}, "epochs is '10'"),
    "epochs-true": ({"epochs": True}, "epochs is True"),
    "epochs-huge": ({"epochs": 2**62}, "epochs is"),
    "batch-zero": ({"batch_size": 0}, "batch_size is 0; it must be .* from 1 to the 6 rows of X"),
    "batch-beyond": ({"batch_size": 7}, "batch_size is 7; it must be .* from 1 to the 6 rows of X"),
    "batch-negative": ({"batch_size": -1}, "batch_size is -1"),
    "batch-fraction": ({"batch_size": 2.0}, "batch_size is 2.0"),
    "batch-true": ({"batch_size": True}, "batch_size is True"),
    "batch-exact": ({"batch_size": 2, "method": "exact"}, "method='exact' takes no batch_size"),
    "seed-negative": ({"seed": -1}, "seed is -1"),
    "seed-huge": ({"seed": 2**64}, "seed is"),
    "seed-none": ({"seed": None}, "seed is None"),
    "history-negative": ({"history": -1}, "history is -1"),
    "history-none": ({"history": None}, "history is None"),
    "tol-negative": ({"tol": -1e-9}, "tol is -1e-09; it must be 0 or larger"),
    "tol-nan": ({"tol": np.nan}, "tol is nan"),
    "tol-infinite": ({"tol": np.inf}, "tol is inf"),
    "tol-text": ({"tol": "fine"}, "tol is 'fine'"),
    "stop": ({"stop": "loss"}, "stop is 'loss'; choose one of 'gradient', 'loss_equal'"),
    "batch-gram": ({"batch_size": 2, "method": "gram"}, "method='gram' takes no batch_size"),
    "method": ({"method": "newton"}, "method is 'newton'; choose .* 'stream', 'gram', 'exact'"),
    "method-none": ({"method": None}, "method is None; choose one of"),
    "reduction": ({"reduction": "average"}, "'average'.*'mean', 'sum', 'half_mean'.*'half_sum'"),
    "reduction-none": ({"reduction": "none"}, "'none'.*'mean', 'sum', 'half_mean'.*'half_sum'"),
    "reduction-missing": ({"reduction": None}, "None.*'mean', 'sum', 'half_mean'.*'half_sum'"),
    "reduction-list": ({"reduction": ["mean"]}, "'mean', 'sum', 'half_mean'.*'half_sum'"),
    "threads-zero": ({"n_threads": 0}, "n_threads is 0"),
    "threads-negative": ({"n_threads": -2}, "n_threads is -2"),
    "threads-fraction": ({"n_threads": 1.5}, "n_threads is 1.5"),
    "threads-huge": ({"n_threads": 2**40}, f"n_threads is {2**40}"),
    "sgd-number": ({"sgd": 0.1}, "sgd is float; pass gdcore.SGD"),
    "sgd-dictionary": ({"sgd": {"lr": 0.1}}, "sgd is dict; pass gdcore.SGD"),
    "checkpoint": ({"checkpoint": 3, "tol": None}, "checkpoint|PathLike"),
}


@each("kind", OPTIONS)
def test_options(kind: str) -> None:
    changes, match = OPTIONS[kind]
    refused(call(changes), match, (ValueError, TypeError))


RATES: list[tuple[dict[str, Any], str]] = [
    ({"lr": 0}, "lr is 0; it must be a positive"),
    ({"lr": -0.1}, "lr is -0.1; it must be a positive"),
    ({"lr": np.nan}, "lr is nan"),
    ({"lr": np.inf}, "lr is inf"),
    ({"lr": "fast"}, "lr is 'fast'.*'auto'"),
    ({"lr": None}, "lr is None.*'auto'"),
    ({"lr": True}, "lr is True"),
    ({"lr": [0.1, -0.1]}, "lr is -0.1"),
    ({"momentum": -0.1}, "momentum is -0.1"),
    ({"momentum": np.nan}, "momentum is nan"),
    ({"momentum": "much"}, "momentum is 'much'"),
    ({"momentum": None}, "momentum is None"),
    ({"dampening": np.inf}, "dampening is inf"),
    ({"weight_decay": -1e-9}, "weight_decay is -1e-09"),
    ({"weight_decay": np.nan}, "weight_decay is nan"),
    ({"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
    ({"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "Nesterov momentum requires"),
]


@each("options, match", RATES)
def test_sgd_options(options: Any, match: str) -> None:
    refused(lambda: gd.SGD(**options), match, (ValueError, TypeError))


def test_a_rate_too_large_for_the_dtype() -> None:
    """Finite in float64, infinite in float32: it moves to infinity, and is reported."""
    X, y = GOOD.astype("f4"), Y.astype("f4")
    with pytest.warns(gd.LearningRateWarning), pytest.warns(gd.FitWarning, match="Diverged"):
        result = gd.fit(X, y, gd.SGD(lr=1e300))
    assert result.status is Status.DIVERGED
    assert not result.weights.any()
    assert np.isfinite(result.loss)


def test_names_of_options_are_checked() -> None:
    with pytest.raises(TypeError, match="learning_rate"):
        gd.fit(GOOD, Y, learning_rate=0.1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional"):
        gd.fit(GOOD, Y, gd.SGD(), 100)  # type: ignore[call-arg]


# Prediction.


def test_predictions() -> None:
    fit, several = gd.fit(GOOD, Y), gd.fit(GOOD, np.stack([Y, Y], 1))
    refused(lambda: fit.predict(ones(4, 3)), r"X has shape \(4, 3\).*\(m, 2\)")
    refused(lambda: fit.predict(ones(2)), r"X has shape \(2,\).*\(m, 2\)")
    refused(lambda: fit.predict(ones(1, 4, 2)), r"X has shape \(1, 4, 2\).*\(m, 2\)")
    refused(lambda: fit.predict(ones(4, 2), offset=ones(5)), r"offset .*\(5,\).*\(4,\)")
    refused(lambda: fit.predict(ones(4, 2), offset=ones(3, 4)), r"offset .*\(3, 4\).*\(4,\)")
    refused(lambda: several.predict(ones(4, 2), offset=ones(4)), r"offset .*\(4,\).*\(4, 2\)")
    refused(lambda: fit.predict(ones(4, 2).astype(complex)), "complex", TypeError)
    refused(lambda: fit.predict(None), "X", TypeError)  # type: ignore[arg-type]
    bad = ones(3, 2)
    bad[1, 1] = np.nan
    assert np.isnan(fit.predict(bad)).tolist() == [False, True, False]


def test_a_bad_fit_changes_nothing() -> None:
    """Neither the data nor the start, nor the next fit."""
    X, y, start = GOOD.copy(), Y.copy(), ones(2)
    want = fits.bits(gd.fit(X, y, gd.SGD(), init=start, tol=None))
    for changes, _ in SHAPES.values():
        with pytest.raises((ValueError, TypeError)):
            gd.fit(**({"X": X, "y": y} | changes))
    assert X.tobytes() == GOOD.tobytes()
    assert y.tobytes() == Y.tobytes()
    assert start.tobytes() == ones(2).tobytes()
    assert fits.bits(gd.fit(X, y, gd.SGD(), init=start, tol=None)) == want
