"""Elementary functions of pairs against mpmath: no further off than they say, which is little."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from gdcore.oracle.numbers import elementary
from gdcore.oracle.numbers.double_double import TINY, DoubleDouble, exact

Arrays = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
SMALLEST = [0.0, -0.0, 5e-324, -5e-324, 2.2e-308, -2.2e-308, 1e-300, 1e-200, -1e-33, 1e-20, -1e-16]
REFERENCES: dict[str, Callable[[Any], Any]] = {
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log1p": mpmath.log1p,
    "sqrt": mpmath.sqrt,
    "reciprocal_sqrt": lambda x: 1 / mpmath.sqrt(x),
    "erfc": mpmath.erfc,
    "tanh": mpmath.tanh,
}
PRECISE = 700  # bits: 1 + 1e-200 is not 1


def pairs(hi: Any, rng: np.random.Generator) -> Arrays:
    """Return numbers with some rest below half an ulp, and none for a third of them."""
    hi = np.asarray(hi, np.float64)
    lo = hi * rng.uniform(-1, 1, hi.shape) * 2.0**-54 * (rng.random(hi.shape) < 0.67)
    return hi, np.where(hi + lo == hi, lo, 0.0)


def arguments(name: str, rng: np.random.Generator) -> Arrays:
    spread = 10.0 ** rng.uniform(-12, 2.5, 250)
    signed = np.concatenate([spread, -spread, rng.normal(size=250), np.linspace(-2, 2, 33)])
    positive = np.concatenate(
        [
            10.0 ** rng.uniform(-320, 308, 300),
            1 + rng.normal(size=100) * 1e-6,
            rng.uniform(0, 4, 300),
        ]
    )
    edges = {
        "exp": [709.7, -708.5, -744.4, -745.2, 0.34657, 0.35, -0.36, -800.0, -1e300],
        "expm1": [709.7, -36.0, -70.0, -745.2, 0.34657, 0.35, -0.35, -1e300],
        "log": [1.0, 1 + 2.0**-52, 1 - 2.0**-53, 0.5, 2.0, 0.7071, 1.7976e308, 5e-324],
        "log1p": [-1 + 2.0**-53, -0.5, 0.29, -0.29, 1e16, 1e300],
        "erfc": [0.5, -0.5, 0.4999, 9.13, 9.15, 26.5, 27.2, 27.3, 28.5, 100.0, -6.0, -30.0],
        "tanh": [20.0, -40.0, 400.0, -800.0, 0.175],
    }.get(name, [5e-324, 1.7976e308, 4.0])
    if name in ("log", "sqrt", "reciprocal_sqrt"):
        return pairs(np.concatenate([positive, edges]), rng)
    keep = np.concatenate([signed, edges, SMALLEST])
    if name == "log1p":
        keep = keep[keep > -1]
    if name in ("exp", "expm1"):
        keep = keep[keep < 709.75]
    return pairs(keep, rng)


def off(value: DoubleDouble, i: int, true: Any) -> Any:
    return abs(mpmath.mpf(float(value.hi[i])) + mpmath.mpf(float(value.lo[i])) - true)


@pytest.mark.parametrize("name", REFERENCES)
def test_values_are_within_a_small_error(name: str) -> None:
    hi, lo = arguments(name, np.random.default_rng(5))
    function = getattr(elementary, name)
    with warnings.catch_warnings(), mpmath.workprec(PRECISE):
        warnings.simplefilter("error")
        value = function(DoubleDouble(hi, lo, np.zeros(hi.shape)))
        assert np.isfinite(value.error).all()
        assert (value.hi + value.lo == value.hi).all()
        for i, (a, b) in enumerate(zip(hi.tolist(), lo.tolist(), strict=True)):
            true = REFERENCES[name](mpmath.mpf(a) + mpmath.mpf(b))
            assert off(value, i, true) <= value.error[i], (a, b)
            assert value.error[i] <= 1.01 * 2.0**-98 * abs(true) + 8 * TINY, (a, b)


@pytest.mark.parametrize("name", REFERENCES)
def test_what_an_argument_is_off_by_is_carried_on(name: str) -> None:
    rng = np.random.default_rng(6)
    hi, lo = arguments(name, rng)
    error = np.abs(hi) * 10.0 ** rng.uniform(-25, 0.2, hi.shape) + rng.choice([0, 1e-9], hi.shape)
    value = getattr(elementary, name)(DoubleDouble(hi, lo, error))
    least = {"log": 0, "reciprocal_sqrt": 0, "sqrt": 0, "log1p": -1}.get(name, -np.inf)
    known = 0
    with mpmath.workprec(PRECISE):
        for i in range(hi.size):
            for side in (-1, 1):
                x = mpmath.mpf(float(hi[i])) + mpmath.mpf(float(lo[i])) + side * float(error[i])
                if x <= least:
                    assert name == "sqrt" or np.isinf(value.error[i])
                elif np.isfinite(value.error[i]):
                    known += 1
                    assert off(value, i, REFERENCES[name](x)) <= value.error[i], (hi[i], error[i])
    assert known > 1000


def test_quotients() -> None:
    rng = np.random.default_rng(7)
    a = 10.0 ** rng.uniform(-320, 306, 1500) * rng.choice([-1, 1], 1500)
    b = np.where(rng.random(1500) < 0.5, a * rng.uniform(0.1, 9, 1500), rng.normal(size=1500))
    b[b == 0] = 1.0
    ea, eb = (np.abs(x) * 10.0 ** rng.uniform(-30, -0.3, 1500) for x in (a, b))
    (a, low_a), (b, low_b) = pairs(a, rng), pairs(b, rng)
    for wide in (False, True):
        given_a, given_b = (ea, eb) if wide else (np.zeros(1500), np.zeros(1500))
        value = elementary.divide(DoubleDouble(a, low_a, given_a), DoubleDouble(b, low_b, given_b))
        with mpmath.workprec(PRECISE):
            for i in np.flatnonzero(np.isfinite(value.error)):
                top = mpmath.mpf(float(a[i])) + float(low_a[i])
                bottom = mpmath.mpf(float(b[i])) + float(low_b[i])
                for s, t in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                    true = (top + s * float(given_a[i])) / (bottom + t * float(given_b[i]))
                    assert off(value, i, true) <= value.error[i], (a[i], b[i])
                if not wide:
                    assert value.error[i] <= 1.01 * 2.0**-98 * abs(true) + 8 * TINY
        assert np.isfinite(value.error).mean() > 0.95


def test_special_arguments() -> None:
    inf, nan = np.inf, np.nan
    cases: dict[str, list[tuple[float, float]]] = {
        "exp": [(inf, inf), (-inf, 0), (nan, nan), (0, 1)],
        "expm1": [(inf, inf), (-inf, -1), (nan, nan), (0, 0)],
        "log": [(inf, inf), (0, -inf), (-1, nan), (-inf, nan), (nan, nan), (1, 0)],
        "log1p": [(inf, inf), (-1, -inf), (-2, nan), (-inf, nan), (nan, nan), (0, 0)],
        "sqrt": [(inf, inf), (0, 0), (-1, nan), (nan, nan), (4, 2)],
        "reciprocal_sqrt": [(inf, 0), (0, inf), (-1, nan), (nan, nan), (4, 0.5)],
        "erfc": [(inf, 0), (-inf, 2), (nan, nan), (0, 1)],
        "tanh": [(inf, 1), (-inf, -1), (nan, nan), (0, 0)],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, table in cases.items():
            x, wanted = np.array(table).T
            value = getattr(elementary, name)(exact(x))
            np.testing.assert_array_equal(value.hi, wanted, name)
            assert (value.lo == 0).all()
            assert (value.error <= 2.0**-96).all()
            odd = ~np.isfinite(x)
            assert (value.error[odd] == 0).all()
            unknown = getattr(elementary, name)(DoubleDouble(x, np.zeros(()), np.full((), inf)))
            assert np.isinf(unknown.error).sum() >= (0 if name == "tanh" else 1)
        over = elementary.exp(exact([710.0, 1e5]))
        assert np.isinf(over.hi).all()
        assert np.isinf(over.error).all()
        value = elementary.divide(exact([1.0, 0, inf, inf, 1]), exact([0.0, 0, inf, 2, -inf]))
        np.testing.assert_array_equal(value.hi, [inf, nan, nan, inf, 0])
        assert (value.error == 0).all()
        near_pole = elementary.divide(exact(1.0), DoubleDouble(*map(np.array, (1.0, 0.0, 1.0))))
        assert np.isinf(near_pole.error)


def test_sums_along_an_axis() -> None:
    rng = np.random.default_rng(8)
    for shape, axis in [((7, 33), 1), ((64, 5), 0), ((3, 1, 4), 1), ((2, 1000), -1), ((4, 0), 1)]:
        hi, lo = pairs(rng.normal(size=shape) * 10.0 ** rng.uniform(-20, 20, shape), rng)
        error = np.abs(hi) * 1e-30
        total = elementary.sum_along(DoubleDouble(hi, lo, error), axis)
        count = hi.size // max(1, shape[axis])
        rows = [np.moveaxis(x, axis, -1).reshape(count, shape[axis]) for x in (hi, lo, error)]
        flat = DoubleDouble(*(part.reshape(-1) for part in total))
        with mpmath.workprec(PRECISE):
            assert flat.hi.size == (count if shape[axis] else 4)
            for i, (h, rest, e) in enumerate(zip(*rows, strict=True)):
                true = mpmath.fsum([*h.tolist(), *rest.tolist()])
                assert off(flat, i, true) + mpmath.fsum(e.tolist()) <= flat.error[i] * (1 + 1e-12)
                size = float(np.abs(h).sum())
                assert flat.error[i] <= size * (1.1e-30 + 50 * 2.0**-106)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        odd = elementary.sum_along(exact([[1.0, np.inf, 2], [np.inf, -np.inf, 1], [1e308] * 3]), 1)
    np.testing.assert_array_equal(odd.hi, [np.inf, np.nan, np.inf])
    np.testing.assert_array_equal(odd.error, [0, 0, np.inf])


def test_shapes_and_choice() -> None:
    x = DoubleDouble(np.full((3, 1, 20_000), 2.0), np.zeros(()), np.zeros(()))
    assert elementary.exp(x).hi.shape == (3, 1, 20_000)
    assert elementary.divide(x, exact(np.ones((4, 1)))).hi.shape == (3, 4, 20_000)
    chosen = elementary.where([True, False], exact([1.0, 2.0]), exact([3.0, 4.0]))
    np.testing.assert_array_equal(chosen.hi, [1, 4])
