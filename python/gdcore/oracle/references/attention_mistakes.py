"""What people get wrong about attention and its derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial

import numpy as np

from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.references.attention_plain import (
    Plain,
    narrowings,
    plain_of,
    scale_name,
    variants,
)
from gdcore.oracle.references.attention_problem import Array, Attention
from gdcore.oracle.references.mistakes import (
    BLOCKS,
    Alternative,
    Factor,
    Mistakes,
    Parts,
    Terms,
    Where,
    usual_blocks,
)
from gdcore.oracle.references.softmax_mistakes import narrow_range

NO_MAXIMUM = "the largest score is not subtracted: exponentials overflow or vanish"
Gathered = Callable[[Floats], Floats]


def of_result(problem: Attention) -> Mistakes:
    """Return what is known of the result."""
    right = plain_of(problem)
    keys, width = problem.k.shape[1], problem.v.shape[2]

    def alternatives() -> Iterator[Alternative]:
        for cause, plain in variants(problem, right):
            yield _alternative(cause, plain.result)
        yield from _of_forward(problem, right)

    def terms() -> Iterator[Terms]:
        def at(where: Array) -> Array:
            row, column = np.divmod(where, width)
            v = right.v[row // problem.q.shape[1], :, column].astype(np.float64)
            p = np.broadcast_to(right.p, problem.scores.hi.shape).reshape(-1, keys)
            return p[row] * v

        def total(part: slice) -> Array:
            return (right.p[..., part] @ right.v[:, part].astype(np.float64)).reshape(-1)

        yield Terms(f"S = {keys} products", keys, keys, at, total, where=" after the softmax")

    return Mistakes(
        "the attention",
        _factors(problem),
        alternatives,
        terms,
        parts=partial(_parts, problem, right),
        nonfinite=partial(_nonfinite, problem, right),
    )


def of_derivative(problem: Attention, name: str, g: Floats, gathered: Gathered) -> Mistakes:
    """Return what is known of the derivative with respect to q, k or v."""
    right = plain_of(problem)

    def other(plain: Plain, grad_out: Floats = g, delta: float = 1.0) -> Floats:
        return gathered(plain.derivative(name, grad_out, delta))

    def alternatives() -> Iterator[Alternative]:
        for cause, plain in variants(problem, right):
            yield _alternative(cause, partial(other, plain))
        for through, narrow in narrowings(problem):
            yield _alternative(f"grad_out is {through}", partial(other, right, narrow(g)))
            short = replace(right, q=narrow(right.q), k=narrow(right.k), v=narrow(right.v))
            for cause, plain in (
                (f"grad_out, q, k and v are {through}", short),
                (f"the operands of all products are {through}", replace(short, narrow=narrow)),
            ):
                yield _alternative(cause, partial(other, plain, narrow(g)))
        if name != "q":
            yield from _of_queries(g, partial(other, right))
        if name == "v":
            return
        yield _alternative(
            "the mean of the slopes, sum(p * (grad_out @ v.T)), is not subtracted",
            partial(other, right, g, 0.0),
        )
        flat = replace(right, narrow=lambda p: np.where(right.part, 1.0, 0.0) * np.ones(p.shape))
        yield _alternative(
            "the probabilities are missing in the derivative of the softmax",
            partial(other, flat, g, 0.0),
        )

    factors = _factors(problem)
    if name == "v":
        factors = factors[:3]
    elif problem.scale.hi not in (0.0, 1.0):
        factors = (
            Factor(1 / float(problem.scale.hi), f"{scale_name(problem)} is missing"),
            *factors,
        )
    return Mistakes(f"the gradient of {name}", factors, alternatives)


def _of_queries(g: Floats, derivative: Callable[[Floats], Floats]) -> Iterator[Alternative]:
    """Yield what is left of a derivative when some queries are not summed."""
    rows = g.shape[1]
    for rest in (1, *usual_blocks(rows)):
        if rest < rows:
            what = "last query is" if rest == 1 else f"last {rest} queries are"
            shown = np.arange(rows)[:, None] < rows - rest
            yield _alternative(f"the {what} dropped", partial(derivative, np.where(shown, g, 0.0)))


def _alternative(cause: str, made: Callable[[], Floats]) -> Alternative:
    """Return an alternative that is computed once, when it is first asked for."""

    @cache
    def whole() -> Array:
        return np.asarray(made()).reshape(-1)

    def of(where: Where) -> Array:
        found: Array = whole()[where]
        return found

    return Alternative(cause, of)


def _factors(problem: Attention) -> tuple[Factor, ...]:
    scale = float(problem.scale.hi)
    factors = [
        Factor(-1.0, "the sign is wrong"),
        Factor(2.0, "stale accumulation, or a factor 2"),
        Factor(0.5, "a factor 1/2 too many"),
    ]
    if scale not in (0.0, 1.0, -1.0, 2.0, 0.5):
        factors.append(Factor(scale, f"{scale_name(problem)} is applied to the result"))
    return tuple(factors)


def _of_forward(problem: Attention, right: Plain) -> Iterator[Alternative]:
    """Yield what mistakes make of the result in or after the softmax."""
    v = right.v.astype(np.float64)
    shown = np.where(problem.part, right.scores, 0.0)
    yield _alternative("the softmax is missing", lambda: shown @ v)
    yield _alternative(
        "the division by the sum of the exponentials is missing", lambda: right.weights @ v
    )
    yield _alternative(
        "the exponentials are not shifted, and not divided by their sum",
        lambda: np.exp(right.scores) @ v,
    )
    full = replace(right, part=np.ones((1, 1, 1), bool), added=0.0)
    if not problem.part.all():
        yield _alternative(
            "the mask hides keys after the softmax, whose sum has them",
            lambda: np.where(problem.part, full.p, 0.0) @ v,
        )
        yield _alternative(
            "hidden keys have score 0 instead of -inf",
            lambda: _softmax(shown) @ v,
        )
    if problem.added is not None:
        added = np.where(problem.seen, problem.added, -np.inf)
        yield _alternative("the mask is added after the softmax", lambda: (full.p + added) @ v)
    for block in BLOCKS:
        if block < problem.k.shape[1]:
            for cause, rescaled in (
                ("the accumulator is not", (False, True)),
                ("the sum of the exponentials is not", (True, False)),
                ("neither the accumulator nor the sum of the exponentials is", (False, False)),
            ):
                yield _alternative(
                    f"{cause} rescaled when the largest score grows (blocks of {block} keys)",
                    partial(_online, right, block, *rescaled),
                )


def _nonfinite(problem: Attention, right: Plain) -> Iterator[Alternative]:
    """Yield what exponentials without a shift make of the result."""
    store = problem.arithmetic.sums

    def unshifted() -> Floats:
        weights = narrow_range(np.exp(right.scores), store)
        total = narrow_range(weights.sum(axis=-1, keepdims=True), store)
        result: Floats = (weights / total) @ right.v.astype(np.float64)
        return result

    yield _alternative(NO_MAXIMUM, unshifted)


def _softmax(scores: Floats) -> Floats:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    softmax: Floats = weights / weights.sum(axis=-1, keepdims=True)
    return softmax


def _online(right: Plain, block: int, accumulator: bool, total: bool) -> Floats:
    """Return what blocks of keys make of the result, and whether each sum is rescaled."""
    scores, v = right.scores, right.v.astype(np.float64)
    scores = np.broadcast_to(scores, (v.shape[0], *scores.shape[1:]))
    most = np.full((*scores.shape[:2], 1), -np.inf)
    sums, result = np.zeros(most.shape), np.zeros((*scores.shape[:2], v.shape[2]))
    for start in range(0, scores.shape[2], block):
        piece = scores[..., start : start + block]
        new = np.maximum(most, piece.max(axis=-1, keepdims=True))
        safe = np.where(np.isfinite(new), new, 0.0)
        factor, weights = np.exp(most - safe), np.exp(piece - safe)
        sums = sums * (factor if total else 1.0) + weights.sum(axis=-1, keepdims=True)
        result = result * (factor if accumulator else 1.0) + weights @ v[:, start : start + block]
        most = new
    return result / sums


def _parts(problem: Attention, right: Plain) -> Parts | None:
    """Return the problems of a stack, of q and of k with v; None if there is one alone."""
    shapes = problem.shapes
    if math.prod(problem.batch) < 2 or shapes["k"][:-2] != shapes["v"][:-2]:
        return None
    if problem.part.shape[0] > 1 or (problem.added is not None and problem.added.shape[0] > 1):
        return None
    numbers = [np.arange(math.prod(shapes[x][:-2])).reshape(shapes[x][:-2]) for x in ("q", "k")]
    count = math.prod(problem.batch)
    at = [np.broadcast_to(x, problem.batch).reshape(-1) for x in numbers]
    first = [np.unique(x, return_index=True)[1] for x in at]

    def of(i: int, j: int) -> Array:
        own, other = first[0][i], first[1][j]
        one = replace(
            right,
            q=right.q[own : own + 1],
            k=right.k[other : other + 1],
            v=right.v[other : other + 1],
        )
        return one.result().reshape(-1)

    return Parts(
        "problem",
        ("q", "k and v"),
        problem.batch,
        (numbers[0], numbers[1]),
        of,
        lambda x: x.reshape(count, -1),
    )
