"""One set of bits: every kernel equals the scalar loops of csrc/reference byte for byte.

Whatever the instruction set, the thread count, the place in memory, the strides, the batch around a
problem, the rows around a row and the floating-point modes of the caller.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from conftest import ISAS, THREADS
from loops import each
from problems import (
    CHUNK,
    EDGES,
    LAYOUTS,
    REDUCTIONS,
    Array,
    Linear,
    Shape,
    at_offset,
    canonical,
    normal,
)

Bits = list[tuple[str, Shape, bytes]]
Inputs = list[Array]


class Operation:
    """A kernel, how to draw its inputs for a tuple of sizes, and the sizes to try."""

    def __init__(
        self,
        run: Callable[..., Any],
        draw: Callable[..., Inputs],
        cases: list[Shape],
    ) -> None:
        self.run, self.draw, self.cases = run, draw, cases

    def bits(self, inputs: Inputs) -> Bits:
        """Return the bytes of everything the kernel returns."""
        return canonical(*self.run(*inputs))


def shapes(*patterns: str) -> Callable[..., Inputs]:
    """Draw arrays whose axes are letters, each letter one of the sizes in order of the alphabet.

    An array in capitals, sample weights, has no negative entries. `values`, if given, are the
    numbers to choose from.
    """

    def draw(rng: np.random.Generator, sizes: Shape, dtype: Any, values: Any = None) -> Inputs:
        named = dict(zip("abcdefg", sizes, strict=False))
        result = []
        for pattern in patterns:
            shape = tuple(named[c] for c in pattern.lower())
            x = normal(rng, shape, dtype) if values is None else rng.choice(values, shape)
            result.append(np.abs(x) if pattern.isupper() else np.asarray(x))
        return result

    return draw


def around(*base: int) -> list[Shape]:
    """List sizes: base with one entry after the other moved over all the edges."""
    return [(*base[:i], size, *base[i + 1 :]) for i in range(len(base)) for size in EDGES[1:]]


def run_mse(pred: Array, target: Array) -> Inputs:
    both = [gd.mse_value_and_grad(pred, target, reduction=r) for r in REDUCTIONS]
    losses = [gd.mse(pred, target, reduction=r) for r in (*REDUCTIONS, "none")]
    return [*losses, *(x for pair in both for x in pair)]


def run_linear(X: Array, y: Array, w: Array) -> Inputs:
    return Linear(X, y, w).outputs()


def run_linear_full(X: Array, y: Array, w: Array, b: Array, o: Array, s: Array) -> Inputs:
    some = (s > 0).any(-1).all()  # the mean over samples of no weight is an error
    kinds = ("half_sum", "mean") if some else ("half_sum",)
    return [x for kind in kinds for x in Linear(X, y, w, b, o, s, kind).outputs()]


def run_sgd(param: Array, grad: Array) -> Inputs:
    result = []
    for options in ({}, {"momentum": 0.9, "dampening": 0.3}, {"momentum": 0.9, "nesterov": True}):
        for decay in (0.0, 0.1):
            sgd, p = gd.SGD(lr=0.1, weight_decay=decay, **options), param.copy()  # type: ignore[arg-type]
            state = sgd.init(p)
            for _ in range(3):
                sgd.step(p, grad, state)
            result.append(p)
    return result


def run_matmul(a: Array, b: Array) -> Inputs:
    return [gd.matmul(a, b)]


def operation(run: Callable[..., Any], base: Shape, *patterns: str) -> Operation:
    return Operation(run, shapes(*patterns), around(*base))


LINEAR_FULL = "ab", "a", "b", "", "a", "A"
TARGETS_FULL = "ab", "ac", "bc", "c", "ac", "A"
OPERATIONS = {
    "matmul": operation(run_matmul, (13, 19, 21), "ab", "bc"),
    "matvec": operation(run_matmul, (13, 19), "ab", "b"),
    "mse": operation(run_mse, (1,), "a", "a"),
    "mse-2d": operation(run_mse, (5, 7), "ab", "ab"),
    "linear": operation(run_linear, (21, 11), "ab", "a", "b"),
    "linear-full": operation(run_linear_full, (21, 11), *LINEAR_FULL),
    "linear-targets": operation(run_linear, (21, 11, 5), "ab", "ac", "bc"),
    "linear-targets-full": operation(run_linear_full, (21, 11, 3), *TARGETS_FULL),
    "sgd": operation(run_sgd, (1,), "a", "a"),
}
LARGE: dict[str, list[Shape]] = {
    "matmul": [
        (101, 530, 133),
        (1100, 33, 70),
        (17, 1100, 40),
        (40, 9, 2100),
        (3, 530, 2100),
        (64, 520, 140),
        (65, 520, 140),
        (100, 40, 201),
        (101, 40, 201),
    ],
    "matvec": [(700, 1100), (5, 100_003), (100_003, 5)],
    "mse": [(500_001,), (2**22 + 3,)],
    "mse-2d": [(1100, 501)],
    "linear": [(20_003, 19), (3000, 600), (60_001, 1)],
    "linear-full": [(20_003, 19), (3000, 300), (60_001, 3)],
    "linear-targets": [(5003, 19, 6), (3000, 150, 2)],
    "linear-targets-full": [(5003, 19, 6), (900, 33, 20)],
    "sgd": [(100_003,)],
}

POOLED: dict[str, Shape] = {  # the least work that three threads share
    "matmul": (40, 530, 20),
    "matvec": (200, 1100),
    "mse": (200_003,),
    "mse-2d": (400, 501),
    "linear": (5003, 19),
    "linear-full": (5003, 19),
    "linear-targets": (2003, 19, 6),
    "linear-targets-full": (2003, 19, 6),
    "sgd": (20_003,),
}


@cache
def inputs(name: str, sizes: Shape, dtype: Any) -> Inputs:
    rng = np.random.default_rng([len(name), *sizes])
    return OPERATIONS[name].draw(rng, sizes, dtype)


@contextmanager
def reference() -> Iterator[None]:
    """Run on the scalar loops that define every bit."""
    isa = gd._core.get_isa()
    gd._core.set_isa("reference")
    try:
        yield
    finally:
        gd._core.set_isa(isa)


@cache
def expected(name: str, sizes: Shape, dtype: Any) -> Bits:
    with reference():
        return OPERATIONS[name].bits(inputs(name, sizes, dtype))


operations = each("name", OPERATIONS)


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
    """Narrow models have kernels of their own; rows in tails, one chunk and many."""
    for rows in (1, 15, 16, 37, CHUNK[np.dtype(dtype).name] + 5, 20_003):
        sizes = rows, features
        for name in ("linear", "matvec"):
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


@each("features", [4, 13])
def test_chunks_in_lockstep(dtype: Any, features: int) -> None:
    """X larger than the caches is read in several places at a time."""
    rows = (32 << 20) // (features * np.dtype(dtype).itemsize) + 1500
    run = OPERATIONS["linear"]
    arrays = run.draw(np.random.default_rng(features), (rows, features), dtype)
    with reference():
        want = run.bits(arrays)
    for isa in ISAS:
        gd._core.set_isa(isa)
        assert run.bits(arrays) == want, isa


def test_streamed_gradient_at_every_alignment(isa: str, dtype: Any) -> None:
    """Large gradients go past the caches, in whole aligned vectors."""
    pred, target = inputs("mse", (2**22 + 3,), dtype)
    want = canonical(gd.mse_value_and_grad(pred, target)[1])
    for offset in (1, 16, 61):
        out = at_offset(np.zeros(pred.shape, dtype), offset)
        gd.mse_value_and_grad(pred, target, out=out)
        assert canonical(out) == want


def middle(name: str, dtype: Any) -> Shape:
    """Return sizes with a tail at every level."""
    return tuple([37, 41, 19][: len(OPERATIONS[name].cases[0])])


@operations
@each("layout", LAYOUTS)
def test_layouts(isa: str, dtype: Any, name: str, layout: str) -> None:
    """Every input in the layout, then each input alone in it."""
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
    for k in (1, 2, 4, 7, 9, 16, 33):
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


@each("n", [2, 3, 4, 5])
@each("layout", ["offset-1", "fortran", "padded", "reversed", "steps-2"])
def test_few_columns(isa: str, dtype: Any, layout: str, n: int) -> None:
    """Lanes across the rows: tails of rows and of terms, and chunks that are added."""
    rng = np.random.default_rng(31)
    for m in (15, 16, 17, 20, 21, 32, 35, 101):
        for k in (15, 16, 17, 20, 21, 31, 33, 530):
            a, b = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype)
            with reference():
                want = canonical(gd.matmul(a, b))
            assert canonical(gd.matmul(LAYOUTS[layout](a), b)) == want, (m, k)
            assert canonical(gd.matmul(a, LAYOUTS[layout](b))) == want, (m, k)


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
    """Inputs may share memory: windows of one array, each a few elements on."""
    arrays = inputs(name, middle(name, dtype), dtype)
    memory = normal(np.random.default_rng(5), (max(x.size for x in arrays) + 9,), dtype)
    windows = [memory[i : i + x.size].reshape(x.shape) for i, x in enumerate(arrays)]
    with reference():
        expected = OPERATIONS[name].bits([x.copy() for x in windows])
    assert OPERATIONS[name].bits(windows) == expected


BATCHED = ("matmul", "linear", "linear-full", "linear-targets", "linear-targets-full")
PICKS = {
    "permuted": [3, 0, 4, 1, 2],
    "sliced": [0, 2, 4],
    "repeated": [1, 1, 1, 1, 1, 1, 1],
    "padded": [4, 4, 0, 1, 2, 3, 4, 0, 0],
    "single": [2],
}


@each("name", BATCHED)
@each("sizes", [(3, 2, 2), (9, 4, 3), (37, 41, 19), (600, 5, 3), (5, 600, 2)])
def test_batches(isa: str, dtype: Any, name: str, sizes: Shape) -> None:
    """A problem's bits do not depend on the problems beside it, nor on being in a batch."""
    kernel, rng = OPERATIONS[name], np.random.default_rng(7)
    problems_ = [kernel.draw(rng, sizes, dtype) for _ in range(5)]
    alone = [[np.asarray(x) for x in kernel.run(*p)] for p in problems_]
    stack = [np.stack(x) for x in zip(*problems_, strict=True)]
    for pick in PICKS.values():
        want = canonical(*(np.stack([out[i] for i in pick]) for out in zip(*alone, strict=True)))
        assert kernel.bits([x[pick] for x in stack]) == want
    view = [x[::-2] for x in stack]
    want = canonical(*(np.stack([out[i] for i in (4, 2, 0)]) for out in zip(*alone, strict=True)))
    assert kernel.bits(view) == want


