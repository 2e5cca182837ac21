"""Right ways to compute norms, reductions, GELU and linear layers: none may exceed its bound.

Orders of summation, one by one, in pairs, in blocks, compensated; two passes, Welford's and Chan's
updates; a reciprocal root or a division; weights first or last; in one step or two; torch, JAX and
NumPy; results of 16 bits with sums in float32, kept or stored on the way.

    python tests/right_norms.py [repeats]
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from gdcore import oracle
from gdcore.oracle import Reference

Array = NDArray[Any]
Tensor = Any
Kind = tuple[str, Reference, dict[str, Tensor]]
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SHAPES = ((1, 1), (3, 2), (4, 7), (5, 33), (2, 64), (3, 257), (2, 1000))
FAMILIES = (
    "normal", "offset", "far", "cancelling", "zeros", "constant", "ties", "spread", "small",
    "large", "one-hot", "positive",
)  # fmt: skip
EPS = (1e-5, 1e-12, 0.5)


def drawn(rng: np.random.Generator, shape: tuple[int, ...], family: str) -> Array:
    """Draw data of a family, in float64."""
    x = rng.standard_normal(shape)
    if family == "offset":
        return x + 1e3
    if family == "far":
        return x * 1e-2 - 3e2
    if family == "cancelling":
        half = shape[-1] // 2
        x[..., half : 2 * half] = -x[..., :half]
        return x * 100
    if family == "zeros":
        return x * 0
    if family == "constant":
        return np.broadcast_to(x[..., :1], shape).copy()
    if family == "ties":
        return np.rint(x)
    if family == "spread":
        return np.ldexp(x, rng.integers(-9, 9, shape))
    if family == "small":
        return x * 1e-3
    if family == "large":
        return x * 100
    if family == "one-hot":
        return np.where(np.arange(shape[-1]) == rng.integers(shape[-1]), 30.0, 0.0) + 0 * x
    return np.abs(x) if family == "positive" else x


def wide(x: Tensor) -> Tensor:
    """Return numbers in the precision that sums are kept in."""
    return x.float() if x.dtype.itemsize == 2 else x


def one_by_one(x: Tensor) -> Tensor:
    total = torch.zeros(x.shape[:-1], dtype=x.dtype)
    for column in x.unbind(-1):
        total = total + column
    return total


def compensated(x: Tensor) -> Tensor:
    total = torch.zeros(x.shape[:-1], dtype=x.dtype)
    lost = torch.zeros_like(total)
    for column in x.unbind(-1):
        y = column - lost
        t = total + y
        lost, total = (t - total) - y, t
    return total


def in_blocks(x: Tensor) -> Tensor:
    return one_by_one(torch.stack([one_by_one(part) for part in x.split(16, -1)], -1))


SUMS: dict[str, Callable[[Tensor], Tensor]] = {
    "library": lambda x: x.sum(-1),
    "one by one": one_by_one,
    "backwards": lambda x: one_by_one(x.flip(-1)),
    "compensated": compensated,
    "blocks": in_blocks,
    "ones": lambda x: x @ torch.ones(x.shape[-1], dtype=x.dtype),
}


def moments(x: Tensor, how: str) -> tuple[Tensor, Tensor]:
    """Return mean and variance (divided by n) of rows, in the precision of x."""
    n = x.shape[-1]
    if how in SUMS:
        mean = SUMS[how](x) / n
        d = x - mean[..., None]
        return mean, SUMS[how](d * d) * (1 / n)
    mean, squares = (
        torch.zeros(x.shape[:-1], dtype=x.dtype),
        torch.zeros(x.shape[:-1], dtype=x.dtype),
    )
    if how == "welford":
        for k, column in enumerate(x.unbind(-1)):
            d = column - mean
            mean = mean + d / (k + 1)
            squares = squares + d * (column - mean)
        return mean, squares / n
    size, done = (32 if how == "chan" else 8), 0
    for part in x.split(size, -1):
        count = part.shape[-1]
        of_part = part.mean(-1)
        d, total = of_part - mean, done + count
        rest = ((part - of_part[..., None]) ** 2).sum(-1)
        mean = (
            mean + d * (count / total) if how == "chan" else (done * mean + count * of_part) / total
        )
        squares, done = squares + rest + d * d * (done * count / total), total
    return mean, squares / n


MOMENTS = (*SUMS, "welford", "chan", "chan, weighted means")


def of_sums(x: Tensor, rng: Any) -> Iterator[Kind]:
    n, dtype, keep = x.shape[-1], name(x), sums_of(x)
    y = wide(x)
    sums = {how: of(y).to(x.dtype) for how, of in SUMS.items()}
    sums["permuted"] = one_by_one(y[..., torch.from_numpy(rng.permutation(n))]).to(x.dtype)
    sums["torch"] = x.sum(-1)
    yield "sum", oracle.sum(x, dtype=dtype, accumulator=keep), sums
    means = {how: (of(y) / n).to(x.dtype) for how, of in SUMS.items()}
    means |= {f"{how} of shares": of(y / n).to(x.dtype) for how, of in SUMS.items()}
    means |= {f"{how}, 1/n": (of(y) * (1 / n)).to(x.dtype) for how, of in SUMS.items()}
    if x.dtype != torch.float16:  # whose sums may overflow
        means |= {f"{how}, stored": of(y).to(x.dtype) / n for how, of in SUMS.items()}
    means |= {f"moments {how}": moments(y, how)[0].to(x.dtype) for how in MOMENTS}
    yield "mean", oracle.mean(x, dtype=dtype, accumulator=keep), means
    for correction in (0, 1)[: 1 + (n > 1)]:
        scale = n / (n - correction)
        found = {how: (moments(y, how)[1] * scale).to(x.dtype) for how in MOMENTS}
        found["torch"] = x.var(-1, correction=correction)
        found["numpy"] = torch.from_numpy(np.asarray(y.numpy().var(-1, ddof=correction))).to(
            x.dtype
        )
        d = y - y.mean(-1, keepdim=True)
        found["corrected"] = (((d * d).sum(-1) - d.sum(-1) ** 2 / n) / (n - correction)).to(x.dtype)
        if x.dtype == torch.bfloat16:  # float16 may overflow
            d = x - x.mean(-1, keepdim=True)
            found["stored"] = (d * d).sum(-1) / (n - correction)
        yield (
            "var", oracle.var(x, correction=correction, dtype=dtype, accumulator=keep), found,
        )  # fmt: skip


def name(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def sums_of(x: Tensor) -> str | None:
    return "float32" if x.dtype.itemsize == 2 else None


def backward(f: Callable[..., Tensor], given: list[Tensor], g: Tensor) -> tuple[Tensor, ...]:
    leaves = [x.detach().clone().requires_grad_() for x in given]
    return torch.autograd.grad(f(*leaves), leaves, g)


def layer_norms(x: Tensor, w: Tensor, b: Tensor, eps: float) -> dict[str, Callable[..., Tensor]]:
    n = x.shape[-1]

    def two_steps(how: str, root: str) -> Callable[..., Tensor]:
        def of(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
            y = wide(x)
            mean, v = moments(y, how)
            h = v[..., None] + eps
            d = y - mean[..., None]
            if root == "divided":
                z = d / torch.sqrt(h) * wide(w)
            elif root == "weight first":
                z = d * (torch.rsqrt(h) * wide(w))
            elif root == "power":
                z = d * h**-0.5 * wide(w)
            elif root == "one step":
                scale = torch.rsqrt(h)
                z = (y * scale - mean[..., None] * scale) * wide(w)
            elif root == "fused":
                scale = torch.rsqrt(h) * wide(w)
                return (y * scale + (wide(b) - mean[..., None] * scale)).to(x.dtype)
            else:
                z = d * torch.rsqrt(h) * wide(w)
            return (z + wide(b)).to(x.dtype)

        return of

    found: dict[str, Callable[..., Tensor]] = {
        "torch": lambda x, w, b: F.layer_norm(x, (n,), w, b, eps),
        "torch without weights": lambda x, w, b: F.layer_norm(x, (n,), None, None, eps) * w + b,
    }
    for root in ("rsqrt", "divided", "weight first", "power", "one step", "fused"):
        found[f"library, {root}"] = two_steps("library", root)
    for how in MOMENTS:
        found[how] = two_steps(how, "rsqrt")
    if x.dtype == torch.bfloat16:

        def stored(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
            d = x - x.mean(-1, keepdim=True)
            return d / torch.sqrt((d * d).mean(-1, keepdim=True) + eps) * w + b

        found["stored on the way"] = stored
    return found


def rms_norms(x: Tensor, w: Tensor, eps: float) -> dict[str, Callable[..., Tensor]]:
    n = x.shape[-1]

    def of(how: str, root: str) -> Callable[..., Tensor]:
        def norm(x: Tensor, w: Tensor) -> Tensor:
            y = wide(x)
            h = SUMS[how](y * y)[..., None] / n + eps
            if root == "divided":
                return (y / torch.sqrt(h) * wide(w)).to(x.dtype)
            if root == "weight first":
                return (y * (torch.rsqrt(h) * wide(w))).to(x.dtype)
            if root == "stored":
                return (y * torch.rsqrt(h)).to(x.dtype) * w
            return (y * torch.rsqrt(h) * wide(w)).to(x.dtype)

        return norm

    found: dict[str, Callable[..., Tensor]] = {
        "torch": lambda x, w: F.rms_norm(x, (n,), w, eps),
    }
    for root in ("rsqrt", "divided", "weight first", "stored"):
        found[f"library, {root}"] = of("library", root)
    for how in SUMS:
        found[how] = of(how, "rsqrt")
    return found


def of_norms(x: Tensor, rng: Any, jax: bool = False) -> Iterator[Kind]:
    n, dtype, keep = x.shape[-1], name(x), sums_of(x)
    w, b, g = (
        torch.from_numpy(rng.standard_normal(shape)).to(x.dtype) for shape in ((n,), (n,), x.shape)
    )
    eps = float(rng.choice(EPS))
    ref = oracle.layer_norm(x, w, b, eps=eps, grad_out=g, dtype=dtype, accumulator=keep)
    ways = layer_norms(x, w, b, eps)
    found = {how: f(x, w, b) for how, f in ways.items()}
    back = {how: backward(f, [x, w, b], g) for how, f in ways.items()}
    if jax and x.dtype.itemsize > 2:
        found["jax"], back["jax"] = with_jax(_layer(eps), (x, w, b), g)
    yield "layer norm", ref, found
    in_half = x.dtype.itemsize == 2  # torch adds rows one by one in the dtype of 16 bits
    for i, part in enumerate(("x", "weight", "bias")):
        found = {how: grads[i] for how, grads in back.items() if not (in_half and i)}
        yield f"layer norm, gradient of {part}", getattr(ref.grad, part), found
    ref = oracle.rms_norm(x, w, eps=eps, grad_out=g, dtype=dtype, accumulator=keep)
    ways = rms_norms(x, w, eps)
    yield "RMS norm", ref, {how: f(x, w) for how, f in ways.items()}
    back = {how: backward(f, [x, w], g) for how, f in ways.items()}
    for i, part in enumerate(("x", "weight")):
        found = {how: grads[i] for how, grads in back.items() if not (in_half and i)}
        yield f"RMS norm, gradient of {part}", getattr(ref.grad, part), found


def with_jax(of: Any, given: tuple[Tensor, ...], g: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return a function's result and gradients by JAX."""
    import jax

    jax.config.update("jax_enable_x64", True)
    result, pull = jax.vjp(jax.jit(of), *(x.numpy() for x in given))
    result, slopes = jax.block_until_ready((result, pull(g.numpy())))
    read = [torch.from_numpy(np.array(part)) for part in (result, *slopes)]
    return read[0], tuple(read[1:])


