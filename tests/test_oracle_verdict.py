"""Verdicts and causes: what is wrong, how far, and why, in words a person can act on."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gdcore as gd
import problems
from gdcore import oracle
from gdcore.oracle import Status
from gdcore.oracle.numbers.arithmetic import rounded
from problems import normal


def message(actual: Any, reference: oracle.Reference) -> str:
    with pytest.raises(AssertionError) as error:
        oracle.assert_matches(actual, reference)
    assert "\n" not in str(error.value)
    return str(error.value)


# The mistakes of the small gradient descents that gdcore grew from.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.9])
def test_seed_001_sums_before_it_takes_the_mean(dtype: Any, weight: float) -> None:
    x, y = np.array([1, 2, 3, 4], dtype), np.array([2, 4, 6, 8], dtype)
    y_hat = np.asarray(weight, dtype) * x
    gradient = np.dot(2 * x, y_hat - y).mean()
    ref = oracle.linear_mse(x[:, None], y, np.array([weight], dtype))
    said = message([gradient], ref.grad.weights)
    assert "4.000 times the mean-loss gradient with n = 4: a missing 1/n." in said


@pytest.mark.parametrize("start", [0.0, 0.37, 0.99])
def test_seed_000_adds_to_a_stale_gradient(torch: Any, start: float) -> None:
    x = torch.tensor([start], requires_grad=True)
    for _ in range(2):  # the first backward is never zeroed
        ((3 - (x + 1)) ** 2 / 2).sum().backward()
    ref = oracle.linear_mse(
        [[1.0]], [3.0], np.float32([start]), offset=1.0, reduction="half_sum", dtype="float32"
    )
    said = message(x.grad, ref.grad.weights)
    assert "2.000 times" in said
    assert said.endswith(": stale accumulation, or a factor 2.")


# Causes.

LINEAR_CAUSES: dict[str, Any] = {
    "a missing 1/n": lambda g, p: 37 * g,
    "1/n instead of 2/n": lambda g, p: g / 2,
    "n - 1": lambda g, p: g * 37 / 36,
    "the sign is wrong": lambda g, p: -g,
    "stale accumulation, or a factor 2": lambda g, p: g + g,
    "1/n is applied twice": lambda g, p: g / 37,
    "a division by the d = 5 features": lambda g, p: g * 37 / 5,
    "The sign of element [0] is wrong": lambda g, p: g * [-1, 1, 1, 1, 1],
    "the last of the n = 37 rows is dropped": lambda g, p: weights_of(p, slice(0, 36)),
    "the first of the n = 37 rows is dropped": lambda g, p: weights_of(p, slice(1, 37)),
    "the last of the n = 37 rows is counted twice": lambda g, p: g + weights_of(p, slice(36, 37)),
    "the last block of 5 of the n = 37 rows is dropped": lambda g, p: weights_of(p, slice(0, 32)),
    "the intercept is missing": lambda g, p: weights_of(p, without="intercept"),
    "the offset is missing": lambda g, p: weights_of(p, without="offset"),
    "the target is not subtracted": lambda g, p: weights_of(p, without="y"),
    "the result is rounded through bfloat16": lambda g, p: rounded(g, 8),
    "the result is rounded through TF32": lambda g, p: rounded(g, 11),
    "the result is rounded through float16": lambda g, p: g.astype(np.float16),
    "an uninitialised tail": lambda g, p: np.append(g[:-1], np.nan),
    "3.75 times": lambda g, p: g * 3.75,
    "the last block of 13 of the n = 37 rows is dropped": lambda g, p: weights_of(p, slice(0, 24)),
    "the last block of 13 of the n = 37 rows is counted twice":
        lambda g, p: g + weights_of(p, slice(24, 37)),
    "the first block of 3 of the n = 37 rows is dropped": lambda g, p: weights_of(p, slice(3, 37)),
    "the last block of 6 of the n = 37 rows is dropped, and the division is by n - 6":
        lambda g, p: weights_of(p, slice(0, 31)) * p.X.dtype.type(37 / 31),
    "the last block of 2 of the d = 5 features is dropped in the prediction":
        lambda g, p: weights_of(p, features=3),
    "2 times the weights are added: a weight decay": lambda g, p: g + 2 * p.weights,
    "X is rounded through bfloat16": lambda g, p: weights_of(p, X=rounded(p.X, 8)),
}  # fmt: skip


def weights_of(
    p: Any, rows: slice = slice(None), without: str = "", features: int = 5, X: Any = None
) -> Any:
    X = p.X if X is None else X
    r = X[:, :features] @ p.weights[:features]
    for name, term in {"intercept": p.intercept, "offset": p.offset, "y": -p.y}.items():
        r = r if name == without else r + term
    return X[rows].T @ r[rows] * p.X.dtype.type(2 / len(p.y))


def test_causes_of_a_wrong_gradient(rng: Any, dtype: Any) -> None:
    for cause, wrong in LINEAR_CAUSES.items():
        p = problems.linear(rng, 37, 5, dtype=dtype, parts="bo")
        ref = oracle.linear_mse(p.X, p.y, p.weights, p.intercept, offset=p.offset).grad.weights
        right = weights_of(p)
        assert oracle.assert_matches(right, ref).ok
        assert cause in message(wrong(right, p), ref)


MATMUL_CAUSES: dict[str, Any] = {
    "the first operand is transposed": lambda a, b: a.T @ b,
    "the second operand is transposed": lambda a, b: a @ b.T,
    "the result is transposed": lambda a, b: (a @ b).T,
    "the last of the k = 11 products is dropped": lambda a, b: a[:, :-1] @ b[:-1],
    "the last block of 3 of the k = 11 products is dropped": lambda a, b: a[:, :8] @ b[:8],
    "the last block of 5 of the k = 11 products is counted twice":
        lambda a, b: a @ b + a[:, 6:] @ b[6:],
    "the operands are rounded through bfloat16": lambda a, b: rounded(a, 8) @ rounded(b, 8),
    "the second operand is rounded through bfloat16": lambda a, b: a @ rounded(b, 8),
    "the last 3 of 11 along axis 0": lambda a, b: (a @ b) * (np.arange(11) < 8)[:, None],
    "the last 2 of 11 along axis 1": lambda a, b: (a @ b) + 5.0 * (np.arange(11) > 8),
}  # fmt: skip


def test_causes_of_a_wrong_product(rng: Any, dtype: Any) -> None:
    for cause, wrong in MATMUL_CAUSES.items():
        a, b = normal(rng, (11, 11), dtype), normal(rng, (11, 11), dtype)
        assert cause in message(wrong(a, b), oracle.matmul(a, b))


def test_a_tail_is_wrong_as_a_whole(rng: Any) -> None:
    """One wrong element of the last row is none, nor are wrong ones that somebody computed."""
    a, b = rng.standard_normal((100, 100)), rng.standard_normal((100, 100))
    ref = oracle.matmul(a, b)
    for wrong in ((99, 3), (slice(98, None), slice(1, None)), (slice(98, None, 2), slice(None))):
        for made in (1.01, 0.0, 1e9, np.nan):
            actual = a @ b
            actual[wrong] *= made
            assert "tail" not in message(actual, ref)
    actual = a @ b
    actual[98:] *= 1.01
    said = message(actual, ref)
    assert "Only the last 2 of 100 along axis 0 are wrong" in said
    assert "size" not in said
    assert "uninitialised" not in said
    actual[98:] *= 1e9
    assert "none of the right size: an uninitialised tail" in message(actual, ref)


def test_a_tail_of_zeros_may_be_right_here_and_there() -> None:
    a, b = np.ones((9, 2)), np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 2.0]])
    actual = a @ b
    actual[8:] = 0.0
    said = message(actual, oracle.matmul(a, b))
    assert "the last 1 of 9 along axis 0 are wrong, and zero: an uninitialised tail" in said


def test_causes_of_a_batch(rng: Any, dtype: Any) -> None:
    """Every problem leaves out the same."""
    p = problems.linear(rng, 20, 4, None, (3, 2), dtype, parts="bos")
    ref = oracle.linear_mse(
        p.X, p.y, p.weights, p.intercept, offset=p.offset, sample_weight=p.sample_weight
    )
    f = p.full(np.float64)
    r = f.s * (f.X @ f.w + f.b + f.o - f.y)
    left = np.swapaxes(f.X, -1, -2)[..., :13] @ r[..., :13, :]
    scale = 2 / np.broadcast_to(f.s, (3, 2, 20, 1)).sum(-2)
    cause = "the last block of 7 of the n = 20 rows is dropped"
    assert cause in message((left[..., 0] * scale).astype(dtype), ref.grad.weights)
    assert cause in message((r[..., :13, 0].sum(-1) * scale[..., 0]).astype(dtype),
                            ref.grad.intercept)  # fmt: skip
    a, b = normal(rng, (3, 1, 4, 9), dtype), normal(rng, (2, 9, 5), dtype)
    said = message(a[..., :6] @ b[:, :6], oracle.matmul(a, b))
    assert "the last block of 3 of the k = 9 products is dropped" in said


def test_a_sample_of_a_large_result_comes_first(rng: Any) -> None:
    """Mistakes that do not explain it cost a few elements; one that does is seen in all of it."""
    a, b = normal(rng, (90, 90), np.float32), normal(rng, (90, 90), np.float32)
    ref, whole = oracle.matmul(a, b), []

    def counted() -> Any:
        for each in ref.mistakes.alternatives():

            def of(where: Any, each: Any = each) -> Any:
                if isinstance(where, slice):
                    whole.append(each.cause)
                return each.of(where)

            yield each._replace(of=of)

    watched = replace(ref, mistakes=replace(ref.mistakes, alternatives=counted))
    turned = a @ b.T
    assert "the second operand is transposed" in message(turned, watched)
    assert whole == ["the second operand is transposed"]
    turned[3, 4] = (a @ b)[3, 4]
    assert "transposed" not in message(turned, watched)
    corner = a @ b
    corner[-20:, -70:] = (a @ b.T)[-20:, -70:]
    assert "transposed" not in message(corner, watched)


def test_one_number_is_explained_by_many_counts(rng: Any) -> None:
    """So it is explained only by counts that blocks usually have."""
    X, w = normal(rng, (999, 1), np.float32), np.ones(1, np.float32)
    ref = oracle.linear_mse(X, normal(rng, (999,), np.float32), w).grad.weights
    for error in rng.uniform(0.001, 0.02, 20):
        said = message(ref.value + np.float32(error), ref)
        assert re.search("block of (?!(4|7|8|16|32|39|64|99|100|103|128) )", said) is None


def test_a_mean_over_one_axis(rng: Any) -> None:
    p, y = normal(rng, (4, 7), np.float32), normal(rng, (4, 7), np.float32)
    ref = oracle.mse(p, y).grad.pred
    assert "a mean over one axis of 4 alone" in message(2 * (p - y) / 4, ref)


def test_a_reference_for_a_wider_dtype(rng: Any) -> None:
    a, b = rng.random((4, 3)), rng.random((3, 4))
    actual = a.astype(np.float32) @ b.astype(np.float32)
    said = message(actual, oracle.matmul(a, b))
    assert said.endswith(
        "The result is float32, the reference is for float64; pass dtype='float32'."
    )


def test_zeros_and_nan_have_sentences_of_their_own(rng: Any) -> None:
    a, b = normal(rng, (3, 4), np.float32), normal(rng, (4, 3), np.float32)
    ref = oracle.matmul(a, b)
    assert message(np.zeros((3, 3)), ref).endswith("Every element is zero.")
    assert "Every element is NaN" in message(np.full((3, 3), np.nan), ref)
    big = oracle.matmul(a * 1e6, b * 1e6)
    assert "Every element is NaN" in message(np.full((3, 3), np.nan), big)
    tiny = oracle.matmul(np.float32([[1e-20]]), np.float32([[1e-20]]))
    assert "below the normal ones are flushed to zero" in message([[0.0]], tiny)
    assert "a wrong factor" not in message([[3.7]], oracle.matmul([[1.0]], [[1.0]]))


def test_no_cause_is_made_up(rng: Any) -> None:
    """Noise has none: the message ends with how far it is off."""
    p = problems.linear(rng, 37, 5, dtype=np.float32)
    ref = oracle.linear_mse(p.X, p.y, p.weights).grad.weights
    said = message(ref.value + rng.standard_normal(5), ref)
    assert said.endswith("times the certified bound.")


# Verdicts.


def test_statuses_by_element() -> None:
    a = np.ones((1, 4096), np.float32)
    ref = oracle.matmul(a, np.full((4096, 5), 1.5, np.float32))
    v, typical, bound = (x[0, 0] for x in (ref.value, ref.typical, ref.bound))
    assert 16 * typical < bound
    verdict = ref.check([[v, v + 10 * typical, v + 17 * typical, v + 1.01 * bound, np.nan]])
    assert list(verdict.status[0]) == [0, 0, 1, 2, 3]
    assert (verdict.worst_status, verdict.worst, verdict.ok) == (Status.NONFINITE, (0, 4), False)
    assert verdict.count(Status.OK) == 2
    assert list(ref.check([[v] * 4 + [v + 17 * typical]], factor=20).status[0]) == [0] * 5


def test_what_a_verdict_says() -> None:
    ref = oracle.matmul([[1.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]], dtype="float32")
    verdict = ref.check([[4.0, 6.0 + 2.0**-20]])
    assert verdict.worst == (0, 1)
    assert verdict.ulps == 2.0
    assert (verdict.actual, verdict.expected, verdict.error) == (6 + 2.0**-20, 6.0, 2.0**-20)
    assert re.match(r"product: \w+ in 1 of 2 elements; worst at \[0, 1\]: 6.00", str(verdict))
    assert verdict.bounds == pytest.approx(2.0**-20 / ref.bound[0, 1])


def test_suspicion_is_a_warning() -> None:
    a = np.ones((1, 4096), np.float32)
    ref = oracle.matmul(a, a.T)
    with pytest.warns(oracle.OracleWarning, match="SUSPECT"):
        verdict = oracle.assert_matches(ref.value + 17 * ref.typical, ref)
    assert verdict.ok
    assert verdict.worst_status is Status.SUSPECT


def test_every_lane_of_gdcore_passes(isa: str, dtype: Any) -> None:
    rng = np.random.default_rng(8)
    for n, d in ((4, 1), (7, 3), (33, 17), (600, 5)):
        p = problems.linear(rng, n, d, dtype=dtype, parts="bos")
        ref = oracle.linear_mse(
            p.X, p.y, p.weights, p.intercept, offset=p.offset, sample_weight=p.sample_weight
        )
        loss, grad = p()
        assert ref.check(loss).worst_status is Status.OK
        assert ref.grad.weights.check(grad.weights).worst_status is Status.OK
        assert ref.grad.intercept.check(grad.intercept).worst_status is Status.OK


# Bad input.


def test_shapes_that_do_not_fit() -> None:
    ref = oracle.matmul(np.ones((2, 3)), np.ones((3, 4)))
    assert message(np.ones((4, 2)), ref) == "the product has shape (4, 2) instead of (2, 4)."
    with pytest.raises(ValueError, match=r"shape \(4,\) instead of \(2, 4\)"):
        ref.check(np.ones(4))
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(4, 5\)"):
        oracle.matmul(np.ones((2, 3)), np.ones((4, 5)))
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        oracle.mse(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="grad_out"):
        oracle.matmul(np.ones((2, 3)), np.ones((3, 4)), grad_out=np.ones((4, 2)))
    for shapes in (
        ((4, 3), (5,), (3,)),
        ((4, 3), (4,), (2,)),
        ((4,), (4,), (1,)),
        ((2, 4, 3), (5, 4), (3,)),
    ):
        with pytest.raises(ValueError, match="linear_mse: X has shape"):
            oracle.linear_mse(*map(np.ones, shapes))


@pytest.mark.parametrize("call", [
    lambda: oracle.mse([1.0], [1.0], reduction="average"),
    lambda: oracle.mse(np.ones(0), np.ones(0)),
    lambda: oracle.linear_mse(np.ones((0, 2)), np.ones(0), np.ones(2)),
    lambda: oracle.linear_mse(np.ones((2, 2)), np.ones(2), np.ones(2), sample_weight=np.zeros(2)),
    lambda: oracle.linear_mse(np.ones((2, 2)), np.ones(2), np.ones(2), reduction="none"),
    lambda: oracle.matmul([[1.0]], [[1.0]], dtype="float8"),
    lambda: oracle.matmul([[1.0]], [[1.0]], dtype="float64", accumulator="float32"),
    lambda: oracle.matmul([[1.0]], [[1.0]], dtype="float16", accumulator="tf32"),
    lambda: oracle.matmul(1.0, [[1.0]]),
    lambda: oracle.matmul([[1.0]], [[1.0]]).check([[1.0]], factor=0),
])  # fmt: skip
def test_what_cannot_be_asked(call: Any) -> None:
    with pytest.raises(ValueError, match=r"\.$") as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [None, 3, "reference", np.ones(2)])
def test_a_reference_is_a_reference(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"oracle\.matmul"):
        oracle.assert_matches([1.0], wrong)


def test_a_typical_call_is_light(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is typical costs a product of its own: only computed where it may matter."""
    ref = oracle.matmul(np.ones((3, 3)), np.ones((3, 3)))
    assert ref.check(ref.value).ok
    assert "typical" not in vars(ref)
    assert gd.matmul(np.ones((3, 3)), np.ones((3, 3))).shape == (3, 3)


