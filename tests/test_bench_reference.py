"""The default bound: what every honest order of summation gets, and little more."""

from __future__ import annotations

from operator import is_

import numpy as np
import pytest

from benches import use_a_fake_clock
from gdcore.bench import Comparison, compare
from gdcore.bench.check import find_fault
from gdcore.bench.reference import dtype_of, evaluate


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    use_a_fake_clock(monkeypatch)


LAST: list = []  # the reference and arguments evaluated last, and what is expected of them


def expected_of(reference, *args):
    """Return what a reference expects; asked again for the same one, the same."""
    asked = (reference, *args)
    if not LAST or len(asked) != len(LAST[0]) or not all(map(is_, asked, LAST[0])):
        LAST[:] = asked, evaluate(args, reference, None, None).expected
    return LAST[1]


def fault(function, reference, *args):
    """Return what is wrong with a function, by the default bound."""
    result = function(*args)
    expected = expected_of(reference, *args)
    return find_fault([np.asarray(each) for each in np.atleast_1d([result])], expected)


def one_by_one(values):
    """Sum from the first to the last, each partial sum rounded."""
    return np.cumsum(values, dtype=values.dtype)[-1]


class TestSums:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("n", [1, 2, 1000, 200_000])
    def test_every_order_passes_and_half_does_not(self, rng, dtype, n):
        positive = np.ones(n), rng.random(n)
        for values in (*positive, np.linspace(-1, 1, n), rng.normal(size=n) + 1):
            x = values.astype(dtype)
            for order in (np.sum, one_by_one, lambda x: one_by_one(x[::-1]), lambda x: x @ x**0):
                assert fault(order, np.sum, x) is None
            if n > 1 and any(values is each for each in positive):
                assert fault(lambda x: x[: len(x) // 2].sum(), np.sum, x)
                assert fault(lambda x: x.sum() * 1.01, np.sum, x)
                assert fault(lambda x: x.mean(), np.sum, x)

    def test_half_of_nine_million_does_not_pass(self):
        x = np.ones(9_500_000, np.float32)
        assert fault(lambda x: x[: len(x) // 2].sum(), np.sum, x)
        assert fault(one_by_one, np.sum, x) is None
        assert fault(lambda x: x[: len(x) // 2].sum(), np.float64(len(x)), x)

    def test_numbers_in_lists(self, rng):
        values = list(rng.random(3000))
        assert fault(sum, np.sum, values) is None
        assert fault(lambda v: sum(v[:1500]), np.sum, values)
        pair = {"a": [rng.random((9, 9))], "b": rng.random((9, 9)).astype("f")}

        def product(p):
            return p["b"] @ p["a"][0]

        assert fault(product, product, pair) is None
        assert fault(lambda p: p["b"] @ p["b"], product, pair)


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
        assert np.all((expected.bound > 1e-14) & (expected.bound < 1e-10))

    def test_large_elements_widen_no_bound_but_their_own(self, rng):
        x = np.arange(100.0)
        wrong = fault(lambda x: np.where(x < 5, 0, np.exp(x)), np.exp, x)
        assert "first at [0]: 0 instead of 1" in wrong
        a, b = rng.normal(size=(2, 40, 40))
        a[0] *= 1e20
        assert fault(np.matmul, np.matmul, a, b) is None
        assert fault(lambda a, b: a @ b * (np.arange(40) < 1)[:, None], np.matmul, a, b)

    def test_what_cancels_on_the_way(self, rng):
        """The reference's own errors bound results no larger, so it passes against itself."""

        def cube(x):
            return ((x - 3) * x + 3) * x - 1  # (x - 1) ** 3

        for dtype in ("float32", "float64"):
            x = rng.random(3000).astype(dtype)
            assert fault(cube, cube, x) is None
            assert fault(lambda x: 1 - cube(x) - 1, lambda x: 1 - cube(x) - 1, x) is None
            assert fault(lambda x: x**3 - 3 * x**2 + 3 * x - 1, cube, x) is None
            assert fault(lambda x: cube(x) * (x < 0.9), cube, x)

    def test_sums_that_cancel(self, rng):
        a = rng.normal(size=(300_000, 2)).repeat(2, axis=1)
        b = np.array([1.0, -1, 2, -2])
        for order in (lambda a, b: a @ b, lambda a, b: (a * b)[:, ::-1].cumsum(1)[:, -1]):
            assert fault(order, np.matmul, a, b) is None

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


class TestResults:
    """Results may be of many shapes and of complex numbers."""

    def test_complex_numbers(self, rng):
        x = rng.normal(size=64)
        basis = np.exp(-2j * np.pi * np.outer(np.arange(64), np.arange(64)) / 64)
        for given in (x, x + 1j * x[::-1], x.astype("f"), (x * 1j).astype(np.complex64)):
            assert fault(np.fft.fft, np.fft.fft, given) is None
            assert fault(lambda x: basis @ x, np.fft.fft, given) is None
            assert fault(lambda x: np.fft.fft(x) * 1.001j, np.fft.fft, given)
            assert fault(lambda x: np.fft.fft(x).real, np.fft.fft, given)
        assert "complex128 instead of real numbers" in fault(np.fft.fft, lambda x: x + 0, x)

    def test_dicts_tuples_and_lists(self, rng):
        x = rng.normal(size=9)
        status = {
            "right": lambda x: {"b": x + 2, "a": x},
            "wrong": lambda x: {"a": x, "b": x + 1},
            "other keys": lambda x: {"a": x, "c": x + 2},
            "one key": lambda x: {"a": x},
        }
        report = compare(status, (x,), reference=lambda x: {"a": x, "b": x + 2}, seconds=0.01)
        assert [row.status for row in report.rows] == ["timed", "wrong", "wrong", "wrong"]
        assert report.rows[1].note.startswith("9 of 9 elements of the result 'b' outside")
        assert report.rows[2].note == (
            "it returns result 'a', result 'c' instead of result 'a', result 'b'"
        )
        lists = {
            "right": lambda x: (x[:, None] * 2).tolist(),
            "wrong": lambda x: x[:, None].tolist(),
        }
        report = compare(lists, (x,), reference=lambda x: x[:, None] * 2, seconds=0.01)
        assert [row.status for row in report.rows] == ["timed", "wrong"]

    def test_other_things_need_a_check(self):
        for reference in (sorted, lambda words: " ".join(words), lambda words: {"n": None}):
            with pytest.raises(ValueError, match="not numbers; pass check="):
                compare({"f": reference}, (["b", "a"],), reference=reference)
        words = {"right": sorted, "wrong": list}
        report = compare(words, (["b", "a"],), check=lambda r: r == ["a", "b"], seconds=0.01)
        assert [row.status for row in report.rows] == ["timed", "wrong"]


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
