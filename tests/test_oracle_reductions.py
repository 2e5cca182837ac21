"""Sums, means, variances and linear layers: exact values, certified bounds, named mistakes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gdcore import oracle
from gdcore.oracle import Status
from problems import Array

AXES = (-1, 0, 1, (0, 2), (1, 2), None)
SHAPES = ((2, 3, 5), (1, 1, 1), (4, 1, 7))


def exact(x: Array) -> Array:
    return np.vectorize(Fraction, otypes=[object])(np.asarray(x, np.float64))


def check_exact(reference: oracle.Reference, value: Any, share: float = 1e-6) -> None:
    """Assert that a reference is off by a small share of its bound, or of the smallest number."""
    own = exact(reference.value) + exact(reference.tail)
    error = np.abs(own - np.reshape(value, reference.value.shape))
    assert np.all(error <= exact(reference.bound) * Fraction(share) + Fraction(2.0**-1070))


def named(reference: oracle.Reference, wrong: Any, *words: str) -> None:
    """Assert that a result is called wrong, with these words."""
    with pytest.raises(AssertionError) as raised:
        oracle.assert_matches(wrong, reference)
    for word in words:
        assert word in str(raised.value), str(raised.value)


def spread(rng: Any, shape: Any, dtype: Any) -> Array:
    return np.ldexp(rng.standard_normal(shape), rng.integers(-12, 12, shape)).astype(dtype)


def means(x: Array, axis: Any) -> Array:
    count = x.size // max(np.asarray(x.sum(axis)).size, 1)
    return x.sum(axis, keepdims=True) / count


@pytest.mark.parametrize("axis", AXES)
def test_values_against_fractions(rng: Any, dtype: Any, axis: Any) -> None:
    for shape in SHAPES:
        x = spread(rng, shape, dtype)
        whole = exact(x)
        check_exact(oracle.sum(x, axis), whole.sum(axis))
        check_exact(oracle.mean(x, axis), means(whole, axis))
        d = whole - means(whole, axis)
        n = x.size // np.asarray(x.sum(axis)).size
        check_exact(oracle.var(x, axis), (d * d).sum(axis) / n)
        if n > 1:
            check_exact(oracle.var(x, axis, correction=1), (d * d).sum(axis) / (n - 1))


@pytest.mark.parametrize("axis", AXES)
def test_gradients_against_fractions(rng: Any, dtype: Any, axis: Any) -> None:
    for shape in SHAPES:
        x = spread(rng, shape, dtype)
        g = spread(rng, x.sum(axis, keepdims=True).shape, dtype)
        n, whole = x.size // g.size, np.broadcast_to(exact(g), shape)
        of = {"grad_out": g, "keepdims": True}
        check_exact(oracle.sum(x, axis, **of).grad.x, whole)
        check_exact(oracle.mean(x, axis, **of).grad.x, whole / n)
        d = exact(x) - means(exact(x), axis)
        check_exact(oracle.var(x, axis, **of).grad.x, 2 * whole * d / n)
        if n > 1:
            ref = oracle.var(x, axis, correction=1, **of)
            check_exact(ref.grad.x, 2 * whole * d / (n - 1))


def test_shapes_and_defaults(rng: Any) -> None:
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    assert oracle.sum(x).value.shape == (2, 3)
    assert oracle.sum(x, (0, -1)).value.shape == (3,)
    assert oracle.mean(x, None).value.shape == ()
    assert oracle.var(x, 1, keepdims=True).value.shape == (2, 1, 4)
    assert oracle.var(x).check(x.var(-1)).ok  # divided by n, as NumPy does
    assert oracle.sum(x).arithmetic.name == "float32"
    assert oracle.sum(x).grad is None


def test_empty_arrays(dtype: Any) -> None:
    assert oracle.sum(np.zeros((3, 0), dtype)).check(np.zeros(3)).ok
    assert oracle.mean(np.zeros((0, 3), dtype)).value.shape == (0,)
    assert oracle.var(np.zeros((0, 3), dtype), grad_out=np.zeros(0, dtype)).grad.x.value.size == 0
    for of in (oracle.mean, oracle.var):
        with pytest.raises(ValueError, match="over 0 elements"):
            of(np.zeros((3, 0), dtype))


def test_what_does_not_fit_is_refused() -> None:
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match="out of range"):
        oracle.sum(x, 2)
    with pytest.raises(ValueError, match="each axis once"):
        oracle.mean(x, (1, -1))
    with pytest.raises(TypeError, match="integer"):
        oracle.var(x, 1.0)
    with pytest.raises(ValueError, match="grad_out has shape"):
        oracle.sum(x, grad_out=np.zeros(3))
    with pytest.raises(ValueError, match="correction = 3"):
        oracle.var(x, correction=3)


def test_numbers_that_are_not_finite() -> None:
    x = np.array([[1.0, np.inf], [np.inf, -np.inf], [np.nan, 0.0], [1.0, 2.0]])
    assert oracle.sum(x).check([np.inf, np.nan, np.nan, 3.0]).ok
    assert oracle.mean(x).check([np.inf, np.nan, np.nan, 1.5]).ok
    assert oracle.var(x).check([np.nan, np.nan, np.nan, 0.25]).ok
    assert oracle.sum(x).check([3.0, np.nan, np.nan, 3.0]).worst_status is Status.NONFINITE
    assert oracle.mean(x).check([np.inf, np.nan, np.nan, np.nan]).worst_status is Status.NONFINITE
    large = np.full(4, 3e38, np.float32)
    assert oracle.sum(large).check(np.inf).ok
    assert oracle.sum(large, accumulator="float64", dtype="float32").bound == np.inf
    tiny = np.array([1e-44, 3e-45, -5e-45], np.float32)
    assert oracle.sum(tiny).check(tiny.sum()).ok


def test_one_pass_is_beyond_the_bound_and_two_are_not(rng: Any, dtype: Any) -> None:
    for n in (7, 64, 300):
        x = (rng.standard_normal((20, n)) + (3e3 if dtype == np.float32 else 1e7)).astype(dtype)
        ref = oracle.var(x)
        assert ref.check(x.var(-1)).ok
        one = (x * x).mean(-1) - x.mean(-1) ** 2
        assert ref.check(one).bounds > 1
        named(ref, one, "one pass")
        centred = x - x.mean(-1, keepdims=True)
        one = (centred * centred).mean(-1) - centred.mean(-1) ** 2
        assert oracle.var(centred).check(one).ok


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mistakes_are_named(rng: Any, dtype: Any) -> None:
    x = (rng.standard_normal((13, 13)) + 0.7).astype(dtype)
    y = x.astype(np.float64)
    half = y.astype(np.float16).astype(np.float64)
    padded = np.pad(y, ((0, 0), (0, 3)))
    total, mean, var = oracle.sum(x), oracle.mean(x), oracle.var(x)
    named(total, y.mean(-1), "a mean of the 13")
    named(total, y.sum(0), "over axis 0")
    named(total, y[:, :8].sum(-1), "the last block of 5", "dropped")
    named(total, half.sum(-1), "rounded through float16")
    named(mean, y.sum(-1), "a missing 1/n")
    named(mean, y.mean(0), "over axis 0")
    named(mean, padded.mean(-1), "16 elements of padded blocks")
    named(mean, y[:, :8].mean(-1), "the last block of 5", "dropped")
    named(var, y.var(-1, ddof=1), "unbiased")
    named(oracle.var(x, correction=1), y.var(-1), "biased: divided by n")
    named(var, y.std(-1), "standard deviation")
    named(var, (y * y).mean(-1), "mean is not subtracted")
    named(var, y.var(0), "over axis 0")
    named(var, y[:, :8].var(-1), "the last 5 of the n = 13")
    named(var, padded.var(-1), "zeros that pad blocks to 16")
    centre = y.mean(-1, keepdims=True)
    named(var, ((padded - centre) ** 2).sum(-1) / 13, "zeros that pad blocks to 16")
    named(var, half.var(-1), "rounded through float16")
    g = rng.standard_normal(13).astype(dtype)
    slope = oracle.var(x, grad_out=g).grad.x
    named(slope, 2 * y * g[:, None] / 13, "the mean is not subtracted")
    named(slope, 2 * (y - centre) * g[:, None] / 12, "n - 1 instead of n - 0")
    spread_out = np.repeat(g[:, None], 13, 1).astype(np.float64)
    named(oracle.mean(x, grad_out=g).grad.x, spread_out, "a missing 1/n")
    named(oracle.sum(x, grad_out=g).grad.x, spread_out / 13, "a mean's gradient")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_linear_layers(rng: Any, dtype: Any) -> None:
    x, w = spread(rng, (2, 3, 5), dtype), spread(rng, (4, 5), dtype)
    b, g = spread(rng, 4, dtype), spread(rng, (2, 3, 4), dtype)
    ref = oracle.linear(x, w, b, grad_out=g)
    rows, over = exact(x).reshape(6, 5), exact(g).reshape(6, 4)
    check_exact(ref, rows @ exact(w).T + exact(b))
    check_exact(ref.grad.x, over @ exact(w))
    check_exact(ref.grad.weight, over.T @ rows)
    check_exact(ref.grad.bias, over.sum(0))
    assert oracle.linear(x, w, grad_out=g).grad.bias is None
    assert oracle.linear(x[0, 0], w).value.shape == (4,)
    assert oracle.linear(np.zeros((0, 5), dtype), w, b).value.shape == (0, 4)
    with pytest.raises(ValueError, match="last dimension"):
        oracle.linear(x, w.T)
    with pytest.raises(ValueError, match="bias has shape"):
        oracle.linear(x, w, b[:2])


def test_mistakes_of_linear_layers_are_named(rng: Any) -> None:
    x, w, b, g = (rng.standard_normal(shape) for shape in ((13, 13), (13, 13), 13, (13, 13)))
    ref = oracle.linear(x, w, b, grad_out=g, dtype="float32")
    narrow = w.astype(np.float16).astype(np.float64)
    named(ref, x @ w + b, "the weight is not transposed")
    named(ref, x @ w.T, "the bias is missing")
    named(ref, x @ w.T + 2 * b, "the bias is added twice")
    named(ref, x[:, :8] @ w[:, :8].T + b, "the last block of 5")
    named(ref, x @ narrow.T + b, "the weight is rounded through float16")
    named(ref.grad.bias, g.mean(0), "mean")
    named(ref.grad.x, g @ w.T, "transposed")


def test_numbers_that_the_dtype_does_not_hold(rng: Any) -> None:
    x = rng.standard_normal((6, 50))
    for dtype in ("float32", "float16", "bfloat16"):
        for of in (oracle.sum, oracle.mean, oracle.var):
            ref = of(x, dtype=dtype, accumulator="float32")
            given = x.astype(np.float16 if dtype == "float16" else np.float32)
            right = {oracle.sum: given.sum, oracle.mean: given.mean, oracle.var: given.var}[of]
            assert ref.check(right(-1, dtype=np.float32).astype(np.float32)).ok
