"""The kinds as torch and JAX compute them: eager, compiled, and their derivatives."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

EPS = {"layer_norm": 1e-5, "rms_norm": 1e-6}
COMPILED = ("softmax", "layer_norm", "rms_norm")


@cache
def libraries() -> tuple[Any, Any]:
    """Return torch and jax, of full precision and one thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jax
        import torch
    jax.config.update("jax_enable_x64", True)
    torch.set_num_threads(1)
    return torch, jax


def torch_function(kind: str, options: dict[str, Any]) -> Callable[..., Any]:
    """Return torch's own function of a kind."""
    torch, _ = libraries()
    F = torch.nn.functional
    if kind == "cross_entropy":
        smoothing, reduction = options.get("label_smoothing", 0.0), options["reduction"]
        return lambda x, t, w=None: F.cross_entropy(
            x, t, w, label_smoothing=smoothing, reduction=reduction
        )
    if kind == "attention":
        causal = options.get("causal", False)
        return lambda q, k, v, mask=None: F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal
        )
    functions: dict[str, Callable[..., Any]] = {
        "softmax": lambda x: torch.softmax(x, -1),
        "log_softmax": lambda x: torch.log_softmax(x, -1),
        "logsumexp": lambda x: torch.logsumexp(x, -1),
        "layer_norm": lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b, EPS["layer_norm"]),
        "rms_norm": lambda x, w: F.rms_norm(x, x.shape[-1:], w, EPS["rms_norm"]),
        "sum": lambda x: x.sum(-1),
        "mean": lambda x: x.mean(-1),
        "var": lambda x: x.var(-1, correction=0),
        "linear": F.linear,
        "gelu": lambda x: F.gelu(x, approximate=options.get("approximate", "none")),
    }
    return functions[kind]


@cache
def compiled(kind: str) -> Any:
    """Return torch's function, compiled."""
    torch, _ = libraries()
    return torch.compile(torch_function(kind, {}), dynamic=True)


def torch_vjp(fn: Callable[..., Any], operands: list[Any], named: Any, g: Any) -> tuple[Any, ...]:
    """Return the gradients by torch's own derivatives."""
    torch, _ = libraries()
    leaves = [x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in operands]
    value = fn(*leaves, **named)
    wanted = [x for x in leaves if x.requires_grad]
    return tuple(torch.autograd.grad(value, wanted, g))


@cache
def jax_function(kind: str, causal: bool = False, approximate: bool = False) -> Any:
    """Return the formula of a kind in JAX, compiled."""
    _, jax = libraries()
    jnp = jax.numpy
    rsqrt = jax.lax.rsqrt

    def layer_norm(x: Any, w: Any, b: Any) -> Any:
        d = x - x.mean(-1, keepdims=True)
        return d * rsqrt((d * d).mean(-1, keepdims=True) + EPS["layer_norm"]) * w + b

    def attention(q: Any, k: Any, v: Any, mask: Any = None) -> Any:
        s = q @ jnp.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
        s = s if mask is None else s + mask
        if causal:
            s = jnp.where(jnp.tril(jnp.ones(s.shape[-2:], bool)), s, -jnp.inf)
        return jax.nn.softmax(s, -1) @ v

    functions = {
        "softmax": lambda x: jax.nn.softmax(x, -1),
        "log_softmax": lambda x: jax.nn.log_softmax(x, -1),
        "logsumexp": lambda x: jax.nn.logsumexp(x, -1),
        "layer_norm": layer_norm,
        "rms_norm": lambda x, w: x * rsqrt((x * x).mean(-1, keepdims=True) + EPS["rms_norm"]) * w,
        "sum": lambda x: x.sum(-1),
        "mean": lambda x: x.mean(-1),
        "var": lambda x: x.var(-1),
        "linear": lambda x, w, b: jnp.matmul(x, w.T, precision="highest") + b,
        "gelu": lambda x: jax.nn.gelu(x, approximate=approximate),
        "attention": attention,
    }
    return jax.jit(functions[kind])


@cache
def jax_vjp(kind: str, causal: bool = False, approximate: bool = False) -> Any:
    """Return the vector-Jacobian product of a kind by JAX's own derivatives, compiled."""
    _, jax = libraries()
    fn = jax_function(kind, causal, approximate)
    return jax.jit(lambda operands, g: jax.vjp(fn, *operands)[1](g))


def as_arrays(result: Any) -> list[np.ndarray[Any, Any]]:
    """Return results of any library as float64 arrays, without another rounding."""
    torch, _ = libraries()
    results = result if isinstance(result, tuple) else (result,)
    return [
        x.detach().double().numpy() if isinstance(x, torch.Tensor) else np.asarray(x, np.float64)
        for x in results
    ]
