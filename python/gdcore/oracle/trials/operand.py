"""One argument or result of a kernel, as it lies in memory: no library is needed to hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FLOATS = ("float64", "float32", "float16", "bfloat16")
OTHERS = ("int64", "int32", "int16", "int8", "uint8", "bool")
SIZES = {"bfloat16": 2} | {
    name: np.dtype(name).itemsize for name in (*FLOATS, *OTHERS) if name != "bfloat16"
}


@dataclass(frozen=True)
class Operand:
    """Numbers in the memory layout in which a kernel gets or returns them.

    Attributes
    ----------
    raw : bytes
        The storage, from the first element to the last one that `strides` reach.
    dtype : str
        One of `FLOATS` or `OTHERS`.
    shape, strides : tuple of int
        Strides count elements and are not negative.
    """

    raw: bytes
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, values: Any, dtype: str, order: tuple[int, ...] | None = None) -> Operand:
        """Return values rounded to a dtype, contiguous along the axes in the order given.

        Parameters
        ----------
        values : array_like
        dtype : str
        order : tuple of int, optional
            Axes from the slowest to the fastest; None: as they are.

        Examples
        --------
        >>> Operand.of([[1.0, 2.0], [3.0, 4.0]], "float32", order=(1, 0)).strides
        (1, 2)
        """
        array = np.asarray(values)
        axes = tuple(range(array.ndim)) if order is None else order
        laid = np.array(encoded(array, dtype).transpose(axes), order="C")  # also without axes
        strides = [0] * array.ndim
        for axis, stride in zip(axes, laid.strides, strict=True):
            strides[axis] = stride // laid.itemsize
        return cls(laid.tobytes(), dtype, array.shape, tuple(strides))

    @property
    def is_float(self) -> bool:
        """Whether rounding means anything for its numbers."""
        return self.dtype in FLOATS

    @property
    def size(self) -> int:
        """How many elements it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def span(self) -> int:
        """How many elements its storage has."""
        return len(self.raw) // SIZES[self.dtype]

    def values(self) -> Array:
        """Return the numbers (shape): float64 of floats, all others in their own dtype."""
        stored = np.frombuffer(self.raw, "<u2" if self.dtype == "bfloat16" else self.dtype)
        steps = tuple(stride * stored.itemsize for stride in self.strides)
        return decoded(np.lib.stride_tricks.as_strided(stored, self.shape, steps), self.dtype)

    def description(self) -> dict[str, Any]:
        """Return all but the numbers, as JSON has it."""
        return {"dtype": self.dtype, "shape": list(self.shape), "strides": list(self.strides)}


def encoded(values: Array, dtype: str) -> Array:
    """Return numbers rounded to a dtype, ties to even; those of bfloat16 as their 16 bits.

    Examples
    --------
    >>> [hex(x) for x in encoded(np.array([1.0, -2.0, np.inf]), "bfloat16")]
    ['0x3f80', '0xc000', '0x7f80']
    """
    with np.errstate(all="ignore"):
        if dtype != "bfloat16":
            return values.astype(dtype)
        x = values.astype(np.float64)
        single = x.astype(np.float32)
        # to odd, so that the second rounding sees what the first one lost
        bits = single.view(np.uint32)
        back = single.astype(np.float64)
        inexact = np.isfinite(single) & (back != x)
        lower = np.where(np.abs(back) > np.abs(x), bits - 1, bits)
        bits = np.where(inexact, lower | 1, bits)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return np.where(np.isnan(x), 0x7FC0 | (bits >> 16), rounded).astype(np.uint16)


def decoded(stored: Array, dtype: str) -> Array:
    """Return what `encoded` made, as float64 where it is a dtype of floats."""
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return stored.astype(np.float64) if dtype in FLOATS else stored.copy()
