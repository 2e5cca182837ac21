"""Wrong implementations, each with the mistake that it makes: what a check has to find.

Every mutant is a right function with one mistake, at several sizes. `cause` is what the oracle's
sentence must contain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BLOCK = 8
BLOCKS = (8, 16, 32, 64, 100, 128)
ODD = (7, 23, 50)  # that no block usually has


class Mutant(NamedTuple):
    """A wrong function, and the kind, sizes and operands to call it with."""

    name: str
    kind: str
    cause: str
    fn: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    operands: tuple[str, ...] = ()


# The last block of the odd and large sizes has several rows: one is "the last row".
LINEAR = {"small": ((4, 3), (5, 2)), "odd": ((37, 7), (69, 9)), "large": ((256, 17), (1001, 33))}
MSE = {"small": ((4,), (5,)), "odd": ((33,), (65,)), "large": ((1024,), (1001,))}
MATMUL = {
    "small": ((3, 3, 3), (2, 5, 4)),
    "odd": ((17, 33, 9), (5, 31, 7)),
    "large": ((64, 128, 32), (33, 100, 65)),
}
SQUARE = {"small": ((3, 3, 3),), "odd": ((17, 17, 17),), "large": ((64, 64, 64),)}
SQUARE_LINEAR = {"small": ((4, 4),), "odd": ((17, 17),), "large": ((64, 64),)}


def gradient(X: Array, y: Array, w: Array, rows: slice = slice(None), **terms: Any) -> Array:
    """Return the gradient of the mean loss as right code has it, of some rows."""
    r = X @ w - y
    for term in terms.values():
        r = r + term
    return (X[rows].T @ r[rows]) * X.dtype.type(2 / len(X))


def blocks(n: int) -> int:
    """Return the rows that whole blocks hold."""
    return n - (n % BLOCK or min(BLOCK, n // 2))


def through(x: Array, dtype: str) -> Array:
    """Return x by way of another dtype, with a few of its bits."""
    if dtype == "float16":
        with np.errstate(over="ignore"):
            return x.astype(np.float16).astype(x.dtype)
    bits = {"bfloat16": 16, "TF32": 13}[dtype]
    whole = x.astype(np.float32).view(np.uint32) + np.uint32(1 << (bits - 1))
    return (whole & np.uint32(2**32 - 2**bits)).view(np.float32).astype(x.dtype)


def linear_mutants() -> dict[str, tuple[str, Callable[..., Any]]]:
    g = gradient

    def flipped(X: Array, y: Array, w: Array) -> Array:
        out = g(X, y, w)
        out[0] = -out[0]
        return out

    def tail(X: Array, y: Array, w: Array) -> Array:
        out = g(X, y, w)
        out[-(len(w) // 2) :] = 7.5e8
        return out

    def twice(X: Array, y: Array, w: Array, first: int) -> Array:
        return g(X, y, w) + g(X, y, w, slice(first, None))

    return {
        "missing 1/n": ("a missing 1/n", lambda X, y, w: 2 * X.T @ (X @ w - y)),
        "1/n for 2/n": ("1/n instead of 2/n", lambda X, y, w: g(X, y, w) / 2),
        "n - 1": ("n - 1", lambda X, y, w: g(X, y, w) * X.dtype.type(len(X) / (len(X) - 1))),
        "sign": ("the sign is wrong", lambda X, y, w: -g(X, y, w)),
        "sign of one": ("sign of element", flipped),
        "stale": ("stale accumulation, or a factor 2", lambda X, y, w: g(X, y, w) + g(X, y, w)),
        "last row dropped": (
            "the last of the n = # rows is dropped",
            lambda X, y, w: g(X, y, w, slice(0, -1)),
        ),
        "first row dropped": (
            "the first of the n = # rows is dropped",
            lambda X, y, w: g(X, y, w, slice(1, None)),
        ),
        "last row twice": (
            "the last of the n = # rows is counted twice",
            lambda X, y, w: twice(X, y, w, len(X) - 1),
        ),
        "float16": (
            "rounded through float16|rounded through TF32",
            lambda X, y, w: through(g(X, y, w), "float16"),
        ),
        "bfloat16": ("rounded through bfloat16", lambda X, y, w: through(g(X, y, w), "bfloat16")),
        "TF32": ("rounded through TF32", lambda X, y, w: through(g(X, y, w), "TF32")),
        "inputs bfloat16": (
            "inputs are rounded through bfloat16",
            lambda X, y, w: g(*(through(x, "bfloat16") for x in (X, y, w))),
        ),
        "X float16": (
            "X is rounded through float16|X is rounded through TF32",
            lambda X, y, w: g(through(X, "float16"), y, w),
        ),
        "no target": ("the target is not subtracted", lambda X, y, w: g(X, 0 * y, w)),
        "weight decay": ("a weight decay", lambda X, y, w: g(X, y, w) + 2 * w),
        "all NaN": ("Every element is NaN", lambda X, y, w: g(X, y, w) * X.dtype.type(np.nan)),
        "uninitialised tail": ("uninitialised tail", tail),
    }


def block_mutants() -> dict[str, tuple[str, Callable[..., Any]]]:
    g = gradient
    return {
        "last block dropped": (
            "the last block of # of the n = # rows is dropped",
            lambda X, y, w: g(X, y, w, slice(0, blocks(len(X)))),
        ),
        "last block twice": (
            "the last block of # of the n = # rows is counted twice",
            lambda X, y, w: g(X, y, w) + g(X, y, w, slice(blocks(len(X)), None)),
        ),
    }


def mse_mutants() -> dict[str, tuple[str, Callable[..., Any]]]:
    def g(p: Array, y: Array) -> Array:
        return (p - y) * p.dtype.type(2 / p.size)

    def tail(p: Array, y: Array) -> Array:
        out = g(p, y)
        out[-(len(p) // 2) :] = np.nan
        return out

    return {
        "missing 1/n": ("a missing 1/n", lambda p, y: 2 * (p - y)),
        "1/n for 2/n": ("1/n instead of 2/n", lambda p, y: g(p, y) / 2),
        "n - 1": ("n - 1", lambda p, y: g(p, y) * p.dtype.type(p.size / (p.size - 1))),
        "sign": ("the sign is wrong", lambda p, y: g(y, p)),
        "stale": ("stale accumulation, or a factor 2", lambda p, y: g(p, y) + g(p, y)),
        "bfloat16": ("rounded through bfloat16", lambda p, y: through(g(p, y), "bfloat16")),
        "targets float16": (
            "the targets are rounded through float16|the targets are rounded through TF32",
            lambda p, y: g(p, through(y, "float16")),
        ),
        "all NaN": ("Every element is NaN", lambda p, y: g(p, y) * p.dtype.type(np.nan)),
        "uninitialised tail": ("uninitialised tail", tail),
    }


def matmul_mutants() -> dict[str, tuple[str, Callable[..., Any]]]:
    def tail(a: Array, b: Array) -> Array:
        out = a @ b
        out[-1:] = 0
        return out

    return {
        "sign": ("the sign is wrong", lambda a, b: -(a @ b)),
        "stale": ("stale accumulation, or a factor 2", lambda a, b: a @ b + a @ b),
        "last term dropped": (
            "the last of the k = # products is dropped",
            lambda a, b: a[:, :-1] @ b[:-1],
        ),
        "last term twice": (
            "the last of the k = # products is counted twice",
            lambda a, b: a @ b + a[:, -1:] @ b[-1:],
        ),
        "float16": (
            "through float16",
            lambda a, b: through(a, "float16") @ through(b, "float16"),
        ),
        "bfloat16": (
            "operands are rounded through bfloat16",
            lambda a, b: through(a, "bfloat16") @ through(b, "bfloat16"),
        ),
        "first float16": (
            "first operand is rounded through float16|first operand is rounded through TF32",
            lambda a, b: through(a, "float16") @ b,
        ),
        "all NaN": ("Every element is NaN", lambda a, b: (a @ b) * a.dtype.type(np.nan)),
        "result bfloat16": (
            "result is rounded through bfloat16",
            lambda a, b: through(a @ b, "bfloat16"),
        ),
        "uninitialised tail": ("uninitialised tail", tail),
    }


def cut_rows(X: Array, y: Array, w: Array, whole: int) -> Array:
    return gradient(X, y, w, slice(0, whole))


def repeated_rows(X: Array, y: Array, w: Array, whole: int) -> Array:
    return gradient(X, y, w) + gradient(X, y, w, slice(whole, None))


def cut_products(a: Array, b: Array, whole: int) -> Array:
    return a[:, :whole] @ b[:whole]


def repeated_products(a: Array, b: Array, whole: int) -> Array:
    return a @ b + a[:, whole:] @ b[whole:]


def ends() -> Iterator[Mutant]:
    """Yield what leaves out, or repeats, the last block of rows or of products."""

    def whole(n: int, size: int, full: bool) -> int:
        return n - (size if full else n % size)

    for size in (*BLOCKS, *ODD):
        for full in (False, True):
            if size in ODD and not full:
                continue
            n, block = (2 * size + 5, 3 * size + 3), "last block of #"
            which = f"{'full' if full else 'last'} block of {size}"
            for done, linear, matmul in (
                ("dropped", cut_rows, cut_products),
                ("counted twice", repeated_rows, repeated_products),
            ):
                yield Mutant(
                    f"{which} {done}, rows",
                    "linear_mse",
                    f"the {block} of the n = # rows is {done}",
                    lambda X, y, w, f=linear, b=size, u=full: f(X, y, w, whole(len(X), b, u)),
                    ((n[0], 7), (n[1], 9)),
                )
                yield Mutant(
                    f"{which} {done}, products",
                    "matmul",
                    f"the {block} of the k = # products is {done}",
                    lambda a, b, f=matmul, c=size, u=full: f(a, b, whole(len(b), c, u)),
                    ((9, n[0], 7), (17, n[1], 5)),
                )


def tails() -> Iterator[Mutant]:
    """Yield what leaves out a remainder that does not fill a vector of so many lanes."""
    unwritten = "an uninitialised tail"

    def untouched(out: Array, lanes: int, axis: int) -> Array:
        out = np.moveaxis(out, axis, 0)
        out[len(out) - len(out) % lanes :] = 0
        return np.moveaxis(out, 0, axis)

    def features(X: Array, y: Array, w: Array, lanes: int) -> Array:
        d = len(w) - len(w) % lanes
        return X.T @ (X[:, :d] @ w[:d] - y) * X.dtype.type(2 / len(X))

    for lanes in (8, 16):
        for size, n, d in (("odd", (37, 69), (19, 21)), ("large", (203, 1003), (27, 43))):
            linear = tuple(zip(n, d, strict=True))
            products = tuple((17, k, 9) for k in n)
            rows, columns = (tuple((m, 33, 9) for m in n), tuple((9, 33, m) for m in n))
            for name, kind, cause, fn, shapes in (
                (
                    "rows", "linear_mse", "last block of # of the n = # rows is dropped",
                    lambda X, y, w, v=lanes: cut_rows(X, y, w, len(X) - len(X) % v), linear,
                ),
                (
                    "features", "linear_mse",
                    "last block of # of the d = # features is dropped in the prediction",
                    lambda X, y, w, v=lanes: features(X, y, w, v), linear,
                ),
                (
                    "gradient", "linear_mse", unwritten,
                    lambda X, y, w, v=lanes: untouched(gradient(X, y, w), v, 0), linear,
                ),
                (
                    "products", "matmul", "last block of # of the k = # products is dropped",
                    lambda a, b, v=lanes: cut_products(a, b, len(b) - len(b) % v), products,
                ),
                (
                    "rows", "matmul", unwritten,
                    lambda a, b, v=lanes: untouched(a @ b, v, 0), rows,
                ),
                (
                    "columns", "matmul", unwritten,
                    lambda a, b, v=lanes: untouched(a @ b, v, 1), columns,
                ),
                (
                    "elements", "mse", unwritten,
                    lambda p, y, v=lanes: untouched((p - y) * p.dtype.type(2 / p.size), v, 0),
                    tuple((m,) for m in n),
                ),
            ):  # fmt: skip
                yield Mutant(f"tail of {lanes} {name}, {size}", kind, cause, fn, shapes)


def all_mutants() -> Iterator[Mutant]:
    """Yield every mutant at every size."""
    for size, shapes in LINEAR.items():
        for name, (cause, fn) in linear_mutants().items():
            yield Mutant(f"{name}, {size}", "linear_mse", cause, fn, shapes)
        if size != "small":
            for name, (cause, fn) in block_mutants().items():
                yield Mutant(f"{name}, {size}", "linear_mse", cause, fn, shapes)
        for term in ("intercept", "offset"):
            operands = ("offset",) if term == "offset" else ("intercept",)

            def without(X: Array, y: Array, w: Array, **_: Any) -> Any:
                return gradient(X, y, w)

            def without_intercept(X: Array, y: Array, w: Array, **_: Any) -> Any:
                r = X @ w - y
                return gradient(X, y, w), r.sum() * X.dtype.type(2 / len(X))

            yield Mutant(
                f"missing {term}, {size}",
                "linear_mse",
                f"the {term} is missing",
                without if term == "offset" else without_intercept,
                shapes,
                operands,
            )
    for size, shapes in MSE.items():
        for name, (cause, fn) in mse_mutants().items():
            yield Mutant(f"{name}, {size}", "mse", cause, fn, shapes)
    for size, shapes in MATMUL.items():
        for name, (cause, fn) in matmul_mutants().items():
            yield Mutant(f"{name}, {size}", "matmul", cause, fn, shapes)
    for size, shapes in SQUARE.items():
        yield Mutant(
            f"transposed, {size}",
            "matmul",
            "the first operand is transposed",
            lambda a, b: a.T @ b,
            shapes,
        )
        yield Mutant(
            f"transposed result, {size}",
            "matmul",
            "the result is transposed",
            lambda a, b: (a @ b).T,
            shapes,
        )
    for size, shapes in SQUARE_LINEAR.items():
        yield Mutant(
            f"wrong axis, {size}",
            "linear_mse",
            "the wrong axis",
            lambda X, y, w: X @ (X @ w - y) * X.dtype.type(2 / len(X)),
            shapes,
        )
    yield from ends()
    yield from tails()
