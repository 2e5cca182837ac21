"""Inputs for the kernel tests: sizes, layouts in memory, and problems for the linear kernel."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

import gdcore as gd

Array = NDArray[Any]
Shape = tuple[int, ...]

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
REDUCTIONS: tuple[Any, ...] = ("mean", "sum", "half_mean", "half_sum")
SEGMENT: dict[str, int] = gd._core.SEGMENT
# Sizes on both sides of the edges of lanes, register tiles and the segments of long sums.
EDGES = [0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65]
EDGES += sorted({size + i for size in SEGMENT.values() for i in (-1, 0, 1, size + 3)})
WIDE = np.dtype(np.longdouble)  # 64 bits of precision on x86, never fewer than float64's 53


def normal(rng: np.random.Generator, shape: Shape, dtype: DTypeLike) -> Array:
    """Draw ordinary random numbers: the bounds allow a few last places."""
    return np.asarray(rng.standard_normal(shape)).astype(dtype)


def integers(rng: np.random.Generator, shape: Shape, dtype: DTypeLike, limit: int = 2) -> Array:
    """Draw small integers, whose products and sums are exact in every order."""
    return np.asarray(rng.integers(-limit, limit, shape, endpoint=True)).astype(dtype)


def probe(dtype: DTypeLike) -> int:
    """Return an integer that does not fit the next narrower dtype: 11 bits, or 24."""
    return 2049 if np.dtype(dtype) == np.float32 else 2**24 + 1


def canonical(*arrays: Any) -> list[tuple[str, Shape, bytes]]:
    """Return dtype, shape and bytes of each array, every NaN with the same payload."""
    result = []
    for array in arrays:
        copy = np.array(array, order="C")
        copy[np.isnan(copy)] = np.nan
        result.append((str(copy.dtype), copy.shape, copy.tobytes()))
    return result


# Layouts: the same values, elsewhere in memory.


def at_offset(x: Array, offset: int) -> Array:
    """Copy x to `offset` bytes past a 64-byte boundary, aligned or not."""
    buffer = np.zeros(x.nbytes + 128, np.uint8)
    start = -buffer.ctypes.data % 64 + offset
    result: Array = buffer[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    result[...] = x
    return result


def strided(x: Array, steps: Shape, order: Any = "C") -> Array:
    """Copy x into a wider array of NaNs, with a signed step along every axis."""
    steps = (steps * x.ndim)[: x.ndim]
    sizes = [size * abs(step) for size, step in zip(x.shape, steps, strict=True)]
    wide = np.full([size + 1 for size in sizes], np.nan, x.dtype, order)
    gaps = [slice(0, size, abs(step)) for size, step in zip(sizes, steps, strict=True)]
    signs = [slice(None, None, 1 if step > 0 else -1) for step in steps]
    inside: Any = (*gaps, ...)
    turned: Any = (*signs, ...)
    view: Array = wide[inside][turned]
    view[...] = x
    return view


LAYOUTS = {
    "offset-1": lambda x: at_offset(x, 1),
    "offset-4": lambda x: at_offset(x, 4),
    "offset-61": lambda x: at_offset(x, 61),
    "fortran": lambda x: np.array(x, order="F"),
    "padded": lambda x: strided(x, (1,)),
    "steps-2": lambda x: strided(x, (2,)),
    "steps-3-1": lambda x: strided(x, (3, 1)),
    "steps-1-3": lambda x: strided(x, (1, 3)),
    "reversed": lambda x: strided(x, (-1,)),
    "reversed-rows": lambda x: strided(x, (-1, 1)),
    "reversed-columns": lambda x: strided(x, (1, -2)),
    "fortran-mixed": lambda x: strided(x, (-2, 3, -1), "F"),
}


@dataclass(frozen=True, eq=False)
class Linear:
    """The arguments of `linear_mse_value_and_grad`."""

    X: Array
    y: Array
    weights: Array
    intercept: Array | None = None
    offset: Array | None = None
    sample_weight: Array | None = None
    reduction: Any = "mean"

    def __call__(self) -> tuple[Any, Any]:
        """Return what the kernel says."""
        return gd.linear_mse_value_and_grad(
            self.X,
            self.y,
            self.weights,
            self.intercept,
            offset=self.offset,
            sample_weight=self.sample_weight,
            reduction=self.reduction,
        )

    def outputs(self) -> list[Array]:
        """Return what the kernel says as a flat list, without the None of a missing intercept."""
        loss, grad = self()
        return [x for x in (loss, grad.weights, grad.intercept) if x is not None]

    def map(self, change: Any) -> Linear:
        """Return the problem with every array replaced by change(array)."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "reduction"}
        changed: dict[str, Any] = {k: None if v is None else change(v) for k, v in arrays.items()}
        return replace(self, **changed)

    @property
    def several(self) -> bool:
        """Whether y has an axis of targets: it has as many axes as X."""
        return self.y.ndim >= self.X.ndim

    def full(self, dtype: DTypeLike) -> Full:
        """Return the problem with every axis and every term written out."""

        def targets(x: Array) -> Array:
            return np.asarray(x, dtype) if self.several else np.asarray(x, dtype)[..., None]

        X, y, w = np.asarray(self.X, dtype), targets(self.y), targets(self.weights)
        none, one = np.zeros((1, 1), dtype), np.ones((1, 1), dtype)
        b = none if self.intercept is None else targets(self.intercept)[..., None, :]
        o = none if self.offset is None else targets(self.offset)
        s = one if self.sample_weight is None else np.asarray(self.sample_weight, dtype)[..., None]
        n, d, t = *X.shape[-2:], w.shape[-1]
        arrays = {"X": X, "y": y, "w": w, "b": b, "o": o, "s": s}
        shapes = {"X": (n, d), "y": (n, t), "w": (d, t), "b": (1, t), "o": (n, t), "s": (n, 1)}
        batches = {a.shape[:-2] for a in arrays.values()}
        batch = np.broadcast_shapes(*batches) if len(batches) > 1 else batches.pop()
        whole = {k: batch + shape for k, shape in shapes.items()}
        return Full(**{
            k: a if a.shape == whole[k] else np.broadcast_to(a, whole[k]) for k, a in arrays.items()
        })  # fmt: skip

    def squeeze(self, loss: Array, weights: Array, intercept: Array) -> tuple[Array, Array, Array]:
        """Take the axis of targets off again where the problem has none."""
        if self.several:
            return loss, weights, intercept
        return loss, weights[..., 0], intercept[..., 0]

    def exact(self, dtype: DTypeLike = WIDE) -> tuple[Array, Array, Array]:
        """Return loss, weight and intercept gradient by the textbook formulas in `dtype`."""
        p = self.full(dtype)
        value, gradient = scales(self.reduction, p.s.sum((-2, -1)) * p.w.shape[-1])
        r = p.X @ p.w + p.b + p.o - p.y
        sr = p.s * r
        loss = value * (sr * r).sum((-2, -1))
        weights = gradient[..., None, None] * (np.swapaxes(p.X, -1, -2) @ sr)
        return self.squeeze(loss, weights, gradient[..., None] * sr.sum(-2))


