"""Scaled dot-product attention as numbers: exact scores, weights and results, in pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Arithmetic
from gdcore.oracle.numbers.double_double import (
    DoubleDouble,
    Floats,
    add,
    dot,
    exact,
    negative,
    product,
    times,
)
from gdcore.oracle.numbers.elementary import divide, exp, reciprocal_sqrt, sum_along, where
from gdcore.oracle.numbers.intake import dtype_name, to_numpy
from gdcore.oracle.numbers.operands import finite, take

Array = NDArray[Any]
_CERTAIN = 2.0**-20  # a probability that no arithmetic under test takes for 0
_ZERO = exact(0.0)


@dataclass(frozen=True, eq=False)
class Attention:
    """One problem for each of N: all batch dimensions as one.

    Attributes
    ----------
    q, k, v : ndarray
        (N,L,E), (N,S,E) and (N,S,C), all finite.
    part, seen : ndarray of bool
        Which keys take part, (1 or N,L,S), and which ones the mask alone lets take part.
    added : ndarray of float64 or None
        The finite numbers of an additive mask, (1 or N,L,S).
    scale : DoubleDouble
    shapes : dict
        Of the operands as they were given.
    batch : tuple of int
    odd : dict
        The operands that are not all finite, as they were.
    """

    arithmetic: Arithmetic
    q: Array
    k: Array
    v: Array
    part: Array
    seen: Array
    added: Floats | None
    scale: DoubleDouble
    causal: bool
    shapes: dict[str, tuple[int, ...]]
    batch: tuple[int, ...]
    odd: dict[str, Array]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        return (*self.batch, self.q.shape[1], self.v.shape[2])

    @cached_property
    def products(self) -> Any:
        """Sums q k of each query and key, and of their magnitudes (N,L,S)."""
        return product(self.q, np.swapaxes(self.k, -1, -2))

    @cached_property
    def scores(self) -> DoubleDouble:
        """Scaled and masked scores (N,L,S); what a mask of -inf hides counts as 0."""
        scores = times(self.products.value, self.scale)
        if self.added is not None:
            scores = add(scores, exact(self.added))
        return where(self.part, scores, _ZERO)

    @cached_property
    def alive(self) -> Array:
        """Whether any key takes part (N,L,1)."""
        shape = self.scores.hi.shape
        alive: Any = np.broadcast_to(self.part, shape).any(axis=-1, keepdims=True)
        return np.asarray(alive)

    @cached_property
    def count(self) -> Array:
        """How many keys take part (N,L,1)."""
        part = np.broadcast_to(self.part, self.scores.hi.shape)
        count: Array = part.sum(axis=-1, keepdims=True, dtype=np.float64)
        return count

    @cached_property
    def largest(self) -> Floats:
        """The largest score of a query (N,L,1), 0 if there is none."""
        largest: Floats = np.max(
            self.scores.hi, axis=-1, keepdims=True, initial=-np.inf, where=self.part
        )
        return np.where(self.alive, largest, 0.0)

    @cached_property
    def below(self) -> DoubleDouble:
        """Scores less the largest one (N,L,S)."""
        return add(self.scores, negative(exact(self.largest)))

    @cached_property
    def weights(self) -> DoubleDouble:
        """Exponentials of that, 0 where a key takes no part (N,L,S)."""
        return where(self.part, exp(self.below), _ZERO)

    @cached_property
    def total(self) -> DoubleDouble:
        """Their sum (N,L,1)."""
        total = sum_along(self.weights, -1).map(lambda part: part[..., None])
        return where(self.alive, total, exact(1.0))

    @cached_property
    def probabilities(self) -> DoubleDouble:
        """Softmax of the scores (N,L,S)."""
        return where(self.part, divide(self.weights, self.total), _ZERO)

    @cached_property
    def p(self) -> Floats:
        """The same in float64."""
        return self.weights.hi / self.total.hi

    @cached_property
    def result(self) -> DoubleDouble:
        """The result (N,L,C), 0 where no key takes part."""
        return divide(dot(self.weights, self.v.astype(np.float64))[0], self.total)

    @cached_property
    def special(self) -> tuple[Floats, Array]:
        """NaN and infinities of the result (N,L,C), 0 elsewhere; where none can be told.

        Implementations differ where a hidden key, or one whose probability may vanish, is not
        finite, and where the score of a key is -inf.
        """
        shape = (*self.q.shape[:2], self.v.shape[2])
        if not self.odd:
            return np.zeros(shape), np.zeros(shape, bool)
        q, k, v, added = (self.odd[name] for name in ("q", "k", "v", "added"))
        scores = q.astype(np.float64) @ np.swapaxes(k.astype(np.float64), -1, -2) * self.scale.hi
        scores = scores + added
        part = np.broadcast_to(self.part, scores.shape)
        bad = ~np.isfinite(scores) & (~(added == -np.inf) | ~_rows_finite(q, k))
        broken = (part & bad & ~(scores == -np.inf)).any(axis=-1, keepdims=True)
        unclear = (bad & (~part | (scores == -np.inf))).any(axis=-1, keepdims=True) & ~broken
        sure = part & (self.p > _CERTAIN)
        value = np.zeros(shape)
        for kind in (np.inf, -np.inf, np.nan):
            same = np.isnan(v) if np.isnan(kind) else v == kind
            value = np.where(_meet(sure, same), value + kind, value)
        vague = _meet(~sure, ~np.isfinite(v))
        value = np.where(broken, np.nan, value)
        open_ = (unclear | vague) & ~np.isnan(value)
        return np.where(open_, 0.0, value), open_


def _meet(part: Array, of_v: Array) -> Array:
    """Whether a query has a key of one kind (N,L,S) with a value of another (N,S,C)."""
    met: Array = part.astype(np.float64) @ of_v.astype(np.float64) > 0
    return met


def _rows_finite(q: Array, k: Array) -> Array:
    """Whether a query and a key are both finite (N,L,S)."""
    of_q = np.isfinite(q).all(axis=-1, keepdims=True)
    of_k = np.isfinite(k).all(axis=-1, keepdims=True)
    both: Array = of_q & np.swapaxes(of_k, -1, -2)
    return both


def attention_of(
    q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: Any, dtype: Any, accumulator: Any
) -> Attention:
    """Return the problem, its operands checked."""
    arithmetic, given = take(dtype, accumulator, q=q, k=k, v=v)
    shapes = {name: x.shape for name, x in given.items()}
    batch, (rows, features), keys = _sizes(shapes)
    exactly = np.float64 if arithmetic.store.bits > 24 else given["q"].dtype
    flat = {
        name: np.broadcast_to(x, (*batch, *x.shape[-2:]))
        .reshape(math.prod(batch), *x.shape[-2:])
        .astype(exactly)
        for name, x in given.items()
    }
    seen, added = _masked(mask, batch, rows, keys)
    part = seen & np.tri(rows, keys, dtype=bool) if causal else seen
    odd: dict[str, Array] = {}
    plain = np.zeros((1, 1, 1)) if added is None else added
    wild = np.isnan(plain) | (plain == np.inf)
    if wild.any() or not all(np.isfinite(x).all() for x in flat.values()):
        odd = {**flat, "added": plain}
    return Attention(
        arithmetic,
        finite(flat["q"]),
        finite(flat["k"]),
        finite(flat["v"]),
        part,
        seen,
        None if added is None else finite(added),
        _scale(scale, features),
        bool(causal),
        shapes,
        batch,
        odd,
    )


def _scale(scale: Any, features: int) -> DoubleDouble:
    if scale is not None:
        number = float(scale)
        if not np.isfinite(number):
            raise ValueError(f"scale is {scale!r}; pass a finite number, or None for 1/sqrt(E).")
        return exact(number)
    if not features:
        raise ValueError("q and k have no features: pass scale=, as 1/sqrt(0) is infinite.")
    return reciprocal_sqrt(exact(float(features)))


def _sizes(
    shapes: dict[str, tuple[int, ...]],
) -> tuple[tuple[int, ...], tuple[int, int], int]:
    """Return the batch dimensions, the numbers of queries and of features, and that of keys."""
    told = ", ".join(f"{name} has shape {shape}" for name, shape in shapes.items())
    told = f"attention (…,L,E),(…,S,E),(…,S,C)->(…,L,C): {told};"
    if min(map(len, shapes.values())) < 2:
        raise ValueError(f"{told} each needs at least two dimensions.")
    q, k, v = (shapes[name] for name in ("q", "k", "v"))
    if q[-1] != k[-1]:
        raise ValueError(f"{told} q and k must have the same number of features.")
    if k[-2] != v[-2]:
        raise ValueError(f"{told} k and v must have the same number of rows.")
    try:
        batch = np.broadcast_shapes(q[:-2], k[:-2], v[:-2])
    except ValueError:
        raise ValueError(f"{told} their batch dimensions do not broadcast.") from None
    return batch, (q[-2], q[-1]), k[-2]


def _masked(mask: Any, batch: tuple[int, ...], rows: int, keys: int) -> tuple[Array, Floats | None]:
    """Return which keys take part (1 or N,L,S), and what a mask adds."""
    if mask is None:
        return np.ones((1, rows, keys), bool), None
    boolean = dtype_name(mask) == "bool" or (
        not hasattr(mask, "dtype") and np.asarray(mask).dtype == bool
    )
    array = to_numpy("mask", mask)
    if not boolean and dtype_name(mask).startswith(("int", "uint")):
        raise TypeError(
            f"mask holds integers ({dtype_name(mask)}); pass booleans, True where a key takes "
            "part, or floats that are added to the scores."
        )
    full = (*batch, rows, keys)
    try:
        whole = np.broadcast_to(array, full)
    except ValueError:
        raise ValueError(
            f"mask has shape {array.shape}, which does not broadcast to the scores' {full}."
        ) from None
    if math.prod(array.shape[:-2]) <= 1:
        while array.ndim > 2:
            array = array[0]
        flat = np.broadcast_to(array, (1, rows, keys))
    else:
        flat = whole.reshape(math.prod(batch), rows, keys)
    if boolean:
        return flat != 0, None
    added = flat.astype(np.float64)
    return ~(added == -np.inf), added
