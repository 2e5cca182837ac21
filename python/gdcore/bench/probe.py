"""What this machine can do: peak of fused multiply-adds, bandwidth of each level of memory.

A kernel's limit is the larger of two times: its operations at the peak, and its bytes at the
bandwidth of the levels that hold what it goes over (the roofline model of Williams, Waterman and
Patterson, 2009). A level holds what it can of that, and the next one the rest; of what is more than
a few times its capacity, it holds nothing: the last bytes have driven out the first before they are
wanted again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import gdcore._core as _core
from gdcore.bench import machine
from gdcore.bench.case import Work

_TRAFFIC: tuple[Literal["read", "write", "copy"], ...] = ("read", "write", "copy")
_FALLBACK = 2**28  # bytes, where the size of the last cache is not known
_REACH = 4  # times its capacity, of which a level still holds a part
_TURNS = 3  # the best of these probes counts: other processes can only slow them


@dataclass(frozen=True)
class Level:
    """A level of memory as a number of threads sees it.

    Attributes
    ----------
    name : str
        ``L1``, ``L2``, ``L3`` or ``memory``.
    capacity : float
        Bytes it holds for those threads.
    read, write, copy : float
        Bytes a second; for a copy, read and written ones together.
    """

    name: str
    capacity: float
    read: float
    write: float
    copy: float

    def best(self, other: Level) -> Level:
        """Return the better of two measurements."""
        rates = (max(getattr(self, k), getattr(other, k)) for k in _TRAFFIC)
        return Level(self.name, self.capacity, *rates)

    def seconds(self, work: Work) -> float:
        """Return the time that moving the bytes of a call takes: a copy, and what is left over."""
        both = min(work.read, work.written)
        return (
            2 * both / self.copy
            + (work.read - both) / self.read
            + (work.written - both) / self.write
        )


@dataclass(frozen=True)
class Limits:
    """The limits of this machine for a number of threads.

    Attributes
    ----------
    threads : int
    peak : dict of str to float
        Operations a second by dtype.
    levels : tuple of Level
        From the smallest to memory.
    """

    threads: int
    peak: dict[str, float]
    levels: tuple[Level, ...]

    def best(self, other: Limits) -> Limits:
        """Return the better of two measurements, one after the other on one machine."""
        peak = {dtype: max(rate, other.peak[dtype]) for dtype, rate in self.peak.items()}
        pairs = zip(self.levels, other.levels, strict=True)
        return Limits(self.threads, peak, tuple(a.best(b) for a, b in pairs))

    def moving(self, work: Work) -> tuple[float, str]:
        """Return the time that moving a call's bytes takes, and the furthest level they are in."""
        seconds, rest = 0.0, 1.0
        for level in self.levels:
            if work.resident <= _REACH * level.capacity:
                share = min(rest, level.capacity / work.resident if work.resident else 1.0)
                seconds += share * level.seconds(work)
                rest -= share
            if not rest:
                break
        return seconds, level.name

    def floor(self, work: Work, dtype: str) -> tuple[float, str]:
        """Return the least seconds a call can take, and what limits it.

        Examples
        --------
        >>> memory = Level("memory", float("inf"), read=10e9, write=5e9, copy=8e9)
        >>> limits = Limits(1, {"float32": 100e9}, (memory,))
        >>> limits.floor(Work(flops=1e9, read=1e9, written=0, resident=1e9), "float32")
        (0.1, 'memory')
        >>> limits.floor(Work(flops=1e12, read=1e9, written=0, resident=1e9), "float32")
        (10.0, 'FMA peak')
        """
        computing = work.flops / self.peak[work.arithmetic or dtype]
        moving, name = self.moving(work)
        return (computing, "FMA peak") if computing >= moving else (moving, name)


def measure(threads: int, dtypes: tuple[str, ...], seconds: float) -> Limits:
    """Probe the peak of each dtype and each level's bandwidths, about `seconds` for each."""
    places = _places(threads)
    peak = dict.fromkeys(dtypes, 0.0)
    speeds = {(name, kind): 0.0 for name in places for kind in _TRAFFIC}
    for _ in range(_TURNS):
        for dtype in dtypes:
            rate = _core.probe_fma(dtype == "float32", threads, seconds / _TURNS)
            peak[dtype] = max(peak[dtype], rate)
        for name, kind in speeds:
            size = places[name][1]
            rate = _core.probe_bandwidth(kind, size, threads, seconds / _TURNS)
            speeds[name, kind] = max(speeds[name, kind], rate)
    levels = (
        Level(name, capacity, *(speeds[name, kind] for kind in _TRAFFIC))
        for name, (capacity, _) in places.items()
    )
    return Limits(threads, peak, tuple(levels))


@cache
def measured(threads: int, dtypes: tuple[str, ...], seconds: float) -> Limits:
    """Return what `measure` found in this process before, or measure now."""
    return measure(threads, dtypes, seconds)


def _places(threads: int) -> dict[str, tuple[float, int]]:
    """Return each level's capacity for these threads and the bytes to probe it with: half."""
    places: dict[str, tuple[float, int]] = {}
    for each in machine.caches():
        capacity = each.size * max(1, threads // each.cpus)
        places[f"L{each.level}"] = (capacity, capacity // 2)
    largest = max((capacity for capacity, _ in places.values()), default=0)
    return places | {"memory": (float("inf"), max(_FALLBACK, int(3 * largest)))}
