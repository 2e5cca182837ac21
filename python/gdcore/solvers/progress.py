"""Progress of a fit: a rich bar on a terminal, plain lines elsewhere, or a user's callable."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from gdcore.data.slices import ticking
from gdcore.typing import Show


class Progress:
    """Show nothing; the base of the classes that show something."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, epoch: int, loss: float) -> None:
        """Show the epochs done and the loss measured last."""

    def read(self, rows: int, size: int) -> None:
        """Show the rows read in this pass over chunks of rows, and their bytes."""

    @staticmethod
    def make(progress: Show, first: int, target: int) -> Progress:
        """Return what `fit(progress=...)` asks for, counting epochs from `first` to `target`."""
        if callable(progress):
            return _Callback.of(progress, first, target)
        if not progress:
            return Progress()
        if sys.stderr.isatty():
            try:
                return _RichBar(first, target)
            except ImportError:
                pass
        return _Lines(target)


class _Callback(Progress):
    quiet = 0.05  # seconds after which work between epochs is reported, too

    def __init__(self, call: Callable[[int, int, float], None], first: int, target: int) -> None:
        self._call, self._target, self._last = call, target, (first, math.nan)
        self._due = time.monotonic() + self.quiet

    @classmethod
    def of(cls, call: Callable[[int, int, float], None], first: int, target: int) -> _Callback:
        known = _reporting.get()
        if known is None or known._call is not call:
            return cls(call, first, target)
        known._target = target
        known._last = max(first, known._last[0]), known._last[1]
        return known

    def update(self, epoch: int, loss: float) -> None:
        self._last = epoch, loss
        self._report()

    def tick(self) -> None:
        if time.monotonic() >= self._due:
            self._report()

    def _report(self) -> None:
        epoch, loss = self._last
        self._call(epoch, self._target, loss)
        self._due = time.monotonic() + self.quiet


_reporting: ContextVar[_Callback | None] = ContextVar("_reporting", default=None)


def reporting(progress: Show, epochs: int, init: Any = None) -> AbstractContextManager[None]:
    """Have a callable called in work before, between and after the epochs of a fit, too."""
    if not callable(progress) and _reporting.get() is None:
        return nullcontext()
    first = getattr(init, "epochs", 0)
    first = first if isinstance(first, int) else 0
    return _calling(_Callback(progress, first, first + epochs) if callable(progress) else None)


@contextmanager
def _calling(callback: _Callback | None) -> Iterator[None]:
    token = _reporting.set(callback)
    try:
        with ticking(None if callback is None else callback.tick):
            yield
    finally:
        _reporting.reset(token)


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