def _layer(eps: float) -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def of(x: Any, w: Any, b: Any) -> Any:
        mean, v = jnp.mean(x, -1, keepdims=True), jnp.var(x, -1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(v + eps) * w + b

    return of


def of_gelu(x: Tensor, rng: Any, jax: bool = False) -> Iterator[Kind]:
    g = torch.from_numpy(rng.standard_normal(x.shape)).to(x.dtype)
    root, k = 2**-0.5, (2 / np.pi) ** 0.5
    ways: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
        "none": {
            "torch": F.gelu,
            "erf": lambda x: (wide(x) * 0.5 * (1 + torch.erf(wide(x) * root))).to(x.dtype),
            "erfc": lambda x: (wide(x) * (torch.erfc(-wide(x) * root) * 0.5)).to(x.dtype),
            "stored": lambda x: x * 0.5 * (1 + torch.erf(x * root)),
        },
        "tanh": {
            "torch": lambda x: F.gelu(x, approximate="tanh"),
            "tanh": lambda x: (_tanh_of(wide(x), k)).to(x.dtype),
            "sigmoid": lambda x: (_sigmoid_of(wide(x), k)).to(x.dtype),
            "stored": lambda x: _tanh_of(x, k),
        },
    }
    for kind, of in ways.items():
        ref = oracle.gelu(
            x, approximate=kind, grad_out=g, dtype=name(x), accumulator=sums_of(x)
        )  # fmt: skip
        found = {how: f(x) for how, f in of.items()}
        back = {how: backward(f, [x], g)[0] for how, f in of.items()}
        if jax and x.dtype.itemsize > 2:
            found["jax"], (back["jax"],) = with_jax(_gelu(kind), (x,), g)
        yield f"GELU, {kind}", ref, found
        yield f"GELU, {kind}, gradient", ref.grad.x, back


