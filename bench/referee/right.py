"""Right kernels: other orders of summation, online and flash-style algorithms, other libraries.

A referee that objects to one of them gives a false alarm. Kernels of 16-bit numbers keep their
sums in float32, as kernels on GPUs do."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

Tensor = torch.Tensor
Kernel = Callable[..., Tensor]


def up(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def blocks(n: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def finite(shift: Tensor) -> Tensor:
    """Replace the maximum of a row that has only -inf so far."""
    return torch.where(shift.isinf(), torch.zeros_like(shift), shift)


# ---- products --------------------------------------------------------------------------
def matmul_torch(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


def matmul_blocked(a: Tensor, b: Tensor) -> Tensor:
    total = torch.zeros((), dtype=up(a).dtype)
    for part in blocks(a.shape[1], 16):
        total = total + up(a[:, part]) @ up(b[part])
    return total.to(a.dtype)


def matmul_outer(a: Tensor, b: Tensor) -> Tensor:
    """Add one product of rank 1 after the other: the sequential sum."""
    total = torch.zeros(a.shape[0], b.shape[1], dtype=up(a).dtype)
    for k in range(a.shape[1]):
        total = total + up(a)[:, k : k + 1] * up(b)[k]
    return total.to(a.dtype)


def matmul_reversed(a: Tensor, b: Tensor) -> Tensor:
    return (up(a).flip(1) @ up(b).flip(0)).to(a.dtype)


def matmul_numpy(a: Tensor, b: Tensor) -> Tensor:
    return torch.from_numpy(up(a).numpy() @ up(b).numpy()).to(a.dtype)


def matmul_einsum(a: Tensor, b: Tensor) -> Tensor:
    return torch.from_numpy(np.einsum("ik,kj->ij", up(a).numpy(), up(b).numpy())).to(a.dtype)


def matmul_wide(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() @ b.double()).to(a.dtype)


def matmul_tiled(a: Tensor, b: Tensor) -> Tensor:
    """Fill tiles of the result, whose last row and column of tiles are smaller."""
    out = torch.empty(a.shape[0], b.shape[1], dtype=a.dtype)
    for rows in blocks(a.shape[0], 24):
        for columns in blocks(b.shape[1], 20):
            out[rows, columns] = (up(a[rows]) @ up(b[:, columns])).to(a.dtype)
    return out


def linear_torch(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.linear(x, w, b)


def linear_matmul(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return (up(x) @ up(w).T + up(b)).to(x.dtype)


def linear_bias_first(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    total = up(b).expand(x.shape[0], -1).clone()
    for part in blocks(x.shape[1], 8):
        total = total + up(x)[:, part] @ up(w)[:, part].T
    return total.to(x.dtype)


def linear_addmm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return torch.addmm(up(b), up(x), up(w).T).to(x.dtype)


def linear_in_columns(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Compute one output at a time, as a matrix-vector product."""
    columns = [up(x) @ up(w)[j] + up(b)[j] for j in range(w.shape[0])]
    return torch.stack(columns, 1).to(x.dtype)


# ---- softmax and cross-entropy ---------------------------------------------------------
def softmax_torch(x: Tensor) -> Tensor:
    return torch.softmax(x, -1)


def softmax_shifted(x: Tensor) -> Tensor:
    y = up(x)
    e = torch.exp(y - y.amax(-1, keepdim=True))
    return (e / e.sum(-1, keepdim=True)).to(x.dtype)


def softmax_online(x: Tensor) -> Tensor:
    y = up(x)
    m = torch.full((*y.shape[:-1], 1), -math.inf, dtype=y.dtype)
    total = torch.zeros_like(m)
    for part in blocks(y.shape[-1], 13):
        new = torch.maximum(m, y[..., part].amax(-1, keepdim=True))
        shift = finite(new)
        total = total * torch.exp(m - shift)
        total = total + torch.exp(y[..., part] - shift).sum(-1, keepdim=True)
        m = new
    return (torch.exp(y - m) / total).to(x.dtype)


def softmax_exp2(x: Tensor) -> Tensor:
    y = up(x)
    e = torch.exp2((y - y.amax(-1, keepdim=True)) * math.log2(math.e))
    return (e * (1 / e.sum(-1, keepdim=True))).to(x.dtype)


def softmax_logsumexp(x: Tensor) -> Tensor:
    """Divide by nothing, at some loss of accuracy (Blanchard, Higham and Higham, 2021)."""
    y = up(x)
    return torch.exp(y - torch.logsumexp(y, -1, keepdim=True)).to(x.dtype)


def softmax_numpy(x: Tensor) -> Tensor:
    y = up(x).numpy()
    e = np.exp(y - y.max(-1, keepdims=True))
    return torch.from_numpy(e / e.sum(-1, keepdims=True)).to(x.dtype)