@each("name", BATCHED)
def test_batches_over_threads(isa_and_threads: Any, dtype: Any, name: str) -> None:
    """Enough problems for each thread to take whole ones, and more than are taken at once."""
    rng = np.random.default_rng(19)
    problems_ = [OPERATIONS[name].draw(rng, (33, 7, 2), dtype) for _ in range(9)]
    stack = [np.stack(x * 78) for x in zip(*problems_, strict=True)]
    got = [x.reshape(78, -1) for x in OPERATIONS[name].run(*stack)]
    with reference():
        want = OPERATIONS[name].run(*(x[:9] for x in stack))
    assert canonical(*got) == canonical(*(np.tile(x.reshape(1, -1), (78, 1)) for x in want))


@each("n", [1, 2, 16, 40])
@each("k", [1, 3, 5, 9, 17, 40, 600])
def test_rows_do_not_depend_on_other_rows(isa: str, dtype: Any, n: int, k: int) -> None:
    rng = np.random.default_rng(11)
    a, b = normal(rng, (130, k), dtype), normal(rng, (k, n), dtype)
    whole = gd.matmul(a, b)
    for rows in (
        slice(0, 1),
        slice(129, 130),
        slice(0, 7),
        slice(3, 70),
        slice(None, None, -3),
        [5, 5, 99],
    ):
        assert canonical(gd.matmul(a[rows], b)) == canonical(whole[rows])
    assert canonical(gd.matmul(a[77], b)) == canonical(whole[77])
    assert canonical(gd.matmul(a, b[:, 0])) == canonical(gd.matmul(a, b[:, :1])[:, 0])