@dataclass(frozen=True, eq=False)
class Full:
    """X (…,n,d), y and o (…,n,t), w (…,d,t), b (…,1,t), sample weights s (…,n,1); one batch."""

    X: Array
    y: Array
    w: Array
    b: Array
    o: Array
    s: Array


def scales(reduction: str, count: Any) -> tuple[Array, Array]:
    """Return the factors of the sum of squares and of the sum of residual times input."""
    half = 0.5 if reduction.startswith("half") else 1.0
    value = half / np.asarray(count) if reduction.endswith("mean") else half * np.ones_like(count)
    return np.asarray(value), np.asarray(2 * value)


def linear(
    rng: np.random.Generator,
    n: int,
    d: int,
    t: int | None = None,
    batch: Shape = (),
    dtype: DTypeLike = np.float64,
    reduction: str = "mean",
    draw: Any = normal,
    parts: str = "",
) -> Linear:
    """Draw a problem; `parts` holds b, o and s for an intercept, an offset and sample weights.

    Every fourth sample weight is zero; the others are 1 to 4.
    """
    targets = () if t is None else (t,)
    weights = np.broadcast_to(np.arange(n) % 4 * 1.0, (*batch, n))
    return Linear(
        X=draw(rng, (*batch, n, d), dtype),
        y=draw(rng, (*batch, n, *targets), dtype),
        weights=draw(rng, (*batch, d, *targets), dtype),
        intercept=draw(rng, (*batch, *targets), dtype) if "b" in parts else None,
        offset=draw(rng, (*batch, n, *targets), dtype) if "o" in parts else None,
        sample_weight=rng.permuted(weights, axis=-1).astype(dtype) if "s" in parts else None,
        reduction=reduction,
    )


def exact_linear(
    rng: np.random.Generator, n: int, d: int, t: int | None, dtype: DTypeLike, parts: str = ""
) -> Linear:
    """Draw a problem of small integers whose every partial sum is exact, with one wide entry.

    Any order of summation, fused or not, then gives the same answer, and a column, row or product
    taken through a narrower dtype does not.
    """
    p = linear(rng, n, d, t, dtype=dtype, reduction="sum", draw=integers, parts=parts)
    if n and d and t != 0:
        row, column = rng.integers(n), rng.integers(d)
        p.X[row, column] = probe(dtype)
        p.weights[column] = np.arange(t or 1) == 0 if p.several else 1
    f = p.full(np.float64)
    size = np.abs(f.X) @ np.abs(f.w) + np.abs(f.b) + np.abs(f.o) + np.abs(f.y)
    r = np.abs(f.X @ f.w + f.b + f.o - f.y)
    for sums in (size, np.abs(f.X).T @ (f.s * r), (f.s * r * r).sum()):
        assert np.max(sums, initial=0) < 2.0 / np.finfo(dtype).eps, "not exact"
    return p
