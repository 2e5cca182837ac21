"""The probe of the machine's limits: rates are positive, and what makes no sense is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gdcore import _core
from loops import each

SHORT = 0.01


@each("single", [True, False])
@each("n_threads", [1, 2])
def test_fma(single: bool, n_threads: int, isa: str) -> None:
    rate = _core.probe_fma(single, n_threads, SHORT)
    assert math.isfinite(rate)
    assert rate > 0


@each("size", [1, 1000, 1 << 15, 5_000_001])
@each("kind", ["read", "write", "copy"])
@each("n_threads", [1, 3])
def test_bandwidth(kind: str, size: int, n_threads: int, isa: str) -> None:
    rate = _core.probe_bandwidth(kind, size, n_threads, SHORT)
    assert math.isfinite(rate)
    assert rate > 0


@each(
    "arguments, words",
    [
        (("triad", 1000, 1, SHORT), "kind is 'triad'; choose 'read', 'write' or 'copy'"),
        (("read", 0, 1, SHORT), "bytes is 0; give the size"),
        (("read", -8, 1, SHORT), "bytes is -8; give the size"),
        (("read", 1000, 0, SHORT), "threads is 0; give a number from 1 to 1024"),
        (("read", 1000, 1, 0.0), "seconds is 0.0+; give a positive number"),
        (("read", 1000, 1, math.nan), "seconds is nan; give a positive number"),
    ],
)
def test_bad_arguments_of_bandwidth(arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"probe_bandwidth: {words}"):
        _core.probe_bandwidth(*arguments)


@each(
    "arguments, words",
    [
        ((True, 1025, SHORT), "threads is 1025; give a number from 1 to 1024"),
        ((True, 1, -1.0), "seconds is -1.0+; give a positive number"),
        ((True, 1, math.inf), "seconds is inf; give a positive number"),
    ],
)
def test_bad_arguments_of_fma(arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"probe_fma: {words}"):
        _core.probe_fma(*arguments)
