"""Every kernel as an operation on arrays: how to draw its inputs, and the reference's bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

import gdcore as gd
from loops import each
from problems import EDGES, REDUCTIONS, Array, Linear, Shape, canonical, normal

Bits = list[tuple[str, Shape, bytes]]
Inputs = list[Array]


class Operation:
    """A kernel, how to draw its inputs for a tuple of sizes, and the sizes to try."""

    def __init__(
        self,
        run: Callable[..., Any],
        draw: Callable[..., Inputs],
        cases: list[Shape],
    ) -> None:
        self.run, self.draw, self.cases = run, draw, cases

    def bits(self, inputs: Inputs) -> Bits:
        """Return the bytes of everything the kernel returns."""
        return canonical(*self.run(*inputs))


def shapes(*patterns: str) -> Callable[..., Inputs]:
    """Draw arrays whose axes are letters, each letter one of the sizes in order of the alphabet.

    An array in capitals, sample weights, has no negative entries. `values`, if given, are the
    numbers to choose from.
    """

    def draw(rng: np.random.Generator, sizes: Shape, dtype: Any, values: Any = None) -> Inputs:
        named = dict(zip("abcdefg", sizes, strict=False))
        result = []
        for pattern in patterns:
            shape = tuple(named[c] for c in pattern.lower())
            x = normal(rng, shape, dtype) if values is None else rng.choice(values, shape)
            result.append(np.abs(x) if pattern.isupper() else np.asarray(x))
        return result

    return draw


def around(*base: int) -> list[Shape]:
    """List sizes: base with one entry after the other moved over all the edges."""
    return [(*base[:i], size, *base[i + 1 :]) for i in range(len(base)) for size in EDGES[1:]]


def run_mse(pred: Array, target: Array) -> Inputs:
    both = [gd.mse_value_and_grad(pred, target, reduction=r) for r in REDUCTIONS]
    losses = [gd.mse(pred, target, reduction=r) for r in (*REDUCTIONS, "none")]
    return [*losses, *(x for pair in both for x in pair)]


def run_linear(X: Array, y: Array, w: Array) -> Inputs:
    return Linear(X, y, w).outputs()


def run_linear_full(X: Array, y: Array, w: Array, b: Array, o: Array, s: Array) -> Inputs:
    some = (s > 0).any(-1).all()  # the mean over samples of no weight is an error
    kinds = ("half_sum", "mean") if some else ("half_sum",)
    return [x for kind in kinds for x in Linear(X, y, w, b, o, s, kind).outputs()]


def run_huber(X: Array, y: Array, w: Array, b: Array, o: Array, s: Array) -> Inputs:
    """Run the loss on both of its branches: about a third of the residuals are below delta."""
    given: dict[str, Any] = {"loss": "huber", "delta": 1.3, "reduction": "half_sum"}
    loss, grad = gd.linear_value_and_grad(X, y, w, b, offset=o, sample_weight=s, **given)
    bare, bare_grad = gd.linear_value_and_grad(X, y, w, **given)
    return [loss, grad.weights, grad.intercept, bare, bare_grad.weights]


def run_sgd(param: Array, grad: Array) -> Inputs:
    result = []
    for options in ({}, {"momentum": 0.9, "dampening": 0.3}, {"momentum": 0.9, "nesterov": True}):
        for decay in (0.0, 0.1):
            sgd, p = gd.SGD(lr=0.1, weight_decay=decay, **options), param.copy()  # type: ignore[arg-type]
            state = sgd.init(p)
            for _ in range(3):
                sgd.step(p, grad, state)
            result.append(p)
    return result


def run_matmul(a: Array, b: Array) -> Inputs:
    return [gd.matmul(a, b)]


def operation(run: Callable[..., Any], base: Shape, *patterns: str) -> Operation:
    return Operation(run, shapes(*patterns), around(*base))


LINEAR_FULL = "ab", "a", "b", "", "a", "A"
TARGETS_FULL = "ab", "ac", "bc", "c", "ac", "A"
OPERATIONS = {
    "matmul": operation(run_matmul, (13, 19, 21), "ab", "bc"),
    "matvec": operation(run_matmul, (13, 19), "ab", "b"),
    "mse": operation(run_mse, (1,), "a", "a"),
    "mse-2d": operation(run_mse, (5, 7), "ab", "ab"),
    "linear": operation(run_linear, (21, 11), "ab", "a", "b"),
    "linear-full": operation(run_linear_full, (21, 11), *LINEAR_FULL),
    "linear-targets": operation(run_linear, (21, 11, 5), "ab", "ac", "bc"),
    "linear-targets-full": operation(run_linear_full, (21, 11, 3), *TARGETS_FULL),
    "huber": operation(run_huber, (21, 11), *LINEAR_FULL),
    "huber-targets": operation(run_huber, (21, 11, 3), *TARGETS_FULL),
    "sgd": operation(run_sgd, (1,), "a", "a"),
}
LARGE: dict[str, list[Shape]] = {
    "matmul": [
        (101, 530, 133),
        (1100, 33, 70),
        (17, 1100, 40),
        (40, 9, 2100),
        (3, 530, 2100),
        (64, 520, 140),
        (65, 520, 140),
        (100, 40, 201),
        (101, 40, 201),
    ],
    "matvec": [(700, 1100), (5, 100_003), (100_003, 5)],
    "mse": [(500_001,)],
    "mse-2d": [(1100, 501)],
    "linear": [(20_003, 19), (3000, 600), (60_001, 1)],
    "linear-full": [(20_003, 19), (3000, 300), (60_001, 3)],
    "linear-targets": [(5003, 19, 6), (3000, 150, 2)],
    "linear-targets-full": [(5003, 19, 6), (900, 33, 20)],
    "huber": [(20_003, 19), (3000, 300), (60_001, 3)],
    "huber-targets": [(5003, 19, 6), (900, 33, 20)],
    "sgd": [(100_003,)],
}


@cache
def inputs(name: str, sizes: Shape, dtype: Any) -> Inputs:
    rng = np.random.default_rng([len(name), *sizes])
    return OPERATIONS[name].draw(rng, sizes, dtype)


@contextmanager
def reference() -> Iterator[None]:
    """Run on the scalar loops that define every bit."""
    isa = gd._core.get_isa()
    gd._core.set_isa("reference")
    try:
        yield
    finally:
        gd._core.set_isa(isa)


@cache
def expected(name: str, sizes: Shape, dtype: Any) -> Bits:
    with reference():
        return OPERATIONS[name].bits(inputs(name, sizes, dtype))


operations = each("name", OPERATIONS)