def cross_entropy_torch(x: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(x, t)


def cross_entropy_gather(x: Tensor, t: Tensor) -> Tensor:
    return (-torch.log_softmax(up(x), -1).gather(1, t[:, None])).mean().to(x.dtype)


def cross_entropy_logsumexp(x: Tensor, t: Tensor) -> Tensor:
    y = up(x)
    return (torch.logsumexp(y, 1) - y.gather(1, t[:, None])[:, 0]).mean().to(x.dtype)


def cross_entropy_online(x: Tensor, t: Tensor) -> Tensor:
    y = up(x)
    m = torch.full((len(y),), -math.inf, dtype=y.dtype)
    total = torch.zeros_like(m)
    for part in blocks(y.shape[1], 17):
        new = torch.maximum(m, y[:, part].amax(1))
        shift = finite(new)
        total = total * torch.exp(m - shift) + torch.exp(y[:, part] - shift[:, None]).sum(1)
        m = new
    return ((m - y.gather(1, t[:, None])[:, 0]) + torch.log(total)).mean().to(x.dtype)


# ---- norms -----------------------------------------------------------------------------
def layer_norm_torch(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), g, b, 1e-5)


def layer_norm_two_pass(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    y = up(x)
    d = y - y.mean(-1, keepdim=True)
    scale = torch.rsqrt((d * d).mean(-1, keepdim=True) + 1e-5)
    return (d * scale * up(g) + up(b)).to(x.dtype)


def layer_norm_welford(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    y = up(x)
    mean = torch.zeros(len(y), dtype=y.dtype)
    squares = torch.zeros_like(mean)
    for k in range(y.shape[1]):
        d = y[:, k] - mean
        mean = mean + d / (k + 1)
        squares = squares + d * (y[:, k] - mean)
    scale = torch.rsqrt(squares / y.shape[1] + 1e-5)[:, None]
    return ((y - mean[:, None]) * scale * up(g) + up(b)).to(x.dtype)


def layer_norm_chan(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """Merge blocks by the formula of Chan, Golub and LeVeque, as kernels on GPUs do."""
    y = up(x)
    mean = torch.zeros(len(y), dtype=y.dtype)
    squares = torch.zeros_like(mean)
    count = 0
    for part in blocks(y.shape[1], 32):
        z = y[:, part]
        size = z.shape[1]
        own = z.mean(1)
        d, total = own - mean, count + size
        mean = mean + d * (size / total)
        squares = squares + ((z - own[:, None]) ** 2).sum(1) + d * d * (count * size / total)
        count = total
    scale = torch.sqrt(squares / count + 1e-5)[:, None]
    return ((y - mean[:, None]) / scale * up(g) + up(b)).to(x.dtype)


def layer_norm_numpy(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    y = up(x).numpy()
    d = y - y.mean(-1, keepdims=True)
    r = d / np.sqrt(y.var(-1, keepdims=True) + y.dtype.type(1e-5))
    return torch.from_numpy(r * up(g).numpy() + up(b).numpy()).to(x.dtype)


def rms_norm_torch(x: Tensor, g: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), g, 1e-6)


def rms_norm_in_steps(x: Tensor, g: Tensor) -> Tensor:
    y = up(x)
    return (y * torch.rsqrt((y * y).mean(-1, keepdim=True) + 1e-6) * up(g)).to(x.dtype)


def rms_norm_wide(x: Tensor, g: Tensor) -> Tensor:
    y = x.double()
    scale = torch.rsqrt((y * y).mean(-1, keepdim=True) + 1e-6)
    return (y * scale * g.double()).to(x.dtype)


def rms_norm_divided(x: Tensor, g: Tensor) -> Tensor:
    y = up(x)
    root = torch.sqrt((y**2).sum(-1, keepdim=True) / y.shape[-1] + 1e-6)
    return (y / root * up(g)).to(x.dtype)


def rms_norm_blocked(x: Tensor, g: Tensor) -> Tensor:
    y = up(x)
    squares = torch.zeros(len(y), 1, dtype=y.dtype)
    for part in blocks(y.shape[1], 10):
        squares = squares + (y[:, part] * y[:, part]).sum(1, keepdim=True)
    return (y * (up(g) * torch.rsqrt(squares / y.shape[1] + 1e-6))).to(x.dtype)


# ---- attention -------------------------------------------------------------------------
def attention_torch(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def attention_in_steps(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = up(q) @ up(k).transpose(-1, -2) / math.sqrt(q.shape[-1]) + up(mask)
    return (torch.softmax(scores, -1) @ up(v)).to(q.dtype)


def attention_scaled_first(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = (up(q) * q.shape[-1] ** -0.5) @ up(k).transpose(-1, -2) + up(mask)
    return (torch.softmax(scores, -1) @ up(v)).to(q.dtype)


def attention_flash(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    queries, keys, values, hidden = map(up, (q, k, v, mask))
    m = torch.full((*queries.shape[:-1], 1), -math.inf, dtype=queries.dtype)
    total = torch.zeros_like(m)
    out = torch.zeros((*queries.shape[:-1], values.shape[-1]), dtype=queries.dtype)
    for part in blocks(keys.shape[-2], 16):
        scores = queries @ keys[..., part, :].transpose(-1, -2) / math.sqrt(q.shape[-1])
        scores = scores + hidden[..., part]
        new = torch.maximum(m, scores.amax(-1, keepdim=True))
        shift = finite(new)
        p, old = torch.exp(scores - shift), torch.exp(m - shift)
        total = total * old + p.sum(-1, keepdim=True)
        out = out * old + p @ values[..., part, :]
        m = new
    return (out / total).to(q.dtype)


def attention_one_head(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Go through the heads one by one, in blocks of queries."""
    out = torch.empty((*q.shape[:-1], v.shape[-1]), dtype=q.dtype)
    for head in range(q.shape[0]):
        for rows in blocks(q.shape[1], 10):
            scores = up(q[head, rows]) @ up(k[head]).T / math.sqrt(q.shape[-1]) + up(mask[rows])
            e = torch.exp(scores - scores.amax(-1, keepdim=True))
            out[head, rows] = ((e @ up(v[head])) / e.sum(-1, keepdim=True)).to(q.dtype)
    return out


# ---- sums and means --------------------------------------------------------------------
def sum_torch(x: Tensor) -> Tensor:
    return x.sum(1)


def sum_sequential(x: Tensor) -> Tensor:
    return torch.from_numpy(np.cumsum(up(x).numpy(), 1)[:, -1].copy()).to(x.dtype)


def sum_reversed(x: Tensor) -> Tensor:
    return up(x).flip(1).sum(1).to(x.dtype)


def sum_blocked(x: Tensor) -> Tensor:
    total = torch.zeros(len(x), dtype=up(x).dtype)
    for part in blocks(x.shape[1], 7):
        total = total + up(x)[:, part].sum(1)
    return total.to(x.dtype)


def sum_kahan(x: Tensor) -> Tensor:
    y = up(x)
    total = torch.zeros(len(y), dtype=y.dtype)
    lost = torch.zeros_like(total)
    for k in range(y.shape[1]):
        z = y[:, k] - lost
        new = total + z
        lost = (new - total) - z
        total = new
    return total.to(x.dtype)


def sum_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(up(x).numpy().sum(1))).to(x.dtype)


def mean_torch(x: Tensor) -> Tensor:
    return x.mean(1)


def mean_sequential(x: Tensor) -> Tensor:
    return (sum_sequential(up(x)) / x.shape[1]).to(x.dtype)


def mean_blocked(x: Tensor) -> Tensor:
    return (sum_blocked(up(x)) / x.shape[1]).to(x.dtype)


def mean_kahan(x: Tensor) -> Tensor:
    return (sum_kahan(up(x)) / x.shape[1]).to(x.dtype)


def mean_weighted(x: Tensor) -> Tensor:
    weights = torch.full((x.shape[1],), 1 / x.shape[1], dtype=up(x).dtype)
    return (up(x) @ weights).to(x.dtype)


# ---- GELU ------------------------------------------------------------------------------
def gelu_torch(x: Tensor) -> Tensor:
    return F.gelu(x)


def gelu_erf(x: Tensor) -> Tensor:
    y = up(x)
    return (0.5 * y * (1 + torch.erf(y * 2**-0.5))).to(x.dtype)


def gelu_erfc(x: Tensor) -> Tensor:
    y = up(x)
    return (0.5 * y * torch.special.erfc(-y * 2**-0.5)).to(x.dtype)


def gelu_ndtr(x: Tensor) -> Tensor:
    y = up(x)
    return (y * torch.special.ndtr(y)).to(x.dtype)


RIGHT: dict[str, list[Kernel]] = {
    "matmul": [
        matmul_torch, matmul_blocked, matmul_outer, matmul_reversed, matmul_numpy, matmul_einsum,
        matmul_wide, matmul_tiled,
    ],
    "linear": [linear_torch, linear_matmul, linear_bias_first, linear_addmm, linear_in_columns],
    "softmax": [
        softmax_torch, softmax_shifted, softmax_online, softmax_exp2, softmax_logsumexp,
        softmax_numpy,
    ],
    "cross_entropy": [
        cross_entropy_torch, cross_entropy_gather, cross_entropy_logsumexp, cross_entropy_online,
    ],
    "layer_norm": [
        layer_norm_torch, layer_norm_two_pass, layer_norm_welford, layer_norm_chan,
        layer_norm_numpy,
    ],
    "rms_norm": [
        rms_norm_torch, rms_norm_in_steps, rms_norm_wide, rms_norm_divided, rms_norm_blocked,
    ],
    "attention": [
        attention_torch, attention_in_steps, attention_scaled_first, attention_flash,
        attention_one_head,
    ],
    "sum": [sum_torch, sum_sequential, sum_reversed, sum_blocked, sum_kahan, sum_numpy],
    "mean": [mean_torch, mean_sequential, mean_blocked, mean_kahan, mean_weighted],
    "gelu": [gelu_torch, gelu_erf, gelu_erfc, gelu_ndtr],
}  # fmt: skip
LESS_ACCURATE: dict[str, list[Kernel]] = {"softmax": [softmax_logsumexp]}
