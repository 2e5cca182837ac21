"""What hardware and references may do `oracle.like` allows, and the causes it names are true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gdcore.oracle import like
from gdcore.oracle.trials.examine import Examination, examine
from gdcore.oracle.trials.findings import Ruling
from gdcore.oracle.trials.forked import ForkedRunner
from gdcore.oracle.trials.golden import SMALLEST, golden_results
from gdcore.oracle.trials.in_process import InProcess
from gdcore.oracle.trials.operand import Operand

SHAPE = (24, 40)


def tried(kernel: Any, golden: Any, dtype: str = "float32", **options: Any) -> Examination:
    x = Operand.of(np.random.default_rng(5).standard_normal(SHAPE), dtype)
    return examine(
        InProcess(kernel), InProcess(lambda *a: np.array(golden(*a))), None, [x], **options
    )


def normalised(x: Any) -> Any:
    """Divide by the norm, which is exact for one number."""
    return x / np.abs(x) if x.size == 1 else x / np.sqrt((x * x).sum(dtype=x.dtype))


def test_subnormal_numbers_may_be_taken_for_zero() -> None:
    def naive(x: Any) -> Any:
        return x / np.sqrt((x * x).sum(dtype=x.dtype))

    for dtype in ("float32", "float64"):  # the square of a subnormal number is zero
        found = tried(naive, normalised, dtype, families=["normal", "subnormals"], draws=3)
        assert found.ruling is Ruling.RIGHT, found.why
    wrong = tried(lambda x: naive(x + x.dtype.type(0.01)), normalised, families=["normal"])
    assert wrong.ruling is Ruling.WRONG


def test_no_number_changes_its_sign() -> None:
    tiny = SMALLEST["float32"]
    x = Operand.of([0.0, tiny / 4, -tiny / 4, 1.0, np.inf, np.nan], "float32")
    seen: list[Any] = []

    def noted(a: Any) -> Any:
        seen.append(a.copy())
        return a.copy()

    found = golden_results(InProcess(noted), [(x,)], 20, np.random.default_rng(0))
    assert all(a[1] >= 0 and a[2] <= 0 and abs(a[0]) <= tiny for a in seen)
    assert 8 < sum(a[0] == 0 for a in seen) < len(seen)
    assert all(a[4] == np.inf and np.isnan(a[5]) for a in seen)
    assert (seen[-1][:3] == 0).all()
    assert (seen[-1][3:4] == 1).all()
    assert tiny / 4 <= found[0][0].spread[1] <= 2 * tiny


def test_a_result_that_may_leave_its_domain_is_not_judged() -> None:
    x = Operand.of([1.0, 0.5], "float32")
    found = golden_results(InProcess(np.arccos), [(x,)], 20, np.random.default_rng(0))
    assert found[0][0].steady.tolist() == [False, True]


def test_roots_of_zero_are_judged_and_an_order_of_zeros_is_not() -> None:
    def root(x: Any) -> Any:
        return np.sqrt(x)

    zeros = Operand.of(np.zeros(40), "float32")
    found = golden_results(InProcess(root), [(zeros,)], 8, np.random.default_rng(0))
    assert found[0][0].steady.all()
    found = golden_results(InProcess(np.argsort), [(zeros,)], 8, np.random.default_rng(0))
    assert not found[0][0].steady.any()


def test_a_view_is_as_good_as_a_copy() -> None:
    for view, golden in (
        (lambda x: x, lambda x: x.copy()),
        (lambda x: x.T, lambda x: x.T.copy()),
        (lambda x: x[:, 3:], lambda x: x[:, 3:].copy()),
    ):
        found = tried(view, golden, families=["normal"], sizes=["given"])
        assert found.ruling is Ruling.RIGHT, found.why
    x = Operand.of(np.arange(6.0).reshape(2, 3), "float32")
    with ForkedRunner(lambda x: x.T) as runner:  # as the referee's processes do
        result = runner.run([[x]]).results[0]
    assert np.array_equal(result.before[0].values(), x.values().T)
    reading_late = tried(lambda x: (x, np.empty_like(x))[1], lambda x: x.copy())
    assert reading_late.ruling is Ruling.WRONG


def test_causes_that_are_named_are_true() -> None:
    def softmax(x: Any) -> Any:
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def unshifted(x: Any) -> Any:
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)

    families = ["normal", "small", "large", "ties"]
    overflows = tried(unshifted, softmax, families=families, draws=3)
    assert "overflow on the way" in overflows.why
    divides = tried(
        lambda x: x / np.abs(x).sum(-1, keepdims=True),
        lambda x: x / np.maximum(np.abs(x).sum(-1, keepdims=True), 1e-12),
        families=["normal", "zeros"],
        draws=3,
    )
    assert "division by zero" in divides.why
    for kernel in (lambda x: x * 0, np.rint):
        found = tried(kernel, lambda x: x.copy(), families=["normal"], draws=3)
        assert found.ruling is Ruling.WRONG
        assert "rounded to" not in found.why
    half = tried(lambda x: np.tanh(x).astype("f2").astype(x.dtype), np.tanh, families=["normal"])
    assert "rounded to float16" in half.why


def test_a_dtype_may_be_one_of_numpy_or_torch() -> None:
    dtypes = [np.float64, np.dtype("float64"), "float64", "torch.float64", float]
    torch = pytest.importorskip("torch")
    for dtype in [*dtypes, torch.float64]:
        found = like(
            lambda x: x + x, lambda x: 2 * x, inputs=[(3, 4)], dtype=dtype, families=["normal"]
        )
        assert found, found.why
        assert found.worst is None or found.worst.dtype == "float64"
