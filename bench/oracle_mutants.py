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
    shapes: tuple[tuple[int, ...], ...] | None  # None: those that the oracle chooses itself
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


def first_alone(x: Array) -> Array:
    """Return a stack whose batch stride is 0: the first matrix again and again."""
    return x if x.ndim < 3 else np.broadcast_to(x[(0,) * (x.ndim - 2)], x.shape)


def stack_mutants() -> dict[str, tuple[str, Callable[..., Any]]]:
    """Return products that are right for two matrices, and wrong for stacks of them."""

    def without_last(a: Array, b: Array) -> Array:
        out = np.array(a @ b)
        if out.ndim > 2:
            out.reshape(-1, *out.shape[-2:])[-1] = 0
        return out

    def unwritten_last(a: Array, b: Array) -> Array:
        product = a @ b
        out = np.empty(product.shape, product.dtype)
        written = product.size - (product.shape[-2] * product.shape[-1] if out.ndim > 2 else 0)
        out.reshape(-1)[:written] = product.reshape(-1)[:written]
        return out

    def turned(a: Array, b: Array) -> Array:
        out = a @ b
        if out.ndim < 4:
            return out
        return np.ascontiguousarray(np.swapaxes(out, 0, 1)).reshape(out.shape)

    def modulo(a: Array, b: Array) -> Array:
        shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        left, right = (x.reshape(-1, *x.shape[-2:]) for x in (a, b))
        count = int(np.prod(shape))
        out = left[np.arange(count) % len(left)] @ right[np.arange(count) % len(right)]
        return out.reshape(*shape, *out.shape[-2:])

    return {
        "numpy.dot": ("as in numpy.dot", np.dot),
        "b's stride": ("b's batch stride is forgotten", lambda a, b: a @ first_alone(b)),
        "a's stride": ("a's batch stride is forgotten", lambda a, b: first_alone(a) @ b),
        "both strides": ("the result's batch stride", lambda a, b: first_alone(a @ b)),
        "one stride of two": (
            "b's stride of one batch axis",
            lambda a, b: a @ (b if b.ndim < 4 else np.broadcast_to(b[:, :1], b.shape)),
        ),
        "next matrix": (
            "the problems of the stack are mixed up",
            lambda a, b: a @ (b if b.ndim < 3 else np.roll(b, 1, 0)),
        ),
        "batch transposed": ("the problems of the stack are mixed up", turned),
        "broadcast modulo": ("a's batch dimensions are broadcast wrongly", modulo),
        "last dropped": ("the last problem of the stack is not computed", without_last),
        "last unwritten": ("uninitialised memory", unwritten_last),
    }


def target_mutants() -> dict[str, tuple[str, Callable[..., Any]]]:
    """Return gradients that are right for one target, and wrong for several."""

    def g(X: Array, y: Array, w: Array) -> Array:
        return X.T @ (X @ w - y) * X.dtype.type(2 / y.size)

    def several(change: Callable[[Array], Array]) -> Callable[..., Any]:
        def changed(X: Array, y: Array, w: Array) -> Array:
            return g(X, y, w) if y.ndim < 2 else change(g(X, y, w))

        return changed

    def of_y(change: Callable[[Array], Array]) -> Callable[..., Any]:
        return lambda X, y, w: g(X, y if y.ndim < 2 else change(y), w)

    def reread(w: Array) -> Array:
        return w if w.ndim < 2 else np.ascontiguousarray(w.reshape(w.shape[::-1]).T)

    return {
        "n for n t": (
            "a division by n instead of n t",
            lambda X, y, w: X.T @ (X @ w - y) * X.dtype.type(2 / len(y)),
        ),
        "one target": (
            "only the gradient of target 0 is computed",
            several(lambda x: x * (np.arange(x.shape[1]) == 0)),
        ),
        "first y": (
            "every target has y of target 0",
            of_y(lambda y: np.broadcast_to(y[:, :1], y.shape)),
        ),
        "y mixed up": ("the targets of y are mixed up", of_y(lambda y: y[:, ::-1])),
        "gradient mixed up": (
            "the targets of the result are mixed up",
            several(lambda x: np.roll(x, 1, 1)),
        ),
        "same gradient": (
            "every target has the result of target 0",
            several(lambda x: np.repeat(x[:, :1], x.shape[1], 1)),
        ),
        "sum of gradients": (
            "the sum of the gradients of all targets",
            several(lambda x: np.repeat(x.sum(1, keepdims=True), x.shape[1], 1)),
        ),
        "weights reread": (
            "the weights (d, t) are read as (t, d)",
            lambda X, y, w: g(X, y, reread(w)),
        ),
    }