def _tanh_of(x: Tensor, k: float) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(k * (x + 0.044715 * x * x * x)))


def _sigmoid_of(x: Tensor, k: float) -> Tensor:
    return x * torch.sigmoid(2 * k * x * (1 + 0.044715 * x * x))


def _gelu(kind: str) -> Callable[..., Any]:
    import jax

    return lambda x: jax.nn.gelu(x, approximate=kind == "tanh")


def of_linear(x: Tensor, rng: Any) -> Iterator[Kind]:
    m, k = int(rng.integers(1, 9)), x.shape[-1]
    w, b, g = (
        torch.from_numpy(rng.standard_normal(shape)).to(x.dtype)
        for shape in ((m, k), (m,), (len(x), m))
    )
    y, v, c = wide(x), wide(w), wide(b)
    found = {
        "torch": F.linear(x, w, b),
        "product, then bias": (y @ v.T + c).to(x.dtype),
        "product stored": (y @ v.T).to(x.dtype) + b,
        "bias first": (one_by_one(torch.cat([c.expand(len(x), m)[..., None],
                                             y[:, None, :] * v], -1))).to(x.dtype),
    }  # fmt: skip
    for how, of in SUMS.items():
        found[how] = (of(y[:, None, :] * v) + c).to(x.dtype)
    ref = oracle.linear(x, w, b, grad_out=g, dtype=name(x), accumulator=sums_of(x))
    yield "linear", ref, found
    back = backward(F.linear, [x, w, b], g)
    for i, part in enumerate(("x", "weight", "bias")):
        yield f"linear, gradient of {part}", getattr(ref.grad, part), {"torch": back[i]}


