"""Right implementations that round differently: none may be called wrong.

Orders of summation (forward, reversed, permuted, pairwise, blocked), fused or not, float64
accumulators, and the libraries, on data of every condition, from 0 to a million elements.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gdcore as gd
from gdcore import oracle

Array = NDArray[Any]
CONDITIONS = ("random", "positive", "badly scaled", "ill-conditioned", "cancelling")
MATMUL = [
    (0, 3, 2), (3, 0, 2), (1, 1, 1), (2, 3, 2), (4, 8, 4), (7, 17, 5), (16, 33, 9), (3, 100, 3),
    (9, 257, 8), (2, 1000, 3),
]  # fmt: skip
LINEAR = [(1, 1), (2, 3), (8, 2), (17, 5), (33, 9), (64, 16), (100, 3), (257, 8), (1000, 4)]
MSE = [(0,), (1,), (3,), (16,), (33,), (100, 3), (1000,), (4097,)]
LARGE = {
    "matmul": [(1, 10**6, 1), (10, 10**5, 1), (100, 100, 100)],
    "linear_mse": [(10**6, 1), (125_000, 8), (10_000, 100)],
    "mse": [(10**6,)],
}


@cache
def libraries() -> tuple[Any, Any]:
    """Return torch and jax, of full precision."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jax
        import torch
    jax.config.update("jax_enable_x64", True)
    torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(1)
    return torch, jax


def shaped(rng: np.random.Generator, x: Array, condition: str) -> Array:
    """Return numbers of a condition."""
    if condition == "positive":
        return np.abs(x)
    if condition == "badly scaled" and x.ndim:
        return np.ldexp(x, rng.integers(-12, 12, x.shape[-1:]))
    if condition == "ill-conditioned" and x.ndim and x.shape[-1]:
        return x[..., :1] + x * 2.0**-12
    return x


# ---- sums of products (…,k) in the dtype of the data ----


def forward(p: Array) -> Array:
    return np.add.accumulate(p, -1)[..., -1] if p.shape[-1] else p.sum(-1)


def pairwise(p: Array) -> Array:
    while p.shape[-1] > 1:
        half = p.shape[-1] // 2
        p = np.concatenate([p[..., :half] + p[..., half : 2 * half], p[..., 2 * half :]], -1)
    return p.sum(-1)


def blocked(p: Array, size: int = 8) -> Array:
    cut = [forward(p[..., i : i + size]) for i in range(0, p.shape[-1], size)]
    return forward(np.stack(cut, -1)) if cut else p.sum(-1)


def orders(rng: np.random.Generator) -> dict[str, Callable[[Array], Array]]:
    return {
        "forward": forward,
        "reversed": lambda p: forward(p[..., ::-1]),
        "permuted": lambda p: forward(p[..., rng.permutation(p.shape[-1])]),
        "pairwise": pairwise,
        "blocks of 8": blocked,
        "blocks of 64": lambda p: blocked(p, 64),
        "numpy sum": lambda p: p.sum(-1),
    }


def matmul_variants(rng: Any, a: Array, b: Array) -> Iterator[tuple[str, Array]]:
    products = a[..., :, None, :] * np.swapaxes(b, -1, -2)[..., None, :, :]
    for name, order in orders(rng).items():
        yield name, order(products)
    yield from matmul_libraries(rng, a, b)


def matmul_libraries(rng: Any, a: Array, b: Array) -> Iterator[tuple[str, Array]]:
    torch, jax = libraries()
    where = rng.permutation(a.shape[-1])
    yield "numpy", a @ b
    yield "numpy, permuted", a[..., where] @ b[..., where, :]
    yield "einsum", np.einsum("...ik,...kj->...ij", a, b)
    yield "gdcore, fma", gd.matmul(a, b)
    yield "torch", torch.from_numpy(a) @ torch.from_numpy(b)
    yield "jax", jax.numpy.matmul(a, b, precision="highest")
    if a.dtype == np.float32:
        yield "float64 accumulator", (a.astype(float) @ b.astype(float)).astype(a.dtype)


def linear_variants(rng: Any, X: Array, y: Array, w: Array) -> Iterator[tuple[str, Array]]:
    dtype = X.dtype.type
    n = len(X)
    for name, order in orders(rng).items():
        r = order(X * w) - y
        yield name, order((X * r[:, None]).T) * dtype(2 / n)
    where = rng.permutation(n)
    X2, y2 = X[where], y[where]
    yield "rows permuted", 2 * (X2.T @ (X2 @ w - y2)) / dtype(n)
    yield from linear_libraries(rng, X, y, w)


def linear_libraries(rng: Any, X: Array, y: Array, w: Array) -> Iterator[tuple[str, Array]]:
    torch, _ = libraries()
    dtype = X.dtype.type
    n = len(X)
    yield "numpy", X.T @ (X @ w - y) * dtype(2 / n)
    yield "numpy, scaled first", (dtype(2 / n) * (X @ w - y)) @ X
    yield "numpy, mean", 2 * (X * (X @ w - y)[:, None]).mean(0)
    yield "gdcore", gd.linear_mse_value_and_grad(X, y, w)[1].weights
    if X.dtype == np.float32:
        wide = [x.astype(float) for x in (X, y, w)]
        r = wide[0] @ wide[2] - wide[1]
        yield "float64 accumulator", (wide[0].T @ r * 2 / n).astype(np.float32)
    parameter = torch.from_numpy(w.copy()).requires_grad_()
    torch.nn.functional.mse_loss(torch.from_numpy(X) @ parameter, torch.from_numpy(y)).backward()
    yield "torch autograd", parameter.grad
    yield "jax grad", jax_gradient()(w, X, y)


