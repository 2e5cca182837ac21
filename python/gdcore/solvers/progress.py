"""Progress of a fit: a rich bar on a terminal, plain lines elsewhere, or a user's callable."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


class Progress:
    """Shows nothing; the base of those that do."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, epoch: int, loss: float) -> None:
        """Take note of the epochs done and the loss measured last."""

    def read(self, rows: int, size: int) -> None:
        """Take note of the rows read in this pass over chunks of rows, and of their bytes."""

    @staticmethod
    def make(
        progress: bool | Callable[[int, int, float], None], first: int, target: int
    ) -> Progress:
        """Return what `fit(progress=...)` asks for, counting epochs from `first` to `target`."""
        if callable(progress):
            return _Callback.known_as(progress, first, target)
        if not progress:
            return Progress()
        if sys.stderr.isatty():
            try:
                return _RichBar(first, target)
            except ImportError:
                pass
        return _Lines(target)


class _Callback(Progress):
    quiet = 0.05  # seconds after which work between epochs is told, too

    def __init__(self, call: Callable[[int, int, float], None], first: int, target: int) -> None:
        self._call, self._target, self._last = call, target, (first, math.nan)
        self._due = time.monotonic() + self.quiet

    @classmethod
    def known_as(
        cls, call: Callable[[int, int, float], None], first: int, target: int
    ) -> _Callback:
        known = _reporting.get()
        if known is None or known._call is not call:
            return cls(call, first, target)
        known._target = target
        known._last = max(first, known._last[0]), known._last[1]
        return known

    def update(self, epoch: int, loss: float) -> None:
        self._last = epoch, loss
        self._tell()

    def tick(self) -> None:
        if time.monotonic() >= self._due:
            self._tell()

    def _tell(self) -> None:
        epoch, loss = self._last
        self._call(epoch, self._target, loss)
        self._due = time.monotonic() + self.quiet


_reporting: ContextVar[_Callback | None] = ContextVar("_reporting", default=None)


@contextmanager
def reporting(
    progress: bool | Callable[[int, int, float], None], epochs: int, init: Any = None
) -> Iterator[None]:
    """Let `tick` reach a callable, in work before, between and after the epochs of a fit."""
    first = getattr(init, "epochs", 0)
    first = first if isinstance(first, int) else 0
    callback = _Callback(progress, first, first + epochs) if callable(progress) else None
    token = _reporting.set(callback)
    try:
        yield
    finally:
        _reporting.reset(token)


def tick() -> None:
    """Call a fit's progress callable again: a slice of work is done, though no epoch."""
    callback = _reporting.get()
    if callback is not None:
        callback.tick()


class _Lines(Progress):
    seconds = 1.0  # between two lines

    def __init__(self, target: int) -> None:
        self._target, self._next, self._shown = target, time.monotonic() + self.seconds, False
        self._last = ""

    def update(self, epoch: int, loss: float) -> None:
        self._show(f"epoch {epoch}/{self._target}  loss {loss:.6g}")

    def read(self, rows: int, size: int) -> None:
        self._show(_amount(rows, size))

    def _show(self, text: str) -> None:
        self._last = text
        if time.monotonic() >= self._next:
            print(self._last, file=sys.stderr)
            self._next = time.monotonic() + self.seconds

    def __exit__(self, *error: object) -> None:
        if self._last:
            print(self._last, file=sys.stderr)


class _RichBar(Progress):
    def __init__(self, first: int, target: int) -> None:
        import rich.console
        import rich.progress as rp

        columns: list[Any] = [
            rp.TextColumn("epoch"),
            rp.MofNCompleteColumn(),
            rp.BarColumn(),
            rp.TextColumn("{task.fields[loss]}"),
            rp.TimeRemainingColumn(),
        ]
        self._bar = rp.Progress(*columns, console=rich.console.Console(stderr=True), transient=True)
        self._task = self._bar.add_task("fit", total=target, completed=first, loss="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def update(self, epoch: int, loss: float) -> None:
        self._bar.update(self._task, completed=epoch, loss=f"loss {loss:.6g}")

    def read(self, rows: int, size: int) -> None:
        self._bar.update(self._task, loss=_amount(rows, size))


def _amount(rows: int, size: int) -> str:
    return f"{rows} rows, {size / 1e6:.1f} MB read"
