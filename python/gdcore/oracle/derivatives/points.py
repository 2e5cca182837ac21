"""Where a function is evaluated: arrays of any library as one float64 vector, and back again."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gdcore.oracle.numbers.intake import dtype_name, to_numpy

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One argument of the function.

    `make` builds an array of the argument's own library from a NumPy array; cast=True gives it the
    argument's own dtype.
    """

    shape: tuple[int, ...]
    dtype: str
    make: Callable[[npt.NDArray[Any], bool], Any]

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Direction:
    """A line through the point: along one element, or along many.

    Derivatives along an element are by that element; along many, by t in x + t * vector.
    """

    vector: Vector
    element: int | None
    name: str
    length: float  # what one unit of the derivative's variable moves
    own_size: float  # of the elements, in that unit
    widest: float = 1.0  # t at which an element moves by the size of its argument's largest

    @property
    def unit(self) -> float:
        """How far t = 1 goes in the derivative's variable."""
        return 1.0 if self.element is None else float(self.vector[self.element])


@dataclass(frozen=True)
class Point:
    """The arguments of a function as one vector."""

    flat: Vector
    parts: tuple[Part, ...]
    several: bool  # x was a tuple of arrays: f(*x)

    def split(self, flat: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Cut (..., n) into arrays (..., *shape), one for each argument."""
        if len(self.parts) == 1:
            return [flat.reshape((*flat.shape[:-1], *self.parts[0].shape))]
        ends = np.cumsum([p.size for p in self.parts])[:-1]
        pieces = np.split(flat, ends, axis=-1)
        return [
            piece.reshape((*flat.shape[:-1], *part.shape))
            for piece, part in zip(pieces, self.parts, strict=True)
        ]

    def arguments(self, flat: npt.NDArray[Any], wide: bool) -> tuple[Any, ...]:
        """Build the arguments at `flat` again, in float64 (or complex) or each in its own dtype."""
        pieces = self.split(flat)
        return tuple(
            part.make(np.array(a), not wide) for part, a in zip(self.parts, pieces, strict=True)
        )

    def rounded(self, flat: Vector, wide: bool) -> Vector:
        """Return the point that `arguments` stands for, each part rounded to its dtype."""
        if wide:
            return flat
        pieces = zip(self.parts, self.split(flat), strict=True)
        return np.concatenate(
            [np.ravel(to_numpy("x", p.make(a, True))).astype(np.float64) for p, a in pieces]
        )

    @property
    def typical(self) -> Vector:
        """For each element the median size of its argument's elements; 1 where all are 0."""
        pieces = [np.abs(piece[piece != 0]) for piece in self.split(self.flat)]
        medians = [
            np.quantile(sizes, 0.5, method="higher") if sizes.size else 1.0 for sizes in pieces
        ]
        return np.repeat(medians, [part.size for part in self.parts])

    @property
    def reach(self) -> Vector:
        """The size of each element; that of a typical one where it is 0."""
        return np.where(self.flat == 0, self.typical, np.abs(self.flat))

    def elements(self) -> Iterator[Direction]:
        """Return a direction along each element, about as long as a typical one at least."""
        reach = self.reach
        lengths = 2.0 ** np.floor(np.log2(np.fmax(reach, self.typical)))
        largest = np.repeat(
            [np.max(piece, initial=0) for piece in self.split(reach)],
            [part.size for part in self.parts],
        )
        for i, length in enumerate(lengths):
            own, widest = float(reach[i]), float(largest[i] / length)
            vector = length * np.eye(1, len(reach), i)[0]
            yield Direction(vector, i, self.name(i), 1.0, own, widest)

    def directions(self, count: int, rng: np.random.Generator) -> Iterator[Direction]:
        """Return random directions that change each element by half to all of its size."""
        for k in range(count):
            v = self.reach * rng.uniform(0.5, 1.0, self.flat.size)
            v *= rng.choice([-1.0, 1.0], self.flat.size)
            yield Direction(v, None, f"direction {k}", float(norm(v)), 1.0)

    def name(self, index: int) -> str:
        """Return ``x[2, 0]``, or of several arguments ``x[1][2, 0]``, for the vector's element."""
        for k, part in enumerate(self.parts):
            if index < part.size:
                where = ", ".join(str(int(i)) for i in np.unravel_index(index, part.shape))
                argument = f"x[{k}]" if self.several else "x"
                return f"{argument}[{where}]" if part.shape else argument
            index -= part.size
        raise IndexError(index)


def norm(x: Vector) -> Vector:
    """Return the Euclidean norm over the last axis, also of numbers whose squares are none."""
    largest = np.max(np.abs(x), axis=-1, initial=0, keepdims=True)
    scaled = np.divide(x, largest, out=np.zeros_like(x), where=largest > 0)
    with np.errstate(over="ignore"):
        return np.asarray(largest[..., 0] * np.sqrt((scaled * scaled).sum(axis=-1)))


def point_of(x: Any) -> Point:
    """Read x, an array or a tuple or list of them, of float dtypes; else TypeError, ValueError."""
    several = isinstance(x, tuple) or (
        isinstance(x, list) and bool(x) and all(hasattr(each, "dtype") for each in x)
    )
    given = list(x) if several else [x]
    name = "x[{}]" if several else "x"
    values, parts = zip(*(_read(each, name.format(k)) for k, each in enumerate(given)), strict=True)
    return Point(np.concatenate([np.ravel(v) for v in values]), parts, several)


def _read(x: Any, name: str) -> tuple[Vector, Part]:
    array = to_numpy(name, x)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity; pass a finite point.")
    dtype = "bfloat16" if dtype_name(x) == "bfloat16" else array.dtype.name
    part = Part(array.shape, dtype, _maker(x, array.dtype))
    return array.astype(np.float64), part


def _maker(x: Any, dtype: np.dtype[Any]) -> Callable[[npt.NDArray[Any], bool], Any]:
    """Return a function that makes NumPy arrays into what x is."""
    library = type(x).__module__.partition(".")[0]
    if library == "torch":
        torch = sys.modules["torch"]

        def tensor(a: npt.NDArray[Any], cast: bool) -> Any:
            made = torch.as_tensor(a, device=x.device, dtype=x.dtype if cast else None)
            return made.requires_grad_(x.requires_grad)

        return tensor
    if library in ("jax", "jaxlib", "cupy"):
        make = sys.modules["cupy" if library == "cupy" else "jax.numpy"].asarray
        return lambda a, cast: make(a.astype(x.dtype) if cast else a)
    return lambda a, cast: a.astype(dtype) if cast else a
