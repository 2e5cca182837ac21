"""Layer norm, RMS norm and GELU: exact values, bounds that hold, mistakes that are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gdcore import oracle
from gdcore.oracle import Status
from problems import Array
from test_oracle_reductions import named

torch = pytest.importorskip("torch")
mpmath = pytest.importorskip("mpmath")
right_norms = pytest.importorskip("right_norms")
WAYS = (
    right_norms.of_sums, right_norms.of_norms, right_norms.of_gelu, right_norms.of_linear,
)  # fmt: skip


def largest(x: Any, rng: Any, ways: Any, where: str, **more: Any) -> float:
    """Assert that right results are within the bounds; return the largest share of one."""
    most = 0.0
    for kind, ref, results in ways(x, rng, **more):
        for how, result in results.items():
            verdict = ref.check(result)
            assert verdict.ok, f"{kind}, {how}, {where}: {verdict}"
            most = max(most, verdict.bounds)
    return most


@pytest.mark.parametrize("dtype", right_norms.DTYPES, ids=str)
def test_right_results_are_within_the_bounds(rng: Any, dtype: Any) -> None:
    shapes, most = ((2, 33), (3, 2), (1, 1), (4, 7)), []
    for i, family in enumerate(right_norms.FAMILIES):
        x = torch.from_numpy(right_norms.drawn(rng, shapes[i % 4], family)).to(dtype)
        most += [largest(x, rng, ways, f"{family} {x.shape}") for ways in WAYS]
    assert max(most) > 0.2  # the bounds are not idle


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_results_of_jax_are_within_the_bounds(rng: Any, dtype: Any) -> None:
    pytest.importorskip("jax")
    x = torch.from_numpy(right_norms.drawn(rng, (3, 40), "offset")).to(dtype)
    largest(x, rng, right_norms.of_norms, "jax", jax=True)
    largest(x - 1e3, rng, right_norms.of_gelu, "jax", jax=True)


def test_a_hundred_thousand_elements(rng: Any) -> None:
    x = torch.from_numpy(rng.standard_normal((1, 100_000)) + 3).float()
    n = x.shape[-1]
    assert oracle.var(x).check(x.var(-1, correction=0)).ok
    assert oracle.sum(x).check(x.sum(-1)).ok
    ref = oracle.layer_norm(x, grad_out=x)
    y = x.requires_grad_()
    out = torch.nn.functional.layer_norm(y, (n,))
    assert ref.check(out).ok
    assert ref.grad.x.check(torch.autograd.grad(out, y, x)[0]).ok


def exact_norm(x: Any, w: Any, b: Any, eps: float, centred: bool) -> Any:
    """Return a row's norm in 50 digits."""
    mean = mpmath.fsum(x) / len(x) if centred else mpmath.mpf(0)
    h = mpmath.fsum((v - mean) ** 2 for v in x) / len(x) + mpmath.mpf(eps)
    return [(v - mean) / mpmath.sqrt(h) * c + d for v, c, d in zip(x, w, b, strict=True)]


def off(reference: oracle.Reference, value: Any) -> float:
    """Return the error of a reference over its bound."""
    parts = (reference.value, np.broadcast_to(reference.tail, reference.value.shape))
    hi, lo, bound = (part.reshape(-1).tolist() for part in (*parts, reference.bound))
    errors = [
        abs(mpmath.mpf(h) + mpmath.mpf(t) - v) / mpmath.mpf(c)
        for h, t, c, v in zip(hi, lo, bound, value, strict=True)
    ]
    return float(max(errors))