@each("reduction", ["sum", "mean"])
def test_elements_beside_zero_residuals(isa: str, dtype: Any, reduction: Any) -> None:
    """A prediction's gradient element is that element's alone."""
    rng = np.random.default_rng(13)
    pred, target = normal(rng, (600,), dtype), normal(rng, (600,), dtype)
    _, whole = gd.mse_value_and_grad(pred, target, reduction=reduction)
    changed = np.where(np.arange(600) % 5 == 0, pred, target)
    _, some = gd.mse_value_and_grad(changed, target, reduction=reduction)
    assert canonical(some[::5]) == canonical(whole[::5])


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


@operations
@each("kind", special_values(np.float32))
def test_special_values(isa: str, dtype: Any, name: str, kind: str) -> None:
    rng = np.random.default_rng(17)
    values = np.array(special_values(dtype)[kind], dtype)
    for sizes in ((1, 1, 1), (3, 2, 2), (5, 4, 3), (17, 9, 7), (37, 41, 19), (530, 17, 2)):
        arrays = OPERATIONS[name].draw(rng, sizes, dtype, values)
        with reference():
            want = OPERATIONS[name].bits(arrays)
        assert OPERATIONS[name].bits(arrays) == want, sizes


def test_fma_is_not_emulated_in_double(isa: str) -> None:
    """1 + 2^-23 plus (1 + 2^-23)((1 - 2^-23) 2^-24), rounded once, is 0x1.000002p+0."""
    e = np.float32(2.0**-23)
    a, b = (
        np.array([[1, 1 + e]], np.float32),
        np.array([1 + e, (1 - e) * np.float32(2.0**-24)], np.float32),
    )
    columns = np.stack([b] * 16, axis=1)
    assert float(gd.matmul(a, columns)[0, 5]).hex() == "0x1.0000020000000p+0"


