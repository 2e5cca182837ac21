"""The arithmetic under test: how far its roundings can take a result.

u is half an ulp of 1. Each operation returns the exact result times (1 + e), |e| <= u, or, where
numbers are subnormal, the exact result up to the smallest of them (IEEE 754, gradual underflow).
A sum of products is then the sum of the same products, each times at most K factors (1 + e), K
being the roundings on its way, so it is off by at most ((1 + u)^K - 1) |x|.|y|, in any order of
summation and fused or not (Higham, Accuracy and Stability of Numerical Algorithms, chapter 3;
his gamma(K) = K u / (1 - K u) is an upper bound of that factor, for K u < 1 only).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Tested = Literal["float32", "float64", "float16", "bfloat16", "tf32"]


class Format(NamedTuple):
    """A binary format: `bits` of precision, exponents of the smallest and largest numbers."""

    bits: int
    least: int  # exponent of the smallest subnormal number
    most: int  # every number is below 2**most

    @property
    def unit(self) -> float:
        """Half an ulp of 1."""
        return 2.0**-self.bits

    @property
    def tiny(self) -> float:
        """The smallest subnormal number."""
        return 2.0**self.least

    @property
    def vanishing(self) -> float:
        """What may be lost of a number near 0: all below the normal ones, float16 apart.

        Processors and instructions that flush subnormal numbers keep those of float16.
        """
        return self.tiny if self.most == 16 else self.tiny * 2.0 ** (self.bits - 1)

    @property
    def largest(self) -> float:
        """The largest finite number."""
        return (2.0 - 2.0 ** (1 - self.bits)) * 2.0 ** (self.most - 1)


FORMATS = {
    "float64": Format(53, -1074, 1024),
    "float32": Format(24, -149, 128),
    "float16": Format(11, -24, 16),
    "bfloat16": Format(8, -133, 128),
    "tf32": Format(24, -149, 128),  # what is stored; operands of products have 11 bits
}
FUNCTION = 8.0
"""What rsqrt, sqrt, exp, erf, erfc, tanh and log are assumed to be off by, in u: 4 ulps.

The largest error that CUDA's mathematical functions document for these in float32 (erfcf).
"""
_TF32_OPERAND = 2.0**-10  # cut off, as some processors do, not rounded
_TF32_SUM = 2.0**-23  # likewise


@dataclass(frozen=True)
class Arithmetic:
    """A dtype, and the accumulator that its sums are kept in.

    Attributes
    ----------
    name : str
    store, sums : Format
        What results are rounded to, and what sums and products are.
    converted : float
        1 if operands are rounded to the dtype first, 0 if it holds them; infinite if some are
        beyond its normal numbers.
    """

    name: str
    store: Format
    sums: Format
    operand_unit: float = 0.0
    sum_unit: float = 0.0
    converted: float = 0.0

    def growth(self, sums: float, stores: float = 0, operands: int = 0) -> float:
        """Return how far these roundings in a row can move a number of 1, rounded up.

        `sums` of them are the accumulator's, `stores` the dtype's; `operands` are those that
        TF32 takes from the factors of a product.
        """
        if not sums and not stores:
            return 0.0
        path = sums * math.log1p(self.sum_unit) + stores * math.log1p(self.store.unit)
        path += operands * math.log1p(self.operand_unit)
        return math.expm1(path) * (1 + 2.0**-40) if path < 700 else math.inf

    @property
    def final(self) -> int:
        """1 if a sum is rounded once more when it is stored."""
        return int(self.sums is not self.store)


def arithmetic_of(dtype: Any, accumulator: Any = None) -> Arithmetic:
    """Return the arithmetic of a dtype under test.

    Parameters
    ----------
    dtype : {"float32", "float64", "float16", "bfloat16", "tf32"} or numpy dtype
    accumulator : the same, optional
        Where sums are kept; None: in the dtype itself.

    Raises
    ------
    ValueError
        For another dtype, or an accumulator of less precision.

    Examples
    --------
    >>> arithmetic_of("float32").growth(1) >= 2.0**-24
    True
    """
    name, wide = _name(dtype, "dtype"), None
    if accumulator is not None:
        wide = _name(accumulator, "accumulator")
        if wide == "tf32" or FORMATS[wide].bits < FORMATS[name].bits:
            raise ValueError(
                f"accumulator is {wide} where dtype is {name}; sums are kept in a dtype of at "
                "least the same precision, such as 'float32' or 'float64'."
            )
    store = FORMATS[name]
    if name == "tf32":
        sums = FORMATS[wide or "float32"]
        unit = _TF32_SUM if wide in (None, "float32") else sums.unit
        return Arithmetic(name, store, sums, _TF32_OPERAND, unit)
    sums = FORMATS[wide] if wide else store
    return Arithmetic(name, store, sums, 0.0, sums.unit)


def _name(dtype: Any, argument: str) -> str:
    name = dtype if isinstance(dtype, str) else str(getattr(dtype, "dtype", dtype))
    if isinstance(dtype, type):
        name = dtype.__name__
    name = name.rpartition(".")[2]  # torch.float32
    if name not in FORMATS:
        raise ValueError(f"{argument} is {dtype!r}; choose one of {', '.join(FORMATS)}.")
    return name


def rounded(x: Any, bits: int) -> Floats:
    """Return numbers rounded to this many bits, ties to even, for any exponent.

    Examples
    --------
    >>> float(rounded(2049.0, 11))
    2048.0
    """
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    result: Floats = np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits)
    return result
