"""58 mistakes that people make in ten operations, each the only one of its kernel.

Each is wrong for some data; many are right, or nearly so, for the normal numbers of a usual test.
`up` keeps sums of 16-bit numbers in float32, so that a mistake is not hidden by their rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

Tensor = torch.Tensor
Kernel = Callable[..., Tensor]


def up(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def coarser(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Round to about half the digits of the kernel's dtype."""
    half = {torch.float64: torch.float32, torch.float32: torch.bfloat16}
    return x.to(half.get(dtype, torch.float8_e5m2)).to(x.dtype)


# ---- matmul: 4 -------------------------------------------------------------------------
def matmul_tail_dropped(a: Tensor, b: Tensor) -> Tensor:
    """Drop the terms beyond a multiple of 8."""
    k = a.shape[1] // 8 * 8 or a.shape[1]
    k = k - 8 if k == a.shape[1] and k > 8 else k
    return (up(a)[:, :k] @ up(b)[:k]).to(a.dtype)


def matmul_one_operand_rounded(a: Tensor, b: Tensor) -> Tensor:
    return (coarser(up(a), a.dtype) @ up(b)).to(a.dtype)


def matmul_block_added_twice(a: Tensor, b: Tensor) -> Tensor:
    """Add the last term once more, as loops do whose bounds overlap."""
    return (up(a) @ up(b) + up(a)[:, -1:] * up(b)[-1]).to(a.dtype)


def matmul_half_accumulator(a: Tensor, b: Tensor) -> Tensor:
    """Round the sum to fewer digits after each block of 16 terms."""
    total = torch.zeros(a.shape[0], b.shape[1], dtype=up(a).dtype)
    narrow = torch.float32 if a.dtype == torch.float64 else torch.float16
    if a.dtype in (torch.float16, torch.bfloat16):
        narrow = a.dtype
    for k in range(0, a.shape[1], 16):
        total = (total + up(a)[:, k : k + 16] @ up(b)[k : k + 16]).to(narrow).to(total.dtype)
    return total.to(a.dtype)