# Floating-point modes that other code may leave behind in a thread.

X86 = platform.machine() == "x86_64"
MODES: dict[str, int] = {
    "x86_64": {"up": 0x800, "down": 0x400, "to-zero": 0xC00, "flush": 0x8040},
    "aarch64": {"up": 0x400000, "down": 0x800000, "to-zero": 0xC00000, "flush": 1 << 24},
}.get(platform.machine(), {})
CONTROL = 7 if X86 else 0  # the place of MXCSR or FPCR in glibc's fenv_t, in words
libm = ctypes.CDLL(None)
foreign = pytest.mark.skipif(
    not MODES or platform.system() != "Linux", reason="the layout of fenv_t is known for Linux only"
)


def read_environment() -> Any:
    environment = (ctypes.c_uint32 * 16)()
    libm.fegetenv(environment)
    return environment


def control_word() -> int:
    """Return MXCSR or FPCR without the sticky exception flags."""
    return int(read_environment()[CONTROL]) & ~0x3F


@contextmanager
def mode(name: str) -> Iterator[None]:
    """Put the calling thread's floating point into a foreign mode."""
    saved = read_environment()
    try:
        if name == "flush":
            changed = read_environment()
            changed[CONTROL] |= MODES[name]
            libm.fesetenv(changed)
        else:
            assert libm.fesetround(MODES[name]) == 0
        yield
    finally:
        libm.fesetenv(saved)


def mode_inputs(name: str, sizes: Shape, dtype: Any) -> Inputs:
    """Mix ordinary numbers with subnormal ones."""
    arrays = [x.copy() for x in inputs(name, sizes, dtype)]
    for x in arrays[:2]:
        x.flat[::3] *= np.finfo(dtype).tiny
    return arrays


@foreign
@operations
@each("kind", ["up", "down", "to-zero", "flush"])
def test_foreign_modes(isa: str, dtype: Any, name: str, kind: str) -> None:
    """In a new thread, whose pool inherits the mode; the mode is found unchanged afterwards."""
    sizes = POOLED[name]
    arrays = mode_inputs(name, sizes, dtype)
    want = OPERATIONS[name].bits(arrays)
    got: dict[int, Inputs] = {}
    modes = []

    def work() -> None:
        with mode(kind):
            modes.append(control_word())
            for threads in THREADS[:3]:
                gd.set_num_threads(threads)
                got[threads] = OPERATIONS[name].run(*arrays)
            modes.append(control_word())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert modes[0] == modes[1] != control_word()
    for threads, outputs in got.items():
        assert canonical(*outputs) == want, threads


@foreign
@each("kind", ["up", "down", "to-zero", "flush"])
@each("narrow", ["float16", "float32", "int64", "uint64"])
def test_conversions_in_foreign_modes(kind: str, narrow: str) -> None:
    """Inputs of other dtypes are converted to the same bits in every mode."""
    numbers = {"float16": [6e-8, 1.5], "float32": [1e-45, 1.5]}.get(narrow, [2**53 + 1, 2**62 - 1])
    wide = "float32" if narrow == "float16" else "float64"
    a, b = np.array([numbers] * 9, narrow), np.full((2, 17), 1.0, wide)
    want = canonical(gd.matmul(a, b), gd.mse(a, b[:, :9].T), *run_linear(a, b[0, :9], b[:, 0]))
    with mode(kind):
        outputs = [gd.matmul(a, b), gd.mse(a, b[:, :9].T), *run_linear(a, b[0, :9], b[:, 0])]
    assert canonical(*outputs) == want


@foreign
def test_foreign_modes_are_really_set() -> None:
    tiny = np.full(4, np.finfo(np.float64).tiny)
    with mode("flush"):
        flushed = tiny * np.float64(0.5)
    assert (flushed == 0).all()
    assert (tiny * 0.5 > 0).all()


def test_every_instruction_set_was_forced() -> None:
    assert "baseline" in ISAS
    for name in ("reference", *ISAS):
        gd._core.set_isa(name)
        assert gd._core.get_isa() == name


def test_threads_at_once(dtype: Any) -> None:
    """Several Python threads call together; each gets the bits of a call alone."""
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
