"""Bits do not depend on the floating-point modes that other code leaves in a thread."""

from __future__ import annotations

import threading
from functools import cache
from itertools import product
from typing import Any

import numpy as np

import gdcore as gd
from conftest import THREADS
from floating_point import control_word, foreign, mode
from loops import each
from operations import OPERATIONS, Bits, Inputs, inputs, reference, run_linear
from problems import Shape, canonical

POOLED: dict[str, Shape] = {  # the least work that three threads share
    "matmul": (40, 530, 20),
    "matvec": (200, 1100),
    "mse": (200_003,),
    "mse-2d": (400, 501),
    "linear": (5003, 19),
    "linear-full": (5003, 19),
    "linear-targets": (2003, 19, 6),
    "linear-targets-full": (2003, 19, 6),
    "huber": (5003, 19),
    "huber-targets": (2003, 19, 6),
    "sgd": (20_003,),
}


@cache
def pooled(name: str, dtype: Any) -> tuple[Inputs, Bits]:
    """Mix ordinary numbers with subnormal ones; return them and what the reference says."""
    arrays = [x.copy() for x in inputs(name, POOLED[name], dtype)]
    for x in arrays[:2]:
        x.flat[::3] *= np.finfo(dtype).tiny
    with reference():
        return arrays, OPERATIONS[name].bits(arrays)


@foreign
@each("kind", ["up", "down", "to-zero", "flush"])
def test_foreign_modes(isa: str, dtype: Any, kind: str) -> None:
    """In a new thread, whose pool inherits the mode; the mode is found unchanged afterwards."""
    off: list[Any] = []

    def work() -> None:
        with mode(kind):
            foreign_word = control_word()
            for name, threads in product(OPERATIONS, THREADS[:3]):
                arrays, want = pooled(name, dtype)
                gd.set_num_threads(threads)
                results = OPERATIONS[name].run(*arrays)
                if control_word() != foreign_word:
                    off.append((name, threads, "the mode"))
                outputs.append((name, threads, results, want))
            modes.append(foreign_word)

    modes: list[int] = []
    outputs: list[tuple[str, int, Inputs, Bits]] = []
    for name in OPERATIONS:
        pooled(name, dtype)  # while the mode is the usual one
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert modes != [control_word()]
    off += [(name, n) for name, n, results, want in outputs if canonical(*results) != want]
    assert len(outputs) == 3 * len(OPERATIONS)
    assert off == []


@foreign
@each("kind", ["up", "down", "to-zero", "flush"])
@each("narrow", ["float16", "float32", "int64", "uint64"])
def test_conversions_in_foreign_modes(kind: str, narrow: str) -> None:
    """Inputs of other dtypes are converted to the same bits in every mode."""
    tiny = {"float16": [6e-8, 2e-7], "float32": [1e-45, 3e-45]}
    numbers = tiny.get(narrow, [2**53 + 1, 2**53 + 3])  # ties, which modes round apart
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