def test_flushed_results_of_kinds_are_not_wrong() -> None:
    """The bfloat16 instructions of processors flush subnormal numbers, operands' and results'."""
    x = np.array([[2.0**-127, 1.0]])
    for reference in (
        oracle.gelu(x, dtype="bfloat16"),
        oracle.sum(x[:, :1], axis=-1, dtype="bfloat16"),
        oracle.linear(x[:, :1], [[1.0]], dtype="bfloat16"),
        oracle.linear(x[:, :1], [[1.0]], grad_out=[[1.0]], dtype="bfloat16").grad.weight,
    ):
        flushed = np.where(np.abs(reference.value) < 2.0**-126, 0.0, reference.value)
        assert np.any(flushed != reference.value), reference
        assert reference.check(flushed).ok, reference


def test_short_numbers_are_no_evidence_of_short_sums() -> None:
    """3.0 has the bits of any dtype; a sum kept in bfloat16 has those of bfloat16 in each row."""
    quarter = np.full((1, 4), 10.3 / 4, np.float32)
    one = message(np.float32([3.0]), oracle.sum(quarter, axis=-1, dtype="float32"))
    assert "kept in" not in one


def test_the_right_nan_is_no_ulps_off() -> None:
    reference = oracle.softmax(np.float32([[np.nan, 1.0]]))
    assert str(reference.check([[np.nan] * 2])) == "softmax: OK, at most 0 ulps off"


def test_no_verdict_where_all_is_smoothed_and_a_class_cannot_be() -> None:
    """Libraries that compute (1 - s) z have 0 times infinity there."""
    for result in (np.nan, np.inf):
        reference = oracle.cross_entropy([[-np.inf, 0.0]], [0], label_smoothing=1.0)
        assert reference.check(result).ok, result
