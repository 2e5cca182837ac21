"""The process that one library works in: it serves one request at a time, and else is stopped."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from gdcore.bench import layout, machine, probe, suites, timing
from gdcore.bench.case import Array, Case
from gdcore.bench.check import as_arrays
from gdcore.bench.libraries.base import Run, Unsupported
from gdcore.bench.libraries.registry import closed_forms, open_library

_LAYOUTS = 8  # in a round
_LARGE = 2**25 - 2**16  # bytes; glibc maps each larger block again, whatever was freed before
_SOON = 0.01  # seconds to prepare a case, more of which a round has time for only once


class ContractViolation(Exception):
    """A library did what no kernel may do."""


class Worker:
    """One library on a fixed number of threads, and the case it has loaded."""

    def __init__(self, name: str, path: Path | None, threads: int) -> None:
        self.library = open_library(name, path, threads)
        self.threads = threads
        self.rng = np.random.default_rng()
        np.empty(_LARGE, np.uint8)  # freed: from now on blocks up to that size come from the heap
        self.heap = layout.Heap(self.rng)
        self.make: Callable[..., Run] | None = None
        self.inputs = layout.Inputs((), self.rng)
        self.run: timing.Kept | None = None
        self.expected = self.preparing = 0.0

    def describe(self) -> dict[str, Any]:
        """Return what the library says of itself, its jobs, and its OpenMP runtimes."""
        jobs = [name for name in suites.JOBS if hasattr(self.library, name)]
        about = {"jobs": jobs, "closed_forms": closed_forms(self.library)}
        about["openmp"] = machine.openmp_runtimes()
        return self.library.describe() | about

    def load(self, case: Case, dtype: str) -> list[Array]:
        """Prepare a case and return the outputs of its first call."""
        self.unload()
        self.make = partial(getattr(self.library, case.job), case.computation)
        self.inputs = layout.Inputs(case.inputs(dtype), self.rng, lends=True)
        self._prepare()
        assert self.run is not None
        self.run(1)
        return self.last()

    def last(self) -> list[Array]:
        """Return the outputs of the last call, if the inputs still are what they were."""
        assert self.run is not None
        self._check()
        return [np.array(output) for output in as_arrays(self.run.result)]

    def calibrate(self, seconds: float) -> tuple[int, float]:
        """Return how many repeats make a round of `seconds`, and how long one takes."""
        begin = time.perf_counter()
        self._prepare()
        self.preparing = time.perf_counter() - begin
        assert self.run is not None
        repeats, self.expected = timing.calibrate(self.run, seconds)
        return repeats, self.expected

    def round(self, repeats: int) -> float:
        """Return the seconds of a call, the middle of several layouts of all data."""
        seconds = []
        parts = min(repeats, _LAYOUTS) if self.preparing < _SOON else 1
        for _ in range(parts):
            self.heap.shake()
            if self.preparing < max(_SOON, repeats * self.expected):
                self._prepare()
            assert self.run is not None
            seconds.append(timing.timed_round(self.run, repeats // parts, self.expected))
        return timing.midmean(seconds)

    def calls(self, count: int, pause: float, cpus: list[int]) -> list[float]:
        """Return the seconds of each of some calls on any of some CPUs, as programs make them."""
        self.heap.shake()
        self._prepare()
        assert self.run is not None
        with _free_to_move(cpus):
            self.run(1)
            return timing.timed_calls(self.run, count, pause)

    def unload(self) -> None:
        """Forget the case."""
        self.run = self.make = None
        self.inputs = layout.Inputs((), self.rng)

    def _prepare(self) -> None:
        """Have the library make what it needs for the case, of inputs at other addresses."""
        if self.run is not None:
            if self.inputs.stays:
                return
            self._check()
        assert self.make is not None
        self.run = None  # its memory is free for the next
        self.run = timing.Kept(self.make(*self.inputs.place()))

    def _check(self) -> None:
        if self.inputs.are_changed():
            raise ContractViolation("it changed its inputs")

    def limits(self, dtypes: tuple[str, ...], seconds: float) -> probe.Limits:
        """Measure what this machine can do."""
        return probe.measure(self.threads, dtypes, seconds)


@contextmanager
def _free_to_move(cpus: list[int]) -> Iterator[None]:
    """Let all threads of this process run on some CPUs for a while."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        _hold_to(cpus)
        yield
    finally:
        _hold_to(before)


def _hold_to(cpus: Iterable[int]) -> None:
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread), cpus)


def serve(pipe: Connection, name: str, path: Path | None, threads: int) -> None:
    """Answer requests ``(method, *arguments)`` with ``(kind, value)`` until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    worker: Worker | None = None

    def answer(method: str, *arguments: Any) -> Any:
        nonlocal worker
        if method == "open":
            worker = Worker(name, path, threads)
            return worker.describe()
        return getattr(worker, method)(*arguments)

    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        try:
            reply = ("done", answer(*request))
        except Unsupported as error:
            reply = ("unsupported", str(error))
        except ContractViolation as error:
            reply = ("failed", str(error))
        except ModuleNotFoundError as error:
            reply = ("missing", f"{error.name} is not installed")
        except Exception as error:
            reply = ("failed", f"{type(error).__name__}: {error}".splitlines()[0])
        pipe.send(reply)


def _die_with_the_parent() -> None:
    """Have the kernel kill this process, which may be stopped then, when its parent ends."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def main() -> None:
    """Serve the pipe whose file descriptor is the first argument."""
    _die_with_the_parent()
    descriptor, name, path, threads = sys.argv[1:]
    serve(Connection(int(descriptor)), name, Path(path) if path else None, int(threads))


if __name__ == "__main__":
    main()
