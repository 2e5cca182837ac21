"""Floating-point modes that other code may leave in a thread, and how to set them."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

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