def run(repeats: int = 1, shapes: Any = SHAPES, seed: int = 0) -> dict[str, list[float]]:
    """Return for each kind: cases, results, the largest error over bound, and how many suspect."""
    rng = np.random.default_rng(seed)
    table: dict[str, list[float]] = {}
    worst: dict[str, str] = {}
    for _ in range(repeats):
        for dtype in DTYPES:
            for family in FAMILIES:
                for shape in shapes:
                    x = torch.from_numpy(drawn(rng, shape, family)).to(dtype)
                    for part in (of_sums, of_norms, of_gelu, of_linear):
                        for kind, ref, results in part(x, rng):
                            row = table.setdefault(kind, [0, 0, 0.0, 0])
                            row[0] += 1
                            for how, result in results.items():
                                verdict = ref.check(result)
                                row[1] += 1
                                share = verdict.bounds if verdict.ok else max(verdict.bounds, 9e9)
                                if not verdict.ok:
                                    print(kind, how, family, shape, dtype, verdict)
                                row[3] += verdict.worst_status > 0
                                if share > row[2]:
                                    row[2], worst[kind] = (
                                        share,
                                        f"{how}, {family}, {shape}, {dtype}",
                                    )
    for kind, row in table.items():
        print(f"{kind:32} {row[0]:6} {row[1]:7} {row[2]:8.3f} {row[3]:6}  {worst.get(kind)}")
    return table


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    run(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
