"""Ten operations: what a user would write in torch, the same formula for float64, and inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Tensor = torch.Tensor
Shapes = list[tuple[int, ...]]


def matmul(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


def linear(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return F.linear(x, w, b)


def softmax(x: Tensor) -> Tensor:
    return torch.softmax(x, -1)


def cross_entropy(x: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(x, t)


def layer_norm(x: Tensor, g: Tensor, b: Tensor) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), g, b, 1e-5)


def rms_norm(x: Tensor, g: Tensor) -> Tensor:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * g


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def sum_rows(x: Tensor) -> Tensor:
    return x.sum(1)


def mean_rows(x: Tensor) -> Tensor:
    return x.mean(1)


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x)


def attention_in_steps(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask
    return torch.softmax(scores, -1) @ v


def gelu_by_erfc(x: Tensor) -> Tensor:
    """Keep the relative precision of the left tail, which 1 + erf(x) cancels."""
    return 0.5 * x * torch.special.erfc(-x / math.sqrt(2))


@dataclass(frozen=True)
class Operation:
    """An operation.

    Attributes
    ----------
    eager, golden : callable
        In the dtype of the inputs, and for float64.
    shapes : callable
        Gets rows, columns and a width; returns the shapes of the floats.
    has_classes : bool
        Whether the last argument is a class for each row.
    """

    name: str
    eager: Callable[..., Tensor]
    golden: Callable[..., Tensor]
    shapes: Callable[[int, int, int], Shapes]
    has_classes: bool = False


def _attention_shapes(rows: int, columns: int, width: int) -> Shapes:
    keys = min(columns, 300)
    return [(2, rows, width), (2, keys, width), (2, keys, width), (rows, keys)]


OPERATIONS = {
    each.name: each
    for each in (
        Operation("matmul", matmul, matmul, lambda r, c, d: [(r, c), (c, d)]),
        Operation("linear", linear, linear, lambda r, c, d: [(r, c), (d, c), (d,)]),
        Operation("softmax", softmax, softmax, lambda r, c, d: [(r, c)]),
        Operation("cross_entropy", cross_entropy, cross_entropy, lambda r, c, d: [(r, c)], True),
        Operation("layer_norm", layer_norm, layer_norm, lambda r, c, d: [(r, c), (c,), (c,)]),
        Operation("rms_norm", rms_norm, rms_norm, lambda r, c, d: [(r, c), (c,)]),
        Operation("attention", attention, attention_in_steps, _attention_shapes),
        Operation("sum", sum_rows, sum_rows, lambda r, c, d: [(r, c)]),
        Operation("mean", mean_rows, mean_rows, lambda r, c, d: [(r, c)]),
        Operation("gelu", gelu, gelu_by_erfc, lambda r, c, d: [(r, c)]),
    )
}

SIZES = {
    "tested": (64, 128, 32),
    "odd": (37, 101, 19),
    "one": (1, 1, 1),
    "long": (3, 3000, 8),
    "timed": (512, 1024, 128),
}


def inputs(name: str, size: str, dtype: torch.dtype, seed: int) -> list[Tensor]:
    """Return normal numbers, classes, and a mask that hides two keys in five."""
    operation, rng = OPERATIONS[name], np.random.default_rng(seed)
    shapes = operation.shapes(*SIZES[size])
    arrays = [rng.standard_normal(shape) for shape in shapes]
    if name == "attention":
        hidden = rng.random(shapes[3]) < 0.4
        hidden[:, 0] = False
        arrays[3] = np.where(hidden, -np.inf, 0.0)
    found = [torch.from_numpy(each).to(dtype) for each in arrays]
    if operation.has_classes:
        rows, classes = shapes[0]
        found.append(torch.from_numpy(rng.integers(0, classes, rows)))
    return found


def golden(name: str, args: list[Any]) -> Tensor:
    """Return the right result in float64."""
    wide = [each.double() if each.is_floating_point() else each for each in args]
    return OPERATIONS[name].golden(*wide)
