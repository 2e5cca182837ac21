"""Reading ahead: the next item comes while the last one is worked on."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import Empty, Full, Queue
from typing import Any, TypeVar

from gdcore.solvers.progress import tick

T = TypeVar("T")
_LOOK = 0.05  # seconds between two looks of who waits: is a reader still wanted, is an item there
_END = object()


def ahead(items: Iterator[T], patient: bool = False) -> Generator[T]:
    """Yield items that one thread reads: at most two are waiting.

    What reading raises is raised here. Closing this generator ends the thread, once it has read the
    item at hand. If `patient`, it waits for that: a thread inside pyarrow when the interpreter ends
    would abort the process.
    """
    ready: Queue[tuple[Any, BaseException | None]] = Queue(maxsize=1)
    unwanted = threading.Event()

    def offer(item: Any, error: BaseException | None = None) -> bool:
        while not unwanted.is_set():
            try:
                ready.put((item, error), timeout=_LOOK)
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
                item, error = ready.get(timeout=_LOOK)
            except Empty:
                tick()
                continue
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
            item = None  # lets its memory go before the next one is awaited
    finally:
        unwanted.set()
        thread.join(None if patient else 1.0)  # one that waits for a slow source ends by itself
