"""Attention: exact values, bounds that every right kernel keeps, mistakes by their names."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from itertools import chain
from typing import Any

import mpmath
import numpy as np
import pytest

import attentions
from attentions import LOG2E, RIGHT, Array, derivatives, flash, naive, softmax, turned
from gdcore import oracle
from gdcore.oracle import Reference, Status
from gdcore.oracle.diagnosis.causes import find_causes

SIZES = [((2,), 19, 40, 16, 16), ((), 1, 1, 1, 1), ((), 5, 1, 3, 2), ((2, 2), 7, 33, 8, 11)]
FAMILIES = ("normal", "small", "large", "offset", "one-hot", "zeros", "subnormal", "sorted")
ACCUMULATOR = {"float16": "float32", "bfloat16": "float32"}


def draw(family: str, shape: tuple[int, ...], dtype: str, rng: Any) -> Array:
    x = rng.standard_normal(shape)
    half = dtype not in ("float32", "float64")
    if family == "small":
        x = x * 1e-3
    elif family == "large":
        x = x * (6 if half else 40)
    elif family == "offset":
        x = x + (5 if half else 100)
    elif family == "one-hot":
        x = 8.0 * (x == x.max(-1, keepdims=True))
    elif family == "zeros":
        x = 0 * x
    elif family == "subnormal":
        x = x * float(np.finfo(dtype if dtype != "bfloat16" else "float32").tiny) / 4
    elif family == "sorted":
        x = np.sort(x, -2)
    return x.astype(dtype if dtype != "bfloat16" else "float32")


def cases(dtype: str, seed: int) -> Iterator[tuple[str, list[Array], Any]]:
    """Yield q, k, v and what comes from above, with an additive mask or None."""
    for number, (family, size) in enumerate((f, s) for f in FAMILIES for s in SIZES):
        rng = np.random.default_rng([seed, number])
        batch, rows, keys, features, width = size
        shapes = [(rows, features), (keys, features), (keys, width), (rows, width)]
        given = [draw(family, (*batch, *s), dtype, rng) for s in shapes]
        hidden = rng.random((rows, keys)) < 0.4
        hidden[:, 0] = False
        mask = [
            None,
            np.where(hidden, -np.inf, rng.standard_normal((rows, keys))),
            np.where(hidden, float(np.finfo(given[0].dtype).min), 0.0),
        ][(number + number // 4) % 3]
        yield f"{family} {size}", given, None if mask is None else mask.astype(given[0].dtype)


def share(reference: Reference, actual: Any) -> float:
    """Return the largest error over its bound, where there is one."""
    actual = np.asarray(actual, np.float64)
    known = np.isfinite(reference.bound)
    error = np.abs(actual - reference.value - reference.tail)[known]
    return float(np.max(error / np.maximum(reference.bound[known], 1e-300), initial=0.0))


def exactly(q: Array, k: Array, v: Array, g: Array, scale: Any) -> dict[str, list[list[Any]]]:
    """Return attention and its derivatives in mpmath, of one problem without a mask."""
    a, b, c, d = (mpmath.matrix(x.astype(float).tolist()) for x in (q, k, v, g))
    x = a * b.T * scale
    p = x.apply(mpmath.exp)
    for i in range(p.rows):
        total = mpmath.fsum(p[i, :])
        for j in range(p.cols):
            p[i, j] /= total
    slopes = d * c.T
    inner = mpmath.matrix(p.rows, p.cols)
    for i in range(p.rows):
        mean = mpmath.fsum(p[i, j] * slopes[i, j] for j in range(p.cols))
        for j in range(p.cols):
            inner[i, j] = p[i, j] * (slopes[i, j] - mean)
    found = {"": p * c, "q": inner * b * scale, "k": inner.T * a * scale, "v": p.T * d}
    return {name: m.tolist() for name, m in found.items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_derivatives_against_mpmath(dtype: str) -> None:
    for number, (label, (q, k, v, g), _) in enumerate(cases(dtype, 1)):
        if q.ndim > 2 or number % 2:
            q, k, v, g = (x.reshape(-1, *x.shape[-2:])[0, :4] for x in (q, k, v, g))
        with mpmath.workprec(2200):
            scale = 1 / mpmath.sqrt(q.shape[-1])
            wanted = exactly(q, k, v, g, scale)
            ref = oracle.attention(q, k, v, grad_out=g, dtype=dtype)
            for name, rows in wanted.items():
                reference = getattr(ref.grad, name) if name else ref
                parts = (reference.value, reference.tail, reference.bound)
                for own, tail, bound, true in zip(
                    *(x.ravel().tolist() for x in parts), chain(*rows), strict=True
                ):
                    error = abs(mpmath.mpf(own) + mpmath.mpf(tail) - true)
                    assert error <= 1e-6 * bound, (label, name)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_right_kernels_keep_the_bound(dtype: str) -> None:
    for label, (q, k, v, _), mask in cases(dtype, 2):
        ref = oracle.attention(q, k, v, mask=mask, dtype=dtype, accumulator=ACCUMULATOR.get(dtype))
        for name, kernel in RIGHT.items():
            with np.errstate(all="ignore"):
                actual = kernel(q, k, v, mask, q.shape[-1] ** -0.5)
            verdict = ref.check(actual)
            assert verdict.ok, (label, name, str(verdict))
            assert share(ref, actual) <= 1
            assert name == "exp(x - logsumexp)" or verdict.worst_status is Status.OK, (label, name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_derivatives_keep_the_bound(dtype: str) -> None:
    for label, (q, k, v, g), mask in cases(dtype, 3):
        ref = oracle.attention(q, k, v, mask=mask, grad_out=g, dtype=dtype)
        for how in ("sum", "result", "expanded"):
            with np.errstate(all="ignore"):
                found = derivatives(q, k, v, g, mask, q.shape[-1] ** -0.5, how)
            for name, actual in found.items():
                verdict = getattr(ref.grad, name).check(actual)
                assert verdict.ok, (label, how, str(verdict))


def test_torch_keeps_the_bound() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn.attention
    for dtype in ("float32", "float64", "float16", "bfloat16"):
        for number, (label, given, mask) in enumerate(cases(dtype, 4)):
            if number % 3:
                continue
            q, k, v, g = (torch.from_numpy(x).to(getattr(torch, dtype)) for x in given)
            options: dict[str, Any] = {"mask": None, "causal": mask is None}
            if mask is not None:
                options["mask"] = torch.from_numpy(mask).to(q.dtype)
            ref = oracle.attention(
                q, k, v, grad_out=g, dtype=dtype, accumulator=ACCUMULATOR.get(dtype), **options
            )
            backends = [nn.SDPBackend.MATH, nn.SDPBackend.FLASH_ATTENTION]
            for backend in backends[: 1 + (q.shape[-1] == v.shape[-1])]:
                a, b, c = (x.reshape(1, -1, *x.shape[-2:]).requires_grad_() for x in (q, k, v))
                with nn.sdpa_kernel(backend):
                    out = torch.nn.functional.scaled_dot_product_attention(
                        a, b, c, attn_mask=options["mask"], is_causal=options["causal"]
                    )
                out.backward(g.reshape(out.shape))
                checked = {
                    "result": (ref, out),
                    "q": (ref.grad.q, a.grad),
                    "k": (ref.grad.k, b.grad),
                    "v": (ref.grad.v, c.grad),
                }
                for name, (reference, actual) in checked.items():
                    verdict = reference.check(actual.reshape(reference.value.shape))
                    assert verdict.ok, (dtype, label, backend, name, str(verdict))


def test_bounds_are_not_idle() -> None:
    """They tell operands of less precision, and are small beside the result."""
    rng = np.random.default_rng(5)
    q, k, v = (rng.standard_normal((2, n, 16)).astype(np.float32) for n in (40, 64, 64))
    ref = oracle.attention(q, k, v, dtype="float32")
    assert np.median(ref.bound / np.abs(v).max()) < 1e-4
    short = [x.astype(np.float16).astype(np.float32) for x in (q, k, v)]
    assert ref.check(naive(*short, None, 0.25)).worst_status is Status.WRONG
    assert oracle.attention(q, k, v, dtype="tf32").check(naive(*short, None, 0.25)).ok
    assert not oracle.attention(q, k, v, dtype="tf32").check(1.05 * ref.value).ok


def test_sums_that_stagnate_come_near_the_bound() -> None:
    """1024 + 0.49 + 0.49 + … stays 1024 in float16: a fifth of the sum is lost, as u E allows."""
    long = np.full((1, 512), 0.7, np.float16)
    long[0, 0] = 32
    pair = np.concatenate([long, 0 * long])
    total = np.add.accumulate(long * long, axis=-1, dtype=np.float16)[0, -1]
    assert total == 1024
    v = np.array([[1], [0]], np.float16)
    ref = oracle.attention(long, pair, v, scale=2.0**-10, dtype="float16")
    assert 0.1 < share(ref, [[1 / (1 + math.exp(-1))]]) <= 1
    q, k = np.zeros((1, 1), np.float16), v
    ref = oracle.attention(q, k, pair, grad_out=long, scale=1.0, dtype="float16")
    assert 0.05 < share(ref.grad.q, [[total / 4]]) <= 1


def test_masks_mean_what_they_mean_to_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(6)
    q, k, v = (rng.standard_normal((2, 3, n, 4)) for n in (5, 7, 7))
    keep = rng.random((3, 5, 7)) < 0.6
    keep[1, 2] = False
    for mask in (keep, keep[0], np.where(keep, 0.5, -np.inf), np.where(keep[0], 0, -1e9)):
        given = torch.from_numpy(mask)
        out = torch.nn.functional.scaled_dot_product_attention(
            *map(torch.from_numpy, (q, k, v)), attn_mask=given, scale=0.3
        )
        for form in (mask, given, mask.tolist()):
            assert oracle.attention(q, k, v, mask=form, scale=0.3).check(out).ok
    both = oracle.attention(q, k, v, mask=keep, causal=True)
    part = np.where(keep & np.tri(5, 7, dtype=bool), 0.0, -np.inf)
    np.testing.assert_array_equal(both.value, oracle.attention(q, k, v, mask=part).value)
    dead = ~(keep & np.tri(5, 7, dtype=bool)).any(-1)
    assert np.isinf(both.bound[:, dead]).all()
    assert np.isfinite(both.bound[:, ~dead]).all()
    for odd in (np.nan, 0.0):
        assert both.check(np.where(dead[..., None], odd, both.value)).worst_status is Status.OK


def test_batch_dimensions_broadcast_and_their_derivatives_are_summed() -> None:
    rng = np.random.default_rng(7)
    q, k, v = (rng.standard_normal(s) for s in ((4, 2, 5, 3), (2, 6, 3), (1, 6, 2)))
    g = rng.standard_normal((4, 2, 5, 2))
    ref = oracle.attention(q, k, v, grad_out=g)
    full = [np.broadcast_to(x, (4, 2, *x.shape[-2:])) for x in (q, k, v)]
    wanted = derivatives(*full, g, None, 3**-0.5)
    assert ref.check(naive(*full, None, 3**-0.5)).ok
    assert ref.grad.q.check(wanted["q"]).ok
    assert ref.grad.k.check(wanted["k"].sum(0)).ok
    assert ref.grad.v.check(wanted["v"].sum((0, 1))[None]).ok
    assert not ref.grad.k.check(wanted["k"][0]).ok


def test_what_is_not_finite() -> None:
    rng = np.random.default_rng(8)
    q, k, v = (rng.standard_normal((n, 4)).astype(np.float32) for n in (5, 7, 7))
    g = np.ones((5, 4), np.float32)
    keep = np.ones((5, 7), bool)
    keep[0, 1] = False
    odd_k, odd_v, odd_q = k.copy(), v.copy(), q.copy()
    odd_k[1], odd_v[1, 0], odd_v[2, 1], odd_q[3] = np.nan, np.inf, np.nan, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ref = oracle.attention(q, odd_k, v, mask=keep, grad_out=g)
        assert np.isnan(ref.value[1:]).all()
        assert np.isinf(ref.bound[0]).all()
        assert np.isinf(ref.grad.q.bound).all()
        right = oracle.attention(q, k, v).value
        assert ref.check(np.full((5, 4), np.nan)).ok
        assert not ref.check(right).ok
        ref = oracle.attention(q, k, odd_v)
        np.testing.assert_array_equal(ref.value[:, 0], np.inf)
        assert np.isnan(ref.value[:, 1]).all()
        assert not ref.check(right).ok
        ref = oracle.attention(odd_q, k, v)
        assert np.isnan(ref.value[3]).all()
        np.testing.assert_array_equal(ref.value[:3], right[:3])
        over = oracle.attention(q * np.float32(1e20), k * np.float32(1e20), v)
        assert np.isinf(over.bound).all()
        nothing = oracle.attention(q, k[:0], v[:0], grad_out=g)
        assert nothing.check(np.full((5, 4), np.nan)).ok
        assert nothing.grad.k.value.shape == (0, 4)
        assert oracle.attention(q[:0], k, v).value.shape == (0, 4)


def cause(reference: Reference, actual: Array) -> str:
    """Return the sentences on a result that must be wrong."""
    actual = np.asarray(actual, np.float64)
    verdict = reference.check(actual)
    assert not verdict.ok, str(verdict)
    return " | ".join(c.sentence for c in find_causes(actual, reference, verdict))


def narrow(x: Array) -> Array:
    return x.astype(np.float16).astype(np.float64)


def test_mistakes_are_named() -> None:
    rng = np.random.default_rng(9)
    q, k, v = (1.5 * rng.standard_normal((2, n, e)) for n, e in ((40, 16), (72, 16), (72, 12)))
    q, k, v = (x.astype(np.float32).astype(np.float64) for x in (q, k, v))
    keep = rng.random((40, 72)) < 0.7
    keep[:, 0] = True
    added = rng.standard_normal((40, 72)).astype(np.float32).astype(np.float64)
    lower = [np.where(np.tri(40, 72, shift, dtype=bool), 0, -np.inf) for shift in (-1, 1, 32)]
    plain = oracle.attention(q, k, v, dtype="float32")
    hidden = oracle.attention(q, k, v, mask=keep, dtype="float32")
    moved = oracle.attention(q, k, v, mask=added, dtype="float32")
    causal = oracle.attention(q, k, v, causal=True, dtype="float32")
    x = q @ turned(k) / 4
    p, e = softmax(x), np.exp(x - x.max(-1, keepdims=True))
    tail = np.arange(72)[:, None] < 64
    with np.errstate(all="ignore"):
        large = np.exp(9 * x.astype(np.float32))
        table = [
            (plain, naive(q, k, v, None, 1.0), "the scale 1/sqrt(16) is missing"),
            (plain, naive(q, k, v, None, 1 / 16), "the scale is 1/16, or"),
            (plain, naive(q, k, v, None, 4.0), "the scale is sqrt(16)"),
            (plain, naive(q, k, v, None, 0.25 / LOG2E), "without the factor log2(e)"),
            (hidden, np.where(keep, p, 0) @ v, "the mask hides keys after the softmax"),
            (hidden, p @ v, "the mask is ignored"),
            (hidden, softmax(np.where(keep, x, 0)) @ v, "hidden keys have score 0"),
            (hidden, naive(q, k, v, np.where(keep, -np.inf, 0), 0.25), "the mask is inverted"),
            (moved, (p + added) @ v, "the mask is added after the softmax"),
            (moved, naive(q, k, v, added / 4, 0.25), "before the scale is applied"),
            (causal, p @ v, "causal is ignored"),
            (causal, naive(q, k, v, lower[0], 0.25), "hides a query's own key"),
            (causal, naive(q, k, v, lower[1], 0.25), "shows the key after"),
            (causal, naive(q, k, v, lower[2], 0.25), "aligned with the last key"),
            (plain, turned(softmax(turned(x))) @ v, "over the queries instead of the keys"),
            (plain, x @ v, "the softmax is missing"),
            (plain, e @ v, "the division by the sum of the exponentials is missing"),
            (plain, naive(q, k[:, :64], v[:, :64], None, 0.25), "the last 8 keys are dropped"),
            (plain, p @ np.where(tail, v, 0), "the last block of 8 of the S = 72 products"),
            (plain, naive(q[..., :12], k[..., :12], v, None, 0.25), "the last 4 features"),
            (plain, flash(16, accumulator=False)(q, k, v, None, 0.25), "the accumulator is not"),
            (plain, flash(32, total=False)(q, k, v, None, 0.25), "exponentials is not rescaled"),
            (plain, naive(narrow(q), narrow(k), narrow(v), None, 0.25), "q, k and v are rounded"),
            (plain, naive(q, narrow(k), v, None, 0.25), "k is rounded through float16"),
            (plain, naive(q, k, narrow(v), None, 0.25), "v is rounded through float16"),
            (plain, narrow(p) @ v, "the probabilities are rounded through float16"),
            (plain, naive(q, k[[0, 0]], v[[0, 0]], None, 0.25), "problem 0"),
            (
                oracle.attention(9 * q, k, v, dtype="float32"),
                (large / large.sum(-1, keepdims=True)) @ v,
                "the largest score is not subtracted",
            ),
        ]
        for reference, actual, words in table:
            assert words in cause(reference, np.asarray(actual, np.float32)), words


def test_mistakes_of_derivatives_are_named() -> None:
    rng = np.random.default_rng(10)
    q, k, v, g = (rng.standard_normal((2, n, 16)) for n in (40, 72, 72, 40))
    q, k, v, g = (x.astype(np.float32).astype(np.float64) for x in (q, k, v, g))
    grad = oracle.attention(q, k, v, grad_out=g, dtype="float32").grad
    right = derivatives(q, k, v, g, None, 0.25)
    other = derivatives(q, k, v, g, None, 0.25, "forgotten")
    unscaled = derivatives(q, k, v, g, None, 1.0)
    short = derivatives(narrow(q), narrow(k), narrow(v), narrow(g), None, 0.25)
    tail = np.arange(40)[:, None] < 32
    for name in ("q", "k"):
        reference = getattr(grad, name)
        assert "the scale 1/sqrt(16) is missing" in cause(reference, 4 * right[name])
        assert "mean of the slopes" in cause(reference, other[name])
    for name in ("q", "k", "v"):
        reference = getattr(grad, name)
        assert reference.check(right[name]).ok
        assert "the scale 1/sqrt(16) is missing" in cause(reference, unscaled[name])
        assert "grad_out, q, k and v are rounded" in cause(reference, short[name])
    cut = derivatives(q, k, v, np.where(tail, g, 0), None, 0.25)
    assert "the last 8 queries are dropped" in cause(grad.k, cut["k"])
    assert "grad_out is rounded through float16" in cause(
        grad.v, derivatives(q, k, v, narrow(g), None, 0.25)["v"]
    )


def test_bad_input_is_told() -> None:
    q, k, v = np.ones((5, 3)), np.ones((7, 3)), np.ones((7, 2))
    for given, options, words in [
        ((q[0], k, v), {}, "at least two dimensions"),
        ((q, k[:, :2], v), {}, "same number of features"),
        ((q, k, v[:3]), {}, "same number of rows"),
        ((np.ones((2, 5, 3)), np.ones((3, 7, 3)), v), {}, "do not broadcast"),
        ((q[:, :0], k[:, :0], v), {}, "pass scale="),
        ((q, k, v), {"mask": np.ones((4, 7), bool)}, "does not broadcast to the scores'"),
        ((q, k, v), {"scale": math.nan}, "pass a finite number"),
        ((q, k, v), {"grad_out": np.ones((5, 3))}, "the result has shape"),
    ]:
        with pytest.raises(ValueError, match=words):
            oracle.attention(*given, **options)
    with pytest.raises(TypeError, match="mask holds integers"):
        oracle.attention(q, k, v, mask=np.ones((5, 7), np.int64))
    assert attentions.naive(q, k, v, None, 1.0).shape == oracle.attention(q, k, v).value.shape
