"""Work in the core, some 40 ms at a time.

Between two slices Python sees signals, a progress callable is called, and a mapped file that shrank
is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from gdcore.data.memmap import raise_if_lost

SECONDS = 0.04  # of a slice
_Tick = Callable[[], None]
_tick: ContextVar[_Tick | None] = ContextVar("_tick", default=None)


def run(work: Callable[[float], bool]) -> None:
    """Call `work` with the seconds of a slice until it returns True."""
    while not work(SECONDS):
        look()


def look() -> None:
    """Do what is due between two slices; DataLostError if a file lost rows that are being read."""
    tick()
    raise_if_lost()


def tick() -> None:
    """Call what `ticking` set."""
    call = _tick.get()
    if call is not None:
        call()


@contextmanager
def ticking(call: _Tick | None) -> Iterator[None]:
    """Have `tick` call this; None for nothing."""
    token = _tick.set(call)
    try:
        yield
    finally:
        _tick.reset(token)