@pytest.mark.parametrize("centred", [True, False])
def test_norms_against_mpmath(rng: Any, dtype: Any, centred: bool) -> None:
    with mpmath.workdps(50):
        for family in ("normal", "offset", "spread", "constant", "small"):
            x = right_norms.drawn(rng, (2, 7), family).astype(dtype)
            w, b, g = (rng.standard_normal(s).astype(dtype) for s in (7, 7, (2, 7)))
            whole = [[mpmath.mpf(float(v)) for v in row] for row in x]
            weight, bias = ([mpmath.mpf(float(v)) for v in part] for part in (w, b * centred))
            if centred:
                ref = oracle.layer_norm(x, w, b, eps=1e-5, grad_out=g)
            else:
                ref = oracle.rms_norm(x, w, eps=1e-5, grad_out=g)
            value = [exact_norm(row, weight, bias, 1e-5, centred) for row in whole]
            assert off(ref, [v for row in value for v in row]) < 1e-6
            ones, zeros = [1] * 7, [0] * 7
            normed = [exact_norm(row, ones, zeros, 1e-5, centred) for row in whole]
            columns = range(7)
            over = [mpmath.fsum(float(g[i, j]) * normed[i][j] for i in range(2)) for j in columns]
            assert off(ref.grad.weight, over) < 1e-6
            slopes = []
            for i, row in enumerate(whole):
                root = 1 / mpmath.sqrt(
                    mpmath.fsum((v - centred * mpmath.fsum(row) / 7) ** 2 for v in row) / 7
                    + mpmath.mpf(1e-5)
                )
                gw = [mpmath.mpf(float(g[i, j])) * weight[j] for j in columns]
                along = mpmath.fsum(p * q for p, q in zip(gw, normed[i], strict=True)) / 7
                mean = mpmath.fsum(gw) / 7 * centred
                slopes += [root * (gw[j] - mean - normed[i][j] * along) for j in columns]
            assert off(ref.grad.x, slopes) < 1e-6


def test_axes_of_norms_and_gradients_against_torch(rng: Any) -> None:
    x = rng.standard_normal((2, 3, 4, 5)) + 1
    for axes in (-1, 1, (2, 3), (0, 3), None):
        rows = tuple(range(4)) if axes is None else np.atleast_1d(axes) % 4
        inner = tuple(x.shape[i] for i in rows)
        broad = tuple(x.shape[i] if i in rows else 1 for i in range(4))
        w, b = rng.standard_normal(inner), rng.standard_normal(inner)
        g = rng.standard_normal(x.shape)
        leaves = [torch.from_numpy(part).requires_grad_() for part in (x, w, b)]
        t, v, c = leaves
        dims = tuple(int(i) for i in rows)
        for centred in (True, False):
            d = t - t.mean(dims, keepdim=True) if centred else t
            out = d * torch.rsqrt((d * d).mean(dims, keepdim=True) + 1e-3) * v.reshape(broad)
            if centred:
                out = out + c.reshape(broad)
                ref = oracle.layer_norm(x, w, b, axis=axes, eps=1e-3, grad_out=g)
            else:
                ref = oracle.rms_norm(x, w, axis=axes, eps=1e-3, grad_out=g)
            assert ref.check(out).ok
            used = leaves[: 2 + centred]
            for part, slope in zip(
                ("x", "weight", "bias"), torch.autograd.grad(out, used, torch.from_numpy(g)),
                strict=False,
            ):  # fmt: skip
                assert getattr(ref.grad, part).check(slope).ok
    assert oracle.layer_norm(x, grad_out=x).grad.weight is None
    assert oracle.layer_norm(x, grad_out=x).grad.bias is None


def test_the_eps_of_an_rms_norm_is_that_of_torch() -> None:
    for dtype in right_norms.DTYPES:
        x = torch.tensor([[1e-4, 2e-4, -1e-4]], dtype=dtype)
        keep = "float32" if dtype.itemsize == 2 else None
        assert oracle.rms_norm(x, accumulator=keep).check(torch.nn.functional.rms_norm(x, (3,))).ok


