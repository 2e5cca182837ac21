"""The default bound: what every honest order of summation gets, and little more."""

from __future__ import annotations

import numpy as np
import pytest

from gdcore.bench import Comparison, compare, timing
from gdcore.bench.check import find_fault
from gdcore.bench.reference import dtype_of, evaluate


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Let rounds be of one call, which takes a second."""
    monkeypatch.setattr(timing, "calibrate", lambda run, seconds: (run(1), (1, 1.0))[1])
    monkeypatch.setattr(timing, "timed_round", lambda run, repeats, expected: (run(1), 1.0)[1])


def fault(function, reference, *args, **settings):
    """Return what is wrong with a function, by the default bound."""
    settings = {"bound": None, "flops": None} | settings
    expected = evaluate(args, reference, **settings).expected
    result = function(*args)
    return find_fault([np.asarray(each) for each in np.atleast_1d([result])], expected)


def one_by_one(values):
    """Sum from the first to the last, each partial sum rounded."""
    return np.cumsum(values, dtype=values.dtype)[-1]


class TestSums:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("n", [1, 2, 1000, 200_000])
    def test_every_order_passes_and_half_does_not(self, rng, dtype, n):
        for values in (np.ones(n), rng.random(n), np.linspace(-1, 1, n), rng.normal(size=n) + 1):
            x = values.astype(dtype)
            for order in (np.sum, one_by_one, lambda x: one_by_one(x[::-1]), lambda x: x @ x**0):
                assert fault(order, np.sum, x) is None
        if n > 1:
            for values in (np.ones(n), rng.random(n)):
                x = values.astype(dtype)
                assert fault(lambda x: x[: len(x) // 2].sum(), np.sum, x)
                assert fault(lambda x: x.sum() * 1.01, np.sum, x)
                assert fault(lambda x: x.mean(), np.sum, x)

    def test_half_of_nine_million_does_not_pass(self):
        x = np.ones(9_500_000, np.float32)
        assert fault(lambda x: x[: len(x) // 2].sum(), np.sum, x)
        assert fault(lambda x: x[: len(x) // 2].sum(), np.float64(len(x)), x)
        assert fault(one_by_one, np.sum, x) is None

    def test_numbers_in_lists(self, rng):
        values = list(rng.random(3000))
        assert fault(sum, np.sum, values) is None
        assert fault(lambda v: sum(v[:1500]), np.sum, values)
        pair = {"a": [rng.random((9, 9))], "b": rng.random((9, 9)).astype("f")}
        assert fault(lambda p: p["b"] @ p["a"][0], lambda p: p["b"] @ p["a"][0], pair) is None
        assert fault(lambda p: p["b"] @ p["b"], lambda p: p["b"] @ p["a"][0], pair)


class TestProducts:
    @pytest.mark.parametrize("n", [1, 17, 64, 160])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_numpy_passes_against_itself(self, rng, n, dtype):
        a, b = rng.normal(size=(2, n, n)).astype(dtype)
        for reference in (np.matmul, a.astype(np.longdouble) @ b.astype(np.longdouble)):
            assert fault(np.matmul, reference, a, b) is None
            assert fault(lambda a, b: np.einsum("ik,kj->ij", a, b), reference, a, b) is None
            if n > 1:
                assert fault(lambda a, b: a[:, :-1] @ b[:-1], reference, a, b)
                assert fault(lambda a, b: a @ b * 1.001, reference, a, b)

    def test_the_bound_is_no_wider_than_that(self, rng):
        a, b = rng.normal(size=(2, 160, 160))
        (expected,) = evaluate((a, b), np.matmul, None, None).expected
        assert 1e-14 < expected.bound < 1e-10

    def test_one_rounding_for_each_element_is_little(self, rng):
        """However many elements there are."""
        x = rng.random(100_000).astype(np.float32)
        assert fault(np.exp, np.exp, x) is None
        assert fault(lambda x: np.exp(x) * np.float32(1.00001), np.exp, x)
        assert fault(np.cumsum, np.cumsum, x) is None

    def test_ill_conditioned_solutions(self, rng):
        a = np.vander(np.linspace(0, 1, 6)).astype(np.float32)
        b = a.sum(1)
        assert fault(np.linalg.solve, np.linalg.solve, a, b) is None
        assert fault(lambda a, b: np.linalg.solve(a, b) + 1, np.linalg.solve, a, b)


class TestInfinities:
    def test_they_bound_nothing_else(self):
        x = np.arange(4.0)
        with np.errstate(divide="ignore"):
            for reference in (np.log, np.log(x)):
                assert fault(np.log, reference, x) is None
                wrong = fault(lambda x: np.where(x == 3, 7, np.log(x)), reference, x)
                assert "first at [3]: 7 instead of 1.09" in wrong
                assert fault(lambda x: np.where(x == 0, 7, np.log(x)), reference, x)

    def test_nan(self):
        x = np.array([1.0, np.nan, 4.0])
        assert fault(np.sqrt, np.sqrt, x) is None
        assert fault(lambda x: np.sqrt(x) + (x == 4) / 1000, np.sqrt, x)
        assert fault(lambda x: np.zeros(3), np.sqrt, x * np.nan)


class TestNarrowReferences:
    def test_lapack(self, rng):
        a, b = rng.normal(size=(3, 3)), rng.normal(size=3)
        report = compare({"x": np.linalg.solve}, (a, b), reference=np.linalg.solve, seconds=0.01)
        assert report.rows[0].status == "timed"
        assert "computed in float64, as it does not take the long double (TypeError)" in str(report)
        assert str(Comparison.from_json(report.to_json())) == str(report)
        report = compare(
            {"x": np.linalg.solve}, (a.astype("f"), b.astype("f")), reference=np.linalg.solve,
            seconds=0.01,
        )  # fmt: skip
        assert report.rows[0].status == "timed"
        assert "The reference was" not in str(report)

    def test_what_returns_narrow_numbers(self, rng):
        def narrow(a):
            return a.astype(np.float64).sum()

        found = evaluate((rng.random(9),), narrow, None, None)
        assert "computed in float64, as it does not return the long double" in found.remark

    @pytest.mark.torch
    @pytest.mark.parametrize(
        ("dtype", "word"), [("float32", ""), ("float64", "computed in float64")]
    )
    def test_torch(self, rng, dtype, word):
        torch = pytest.importorskip("torch")

        def product(a):
            return torch.as_tensor(a) @ torch.as_tensor(a)

        a = rng.normal(size=(9, 9)).astype(dtype)
        contestants = {"right": product, "wrong": lambda a: product(a) * 1.001}
        for inputs in ((a,), (torch.from_numpy(a),)):
            report = compare(contestants, inputs, reference=product, seconds=0.01)
            assert [row.status for row in report.rows] == ["timed", "wrong"]
            assert report.rows[0].dtype == dtype
            assert word in str(report)

    def test_one_that_takes_nothing_raises_what_it_says(self):
        def broken(a):
            raise KeyError("no such thing")

        with pytest.raises(KeyError, match="no such thing"):
            evaluate((np.ones(3),), broken, None, None)


def test_dtype_of_what_there_is():
    assert dtype_of((np.ones(3, "f"), np.arange(3), 2.0, "text")) == "float32"
    assert dtype_of((np.arange(3),)) == "int64"
    assert dtype_of((3, "text", [1.0])) == ""
    assert dtype_of(({"a": [np.ones(3, "f")]},)) == "float32"
