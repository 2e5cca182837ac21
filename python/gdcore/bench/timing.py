"""One timed round: how many repeats it takes, and when the machine is quiet again."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from time import perf_counter, process_time, sleep  # whoever is timed may change the module
from typing import Any

_WAKING = 0.02  # seconds; a longer call does not notice that threads and caches had to warm up
_LONG = 0.1  # seconds; a call that no disturbance makes look much longer
_PATIENCE = 0.5  # seconds to wait for idle threads to stop spinning
_ALIKE = 2  # times as long; noise alone may cause it
_QUIET = 3  # milliseconds in a row without work: on a busy machine a thread may just have to wait


class Kept:
    """A function of repeats that keeps what its last call returned."""

    def __init__(self, run: Callable[[int], Any]) -> None:
        self.run = run
        self.result: Any = None

    def __call__(self, repeats: int) -> Any:
        """Call it."""
        self.result = self.run(repeats)
        return self.result


def calibrate(run: Callable[[int], Any], seconds: float) -> tuple[int, float]:
    """Return how many repeats last about `seconds`, at least one, and how long one takes."""
    repeats = 1
    while True:
        elapsed = _elapsed(run, repeats)
        if elapsed < _LONG:  # a second look, as another process may have had the CPU
            elapsed = min(elapsed, _elapsed(run, repeats))
        if elapsed >= seconds / 2 or repeats >= 2**30:
            last = max(elapsed, 1e-9) / repeats
            return max(1, round(seconds / last)), last
        repeats *= 2 if elapsed > seconds / 20 else 10


def equal_repeats(found: Mapping[str, tuple[int, float]]) -> dict[str, int]:
    """Return repeats for each name, the same for those that take about as long.

    A longer round is interrupted more often, a shorter one has colder caches, and the noise of
    `calibrate` must not decide who has which.

    Parameters
    ----------
    found : dict of str to tuple
        What `calibrate` returned.

    Examples
    --------
    >>> equal_repeats({"a": (30, 1.1), "b": (33, 1.0), "c": (3, 9.0)})
    {'b': 33, 'a': 33, 'c': 3}
    """
    repeats: dict[str, int] = {}
    common, fastest = 0, 0.0
    for name, (count, seconds) in sorted(found.items(), key=lambda item: item[1][1]):
        if seconds > _ALIKE * fastest:
            common, fastest = count, seconds
        repeats[name] = common
    return repeats


def timed_round(run: Callable[[int], Any], repeats: int, expected: float) -> float:
    """Return the seconds a repeat takes.

    Parameters
    ----------
    expected : float
        About how long a repeat takes; a short one is run once before, to wake threads and caches.
    """
    if expected < _WAKING:
        run(1)
    with _without_garbage_collection():
        return _elapsed(run, repeats) / repeats


def timed_calls(run: Callable[[int], Any], count: int, pause: float) -> list[float]:
    """Return the seconds of each of some calls, and rest for `pause` seconds before each."""
    seconds = []
    with _without_garbage_collection():
        for _ in range(count):
            if pause:
                sleep(pause)
            seconds.append(_elapsed(run, 1))
    return seconds


def midmean(seconds: Sequence[float]) -> float:
    """Return the mean of the middle half: no interruption counts, and every usual layout does.

    Examples
    --------
    >>> midmean([1.0, 1.25, 1.25, 90.0]), midmean([7.0])
    (1.25, 7.0)
    """
    cut = len(seconds) // 4
    return fmean(sorted(seconds)[cut : len(seconds) - cut])


def settle() -> None:
    """Wait until the threads of this process sleep: idle OpenMP pools spin for a while."""
    begin, quiet = perf_counter(), 0
    while quiet < _QUIET and perf_counter() - begin < _PATIENCE:
        used = process_time()
        sleep(0.001)
        quiet = quiet + 1 if process_time() - used < 0.0002 else 0


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _elapsed(run: Callable[[int], Any], repeats: int) -> float:
    begin = perf_counter()
    run(repeats)
    return perf_counter() - begin
