"""One axis of an array as the last one of a matrix, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """A shape, and the axis whose lines are the rows (R,n)."""

    shape: tuple[int, ...]
    axis: int

    @classmethod
    def of(cls, what: str, shape: tuple[int, ...], axis: Any) -> Rows:
        """Return the rows along an axis; ValueError if there is no such axis."""
        try:
            at = range(len(shape))[axis]
        except (IndexError, TypeError):
            raise ValueError(
                f"{what}: axis is {axis!r} where x has shape {shape}; pass an axis from "
                f"{-len(shape)} to {len(shape) - 1}."
                if shape
                else f"{what}: x is a scalar; pass an array with at least one axis."
            ) from None
        return cls(shape, at)

    @property
    def count(self) -> int:
        """Elements of a row."""
        return self.shape[self.axis]

    @property
    def others(self) -> tuple[int, ...]:
        """The shape without the axis."""
        return self.shape[: self.axis] + self.shape[self.axis + 1 :]

    def reduced(self, keepdims: bool) -> tuple[int, ...]:
        """Return the shape of one number a row."""
        if not keepdims:
            return self.others
        return (*self.shape[: self.axis], 1, *self.shape[self.axis + 1 :])

    def along(self, axis: int) -> Rows:
        """Return the rows of the same array along another axis."""
        return Rows(self.shape, axis)

    def take(self, x: Array) -> Array:
        """Return the rows (R,n) of an array, in float64."""
        moved = np.moveaxis(x, self.axis, -1)
        rows = moved.reshape(math.prod(self.others), self.count)
        return rows.astype(np.float64, copy=False)

    def back(self, rows: Any) -> Array:
        """Return the array whose rows these are (R,n)."""
        return np.moveaxis(np.reshape(rows, (*self.others, self.count)), -1, self.axis)
