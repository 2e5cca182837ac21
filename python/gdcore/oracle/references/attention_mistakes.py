"""What people get wrong about attention and its derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial

import numpy as np

from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.references.attention_problem import Array, Attention
from gdcore.oracle.references.mistakes import (
    BLOCKS,
    PRECISIONS,
    Alternative,
    Factor,
    Mistakes,
    Parts,
    Terms,
    Where,
    as_float64,
    usual_blocks,
)

Gathered = Callable[[Floats], Floats]


@dataclass(frozen=True, eq=False)
class _Plain:
    """Attention in float64 alone, with whatever a mistake changes."""

    q: Array
    k: Array
    v: Array
    part: Array
    added: Floats | float
    scale: float
    axis: int = -1
    narrow: Callable[[Array], Array] = as_float64

    @cached_property
    def scores(self) -> Floats:
        q, k = self.q.astype(np.float64), self.k.astype(np.float64)
        scores = q @ np.swapaxes(k, -1, -2) * self.scale + self.added
        return np.where(self.part, scores, -np.inf)

    @cached_property
    def weights(self) -> Floats:
        most = np.max(self.scores, axis=self.axis, keepdims=True, initial=-np.inf)
        return np.exp(self.scores - np.where(np.isfinite(most), most, 0.0))

    @cached_property
    def p(self) -> Floats:
        p: Floats = self.narrow(self.weights / self.weights.sum(axis=self.axis, keepdims=True))
        return p

    def result(self) -> Floats:
        """Return the result (N,L,C)."""
        return self.p @ self.v.astype(np.float64)

    def inner(self, g: Floats, delta: float = 1.0) -> Floats:
        """Return the derivative with respect to the scores (N,L,S)."""
        slopes = g @ np.swapaxes(self.v.astype(np.float64), -1, -2)
        means = (self.p * slopes).sum(axis=-1, keepdims=True)
        inner: Floats = self.p * (slopes - delta * means)
        return inner

    def derivative(self, name: str, g: Floats, delta: float = 1.0) -> Floats:
        """Return the derivative with respect to an operand, of every problem."""
        if name == "v":
            return np.swapaxes(self.p, -1, -2) @ g
        inner = self.inner(g, delta) * self.scale
        if name == "q":
            return inner @ self.k.astype(np.float64)
        return np.swapaxes(inner, -1, -2) @ self.q.astype(np.float64)

    def first(self, keys: int) -> _Plain:
        """Return the same with the first keys alone, the others hidden."""
        return replace(self, part=self.part & (np.arange(self.k.shape[1]) < keys))


def of_result(problem: Attention) -> Mistakes:
    """Return what is known of the result."""
    right = _right(problem)
    keys, width = problem.k.shape[1], problem.v.shape[2]

    def alternatives() -> Iterator[Alternative]:
        for cause, plain in _variants(problem, right):
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
    )


def of_derivative(problem: Attention, name: str, g: Floats, gathered: Gathered) -> Mistakes:
    """Return what is known of the derivative with respect to q, k or v."""
    right = _right(problem)

    def other(plain: _Plain, grad_out: Floats = g, delta: float = 1.0) -> Floats:
        return gathered(plain.derivative(name, grad_out, delta))

    def alternatives() -> Iterator[Alternative]:
        for cause, plain in _variants(problem, right):
            yield _alternative(cause, partial(other, plain))
        for cause, narrow in PRECISIONS.items():
            if _is_less(problem, cause):
                of = partial(other, right, narrow(g))
                yield _alternative(f"grad_out is rounded through {cause}", of)
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
        factors = (Factor(1 / float(problem.scale.hi), f"{_scale(problem)} is missing"), *factors)
    return Mistakes(f"the gradient of {name}", factors, alternatives)


def _right(problem: Attention) -> _Plain:
    added = 0.0 if problem.added is None else problem.added
    scale = float(problem.scale.hi)
    return _Plain(problem.q, problem.k, problem.v, problem.part, added, scale)


def _alternative(cause: str, made: Callable[[], Floats]) -> Alternative:
    """Return an alternative that is computed once, when it is first asked for."""

    @cache
    def whole() -> Array:
        return np.asarray(made()).reshape(-1)

    def of(where: Where) -> Array:
        found: Array = whole()[where]
        return found

    return Alternative(cause, of)


def _scale(problem: Attention) -> str:
    """Name the scale."""
    features = problem.q.shape[-1]
    usual = features > 0 and math.isclose(float(problem.scale.hi), features**-0.5)
    return f"the scale 1/sqrt({features})" if usual else f"the scale {float(problem.scale.hi):.6g}"


def _factors(problem: Attention) -> tuple[Factor, ...]:
    scale = float(problem.scale.hi)
    factors = [
        Factor(-1.0, "the sign is wrong"),
        Factor(2.0, "stale accumulation, or a factor 2"),
        Factor(0.5, "a factor 1/2 too many"),
    ]
    if scale not in (0.0, 1.0, -1.0, 2.0, 0.5):
        factors.append(Factor(scale, f"{_scale(problem)} is applied to the result"))
    return tuple(factors)


def _is_less(problem: Attention, precision: str) -> bool:
    """Whether rounding through this precision is a mistake for the dtype under test."""
    a = problem.arithmetic
    bits = {"bfloat16": 8, "float16": 11, "TF32": 11}.get(precision, 0)
    return 0 < bits < a.store.bits and not (precision == "TF32" and a.name == "tf32")


def _variants(problem: Attention, right: _Plain) -> Iterator[tuple[str, _Plain]]:
    """Yield what mistakes change before the softmax, for the result and its derivatives."""
    yield from _of_scale(problem, right)
    yield from _of_mask(problem, right)
    keys, features = problem.k.shape[1], problem.q.shape[-1]
    for rest in (1, *usual_blocks(keys)):
        if rest < keys:
            what = "last key is" if rest == 1 else f"last {rest} keys are"
            yield f"the {what} dropped", right.first(keys - rest)
    if keys > 1:
        yield "the first key is dropped", replace(right, part=right.part & (np.arange(keys) > 0))
    for rest in (1, *usual_blocks(features)):
        if rest < features:
            cut = features - rest
            what = "last feature" if rest == 1 else f"last {rest} features"
            short = replace(right, q=_cut(right.q, cut), k=_cut(right.k, cut))
            yield f"the {what} of q and k are dropped from the scores", short
    if keys == problem.q.shape[1] > 1:
        yield "q and k are swapped", replace(right, q=right.k, k=right.q)
    if right.k.shape == right.v.shape:
        yield "k and v are swapped", replace(right, k=right.v, v=right.k)
    yield "the softmax is over the queries instead of the keys", replace(right, axis=-2)
    for precision, narrow in PRECISIONS.items():
        if not _is_less(problem, precision):
            continue
        through = f"rounded through {precision}"
        q, k, v = narrow(right.q), narrow(right.k), narrow(right.v)
        yield f"q, k and v are {through}", replace(right, q=q, k=k, v=v)
        yield f"q and k are {through}", replace(right, q=q, k=k)
        yield f"q is {through}", replace(right, q=q)
        yield f"k is {through}", replace(right, k=k)
        yield f"v is {through}", replace(right, v=v)
        yield f"the probabilities are {through}", replace(right, narrow=narrow)
        yield f"v and the probabilities are {through}", replace(right, v=v, narrow=narrow)
        yield (
            f"the operands of both products are {through}",
            replace(right, q=q, k=k, v=v, narrow=narrow),
        )


def _cut(x: Array, features: int) -> Array:
    """Return an operand with zeros for its last features."""
    return np.where(np.arange(x.shape[-1]) < features, x, 0)


def _of_scale(problem: Attention, right: _Plain) -> Iterator[tuple[str, _Plain]]:
    scale, features, name = right.scale, problem.q.shape[-1], _scale(problem)
    others = {
        1.0: f"{name} is missing",
        scale**2: f"{name} is applied twice",
        1 / features if features else 1.0: f"the scale is 1/{features} instead of {scale:.6g}",
        float(features) ** 0.5: f"the scale is sqrt({features}) instead of {scale:.6g}",
        math.copysign(abs(scale) ** 0.5, scale): f"the root of {name} is applied once",
        scale * math.log(2): "powers of 2 in place of e, without the factor log2(e)",
        scale / math.log(2): "a factor log2(e) beside powers of e",
    }
    if math.isclose(scale**2, 1 / max(features, 1)):
        others[scale**2] = f"the scale is 1/{features}, or {name} is applied twice"
    if problem.v.shape[-1] not in (0, features):
        width = problem.v.shape[-1]
        others.setdefault(width**-0.5, f"the scale is 1/sqrt({width}), by the features of v")
    for other, cause in others.items():
        if not math.isclose(other, scale):
            yield cause, replace(right, scale=other)


def _of_mask(problem: Attention, right: _Plain) -> Iterator[tuple[str, _Plain]]:
    rows, keys = problem.q.shape[1], problem.k.shape[1]
    if problem.causal:
        yield "causal is ignored", replace(right, part=problem.seen)
        shifts = {
            -1: "the causal mask is off by one: it hides a query's own key",
            1: "the causal mask is off by one: it shows the key after a query's own",
        }
        if keys != rows:
            shifts[keys - rows] = "the causal mask is aligned with the last key, not the first"
        for shift, cause in shifts.items():
            part = problem.seen & np.tri(rows, keys, shift, dtype=bool)
            yield cause, replace(right, part=part)
        turned = problem.seen & ~np.tri(rows, keys, -1, dtype=bool)
        yield (
            "the causal mask hides the keys before a query, not those after",
            replace(right, part=turned),
        )
    causal = np.tri(rows, keys, dtype=bool) if problem.causal else np.ones((1, 1), bool)
    full = np.broadcast_to(causal, (1, rows, keys))
    if problem.added is not None or not problem.seen.all():
        yield "the mask is ignored", replace(right, part=full, added=0.0)
    if problem.added is None and not problem.seen.all():
        yield "the mask is inverted: True hides keys", replace(right, part=full & ~problem.seen)
        ones = problem.seen.astype(np.float64)
        yield (
            "the booleans of the mask are added to the scores",
            replace(right, part=full, added=ones),
        )
    if problem.added is not None and np.any(problem.added):
        yield "the mask is subtracted", replace(right, added=-problem.added)
        yield "the finite numbers of the mask are ignored", replace(right, added=0.0)
        scaled = problem.added * right.scale
        yield "the mask is added before the scale is applied", replace(right, added=scaled)


def _of_forward(problem: Attention, right: _Plain) -> Iterator[Alternative]:
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
                ("the accumulator is", (False, True)),
                ("the sum of the exponentials is", (True, False)),
                ("neither the accumulator nor the sum of the exponentials is", (False, False)),
            ):
                yield _alternative(
                    f"{cause} rescaled when the largest score changes (blocks of {block} keys)",
                    partial(_online, right, block, *rescaled),
                )


def _softmax(scores: Floats) -> Floats:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    softmax: Floats = weights / weights.sum(axis=-1, keepdims=True)
    return softmax


def _online(right: _Plain, block: int, accumulator: bool, total: bool) -> Floats:
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


def _parts(problem: Attention, right: _Plain) -> Parts | None:
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
