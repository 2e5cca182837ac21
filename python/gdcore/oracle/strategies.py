"""Hypothesis strategies for people who test kernels: shapes, strides and hostile values.

::

    from hypothesis import given
    from gdcore import oracle
    from gdcore.oracle import strategies

    @given(strategies.matmul_operands("float32"))
    def test_my_matmul(operands):
        oracle.assert_matches(my_matmul(*operands), oracle.matmul(*operands, dtype="float32"))

They need hypothesis: ``pip install 'gdcore[oracle]'``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp
except ImportError as error:
    raise ImportError("strategies need hypothesis; run: pip install 'gdcore[oracle]'.") from error

__all__ = ["arrays", "linear_operands", "matmul_operands", "mse_operands", "sides", "values"]

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

_SIDES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 129)  # beside what vectors hold


def sides(largest: int = 40, *, smallest: int = 0) -> st.SearchStrategy[int]:
    """Return sizes of one dimension, those around powers of two more often than others.

    Parameters
    ----------
    largest, smallest : int

    Examples
    --------
    >>> from hypothesis import find
    >>> find(sides(largest=40), lambda n: n > 30)
    31
    """
    special = [n for n in _SIDES if smallest <= n <= largest]
    plain = st.integers(smallest, largest)
    return st.sampled_from(special) | plain if special else plain


def values(
    dtype: Any = "float32", *, largest: float | None = None, special: bool = False
) -> st.SearchStrategy[float]:
    """Return numbers of a dtype that find mistakes.

    Zeros of both signs, whole numbers, neighbours of powers of two, one bit too many for the next
    narrower dtype, tiny, subnormal and huge numbers, and any other.

    Parameters
    ----------
    dtype : {"float16", "float32", "float64"}
    largest : float, optional
        Of the magnitudes; the square root of the dtype's largest by default, so that products do
        not overflow.
    special : bool
        Also NaN and infinities.
    """
    info = np.finfo(np.dtype(dtype))
    limit = math.sqrt(float(info.max)) if largest is None else float(largest)
    rounded = info.dtype.type(limit)
    top = float(rounded if rounded <= limit else np.nextafter(rounded, info.dtype.type(0)))
    tiny, least, eps = float(info.tiny), float(info.smallest_subnormal), float(info.eps)
    chosen = [0.0, 1.0, 1 + eps, 1 - eps / 2, 1 / 3, 2.0 ** (info.nmant // 2) + 1]
    chosen += [top, top / 2, math.sqrt(tiny), tiny, tiny - least, least]
    hostile = [float(info.dtype.type(v)) for v in chosen if v <= top]
    width: Any = info.bits
    whole = [float(n) for n in range(-min(8, int(top)), min(8, int(top)) + 1)]
    found = st.sampled_from(whole + hostile + [-v for v in hostile]) | st.floats(
        -top, top, width=width, allow_nan=False
    )
    return found | st.sampled_from([math.nan, math.inf, -math.inf]) if special else found


@st.composite
def arrays(
    draw: st.DrawFn,
    shape: Shape,
    dtype: Any = "float32",
    elements: st.SearchStrategy[float] | None = None,
) -> Array:
    """Return arrays of a shape in any layout.

    Axes in any order in memory, with gaps that hold NaN, running backwards, not aligned to more
    than an element, and read-only.

    Parameters
    ----------
    shape : tuple of int
    dtype : {"float16", "float32", "float64"}
    elements : strategy, optional
        `values` of the dtype by default.
    """
    kind = np.dtype(dtype)
    drawn = values(kind) if elements is None else elements
    plain = draw(hnp.arrays(kind, shape, elements=drawn, fill=drawn))  # large ones repeat numbers
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 2, 3, -1, -2])) for _ in shape]
    skipped = draw(st.integers(0, 3))
    sizes = [shape[axis] * abs(steps[axis]) for axis in order]
    memory = np.full(skipped + math.prod(sizes), np.nan, kind)[skipped:]
    wide = memory.reshape(sizes).transpose(np.argsort(order)) if shape else memory.reshape(())
    view: Array = wide[tuple(slice(None, None, step) for step in steps)]
    view[...] = plain
    view.flags.writeable = not draw(st.booleans())
    return view


@st.composite
def matmul_operands(
    draw: st.DrawFn, dtype: Any = "float32", *, largest: int = 40
) -> tuple[Array, Array]:
    """Return a (m, k) and b (k, n), sides from 0."""
    m, k, n = (draw(sides(largest)) for _ in range(3))
    return draw(arrays((m, k), dtype)), draw(arrays((k, n), dtype))


@st.composite
def mse_operands(
    draw: st.DrawFn, dtype: Any = "float32", *, largest: int = 40
) -> tuple[Array, Array]:
    """Return pred and target, of one shape with one to three axes, not empty."""
    shape = tuple(draw(st.lists(sides(largest, smallest=1), min_size=1, max_size=2)))
    return draw(arrays(shape, dtype)), draw(arrays(shape, dtype))


@st.composite
def linear_operands(
    draw: st.DrawFn, dtype: Any = "float32", *, largest: int = 40
) -> tuple[Array, Array, Array]:
    """Return X (n, d), y (n,) and weights (d,), with at least one row."""
    n, d = draw(sides(largest, smallest=1)), draw(sides(largest))
    return draw(arrays((n, d), dtype)), draw(arrays((n,), dtype)), draw(arrays((d,), dtype))