@cache
def jax_gradient() -> Any:
    _, jax = libraries()
    return jax.jit(
        jax.grad(lambda w, X, y: ((jax.numpy.matmul(X, w, precision="highest") - y) ** 2).mean())
    )


def mse_variants(rng: Any, p: Array, y: Array) -> Iterator[tuple[str, Array]]:
    torch, _ = libraries()
    dtype = p.dtype.type
    n = max(p.size, 1)
    squares = ((p - y) ** 2).reshape(1, -1)
    for name, order in orders(rng).items():
        yield f"loss, {name}", (order(squares) / dtype(n))[0]
    r = p - y
    for name, value in {
        "2/n r": dtype(2 / n) * r,
        "2 r/n": 2 * r / dtype(n),
        "r/n 2": r / dtype(n) * 2,
    }.items():
        yield name, value
    parameter = torch.from_numpy(p.copy()).requires_grad_()
    torch.nn.functional.mse_loss(parameter, torch.from_numpy(y)).backward()
    yield "torch autograd", parameter.grad
    yield "gdcore", gd.mse_value_and_grad(p, y)[1]


def matmul_problem(rng: Any, shape: Any, dtype: Any, condition: str) -> Any:
    m, k, n = shape
    a = shaped(rng, rng.standard_normal((m, k)), condition).astype(dtype)
    b = shaped(rng, rng.standard_normal((k, n)), condition).astype(dtype)
    if condition == "cancelling":
        a[:, k // 2 : k // 2 * 2], b[k // 2 : k // 2 * 2] = a[:, : k // 2], -b[: k // 2]
    return oracle.matmul(a, b), (a, b)


def linear_problem(rng: Any, shape: Any, dtype: Any, condition: str) -> Any:
    n, d = shape
    X = shaped(rng, rng.standard_normal((n, d)), condition).astype(dtype)
    w = shaped(rng, rng.standard_normal(d), condition).astype(dtype)
    y = shaped(rng, rng.standard_normal(n), condition).astype(dtype)
    if condition == "cancelling":
        y = X @ w
    return oracle.linear_mse(X, y, w).grad.weights, (X, y, w)


def mse_problem(rng: Any, shape: Any, dtype: Any, condition: str) -> Any:
    p = shaped(rng, rng.standard_normal(shape), condition).astype(dtype)
    y = shaped(rng, rng.standard_normal(shape), condition).astype(dtype)
    if condition == "cancelling":
        y = (p * (1 + 2.0**-20)).astype(dtype)
    return oracle.mse(p, y, reduction="mean" if p.size else "sum"), (p, y)


KINDS = {
    "matmul": (MATMUL, matmul_problem, matmul_variants, matmul_libraries),
    "linear_mse": (LINEAR, linear_problem, linear_variants, linear_libraries),
    "mse": (MSE, mse_problem, mse_variants, mse_variants),
}


def count(
    kind: str, reference: Any, variants: Any, found: Counter[str], wrong: list[str], where: str
) -> None:
    for name, actual in variants:
        against = reference
        if kind == "mse" and not name.startswith("loss"):
            against = reference.grad.pred
        verdict = against.check(actual)
        found[f"{kind} {verdict.worst_status}"] += 1
        if not verdict.ok:
            wrong.append(f"{where}, {name}: {verdict}")


def run(repeats: int = 34, large: bool = True) -> dict[str, Any]:
    """Check every variant of every problem; return how many were OK, SUSPECT and WRONG."""
    rng = np.random.default_rng(1)
    found: Counter[str] = Counter()
    wrong: list[str] = []
    with np.errstate(all="ignore"):
        for kind, (shapes, problem, variants, _) in KINDS.items():
            for shape in shapes:
                for dtype in (np.float32, np.float64):
                    for condition in CONDITIONS:
                        where = f"{kind} {shape} {np.dtype(dtype).name} {condition}"
                        for _ in range(repeats):
                            reference, data = problem(rng, shape, dtype, condition)
                            if kind == "mse" and not data[0].size:
                                data_variants = iter([("loss, sum", np.zeros((), dtype))])
                            else:
                                data_variants = variants(rng, *data)
                            count(kind, reference, data_variants, found, wrong, where)
        for kind, shapes in LARGE.items() if large else ():
            _, problem, variants, few = KINDS[kind]
            for shape in shapes:
                for dtype in (np.float32, np.float64):
                    for condition in CONDITIONS:
                        reference, data = problem(rng, shape, dtype, condition)
                        whole = variants if np.prod(shape) <= 10**6 and kind != "matmul" else few
                        if kind == "matmul" and shape[0] * shape[2] == 1:
                            whole = variants
                        count(kind, reference, whole(rng, *data), found, wrong, f"{kind} {shape}")
    total = sum(found.values())
    suspect = sum(v for k, v in found.items() if k.endswith("SUSPECT"))
    return {
        "variants": total,
        "wrong": len(wrong),
        "suspect": suspect,
        "suspect_rate": suspect / total,
        "by_kind": dict(found),
        "wrong_ones": wrong[:20],
    }


if __name__ == "__main__":
    import sys
    import time

    start = time.perf_counter()
    result = run(int(sys.argv[1]) if len(sys.argv) > 1 else 34)
    print(result, time.perf_counter() - start)
