"""References: exact values, bounds that hold for every order and are not idle, the same bits."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

import gdcore as gd
import problems
from gdcore import oracle
from gdcore.oracle import Status
from gdcore.oracle.numbers.arithmetic import FORMATS, arithmetic_of, rounded
from problems import REDUCTIONS, Array, normal

TESTED = ("float32", "float64", "float16", "bfloat16", "tf32")
BITS = {"float32": 24, "float64": 53, "float16": 11, "bfloat16": 8}


def exact(x: Array) -> Array:
    return np.vectorize(Fraction, otypes=[object])(np.asarray(x, np.float64))


def gaps(reference: oracle.Reference, value: Array) -> tuple[Array, Array]:
    """Return |value + tail - exact| and the bound, as fractions."""
    own = exact(reference.value) + exact(reference.tail)
    return np.abs(own - np.reshape(value, reference.value.shape)), exact(reference.bound)


def check_exact(reference: oracle.Reference, value: Array, share: float = 1e-6) -> None:
    """Assert that a reference is off by a small share of the bound alone."""
    error, bound = gaps(reference, value)
    assert np.all(error <= bound * Fraction(share))


def difficult(rng: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Draw numbers of very different sizes."""
    spread = rng.integers(-12, 12, shape)
    return np.ldexp(rng.standard_normal(shape), spread).astype(dtype)


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (2, 3, 2), (5, 40, 4), (3, 300, 1)])
def test_products_against_fractions(rng: Any, dtype: Any, m: int, k: int, n: int) -> None:
    a, b = difficult(rng, (m, k), dtype), difficult(rng, (k, n), dtype)
    b[k // 2 : k // 2 * 2] = -b[: k // 2]
    a[:, k // 2 : k // 2 * 2] = a[:, : k // 2]
    ref = oracle.matmul(a, b, grad_out=np.ones((m, n), dtype))
    check_exact(ref, exact(a) @ exact(b))
    check_exact(ref.grad.a, exact(np.ones((m, n))) @ exact(b.T))


def test_gradients_of_broadcast_products_are_summed(rng: Any, dtype: Any) -> None:
    a, b = normal(rng, (5, 1, 3, 4), dtype), normal(rng, (2, 4, 6), dtype)
    g = normal(rng, (5, 2, 3, 6), dtype)
    ref = oracle.matmul(a, b, grad_out=g)
    left = exact(g) @ exact(b).swapaxes(-1, -2)
    check_exact(ref.grad.a, left.sum(1, keepdims=True))
    check_exact(ref.grad.b, (exact(a).swapaxes(-1, -2) @ exact(g)).sum(0))


@pytest.mark.parametrize(
    "shapes", [((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 2)), ((2, 3, 4), (4,))]
)
def test_vectors_have_numpy_s_shapes(rng: Any, dtype: Any, shapes: Any) -> None:
    a, b = (normal(rng, shape, dtype) for shape in shapes)
    whole = np.matmul(a, b)
    ref = oracle.matmul(a, b, grad_out=np.ones_like(whole))
    assert ref.check(whole).ok
    assert ref.grad.a.value.shape == a.shape
    assert ref.grad.b.value.shape == b.shape


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_errors_against_fractions(rng: Any, dtype: Any, reduction: Any) -> None:
    p, y = difficult(rng, (3, 7), dtype), difficult(rng, (3, 7), dtype)
    y[0] = p[0] * (1 + 2 * np.finfo(dtype).eps)
    ref = oracle.mse(p, y, reduction=reduction)
    r = exact(p) - exact(y)
    value = Fraction(1, 2 if "half" in reduction else 1) / (21 if "mean" in reduction else 1)
    check_exact(ref, np.asarray(value * (r * r).sum()))
    check_exact(ref.grad.pred, 2 * value * r)
    check_exact(ref.grad.target, -2 * value * r)


def test_squares_by_themselves(rng: Any, dtype: Any) -> None:
    p, y = normal(rng, (50,), dtype), normal(rng, (50,), dtype)
    ref = oracle.mse(p, y, reduction="none")
    check_exact(ref, (exact(p) - exact(y)) ** 2)
    assert ref.check(gd.mse(p, y, reduction="none")).ok
    assert ref.grad is None


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("parts", ["", "b", "bos"])
@pytest.mark.parametrize("t", [None, 2])
def test_linear_models_against_fractions(
    rng: Any, dtype: Any, reduction: Any, parts: str, t: int | None
) -> None:
    p = problems.linear(rng, 11, 4, t, dtype=dtype, reduction=reduction, parts=parts)
    ref = oracle.linear_mse(
        p.X, p.y, p.weights, p.intercept,
        offset=p.offset, sample_weight=p.sample_weight, reduction=reduction,
    )  # fmt: skip
    f = p.full(np.float64)
    X, y, w, b, o, s = (exact(x) for x in (f.X, f.y, f.w, f.b, f.o, f.s))
    r = X @ w + b + o - y
    count = np.broadcast_to(s, (11, 1)).sum() * w.shape[1]
    value = Fraction(1, 2 if "half" in reduction else 1) / (count if "mean" in reduction else 1)
    check_exact(ref, np.asarray(value * (s * r * r).sum()))
    check_exact(ref.grad.weights, 2 * value * (X.T @ (s * r)))
    check_exact(ref.grad.X, 2 * value * ((s * r) @ w.T))
    if p.intercept is None:
        assert ref.grad.intercept is None
    else:
        check_exact(ref.grad.intercept, 2 * value * (s * r).sum(0))


@pytest.mark.parametrize("batch", [(3,), (2, 3)])
@pytest.mark.parametrize("parts", ["", "bos"])
def test_a_batch_is_its_problems(rng: Any, dtype: Any, batch: Any, parts: str) -> None:
    p = problems.linear(rng, 9, 3, None, batch, dtype, parts=parts)
    keywords = {"offset": p.offset, "sample_weight": p.sample_weight}
    ref = oracle.linear_mse(p.X, p.y, p.weights, p.intercept, **keywords)
    loss, grad = p()
    assert ref.check(loss).ok
    assert ref.grad.weights.check(grad.weights).ok
    for at in np.ndindex(batch):
        one = oracle.linear_mse(
            p.X[at], p.y[at], p.weights[at], None if p.intercept is None else p.intercept[at],
            **{name: None if x is None else x[at] for name, x in keywords.items()},
        )  # fmt: skip
        assert one.value == ref.value[at]
        assert np.array_equal(one.grad.weights.value, ref.grad.weights.value[at])
        assert np.array_equal(one.grad.X.value, ref.grad.X.value[at])


def stepwise(x: Array, y: Array, bits: int, inner: int | None = None) -> Array:
    """Return x @ y with every operation rounded to `bits` bits, inner ones to `inner` bits."""
    total = np.zeros((x.shape[0], y.shape[1]))
    for j in range(x.shape[1]):
        term = rounded(x[:, j : j + 1] * y[j], inner or bits)
        total = rounded(total + term, inner or bits)
    return rounded(total, bits)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("accumulator", [None, "float32"])
def test_narrow_dtypes(rng: Any, name: Any, accumulator: Any) -> None:
    """Naive sums keep the bound, and sums in a narrower accumulator do not."""
    bits = BITS[name]
    a, b = (rounded(normal(rng, shape, np.float32), bits) for shape in ((20, 300), (300, 20)))
    ref = oracle.matmul(a, b, dtype=name, accumulator=accumulator)
    assert ref.check(stepwise(a, b, bits, 24 if accumulator else None)).ok
    worse = ref.check(stepwise(a, b, bits))
    assert worse.ok == (accumulator is None)


def test_products_of_a_batch_may_be_stored_before_they_are_summed(rng: Any) -> None:
    """In float16, each by itself, and every sum of them too."""
    a, b = (rounded(1 + rng.random(shape) / 5, 11) for shape in ((16, 1, 4), (4, 8)))
    g = rounded(1 + rng.random((16, 1, 8)) / 5, 11)
    parts = [stepwise(x.T, y, 11, 24) for x, y in zip(a, g, strict=True)]
    ref = oracle.matmul(a, b, grad_out=g, dtype="float16", accumulator="float32").grad.b
    assert ref.check(rounded(np.sum(parts, axis=0), 11)).ok
    total = parts[0]
    for part in parts[1:]:
        total = rounded(total + part, 11)
    assert ref.check(total).ok
    assert not ref.check(np.sum(parts[1:], axis=0)).ok


def test_a_loss_may_be_stored_before_it_is_divided() -> None:
    """Twice the residual, its square, the sum, 1/n and the product: six roundings in float16."""
    below = 2.0**-11 - 2.0**-22
    worst = 0.0
    for k in range(20, 30):
        p = np.full(1002, np.float16(1 + k * 2.0**-10))
        y = np.full(1002, np.float16(-below))
        total = np.float16(((p - y) ** 2).sum(dtype=np.float32))
        verdict = oracle.mse(p, y, accumulator="float32").check(total * np.float16(1 / 1002))
        assert verdict.ok
        worst = max(worst, verdict.bounds)
    assert worst > 0.5


def test_tf32_may_cut_its_operands(rng: Any) -> None:
    def cut(x: Array) -> Array:
        return (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)

    a, b = normal(rng, (9, 60), np.float32), normal(rng, (60, 9), np.float32)
    actual = cut(a) @ cut(b)
    assert oracle.matmul(a, b, dtype="tf32").check(actual).ok
    assert not oracle.matmul(a, b, dtype="float32").check(actual).ok


def test_bounds_are_near_what_rounding_does() -> None:
    """A product of two numbers takes nearly all of it, sums of equal roundings half."""
    u = 2.0**-24
    x = np.float32(1 + 2.0**-12)
    ref = oracle.matmul([[x]], [[x]], dtype="float32")
    assert 0.9 * u < ref.bound[0, 0] <= u * (1 + 2.0**-10) * x * x
    ones = np.full((1, 64), np.float32(1.1))
    ref = oracle.matmul(ones, ones.T, dtype="float32")
    assert ref.bound[0, 0] <= 65 * u * ref.value[0, 0]


@pytest.mark.parametrize("name", TESTED)
def test_growth_is_rounded_up(name: Any) -> None:
    arithmetic = arithmetic_of(name)
    for k in (1, 2, 1000):
        exactly = (1 + Fraction(arithmetic.sum_unit)) ** k - 1
        assert exactly <= Fraction(arithmetic.growth(k)) <= exactly * Fraction(1 + 2.0**-30)


@pytest.mark.parametrize(("name", "accumulator"), [
    ("float32", None), ("float64", None), ("float32", "float64"), ("float16", "float32"),
    ("bfloat16", "float32"),
])  # fmt: skip
@pytest.mark.parametrize("t", [None, 3])
def test_bounds_are_those_of_the_page(rng: Any, name: Any, accumulator: Any, t: Any) -> None:
    """G(p, q) of docs/oracle.md: p roundings of sums, q of the dtype, f of a stored sum."""
    u, v = (FORMATS[x].unit for x in (name, accumulator or name))
    f = int(accumulator is not None)

    def G(p: int, q: int) -> float:
        return float(np.expm1(p * np.log1p(v) + q * np.log1p(u)))

    def near(ref: Any, expected: Any, lost: float = 1e3) -> None:
        """Rounded up, with the reference's own error, and with what underflows."""
        lost = lost * FORMATS[name].tiny
        assert np.all(expected <= ref.bound * (1 + 1e-12))
        assert np.all(ref.bound <= expected * (1 + 1e-6) + lost)

    def draw(*shape: int) -> Any:
        return rounded(1 + rng.random(shape), 8)

    how = {"dtype": name, "accumulator": accumulator}
    a, b = draw(2, 4, 9), draw(9, 5)
    ref = oracle.matmul(a, b, grad_out=draw(2, 4, 5), **how)
    near(ref, G(9, f) * (a @ b))
    g = ref.grad.b
    near(g, G(8, 2 * f) * np.abs(g.value))

    p, y = draw(40), -draw(40)
    ref = oracle.mse(p, y, **how)
    near(ref, G(40, 5 + f) * ref.value)
    near(ref.grad.pred, G(0, 3) * np.abs(ref.grad.pred.value))
    squares = oracle.mse(p, y, reduction="none", **how)
    near(squares, G(0, 3) * squares.value)

    several = () if t is None else (t,)
    X, w, y = draw(12, 4), draw(4, *several), -draw(12, *several)
    intercept, offset = draw(*several), draw(12, *several)
    ref = oracle.linear_mse(X, y, w, intercept, offset=offset, **how)
    r = X @ w + intercept + offset - y  # no term of it is negative
    delta, c = G(7, 3 * f) * r, 1 / y.size
    terms = delta + G(12, 4 + f) * (r + delta)
    near(ref.grad.weights, 2 * c * X.T @ terms)
    near(ref.grad.intercept, 2 * c * terms.sum(0))
    terms = delta + G(t or 1, 4 + f) * (r + delta)
    near(ref.grad.X, 2 * c * terms.reshape(12, -1) @ w.reshape(4, -1).T)
    near(ref, c * (2 * r * delta + delta**2 + G(y.size, 5 + f) * (r + delta) ** 2).sum(), 1e4)


def test_what_may_overflow_is_never_wrong() -> None:
    big = np.full((1, 4), 1e38, np.float32)
    signs = np.array([[10.0], [-10.0], [1.0], [0.0]], np.float32)
    ref = oracle.matmul(big, signs, dtype="float32")
    for actual in (np.nan, np.inf, -np.inf, 1e38):
        assert ref.check([[actual]]).ok
    assert not oracle.matmul(big[:, :1], [[1.0]], dtype="float32").check([[np.nan]]).ok


def test_what_cannot_be_finite_must_not_be() -> None:
    a = np.array([[np.inf, 1.0], [np.nan, 1.0], [2.0, 1.0]])
    ref = oracle.matmul(a, np.ones((2, 1)), dtype="float64")
    assert ref.check([[np.inf], [np.nan], [3.0]]).ok
    assert list(ref.check([[1.0], [2.0], [3.5]]).status.ravel()) == [3, 3, 2]
    assert not ref.check([[-np.inf], [np.nan], [3.0]]).ok


def test_an_infinite_operand_makes_what_every_sum_makes_of_it(dtype: Any) -> None:
    """A NaN is right where infinities cancel or meet a zero, and nowhere else."""
    inf = np.inf

    def check(ref: oracle.Reference, right: Any) -> None:
        assert ref.check(right).worst_status is Status.OK
        for other in (inf, -inf, np.nan, 3.0):
            differs = ~np.equal(right, other) & ~(np.isnan(right) & np.isnan(other))
            verdict = ref.check(np.where(np.isfinite(right), right, other))
            assert np.array_equal(verdict.status > 1, differs & ~np.isfinite(right))

    ends = ([inf, 2], [0, 0]), ([0, 1], [3, -inf]), ([inf, 2], [-inf, 0]), ([inf, 2], [inf, 0])
    for pred, target in (np.array(each, dtype) for each in ends):
        with np.errstate(invalid="ignore"):
            r = pred - target
        for reduction in ("mean", "sum"):
            ref = oracle.mse(pred, target, reduction=reduction)
            scale = 2 if reduction == "sum" else 1
            check(ref, (r**2).sum() * scale / 2)
            check(ref.grad.pred, r * scale)
            check(ref.grad.target, -r * scale)
        check(oracle.mse(pred, target, reduction="none"), r**2)
    models: tuple[tuple[Any, Any, Any, Any], ...] = (
        ([[1], [1]], [inf, 0], [1], None),
        ([[1], [1]], [inf, 0], [1], [0.7, 0.1]),
        ([[0, 1], [1, 0.1]], [inf, 0], [1, 0.3], None),
        ([[1], [1]], [inf, inf], [1], None),
        ([[1], [-1]], [inf, inf], [1], None),
        ([[inf, 1], [0.1, 1]], [0, 0.7], [0.3, 1], None),
        ([[inf, 1], [0.1, 1]], [0, 0.7], [0, 1], None),
        ([[0.1, 1], [0.3, 1]], [0.1, 0.7], [inf, 1], None),
        ([[0.1, 1], [0.3, 1]], [0.1, 0.7], [0.3, 1], [inf, 1]),
    )
    for X, y, w, s in (
        [None if each is None else np.array(each, dtype) for each in model] for model in models
    ):
        ref = oracle.linear_mse(X, y, w, dtype.type(0.1), sample_weight=s, reduction="sum")
        weight = np.ones(2, dtype) if s is None else s
        with np.errstate(invalid="ignore"):
            r = X @ w + dtype.type(0.1) - y
            check(ref, (weight * r**2).sum())
            check(ref.grad.weights, 2 * (X.T @ (weight * r)))
            check(ref.grad.intercept, 2 * (weight * r).sum())
            check(ref.grad.X, 2 * (weight * r)[:, None] * w)


def test_a_residual_that_may_overflow_has_no_verdict() -> None:
    X, y = np.ones((4, 3), np.float32), np.full(4, 3e38, np.float32)
    ref = oracle.linear_mse(X, y, np.float32([3e38, 3e38, -3e38]))
    for actual in (np.inf, -np.inf, np.nan, 0.0):
        assert ref.grad.weights.check(np.full(3, actual)).ok
        assert ref.check(actual).ok
    half = [x.astype(np.float16) for x in (X, y / 1e38, np.float32([9e4, 9e4, -9e4]) / 2)]
    assert oracle.linear_mse(*half).grad.weights.check(np.full(3, np.nan)).ok
    small = oracle.linear_mse(X, y / 1e38, np.float32([1, 2, 3])).grad.weights
    assert not small.check(np.full(3, np.nan)).ok


def test_an_infinity_may_meet_an_overflow() -> None:
    a = np.float32([[-3e38, -3e38, np.inf], [1, 2, np.inf]])
    ref = oracle.matmul(a, np.ones((3, 1), np.float32))
    assert list(ref.check([[np.nan], [np.nan]]).status[:, 0]) == [0, 3]
    y = np.zeros(2, np.float32)
    grad = oracle.linear_mse(a, y, np.ones(3, np.float32)).grad.X
    assert list(grad.check(np.full((2, 3), np.nan)).status[:, 0]) == [0, 3]


@pytest.mark.parametrize("seed", range(4))
def test_weights_of_both_signs(seed: int) -> None:
    """Their sum may be off by much of itself: by how much is in the bound, and no more."""
    rng = np.random.default_rng(seed)
    for left in (1e-2, 1e-4, 1e-6):
        X, y = normal(rng, (5, 2), np.float32), normal(rng, (5,), np.float32)
        s, w = normal(rng, (5,), np.float32), np.ones(2, np.float32)
        s[-1] = -s[:-1].sum() * np.float32(1 - left)
        ref = oracle.linear_mse(X, y, w, sample_weight=s).grad.weights
        total = np.float32(0)
        for each in s:
            total = total + each
        assert ref.check(np.float32(2) * (X.T @ (s * (X @ w - y))) / total).ok
    s = np.float32([2, -1, 2, -1, 2])
    ref = oracle.linear_mse(X, y, w, sample_weight=s).grad.weights
    assert not ref.check(ref.value * (1 + 1e-4)).ok


def test_numbers_without_a_dtype_have_no_vote(rng: Any) -> None:
    X, w = normal(rng, (50, 4), np.float32), normal(rng, (4,), np.float32)
    y = rng.integers(-9, 9, 50)
    ref = oracle.linear_mse(X, y, w, 0.1, offset=1, sample_weight=[1] * 50)
    assert ref.arithmetic.name == "float32"
    r = X @ w + np.float32(0.1) + np.float32(1) - y.astype(np.float32)
    assert ref.grad.weights.check(2 * X.T @ r / np.float32(50)).ok
    assert oracle.matmul(X, np.ones((4, 1))).arithmetic.name == "float64"
    assert oracle.matmul([[1]], [[1]]).arithmetic.name == "float64"


def test_data_that_the_dtype_does_not_hold(rng: Any) -> None:
    """One rounding of each operand, before all others."""
    worst = 0.0
    for _ in range(20):
        a, b, c = rng.random((40, 1)), rng.random((1, 40)), rng.random((40, 1))
        x, y, z = (v.astype(np.float32) for v in (a, b, c))
        verdict = oracle.matmul(a, b, dtype="float32").check(x @ y)
        worst = max(worst, verdict.bounds)
        assert verdict.ok
        assert oracle.mse(a, c, dtype="float32").grad.pred.check((x - z) / np.float32(20)).ok
        assert oracle.mse(a, c, dtype="float32").check(((x - z) ** 2).mean()).ok
        near = oracle.linear_mse(a, c[:, 0], [0.3], dtype="float32").grad.weights
        r = x @ np.float32([0.3]) - z[:, 0]
        assert near.check(2 * x.T @ r / np.float32(40)).ok
    assert worst > 1 / 3
    assert oracle.matmul(x, y, dtype="float32").bound[0, 0] < 1.1 * 2.0**-24 * (x @ y)[0, 0]
    assert np.isinf(oracle.matmul([[1e300]], [[1e-300]], dtype="float32").bound).all()


def test_batches_of_weights_with_sums_of_their_own() -> None:
    X, y, w = np.ones((2, 3, 1)), np.ones((2, 3)), np.zeros(1)
    s = np.array([[1.0, 1, 1], [1, 1, 2]])
    ref = oracle.linear_mse(X, y, w, sample_weight=s).grad.weights
    assert all("1/n" not in factor.cause for factor in ref.mistakes.factors if factor.value > 2)
    none = oracle.linear_mse(np.ones((0, 3, 1)), np.ones((0, 3)), w, sample_weight=np.ones((0, 3)))
    assert none.value.shape == (0,)


def test_a_unit_at_0_is_the_smallest_number() -> None:
    ref = oracle.matmul(np.float32([[0]]), np.float32([[0]]))
    assert ref.check([[2.0**-149]]).ulps == 1


def test_underflow_is_allowed_for(dtype: Any) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    a = np.full((1, 5), tiny * 3, dtype)
    ref = oracle.matmul(a, np.full((5, 1), 0.5, dtype))
    assert ref.check(a @ np.full((5, 1), 0.5, dtype)).ok
    assert ref.bound[0, 0] <= 32 * tiny  # a float64 reference may lose as much itself


@pytest.mark.parametrize(
    "shapes", [((0, 3), (3, 2)), ((3, 0), (0, 2)), ((2, 0, 3), (3, 4))], ids=str
)
def test_nothing(dtype: Any, shapes: Any) -> None:
    a, b = (np.ones(shape, dtype) for shape in shapes)
    ref = oracle.matmul(a, b, grad_out=np.ones(np.matmul(a, b).shape, dtype))
    assert ref.check(np.matmul(a, b)).ok
    assert not ref.bound.any()
    assert ref.grad.a.value.shape == a.shape
    assert ref.grad.b.value.shape == b.shape
    empty = oracle.linear_mse(np.ones((0, 2)), np.ones(0), np.ones(2), reduction="sum")
    assert empty.check(0.0).ok
    assert empty.grad.weights.check([0.0, 0.0]).ok


# The kernel under it.


def operands(dtype: Any) -> Any:
    rng = np.random.default_rng(3)
    edges = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 24, 25)
    for m, n in product(edges, edges):
        yield difficult(rng, (m, 6), dtype), difficult(rng, (6, n), dtype)
    for m, k, n in ((97, 257, 193), (3, 1000, 2), (200, 3, 400), (4, 0, 5)):
        yield difficult(rng, (m, k), dtype), difficult(rng, (k, n), dtype)
    yield difficult(rng, (7, 3, 5), dtype)[::-1], difficult(rng, (9, 5), dtype).T
    a = difficult(rng, (6, 10), dtype)
    a[2, 3], a[4, 1] = np.inf, np.nan
    yield a, difficult(rng, (10, 9), dtype)


def test_the_kernel_has_the_bits_of_the_reference(
    isa_and_threads: tuple[str, int], dtype: Any
) -> None:
    isa, _ = isa_and_threads
    for a, b in operands(dtype):
        gd._core.set_isa("reference")
        expected = gd._core.accurate_matmul(a, b)
        gd._core.set_isa(isa)
        assert problems.canonical(gd._core.accurate_matmul(a, b)) == problems.canonical(expected)


def test_a_transposed_product_has_the_same_bits(dtype: Any) -> None:
    rng = np.random.default_rng(4)
    a, b = difficult(rng, (40, 300), dtype), difficult(rng, (300, 3), dtype)
    expected = np.swapaxes(gd._core.accurate_matmul(b.T, a.T), -1, -2)
    assert problems.canonical(gd._core.accurate_matmul(a, b)) == problems.canonical(expected)


def test_a_reference_has_the_same_bits_everywhere(
    isa_and_threads: tuple[str, int], dtype: Any
) -> None:
    p = problems.linear(np.random.default_rng(5), 3000, 9, dtype=dtype, parts="bos")

    def parts() -> Any:
        ref = oracle.linear_mse(
            p.X, p.y, p.weights, p.intercept, offset=p.offset, sample_weight=p.sample_weight
        )
        every = (ref, ref.grad.weights, ref.grad.intercept, ref.grad.X)
        return problems.canonical(
            *(x for r in every for x in (r.value, r.tail, r.bound, r.typical))
        )

    forced = parts()
    gd._core.set_isa("reference")
    gd.set_num_threads(1)
    assert forced == parts()


def test_formats_are_numpy_s() -> None:
    for name in ("float16", "float32", "float64"):
        info = np.finfo(name)
        assert FORMATS[name].unit == float(info.eps) / 2
        assert FORMATS[name].tiny == float(info.smallest_subnormal)
        assert FORMATS[name].largest == float(info.max)
    for name, x in (("float16", np.arange(2048, 8192)), ("float32", np.arange(2**25, 2**25 + 99))):
        assert (rounded(x, FORMATS[name].bits) == x.astype(name)).all()
