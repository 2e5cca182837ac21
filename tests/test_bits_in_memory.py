"""Bits do not depend on where arrays lie: strides, offsets, alignment, overlap."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

import gdcore as gd
from loops import each
from operations import OPERATIONS, Bits, expected, inputs, operations, reference
from problems import LAYOUTS, Array, Shape, at_offset, canonical, normal


def middle(name: str, dtype: Any) -> Shape:
    """Return sizes with a tail at every level."""
    return tuple([37, 41, 19][: len(OPERATIONS[name].cases[0])])


@operations
@each("layout", LAYOUTS)
def test_layouts(isa: str, dtype: Any, name: str, layout: str) -> None:
    """All inputs have the layout, then one input at a time."""
    sizes = middle(name, dtype)
    arrays = inputs(name, sizes, dtype)
    moved = [LAYOUTS[layout](x) for x in arrays]
    mixtures = [[*arrays[:i], m, *arrays[i + 1 :]] for i, m in enumerate(moved)]
    for mixture in (moved, *mixtures):
        assert OPERATIONS[name].bits(mixture) == expected(name, sizes, dtype)


@cache
def products(dtype: Any, m: int) -> list[tuple[Array, Array, Bits]]:
    """Return products around the edges of vectors and blocks of them, with the reference's bits."""
    rng = np.random.default_rng(23)
    found = []
    for k in (1, 2, 4, 7, 9, 16, 33) if m < 9 else (2, 9, 33):
        for n in (2, 4, 5, 8, 9, 17, 20, 33, 129):
            a, b = normal(rng, (3, m, k), dtype), normal(rng, (3, k, n), dtype)
            with reference():
                found.append((a, b, canonical(gd.matmul(a, b))))
    return found


@each("layout", LAYOUTS)
@each("m", [2, 101])
def test_packed_columns(isa: str, dtype: Any, layout: str, m: int) -> None:
    """Each way to pack b, alone and in a batch."""
    for a, b, want in products(dtype, m):
        assert canonical(gd.matmul(a, LAYOUTS[layout](b))) == want, b.shape
        assert canonical(gd.matmul(a, np.swapaxes(swapped(b, layout), 1, 2))) == want, b.shape


def swapped(b: Array, layout: str) -> Array:
    """Return b with its last two axes exchanged, in the layout."""
    return np.asarray(LAYOUTS[layout](np.ascontiguousarray(np.swapaxes(b, 1, 2))))


@each("layout", LAYOUTS)
def test_packed_rows(isa: str, dtype: Any, layout: str) -> None:
    """A product wide enough to pack a, whatever a's strides."""
    rng = np.random.default_rng(29)
    for m, k in ((1, 3), (5, 17), (14, 16), (23, 33), (103, 7)):
        a, b = normal(rng, (m, k), dtype), normal(rng, (k, 203), dtype)
        with reference():
            want = canonical(gd.matmul(a, b))
        assert canonical(gd.matmul(LAYOUTS[layout](a), b)) == want, (m, k)
        assert canonical(gd.matmul(swapped(a[None], layout)[0].T, b)) == want, (m, k)


@cache
def narrow_products(dtype: Any, n: int) -> list[tuple[Array, Array, Bits]]:
    """Return products of n columns with the reference's bits."""
    rng = np.random.default_rng(31)
    found = []
    for m in (15, 16, 17, 20, 21, 32, 35, 101):
        for k in (15, 16, 17, 20, 21, 31, 33, 530):
            a, b = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype)
            with reference():
                found.append((a, b, canonical(gd.matmul(a, b))))
    return found


@each("n", [2, 3, 4, 5])
@each("layout", ["offset-1", "fortran", "padded", "reversed", "steps-2"])
def test_few_columns(isa: str, dtype: Any, layout: str, n: int) -> None:
    """Lanes across the rows: tails of rows and of terms, and segments that are added."""
    for a, b, want in narrow_products(dtype, n):
        assert canonical(gd.matmul(LAYOUTS[layout](a), b)) == want, a.shape
        assert canonical(gd.matmul(a, LAYOUTS[layout](b))) == want, a.shape


@operations
def test_every_byte_offset(isa: str, dtype: Any, name: str) -> None:
    sizes = middle(name, dtype)
    arrays = inputs(name, sizes, dtype)
    for offset in range(64):
        moved = [at_offset(x, offset * (i + 1) % 64) for i, x in enumerate(arrays)]
        assert OPERATIONS[name].bits(moved) == expected(name, sizes, dtype), offset


@operations
def test_zero_strides(isa: str, dtype: Any, name: str) -> None:
    arrays = [np.broadcast_to(x.flat[0], x.shape) for x in inputs(name, middle(name, dtype), dtype)]
    with reference():
        expected = OPERATIONS[name].bits([x.copy() for x in arrays])
    assert OPERATIONS[name].bits(arrays) == expected


@operations
def test_overlapping_inputs(isa: str, dtype: Any, name: str) -> None:
    """Inputs may share memory: windows of one array that overlap."""
    arrays = inputs(name, middle(name, dtype), dtype)
    memory = normal(np.random.default_rng(5), (max(x.size for x in arrays) + 9,), dtype)
    windows = [memory[i : i + x.size].reshape(x.shape) for i, x in enumerate(arrays)]
    with reference():
        expected = OPERATIONS[name].bits([x.copy() for x in windows])
    assert OPERATIONS[name].bits(windows) == expected
