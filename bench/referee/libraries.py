"""Right kernels of JAX, which flushes subnormal numbers to zero, of NumPy and torch.compile."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import torch

from referee.right import Kernel, layer_norm_two_pass, rms_norm_in_steps, softmax_shifted, up

Tensor = torch.Tensor


@cache
def jitted(name: str) -> Any:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    rsqrt = jax.lax.rsqrt

    def layer_norm(x: Any, g: Any, b: Any) -> Any:
        d = x - x.mean(-1, keepdims=True)
        return d * rsqrt(x.var(-1, keepdims=True) + 1e-5) * g + b

    def attention(q: Any, k: Any, v: Any, mask: Any) -> Any:
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]) + mask
        return jax.nn.softmax(scores, -1) @ v

    functions = {
        "matmul": jnp.matmul,
        "linear": lambda x, w, b: x @ w.T + b,
        "softmax": jax.nn.softmax,
        "cross_entropy": lambda x, t: (
            -jnp.take_along_axis(jax.nn.log_softmax(x), t[:, None], 1).mean()
        ),
        "layer_norm": layer_norm,
        "rms_norm": lambda x, g: x * rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * g,
        "attention": attention,
        "sum": lambda x: x.sum(1),
        "mean": lambda x: x.mean(1),
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    }
    return jax.jit(functions[name])


def jax_kernel(name: str) -> Kernel:
    """Return an operation of JAX, which flushes subnormal numbers to zero."""

    def kernel(*args: Tensor) -> Tensor:
        arrays = [up(each).numpy() for each in args]
        return torch.from_numpy(np.array(jitted(name)(*arrays))).to(args[0].dtype)

    kernel.__name__ = f"{name}_jax"
    return kernel


def compiled_kernel(function: Kernel) -> Kernel:
    """Return what torch.compile makes of a kernel."""
    compiled = torch.compile(function, dynamic=True)

    def kernel(*args: Tensor) -> Tensor:
        with torch.no_grad():
            return compiled(*args)

    kernel.__name__ = f"{function.__name__}_compiled"
    return kernel


def linear_numpy(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return torch.from_numpy(np.dot(up(x).numpy(), up(w).numpy().T) + up(b).numpy()).to(x.dtype)


def cross_entropy_numpy(x: Tensor, t: Tensor) -> Tensor:
    y, rows = up(x).numpy(), np.arange(len(x))
    d = y - y.max(1, keepdims=True)
    losses = np.log(np.exp(d).sum(1)) - d[rows, t.numpy()]
    return torch.from_numpy(np.asarray(losses.mean())).to(x.dtype)


def rms_norm_numpy(x: Tensor, g: Tensor) -> Tensor:
    y = up(x).numpy()
    squares = np.einsum("ij,ij->i", y, y)[:, None] / y.dtype.type(y.shape[1])
    return torch.from_numpy(y / np.sqrt(squares + y.dtype.type(1e-6)) * up(g).numpy()).to(x.dtype)


def mean_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(up(x).numpy().mean(1))).to(x.dtype)


NUMPY: dict[str, Kernel] = {
    "linear": linear_numpy,
    "cross_entropy": cross_entropy_numpy,
    "rms_norm": rms_norm_numpy,
    "mean": mean_numpy,
}
COMPILED: dict[str, Kernel] = {
    "softmax": softmax_shifted,
    "layer_norm": layer_norm_two_pass,
    "rms_norm": rms_norm_in_steps,
}
