"""Which results are right, what they cost, and which of two is faster: no real timings."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from benches import CASES
from gdcore.bench import Verdict, bounds, probe, race, suites
from gdcore.bench.case import Expected, Work
from gdcore.bench.check import as_arrays, exactly, find_fault
from gdcore.bench.libraries.registry import open_library
from gdcore.bench.suites.fit import FullBatch
from gdcore.bench.suites.many import Groups, Stack
from gdcore.bench.suites.matmul import Matmul
from gdcore.bench.suites.operands import Operands
from gdcore.bench.suites.quadratic import quadratic, quadratics, rest
from gdcore.bench.verdict import judge

TO_TOLERANCE = ("fit_groups", "fit_rolling")  # descent stops somewhere near the solution


class TestVerdict:
    ours = np.array([1.0, 1.1, 0.9, 1.3, 1.0, 1.05, 0.95, 1.0, 1.2])

    @pytest.mark.parametrize(
        ("factor", "verdict"),
        [(2, "FAST"), (1.07, "FAST"), (0.5, "SLOW"), (0.94, "SLOW"), (1, "SAME"), (1.03, "SAME")],
    )
    def test_common_noise_cancels(self, factor, verdict):
        ratio = judge(self.ours, factor * self.ours)
        assert ratio.verdict == verdict
        assert ratio.low <= ratio.value <= ratio.high
        np.testing.assert_allclose(ratio.value, factor)

    def test_noise_of_one_is_ambiguous(self, rng):
        theirs = self.ours * rng.choice([0.7, 1.5], len(self.ours))
        assert judge(self.ours, theirs).verdict is Verdict.AMBG

    def test_an_interval_across_a_margin_is_ambiguous(self):
        theirs = self.ours * np.array([1.02, 1.09, 1.03, 1.08, 1.04, 1.07, 1.02, 1.09, 1.05])
        assert judge(self.ours, theirs).verdict is Verdict.AMBG
        assert judge(self.ours, theirs, margin=0.1).verdict is Verdict.SAME

    def test_few_rounds_decide_nothing(self):
        assert judge([1.0] * 5, [9.0] * 5).verdict is Verdict.AMBG
        assert judge([1.0] * 6, [9.0] * 6).verdict is Verdict.FAST

    def test_rounds_that_only_one_completed_do_not_count(self):
        assert judge([1.0] * 6, [2.0] * 6 + [99.0] * 9).value == pytest.approx(2)

    @pytest.mark.parametrize("rounds", [6, 9, 40])
    def test_one_and_the_same_is_decided_in_5_of_100_races(self, rng, rounds):
        """Whatever the noise: smooth, of two layouts, or with rounds that were interrupted."""
        draws = (
            lambda: rng.normal(0, 0.1, (2, rounds)),
            lambda: rng.choice([0, 0.25], (2, rounds)) + rng.normal(0, 0.01, (2, rounds)),
            lambda: np.clip(rng.standard_cauchy((2, rounds)), -50, 50),
        )
        for draw in draws:
            ratios = [judge(*np.exp(draw()), margin=0) for _ in range(1000)]
            missed = sum(ratio.verdict != "AMBG" for ratio in ratios)
            assert 20 <= missed <= 70

    def test_interval_covers_the_ratio(self, rng):
        covered = 0
        for _ in range(500):
            ours, theirs = np.exp(rng.normal(0, 0.1, (2, 15)))
            ratio = judge(ours, 1.5 * theirs)
            covered += ratio.low <= 1.5 <= ratio.high
        assert covered >= 460

    def test_a_small_difference_is_found(self, rng):
        """3 % in 60 rounds of a noise of 4 %, with no margin."""
        noise = rng.normal(0, 0.04, (100, 2, 60))
        noise[:, 1] += 0.03
        found = [judge(*np.exp(each), margin=0).verdict for each in noise]
        assert found.count(Verdict.FAST) >= 90


class TestCheck:
    expected: ClassVar = [Expected("sum", np.arange(3.0), np.full(3, 0.1))]

    def test_right(self):
        assert find_fault([np.float32([0.05, 1, 2])], self.expected) is None

    @pytest.mark.parametrize(
        ("outputs", "fault"),
        [
            ([np.float32([0, 1])], "has shape (2,) instead of (3,)"),
            ([np.float32([0, 1, np.nan])], "1 of 3 elements of the sum are NaN"),
            ([np.float32([0, 1, np.inf])], "1 of 3 elements of the sum outside the bound"),
            ([np.float32([0, 1.2, 2])], "first at [1]: 1.2"),
            ([np.complex64([0, 1, 2])], "complex64 instead of real"),
            ([np.arange(3.0)] * 2, "2 outputs instead of 1 (sum)"),
            ([], "0 outputs instead of 1"),
        ],
    )
    def test_wrong(self, outputs, fault):
        assert fault in find_fault(outputs, self.expected)

    def test_no_bound_makes_up_for_what_is_not_finite(self):
        value = np.array([np.inf, -np.inf, np.nan, 1])
        expected = [Expected("sum", value, np.array([np.inf, np.inf, np.inf, 0.1]))]
        assert find_fault([value], expected) is None
        for i in range(3):
            broken = value.copy()
            broken[i] = 7
            assert "1 of 4 elements of the sum outside" in find_fault([broken], expected)

    def test_a_bound_that_is_nan_passes_nothing(self):
        expected = [Expected("sum", np.ones(1), np.array([np.nan]))]
        assert find_fault([np.full(1, 1.5)], expected)

    @pytest.mark.parametrize("dtype", race.DTYPES)
    @pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.suite} {case.name}")
    def test_the_last_bits_of_every_output_count(self, case, dtype):
        """The bound of every suite passes what NumPy gets, and not what is off by far more."""
        inputs = case.inputs(dtype)
        library = open_library("numpy", None, 1)
        if not hasattr(library, case.job):
            library = open_library("gdcore", None, 1)
        outputs = getattr(library, case.job)(case.computation, *inputs)(1)
        outputs = [np.asarray(o) for o in (outputs if isinstance(outputs, tuple) else [outputs])]
        expected = case.expected(inputs)
        assert find_fault(outputs, expected) is None
        for i, output in enumerate(outputs):
            broken = outputs.copy()
            broken[i] = output + np.asarray(expected[i].bound * 2.1, output.dtype)
            assert expected[i].name in find_fault(broken, expected)
            loose = np.finfo(dtype).eps * (3e4 if case.computation.suite == "fit" else 300)
            if case.job in TO_TOLERANCE:  # not counting that, and small groups are what they are
                tight = np.quantile(case.solved(inputs)[i].bound, 0.8)
            else:
                tight = np.max(expected[i].bound)
            assert tight < loose, expected[i].name

    @pytest.mark.parametrize("suite", ["mse", "gradient", "fit"])
    def test_whole_numbers_are_exact_at_every_size(self, suite):
        library = open_library("numpy", None, 1)
        for case in suites.cases(suite):
            if whole := case.whole():
                inputs = whole.inputs("float32")
                expected = exactly(whole.expected(inputs))
                outputs = as_arrays(getattr(library, case.job)(whole, *inputs)(1))
                assert find_fault(outputs, expected) is None
                outputs[0] = np.nextafter(outputs[0], np.float32(9))
                assert find_fault(outputs, expected)

    @pytest.mark.parametrize("k", [1, 10, 10**7, 10**9])
    def test_gamma_never_shrinks(self, k):
        assert k * 2.0**-24 <= bounds.gamma(k, "float32") <= bounds.gamma(k + 1, "float32")


class TestQuadratic:
    """References and bounds of many problems at once."""

    stack = Stack(50, 20, 3, 12)

    @pytest.fixture(params=race.DTYPES)
    def inputs(self, request):
        return self.stack.inputs(request.param)

    def test_descent_is_that_of_the_rows(self, inputs):
        X, y, lr = (each.astype(np.longdouble) for each in inputs)
        weights, intercept = self.stack.expected(inputs)
        w, b = np.zeros((50, 3), np.longdouble), np.zeros(50, np.longdouble)
        for _ in range(12):
            r = (X * w[:, None]).sum(-1) + b[:, None] - y
            w -= (lr * 2 / 20)[:, None] * (r[..., None] * X).sum(1)
            b -= lr * 2 / 20 * r.sum(1)
        assert np.all(np.abs(weights.value - w) <= weights.bound / 1000)
        assert np.all(np.abs(intercept.value - b) <= intercept.bound / 1000)

    def test_descent_and_solution_are_not_taken_for_each_other(self, inputs):
        descended, solved = self.stack.expected(inputs), self.stack.solved(inputs)
        assert find_fault([each.value.astype(float) for each in solved], descended)
        assert find_fault([each.value.astype(float) for each in descended], solved)

    @pytest.mark.parametrize("d", [1, 4])
    @pytest.mark.parametrize("shrunk", [1, 0.2])
    def test_solutions_of_three_methods_are_within_the_bound(self, rng, d, shrunk):
        X = rng.uniform(-1, 1, (40, 30, d)).astype(np.float32)
        X[..., 0] *= np.float32(shrunk)
        y = rng.uniform(-1, 1, (40, 30)).astype(np.float32)
        q = quadratic(X, y, np.float64)
        w = q.solved()
        bound = rest(q, w, np.float32)
        A = np.concatenate([X, np.ones_like(X[..., :1])], -1)
        across = A.swapaxes(1, 2)
        by_lu = np.linalg.solve(across @ A, across @ y[..., None])[..., 0]
        by_svd = np.array([np.linalg.lstsq(A[i], y[i])[0] for i in range(40)])
        by_qr = np.array([np.linalg.solve(r, q.T @ y[i]) for i, (q, r) in _factors(A)])
        for found in (by_lu, by_svd, by_qr):
            assert np.all(np.abs(found - w) <= bound[:, None])
        assert np.median(bound) < 0.05 / shrunk**2

    def test_a_singular_problem_bounds_nothing(self):
        X = np.ones((1, 8, 2), np.float32)
        q = quadratic(X, X[..., 0], np.float64)
        assert np.isinf(rest(q, q.solved(), np.float32)).all()

    def test_groups_are_stacks_of_their_rows(self, rng):
        X, y = rng.random((30, 2)), rng.random(30)
        starts = np.array([0, 3, 13, 30])
        found = quadratics(X, y, starts, np.longdouble)
        for i in range(3):
            rows = slice(starts[i], starts[i + 1])
            alone = quadratic(X[rows], y[rows], np.longdouble)
            for name in ("G", "c", "s", "n"):
                np.testing.assert_allclose(
                    getattr(found, name)[i].astype(float), getattr(alone, name).astype(float)
                )

    def test_a_part_is_one_in_its_share(self):
        for suite in suites.NAMES:
            for large in (False, True):
                for case in suites.cases(suite, large=large):
                    loops = "epochs" if isinstance(case, FullBatch) else "count"
                    for share in case.shares.values():
                        assert getattr(case.part(share), loops) * share == getattr(case, loops)

    def test_groups_of_a_part_are_as_large(self):
        whole = Groups(100_000, 4)
        assert whole.part(100).rows.mean() == pytest.approx(whole.rows.mean(), rel=0.01)


def _factors(A):
    return enumerate(np.linalg.qr(each) for each in A)


class TestCases:
    @pytest.mark.parametrize("quick", [False, True])
    def test_names_and_work(self, quick):
        for suite in suites.NAMES:
            cases = suites.cases(suite, quick=quick)
            assert len({case.name for case in cases}) == len(cases)
            for case in cases:
                work = case.work("float32")
                assert case.work("float64").bytes == pytest.approx(2 * work.bytes, rel=0.5)
                assert work.flops > 0
                assert work.resident >= 0

    def test_inputs_are_the_same_every_time(self):
        for case in CASES:
            first, again = case.inputs("float32"), case.inputs("float32")
            assert [a.tobytes() for a in first] == [b.tobytes() for b in again]
            assert all(np.abs(a).max() <= 20 for a in first if a.dtype.kind == "f")

    def test_operands_lie_as_they_are_called(self):
        strides = {
            "strided": ((96, 32, 8), (64, 16, 8)),
            "reversed": ((-48, -16, -4), (-32, -8, -4)),
            "transposed": ((48, 4, 12), (32, 4, 16)),
            "broadcast": ((48, 16, 4), (0, 8, 4)),
        }
        for layout, (left, right) in strides.items():
            case = Operands(layout, Matmul(2, 3, 2, 4))
            a, b = case.inputs("float32")
            assert (a.strides, b.strides) == (left, right)
            inner, _ = case.inner.inputs("float32")
            np.testing.assert_array_equal(a, inner)

    def test_floor(self):
        level = probe.Level("memory", np.inf, read=10e9, write=5e9, copy=8e9)
        limits = probe.Limits(1, {"float32": 1e11}, (probe.Level("L1", 100, 1e12, 1, 1), level))
        assert limits.floor(Work(1e9, 3e9, 1e9, 4e9), "float32") == (
            2e9 / 8e9 + 2e9 / 10e9,
            "memory",
        )
        assert limits.floor(Work(1e9, 1e9, 3e9, 4e9), "float32") == (
            2e9 / 8e9 + 2e9 / 5e9,
            "memory",
        )
        assert limits.floor(Work(1, 100, 0, 100), "float32") == (1e-10, "L1")
        assert limits.floor(Work(1e12, 100, 0, 101), "float32") == (10, "FMA peak")
        half = 100 / 1e12 + 100 / 10e9
        assert limits.floor(Work(1, 200, 0, 200), "float32") == (pytest.approx(half), "memory")
        assert limits.floor(Work(1, 401, 0, 401), "float32") == (401 / 10e9, "memory")

    def test_the_peak_is_that_of_the_arithmetic(self):
        level = probe.Level("memory", np.inf, read=1e10, write=1e10, copy=1e10)
        limits = probe.Limits(1, {"float32": 1e11, "float64": 5e10}, (level,))
        assert limits.floor(Work(1e11, 1, 0, 1), "float32") == (1, "FMA peak")
        assert limits.floor(Work(1e11, 1, 0, 1, "float64"), "float32") == (2, "FMA peak")