def nonfinite_mutants() -> Iterator[tuple[str, str, str, Callable[..., Any]]]:
    """Yield functions that are right for finite numbers alone."""

    def known(x: Array) -> Array:
        return np.where(np.isnan(x), x.dtype.type(0), x)

    def clipped(x: Array) -> Array:
        return np.clip(x, x.dtype.type(-1e30), x.dtype.type(1e30))

    def spread(x: Array, of: Array) -> Array:
        return x + x.dtype.type(0) * of.sum()

    def without_zeros(a: Array, b: Array) -> Array:
        if a.size * b.shape[-1] > 1 << 22:
            return a @ b
        left, right = a[..., :, :, None], b[..., None, :, :]
        return np.where((left == 0) | (right == 0), 0, left * right).sum(-2).astype(a.dtype)

    def linear(X: Array, y: Array, w: Array) -> Array:
        return X.T @ (X @ w - y) * X.dtype.type(2 / y.size)

    def kept(X: Array, y: Array, w: Array) -> Array:
        whole = np.isfinite(X).all(1) & np.isfinite(y.reshape(len(y), -1)).all(1)
        return X[whole].T @ (X[whole] @ w - y[whole]) * X.dtype.type(2 / y.size)

    def square(p: Array, y: Array) -> Array:
        return (p - y) * p.dtype.type(2 / p.size)

    lost, result = "NaN lost", "NaN lost: replaced by 0 in the result"
    yield "NaN to 0", "matmul", result, lambda a, b: known(a @ b)
    yield "nan_to_num", "matmul", result, lambda a, b: np.nan_to_num(a @ b)
    yield (
        "NaN to 0 first", "matmul", f"{lost}: replaced by 0 in the operands",
        lambda a, b: known(a) @ known(b),
    )  # fmt: skip
    yield "zeros skipped", "matmul", "products with a factor 0 are skipped", without_zeros
    yield "clipped", "matmul", "infinity lost: clipped to 1e+30", lambda a, b: clipped(a @ b)
    yield (
        "infinity to NaN", "matmul", "infinity lost: it becomes NaN",
        lambda a, b: np.where(np.isinf(a @ b), a.dtype.type(np.nan), a @ b),
    )  # fmt: skip
    yield "NaN spreads", "matmul", "NaN spreads", lambda a, b: spread(a @ b, a @ b)
    yield "NaN to 0", "linear_mse", result, lambda X, y, w: known(linear(X, y, w))
    yield (
        "residual to 0", "linear_mse", f"{lost}: replaced by 0 in the residual",
        lambda X, y, w: X.T @ known(X @ w - y) * X.dtype.type(2 / y.size),
    )  # fmt: skip
    yield "rows left out", "linear_mse", f"{lost}: the row is left out", kept
    yield "clipped", "linear_mse", "infinity lost", lambda X, y, w: clipped(linear(X, y, w))
    yield "NaN to 0", "mse", result, lambda p, y: known(square(p, y))
    yield "clipped", "mse", "infinity lost: clipped to 1e+30", lambda p, y: clipped(square(p, y))
    yield "NaN spreads", "mse", "NaN spreads", lambda p, y: spread(square(p, y), p - y)


def memory_mutants() -> Iterator[tuple[str, str, str, Callable[..., Any]]]:
    """Yield functions that misuse memory, or are wrong at some sizes or layouts alone."""

    def partly(out: Array, lanes: int, empty: bool) -> Array:
        new = np.empty(out.shape, out.dtype) if empty else np.zeros(out.shape, out.dtype)
        whole = out.shape[-1] - out.shape[-1] % lanes
        new[..., :whole] = out[..., :whole]
        return new

    def square(p: Array, y: Array) -> Array:
        return (p - y) * p.dtype.type(2 / p.size)

    def by_memory(x: Array) -> Array:
        return x.ravel("K").reshape(x.shape)

    def in_float16(a: Array, b: Array) -> Array:
        if a.shape[-1] > 400:
            return a @ b
        with np.errstate(all="ignore"):
            out = np.zeros((a[..., :1] @ b[..., :1, :]).shape, np.float16)
            for k in range(a.shape[-1]):
                out += (a[..., :, k, None] * b[..., k, None, :]).astype(np.float16)
        return out.astype(a.dtype)

    def in_place(p: Array, y: Array) -> Array:
        return np.multiply(np.subtract(p, y, out=p), p.dtype.type(2 / p.size), out=p)

    for lanes in (4, 8, 16, 32):
        for empty, cause in ((False, "uninitialised tail"), (True, "uninitialised memory")):
            word = "unwritten" if empty else "dropped"
            yield (
                f"tail of {lanes} {word}", "matmul", cause,
                lambda a, b, v=lanes, e=empty: partly(a @ b, v, e),
            )  # fmt: skip
            yield (
                f"tail of {lanes} {word}", "mse", cause,
                lambda p, y, v=lanes, e=empty: partly(square(p, y), v, e),
            )  # fmt: skip
    for lanes, rest in ((2, 1), (8, 1), (8, 3), (8, 7), (16, 15), (32, 16), (32, 31)):
        yield (
            f"columns = {rest} modulo {lanes}", "matmul", "wrong only where",
            lambda a, b, v=lanes, r=rest: (a @ b) * a.dtype.type(1 + (b.shape[-1] % v == r)),
        )  # fmt: skip
    yield (
        "16-bit counter", "matmul", "wrong from k = 65537 on",
        lambda a, b: a[..., : a.shape[-1] & 0xFFFF] @ b[..., : a.shape[-1] & 0xFFFF, :],
    )  # fmt: skip
    yield "memory order", "matmul", "strides", lambda a, b: by_memory(a) @ b
    yield "memory order", "mse", "strides", lambda p, y: square(by_memory(p), y)
    yield "float16 sums", "matmul", "the sums are kept in float16", in_float16
    yield (
        "integers", "matmul", "rounded through int32",
        lambda a, b: (a.astype(np.int64) @ b.astype(np.int64)).astype(a.dtype),
    )  # fmt: skip
    yield "in place", "mse", "fn changes its argument pred", in_place


def default_mutants() -> Iterator[Mutant]:
    """Yield what is wrong for stacks, targets, NaN, layouts or some sizes: all default probes."""
    for name, (cause, fn) in stack_mutants().items():
        yield Mutant(f"stacks, {name}", "matmul", cause, fn, None)
    for name, (cause, fn) in target_mutants().items():
        yield Mutant(f"targets, {name}", "linear_mse", cause, fn, None)
    for name, kind, cause, fn in (*nonfinite_mutants(), *memory_mutants()):
        yield Mutant(name, kind, cause, fn, None)


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
