"""Progress of a fit: a rich bar on a terminal, plain lines elsewhere, or a user's callable."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
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
            return _Callback(progress, target)
        if not progress:
            return Progress()
        if sys.stderr.isatty():
            try:
                return _RichBar(first, target)
            except ImportError:
                pass
        return _Lines(target)


class _Callback(Progress):
    def __init__(self, call: Callable[[int, int, float], None], target: int) -> None:
        self._call, self._target = call, target

    def update(self, epoch: int, loss: float) -> None:
        self._call(epoch, self._target, loss)


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