# ---- linear: 4 -------------------------------------------------------------------------
def linear_no_bias(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return (up(x) @ up(w).T).to(x.dtype)


def linear_bias_twice(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return (up(x) @ up(w).T + 2 * up(b)).to(x.dtype)


def linear_bias_rounded(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return (up(x) @ up(w).T + coarser(up(b), x.dtype)).to(x.dtype)


def linear_bias_of_the_next_column(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Index the bias one too far in the last column."""
    shifted = up(b).clone()
    shifted[-1] = shifted[0] if len(b) > 1 else 0.0
    return (up(x) @ up(w).T + shifted).to(x.dtype)


# ---- softmax: 7 ------------------------------------------------------------------------
def softmax_no_maximum(x: Tensor) -> Tensor:
    e = torch.exp(up(x))
    return (e / e.sum(-1, keepdim=True)).to(x.dtype)


def softmax_maximum_of_all(x: Tensor) -> Tensor:
    """Subtract the largest number of the matrix, not of the row."""
    y = up(x)
    e = torch.exp(y - y.max())
    return (e / e.sum(-1, keepdim=True)).to(x.dtype)


def softmax_wrong_axis(x: Tensor) -> Tensor:
    return torch.softmax(up(x), 0).to(x.dtype)


def softmax_epsilon_in_sum(x: Tensor) -> Tensor:
    y = up(x)
    e = torch.exp(y - y.amax(-1, keepdim=True))
    return (e / (e.sum(-1, keepdim=True) + 1e-2)).to(x.dtype)


def softmax_last_not_in_sum(x: Tensor) -> Tensor:
    y = up(x)
    e = torch.exp(y - y.amax(-1, keepdim=True))
    total = e.sum(-1, keepdim=True) - e[..., -1:] if x.shape[-1] > 1 else e + 1
    return (e / total).to(x.dtype)


def softmax_small_cut_off(x: Tensor) -> Tensor:
    """Set probabilities to zero below what a fast exp gives."""
    y = up(x)
    d = y - y.amax(-1, keepdim=True)
    e = torch.where(d < -10, torch.zeros_like(d), torch.exp(d))
    return (e / e.sum(-1, keepdim=True)).to(x.dtype)


def softmax_online_not_rescaled(x: Tensor) -> Tensor:
    """Keep the sum of the first block as it is when a later block has a larger maximum."""
    y = up(x)
    n = max(1, y.shape[-1] // 2)
    first = y[..., :n].amax(-1, keepdim=True)
    m = y.amax(-1, keepdim=True)
    total = torch.exp(y[..., :n] - first).sum(-1, keepdim=True)
    total = total + torch.exp(y[..., n:] - m).sum(-1, keepdim=True)
    return (torch.exp(y - m) / total).to(x.dtype)


# ---- cross-entropy: 7 ------------------------------------------------------------------
def _losses(x: Tensor, t: Tensor) -> Tensor:
    return -torch.log_softmax(up(x), -1).gather(1, t[:, None])[:, 0]


def cross_entropy_no_maximum(x: Tensor, t: Tensor) -> Tensor:
    y = up(x)
    return (torch.log(torch.exp(y).sum(1)) - y.gather(1, t[:, None])[:, 0]).mean().to(x.dtype)


def cross_entropy_smoothed(x: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(up(x), t, label_smoothing=1e-3).to(x.dtype)


def cross_entropy_of_sums(x: Tensor, t: Tensor) -> Tensor:
    """Divide by one row too many, as where an ignored index is counted."""
    return (_losses(x, t).sum() / (len(t) + 1)).to(x.dtype)


def cross_entropy_epsilon_in_log(x: Tensor, t: Tensor) -> Tensor:
    p = torch.softmax(up(x), -1).gather(1, t[:, None])[:, 0]
    return -torch.log(p + 1e-7).mean().to(x.dtype)


def cross_entropy_last_row_dropped(x: Tensor, t: Tensor) -> Tensor:
    return (_losses(x, t)[: max(1, len(t) - 1)].sum() / max(2, len(t))).to(x.dtype)


def cross_entropy_class_zero_ignored(x: Tensor, t: Tensor) -> Tensor:
    """Treat class 0 as padding."""
    losses = _losses(x, t)
    return torch.where(t == 0, torch.zeros_like(losses), losses).mean().to(x.dtype)


def cross_entropy_clamped(x: Tensor, t: Tensor) -> Tensor:
    """Keep the logarithm above that of 1e-6."""
    return _losses(x, t).clamp(max=-math.log(1e-6)).mean().to(x.dtype)


# ---- layer norm: 7 ---------------------------------------------------------------------
def _normed(x: Tensor, g: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    y = up(x)
    return ((y - y.mean(-1, keepdim=True)) * scale * up(g) + up(b)).to(x.dtype)


def layer_norm_unbiased(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """Divide by n - 1."""
    y = up(x)
    variance = y.var(-1, keepdim=True, correction=1 if x.shape[-1] > 1 else 0)
    return _normed(x, g, b, torch.rsqrt(variance + 1e-5))


def layer_norm_epsilon_outside(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    y = up(x)
    return _normed(x, g, b, 1 / (y.var(-1, keepdim=True, correction=0).sqrt() + 1e-5))


def layer_norm_smaller_epsilon(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    y = up(x)
    return _normed(x, g, b, torch.rsqrt(y.var(-1, keepdim=True, correction=0) + 1e-6))


def layer_norm_one_pass(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """Take the variance as a difference of means, which cancels."""
    y = up(x)
    variance = ((y * y).mean(-1, keepdim=True) - y.mean(-1, keepdim=True) ** 2).clamp(min=0)
    return _normed(x, g, b, torch.rsqrt(variance + 1e-5))


def layer_norm_padded(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    """Let the zeros that fill the last block of 64 into the variance."""
    y = up(x)
    mean = y.mean(-1, keepdim=True)
    squares = ((y - mean) ** 2).sum(-1, keepdim=True) + -x.shape[-1] % 64 * mean**2
    return _normed(x, g, b, torch.rsqrt(squares / x.shape[-1] + 1e-5))


def layer_norm_no_bias(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    return F.layer_norm(up(x), (x.shape[-1],), up(g), None, 1e-5).to(x.dtype)


def layer_norm_statistics_rounded(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    y = up(x)
    return _normed(
        x, g, b, coarser(torch.rsqrt(y.var(-1, keepdim=True, correction=0) + 1e-5), x.dtype)
    )


# ---- RMS norm: 6 -----------------------------------------------------------------------
def _scaled(x: Tensor, g: Tensor, scale: Tensor) -> Tensor:
    return (up(x) * scale * up(g)).to(x.dtype)


def rms_norm_epsilon_outside(x: Tensor, g: Tensor) -> Tensor:
    y = up(x)
    return _scaled(x, g, 1 / ((y * y).mean(-1, keepdim=True).sqrt() + 1e-6))


def rms_norm_larger_epsilon(x: Tensor, g: Tensor) -> Tensor:
    y = up(x)
    return _scaled(x, g, torch.rsqrt((y * y).mean(-1, keepdim=True) + 1e-5))


def rms_norm_one_plus_weight(x: Tensor, g: Tensor) -> Tensor:
    """Use the other convention, in which weights are stored less one."""
    y = up(x)
    return _scaled(x, 1 + up(g), torch.rsqrt((y * y).mean(-1, keepdim=True) + 1e-6))


def rms_norm_centred(x: Tensor, g: Tensor) -> Tensor:
    """Take the standard deviation."""
    y = up(x)
    return _scaled(x, g, torch.rsqrt(y.var(-1, keepdim=True, correction=0) + 1e-6))


def rms_norm_tail_dropped(x: Tensor, g: Tensor) -> Tensor:
    """Leave the last element out of the sum."""
    y = up(x)
    squares = (y * y)[..., :-1].sum(-1, keepdim=True)
    return _scaled(x, g, torch.rsqrt(squares / y.shape[-1] + 1e-6))


def rms_norm_scale_rounded(x: Tensor, g: Tensor) -> Tensor:
    y = up(x)
    return _scaled(x, g, coarser(torch.rsqrt((y * y).mean(-1, keepdim=True) + 1e-6), x.dtype))


# ---- attention: 8 ----------------------------------------------------------------------
def _scores(q: Tensor, k: Tensor) -> Tensor:
    return up(q) @ up(k).transpose(-1, -2) / math.sqrt(q.shape[-1])


def attention_no_scale(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = up(q) @ up(k).transpose(-1, -2)
    return (torch.softmax(scores + up(mask), -1) @ up(v)).to(q.dtype)


def attention_scaled_by_width(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = up(q) @ up(k).transpose(-1, -2) / q.shape[-1]
    return (torch.softmax(scores + up(mask), -1) @ up(v)).to(q.dtype)


def attention_mask_after_softmax(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Hide keys without making the others sum to one."""
    p = torch.softmax(_scores(q, k), -1) * torch.exp(up(mask))
    return (p @ up(v)).to(q.dtype)


def attention_no_mask(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return (torch.softmax(_scores(q, k), -1) @ up(v)).to(q.dtype)


def attention_finite_mask(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Hide keys by -30 instead of -inf, which large scores outweigh."""
    return (torch.softmax(_scores(q, k) + up(mask).clamp(min=-30), -1) @ up(v)).to(q.dtype)


def attention_no_maximum(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    e = torch.exp(_scores(q, k) + up(mask))
    return ((e @ up(v)) / e.sum(-1, keepdim=True)).to(q.dtype)


def attention_last_key_dropped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    n = max(1, k.shape[-2] - 1) if k.shape[-2] > 1 else 0
    scores = _scores(q, k[..., :n, :]) + up(mask)[..., :n]
    return (torch.softmax(scores, -1) @ up(v)[..., :n, :]).to(q.dtype)


def attention_weights_rounded(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    p = coarser(torch.softmax(_scores(q, k) + up(mask), -1), q.dtype)
    return (p @ up(v)).to(q.dtype)


# ---- sum: 4 ----------------------------------------------------------------------------
def sum_tail_dropped(x: Tensor) -> Tensor:
    n = x.shape[1] // 8 * 8
    n = n - 8 if n == x.shape[1] else n
    return up(x)[:, :n].sum(1).to(x.dtype)


def sum_biased(x: Tensor) -> Tensor:
    """Begin at 1e-6 instead of 0."""
    return (up(x).sum(1) + 1e-6).to(x.dtype)


def sum_wrong_axis(x: Tensor) -> Tensor:
    """Sum columns, and give as many of them as there are rows."""
    columns = up(x).sum(0)
    return columns.repeat(x.shape[0] // len(columns) + 1)[: x.shape[0]].to(x.dtype)


def sum_half_accumulator(x: Tensor) -> Tensor:
    total = torch.zeros(len(x), dtype=up(x).dtype)
    for k in range(x.shape[1]):
        total = coarser(total + up(x)[:, k], x.dtype)
    return total.to(x.dtype)


# ---- mean: 5 ---------------------------------------------------------------------------
def mean_wrong_count(x: Tensor) -> Tensor:
    """Divide by n + 1."""
    return (up(x).sum(1) / (x.shape[1] + 1)).to(x.dtype)


def mean_of_a_part(x: Tensor) -> Tensor:
    """Take the first half of the row only."""
    return up(x)[:, : x.shape[1] // 2].mean(1).to(x.dtype)


def mean_of_all(x: Tensor) -> Tensor:
    return up(x).mean().expand(len(x)).clone().to(x.dtype)


def mean_of_unequal_blocks(x: Tensor) -> Tensor:
    """Average the means of blocks of 48, of which the last is shorter."""
    parts = [part.mean(1) for part in up(x).split(48, 1)]
    return torch.stack(parts, 1).mean(1).to(x.dtype)


def mean_reciprocal_rounded(x: Tensor) -> Tensor:
    """Multiply by a rounded 1/n."""
    n = torch.tensor(1 / x.shape[1], dtype=up(x).dtype)
    return (up(x).sum(1) * coarser(n, x.dtype)).to(x.dtype)


# ---- GELU: 6 ---------------------------------------------------------------------------
def gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(up(x), approximate="tanh").to(x.dtype)


def gelu_sigmoid(x: Tensor) -> Tensor:
    return (up(x) * torch.sigmoid(1.702 * up(x))).to(x.dtype)


def gelu_zero_below(x: Tensor) -> Tensor:
    """Return zero below -4."""
    y = up(x)
    return torch.where(y < -4, torch.zeros_like(y), F.gelu(y)).to(x.dtype)


def gelu_six_digits(x: Tensor) -> Tensor:
    """Use the erf of Abramowitz and Stegun 7.1.26, whose error is up to 1.5e-7."""
    y = up(x)
    z = y.abs() / math.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    p = torch.zeros_like(z)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        p = t * (p + factor)
    erf = torch.sign(y) * (1 - p * torch.exp(-z * z))
    return (0.5 * y * (1 + erf)).to(x.dtype)


def gelu_identity_above(x: Tensor) -> Tensor:
    """Return x above 2."""
    y = up(x)
    return torch.where(y > 2, y, F.gelu(y)).to(x.dtype)


def gelu_without_root(x: Tensor) -> Tensor:
    """Scale by 0.7 instead of the root of a half."""
    y = up(x)
    return (0.5 * y * (1 + torch.erf(y * 0.7))).to(x.dtype)


OPERATIONS = (
    "matmul", "linear", "softmax", "cross_entropy", "layer_norm", "rms_norm", "attention", "sum",
    "mean", "gelu",
)  # fmt: skip
MISTAKES: dict[str, list[Kernel]] = {
    name: [
        value
        for key, value in list(globals().items())
        if key.startswith(f"{name}_") and callable(value)
    ]
    for name in OPERATIONS
}
