"""Prefetch: a thread reads the next item while the last one is in use."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import Empty, Full, Queue
from typing import Any, TypeVar

from gdcore.data.slices import tick

T = TypeVar("T")
_POLL = 0.05  # seconds after which a thread that waits looks again
_END = object()


def ahead(items: Iterator[T], patient: bool = False) -> Generator[T]:
    """Yield items that a thread reads ahead: at most two wait.

    An error of reading is raised here. Closing this generator ends the thread, once it has read the
    current item. If `patient`, closing waits for that: a thread inside pyarrow when the interpreter
    ends would abort the process.
    """
    ready: Queue[tuple[Any, BaseException | None]] = Queue(maxsize=1)
    unwanted = threading.Event()

    def offer(item: Any, error: BaseException | None = None) -> bool:
        while not unwanted.is_set():
            try:
                ready.put((item, error), timeout=_POLL)
                return True
            except Full:
                pass
        return False

    def read() -> None:
        try:
            for item in items:
                if not offer(item):
                    return
            offer(_END)
        except BaseException as error:
            offer(_END, error)
        finally:
            if hasattr(items, "close"):
                items.close()

    thread = threading.Thread(target=read, name="gdcore-reader", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item, error = ready.get(timeout=_POLL)
            except Empty:
                tick()
                continue
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
            item = None  # free its memory before waiting for the next one
    finally:
        unwanted.set()
        thread.join(
            None if patient else 1.0
        )  # a thread that waits for a slow source ends by itself
