"""One set of bits: every kernel equals the scalar loops of csrc/reference byte for byte.

With every instruction set and thread count, in every size and for special values. Other files vary
the place in memory, the batch around a problem and the floating-point modes of the caller.
"""

from __future__ import annotations

import threading
from functools import cache, partial
from typing import Any

import numpy as np

import gdcore as gd
from conftest import ISAS
from loops import each
from operations import LARGE, OPERATIONS, Bits, Inputs, expected, inputs, operations, reference
from problems import SEGMENT, at_offset, canonical


@operations
def test_edges(isa: str, dtype: Any, name: str) -> None:
    run = OPERATIONS[name]
    for sizes in run.cases:
        assert run.bits(inputs(name, sizes, dtype)) == expected(name, sizes, dtype), sizes


@operations
def test_threads(isa_and_threads: Any, dtype: Any, name: str) -> None:
    for sizes in LARGE[name]:
        arrays = inputs(name, sizes, dtype)
        assert OPERATIONS[name].bits(arrays) == expected(name, sizes, dtype), sizes


@each("features", [*range(1, 21), 31, 48])
def test_every_number_of_features(isa: str, dtype: Any, features: int) -> None:
    """Models of few features have kernels of their own: rows in tails, in one segment, in many."""
    for rows in (1, 15, 16, 37, SEGMENT[np.dtype(dtype).name] + 5, 20_003):
        sizes = rows, features
        for name in ("linear", "matvec", "huber"):
            got = OPERATIONS[name].bits(inputs(name, sizes, dtype))
            assert got == expected(name, sizes, dtype), (name, sizes)


@each("terms", [1, 2, 3, 5, 8, 9, 17, 600])
def test_matrix_by_columns(isa: str, dtype: Any, terms: int) -> None:
    for rows in (1, 3, 8, 16, 37, 130):
        a, b = inputs("matvec", (rows, terms), dtype)
        want = expected("matvec", (rows, terms), dtype)
        assert OPERATIONS["matvec"].bits([np.array(a, order="F"), b]) == want, rows
        stack = np.stack([np.array(a.T), np.array(a.T)]).transpose(0, 2, 1)
        assert canonical(gd.matmul(stack, b)[1]) == want, rows


@each("features", [4, 13, 20, 40, 130])
def test_rows_from_memory(dtype: Any, features: int) -> None:
    """X larger than the caches is read in several places at a time, or few rows at a time."""
    rows = (32 << 20) // (features * np.dtype(dtype).itemsize) + 1500
    run = OPERATIONS["linear"]
    arrays = run.draw(np.random.default_rng(features), (rows, features), dtype)
    with reference():
        want = run.bits(arrays)
    for isa in ISAS:
        gd._core.set_isa(isa)
        assert run.bits(arrays) == want, isa


@cache
def streamed(dtype: Any) -> tuple[Inputs, Bits]:
    """Return predictions whose gradient is larger than the caches, and what the reference says."""
    arrays = inputs("mse", ((16 << 20) // np.dtype(dtype).itemsize + 3,), dtype)
    with reference():
        return arrays, canonical(*gd.mse_value_and_grad(*arrays))


def test_streamed_gradient_at_every_alignment(isa_and_threads: Any, dtype: Any) -> None:
    """Non-temporal stores write whole aligned vectors, wherever the result begins."""
    (pred, target), want = streamed(dtype)
    for offset in (0, 1, 16, 61):
        out = at_offset(np.zeros(pred.shape, dtype), offset)
        loss, grad = gd.mse_value_and_grad(pred, target, out=out)
        assert canonical(loss, grad) == want, offset


def special_values(dtype: Any) -> dict[str, list[float]]:
    info = np.finfo(dtype)
    tiny, small, big = float(info.smallest_subnormal), float(info.tiny), float(info.max)
    return {
        "zeros": [0.0, -0.0],
        "signed": [0.0, -0.0, 1.0, -1.0],
        "subnormal": [tiny, -tiny, 3 * tiny, small - tiny, -small, 1.0, 0.5],
        "underflow": [small, -small, small * 1.5, float(info.eps), 0.7, -0.3],
        "inf": [np.inf, 1.0, -2.0, 0.5, 3.0],
        "inf-and-zero": [np.inf, -np.inf, 0.0, -0.0, 1.0],
        "nan": [np.nan, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "overflow": [big, -big, big / 2, 1.0, -1.0],
        "everything": [np.inf, -np.inf, np.nan, 0.0, -0.0, tiny, -tiny, big, -big, 1.0, 0.1],
        "rounding": [1 + float(info.eps), (1 - float(info.eps)) * float(info.eps) / 2, 1 / 3, -1.0],
    }


@cache
def special(name: str, kind: str, dtype: Any) -> list[tuple[Inputs, Bits]]:
    """Return inputs of such values in several sizes, and what the reference says."""
    rng = np.random.default_rng(17)
    values = np.array(special_values(dtype)[kind], dtype)
    sizes = ((1, 1, 1), (3, 2, 2), (5, 4, 3), (17, 9, 7), (37, 41, 19), (530, 17, 2))
    drawn = [OPERATIONS[name].draw(rng, size, dtype, values) for size in sizes]
    with reference():
        return [(arrays, OPERATIONS[name].bits(arrays)) for arrays in drawn]


@operations
@each("kind", special_values(np.float32))
def test_special_values(isa: str, dtype: Any, name: str, kind: str) -> None:
    for arrays, want in special(name, kind, dtype):
        assert OPERATIONS[name].bits(arrays) == want, [x.shape for x in arrays]


def test_fma_is_not_emulated_in_double(isa: str) -> None:
    """1 + 2^-23 plus (1 + 2^-23)((1 - 2^-23) 2^-24), rounded once, is 0x1.000002p+0."""
    e = np.float32(2.0**-23)
    a, b = (
        np.array([[1, 1 + e]], np.float32),
        np.array([1 + e, (1 - e) * np.float32(2.0**-24)], np.float32),
    )
    columns = np.stack([b] * 16, axis=1)
    assert float(gd.matmul(a, columns)[0, 5]).hex() == "0x1.0000020000000p+0"


def test_every_instruction_set_was_forced() -> None:
    assert "baseline" in ISAS
    for name in ("reference", *ISAS):
        gd._core.set_isa(name)
        assert gd._core.get_isa() == name


def test_python_threads_call_at_once(dtype: Any) -> None:
    """Python threads call at the same time; each gets the bits of a single call."""
    names = list(OPERATIONS)
    want = {name: OPERATIONS[name].bits(inputs(name, LARGE[name][0], dtype)) for name in names}
    got: dict[str, Bits] = {}

    def work(name: str) -> None:
        got[name] = OPERATIONS[name].bits(inputs(name, LARGE[name][0], dtype))

    workers = [threading.Thread(target=partial(work, name)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert got == want