def test_norms_of_odd_data(dtype: Any) -> None:
    same = np.full((2, 3), 7.0, dtype)
    assert oracle.layer_norm(same, grad_out=same).check(np.zeros((2, 3))).ok
    assert oracle.layer_norm(same, eps=0.0).check(np.full((2, 3), np.nan)).ok  # 0 times infinity
    assert oracle.rms_norm(same * 0).check(same * 0).ok
    assert oracle.layer_norm(same[:, :1], bias=same[0, :1]).check(same[:, :1]).ok
    assert oracle.layer_norm(np.zeros((0, 3), dtype)).value.shape == (0, 3)
    odd = np.array([[1.0, np.inf, 2.0], [np.nan, 1.0, 2.0], [1.0, 2.0, 3.0]], dtype)
    right = oracle.layer_norm(odd[2:]).value
    lost = np.full((2, 3), np.nan)
    ref = oracle.layer_norm(odd)
    assert ref.check(np.concatenate([lost, right])).ok
    assert ref.check(np.concatenate([np.ones((2, 3)), right])).worst_status is Status.NONFINITE
    rms = oracle.rms_norm(odd[:1])
    assert rms.check([[0.0, np.nan, 0.0]]).ok
    with pytest.raises(ValueError, match="over 0 elements"):
        oracle.rms_norm(np.zeros((3, 0), dtype))
    with pytest.raises(ValueError, match="weight has shape"):
        oracle.layer_norm(same, same)
    with pytest.raises(ValueError, match="eps is -1"):
        oracle.layer_norm(same, eps=-1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mistakes_of_layer_norms_are_named(rng: Any, dtype: Any) -> None:
    x = (rng.standard_normal((13, 13)) + 0.7).astype(dtype)
    w, b, g = (rng.standard_normal(s).astype(dtype) for s in (13, 13, (13, 13)))
    y, weight, bias, over = (part.astype(np.float64) for part in (x, w, b, g))
    ref = oracle.layer_norm(x, w, b, grad_out=g)

    def mean(part: Array) -> Array:
        return part.mean(-1, keepdims=True)

    def like(normed: Array, w: Any = weight, b: Any = bias) -> Array:
        return normed * w + b

    d, square = y - mean(y), mean(y * y)
    v, h = mean(d * d), mean(d * d) + 1e-5
    named(ref, like(d / np.sqrt(v * 13 / 12 + 1e-5)), "divided by n - 1")
    named(ref, like(d / (np.sqrt(v) + 1e-5)), "eps is outside the root")
    named(ref, like(d / np.sqrt(v)), "eps is missing")
    named(ref, like(d / np.sqrt(v + 1e-6)), "eps is 1e-06 instead of 1e-05")
    named(ref, like(y / np.sqrt(h)), "the mean is not subtracted")
    named(ref, like(y / np.sqrt(square + 1e-5)), "RMS norm in place of layer norm")
    named(ref, like(d / h), "by the square, not by its root")
    named(ref, like(d / np.sqrt(h), b=0), "the bias is missing")
    named(ref, like(d / np.sqrt(h), w=1), "the weight is missing")
    named(ref, like(d / np.sqrt(h), w=1 + weight), "1 is added to the weight")
    columns = (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-5)
    named(ref, like(columns), "over axis 0")
    padded = mean(d * d) + 3 / 13 * mean(y) ** 2
    named(ref, like(d / np.sqrt(padded + 1e-5)), "zeros that pad blocks to 16")
    part = y[:, :8]
    dropped = (y - mean(part)) / np.sqrt(part.var(-1, keepdims=True) + 1e-5)
    named(ref, like(dropped), "the last 5 of the n = 13")
    named(
        ref, like(d / np.sqrt(h), w=weight.astype(np.float16)), "weight is rounded through float16"
    )
    far = x + dtype(3e3 if dtype == np.float32 else 1e7)
    one = (far * far).mean(-1, keepdims=True) - mean(far) ** 2
    lost = (far - mean(far)) / np.sqrt(np.maximum(one, 0) + dtype(1e-5)) * w + b
    named(oracle.layer_norm(far, w, b), lost, "one pass")
    r, gw = 1 / np.sqrt(h), over * weight
    z = d * r
    named(ref.grad.x, r * (gw - z * mean(gw * z)), "mean of grad_out * weight is not subtracted")
    named(ref.grad.x, r * (gw - mean(gw)), "projection on the normalised x is not subtracted")
    named(ref.grad.x, r * gw, "taken to be constants")
    named(ref.grad.x, r * (over - mean(over) - z * mean(over * z)), "the weight is missing")
    named(ref.grad.weight, (over * y).sum(0), "x is not normalised")
    named(ref.grad.weight, (over * z).mean(0), "a mean over the 13 rows")
    named(ref.grad.weight, (over * z)[:-1].sum(0), "the last 1 of the 13 rows")
    named(ref.grad.bias, over.mean(0), "a mean over the 13 rows")
    small = (x / 100).astype(dtype)
    t = small.astype(np.float64)
    ref = oracle.rms_norm(small, w, eps=1e-6, grad_out=g)
    square = mean(t * t)
    named(ref, t / np.sqrt(square) * weight, "eps is missing")
    named(ref, t / (np.sqrt(square) + 1e-6) * weight, "eps is outside the root")
    named(ref, t / np.sqrt(square + 1e-5) * weight, "eps is 1e-05 instead of 1e-06")
    centred = t - mean(t)
    named(
        ref, centred / np.sqrt(mean(centred**2) + 1e-6) * weight, "layer norm in place of RMS norm"
    )
    normed = t / np.sqrt(square + 1e-6)
    named(ref, normed * (1 + weight), "Gemma")
    named(ref, normed, "the weight is missing")
    named(ref.grad.x, gw / np.sqrt(square + 1e-6), "projection on the normalised x")


def test_gelu_against_mpmath(dtype: Any) -> None:
    x = np.array([-38, -9, -5, -3, -1, -1e-3, 0, 1e-30, 0.5, 2, 6, 40], dtype)
    with mpmath.workdps(60):
        factor, cubic = mpmath.sqrt(2 / mpmath.pi), mpmath.mpf(0.044715)

        def erf(t: Any) -> Any:
            return t * mpmath.erfc(-t / mpmath.sqrt(2)) / 2

        def tanh(t: Any) -> Any:
            return t / (1 + mpmath.exp(-2 * factor * (t + cubic * t**3)))

        for kind, of in (("none", erf), ("tanh", tanh)):
            ref = oracle.gelu(x, approximate=kind, grad_out=np.ones_like(x))
            at = [mpmath.mpf(float(v)) for v in x]
            assert off(ref, [of(v) for v in at]) < 1e-6
            assert off(ref.grad.x, [mpmath.diff(of, v) for v in at]) < 1e-6


def test_gelu_at_the_ends() -> None:
    x = np.array([-np.inf, np.inf, np.nan, -1e300, 1e300, -0.0])
    for kind in ("none", "tanh"):
        ref = oracle.gelu(x, approximate=kind, grad_out=np.ones(6))
        for left in (np.nan, 0.0):
            assert ref.check([left, np.inf, np.nan, 0.0, 1e300, 0.0]).ok
        assert not ref.check([0.0, np.inf, 0.0, 0.0, 1e300, 0.0]).ok
        assert not ref.check([0.0, 1.0, np.nan, 0.0, 1e300, 0.0]).ok
        assert ref.grad.x.check([0.0, 1.0, np.nan, 0.0, 1.0, 0.5]).ok
    with pytest.raises(ValueError, match="'none' or 'tanh'"):
        oracle.gelu(x, approximate="erf")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mistakes_of_gelu_are_named(rng: Any, dtype: Any) -> None:
    x = (rng.standard_normal(200) * 2).astype(dtype)
    g = rng.standard_normal(200).astype(dtype)
    z = x.astype(np.float64)
    erf = oracle.gelu(x, grad_out=g)
    tanh = oracle.gelu(x, approximate="tanh", grad_out=g)
    named(erf, tanh.value, "the approximation with tanh, in place of")
    named(tanh, erf.value, "the exact GELU, with erf, in place of")
    named(erf, z / (1 + np.exp(-1.702 * z)), "sigmoid(1.702 x)")
    named(erf, z / (1 + np.exp(-z)), "SiLU")
    named(erf, np.maximum(z, 0), "ReLU")
    named(erf, 2 * erf.value, "the factor 1/2 is missing")
    root = oracle.gelu(z * np.sqrt(2)).value / np.sqrt(2)
    named(erf, root, "the division by sqrt(2) is missing")
    named(erf, np.where(z < -3, 0, erf.value), "0 below -3")
    inner = np.sqrt(2 / np.pi) * z
    named(tanh, z * (1 + np.tanh(inner)) / 2, "the cubic term is missing")
    named(erf.grad.x, g * oracle.gelu(z).value / z, "x times the density is missing")
    named(erf.grad.x, tanh.grad.x.value, "the approximation with tanh, in place of")
    named(tanh.grad.x, erf.grad.x.value, "the exact GELU, with erf, in place of")


def test_sixteen_bits_still_see_mistakes(rng: Any) -> None:
    x = torch.from_numpy(rng.standard_normal((8, 64)) + 0.5)
    for dtype in (torch.bfloat16, torch.float16):
        y = x.to(dtype).double()
        given = {"dtype": str(dtype)[6:], "accumulator": "float32"}
        norm = oracle.layer_norm(y, **given)
        centred = y - y.mean(-1, keepdim=True)
        square = (y * y).mean(-1, keepdim=True)
        assert not norm.check((y / torch.sqrt(square + 1e-5)).to(dtype)).ok
        assert not norm.check((centred / torch.sqrt(square + 1e-5)).to(dtype)).ok
        assert not oracle.var(y, **given).check(y.std(-1).to(dtype)).ok
        quick = (y * torch.sigmoid(1.702 * y * 1.5)).to(dtype)
        assert not oracle.gelu(y, **given).check(quick).ok
