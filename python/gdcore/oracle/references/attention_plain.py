"""Attention in float64 alone, with what people get wrong before the softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.references.attention_problem import Array, Attention
from gdcore.oracle.references.mistakes import PRECISIONS, as_float64, usual_blocks


@dataclass(frozen=True, eq=False)
class Plain:
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
        """Return scores, -inf where a key takes no part (N,L,S)."""
        q, k = self.q.astype(np.float64), self.k.astype(np.float64)
        scores = q @ np.swapaxes(k, -1, -2) * self.scale + self.added
        return np.where(self.part, scores, -np.inf)

    @cached_property
    def weights(self) -> Floats:
        """Return exponentials of what the scores are below the largest (N,L,S)."""
        most = np.max(self.scores, axis=self.axis, keepdims=True, initial=-np.inf)
        return np.exp(self.scores - np.where(np.isfinite(most), most, 0.0))

    @cached_property
    def p(self) -> Floats:
        """Return the probabilities (N,L,S)."""
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

    def first(self, keys: int) -> Plain:
        """Return the same with the first keys alone, the others hidden."""
        return replace(self, part=self.part & (np.arange(self.k.shape[1]) < keys))


def plain_of(problem: Attention) -> Plain:
    """Return a problem without any mistake."""
    added = 0.0 if problem.added is None else problem.added
    scale = float(problem.scale.hi)
    return Plain(problem.q, problem.k, problem.v, problem.part, added, scale)


def scale_name(problem: Attention) -> str:
    """Name the scale."""
    features = problem.q.shape[-1]
    usual = features > 0 and math.isclose(float(problem.scale.hi), features**-0.5)
    return f"the scale 1/sqrt({features})" if usual else f"the scale {float(problem.scale.hi):.6g}"


def variants(problem: Attention, right: Plain) -> Iterator[tuple[str, Plain]]:
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
    for through, narrow in narrowings(problem):
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


def _of_scale(problem: Attention, right: Plain) -> Iterator[tuple[str, Plain]]:
    scale, features, name = right.scale, problem.q.shape[-1], scale_name(problem)
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


def _of_mask(problem: Attention, right: Plain) -> Iterator[tuple[str, Plain]]:
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


def narrowings(problem: Attention) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """Yield the roundings to less precision than that of the dtype under test."""
    a = problem.arithmetic
    for precision, bits in (("float16", 11), ("bfloat16", 8), ("TF32", 11)):
        if bits < a.store.bits and not (precision == "TF32" and a.name == "tf32"):
            yield f"rounded through {precision}", PRECISIONS[precision]
            if precision == "TF32":
                yield "cut off to TF32", _cut_off


def _cut_off(x: Array) -> Array:
    """Return numbers without what follows their first 11 bits."""
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    shortened: Array = np.ldexp(np.trunc(np.ldexp(mantissa, 11)), exponent - 11)
    return shortened
