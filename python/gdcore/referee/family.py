"""A process with all that it started: stopping it, going on, killing, and what it did meanwhile."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_LISTS_CHILDREN = _PROC / "thread-self" / "children"
_PATIENCE = 1.0  # seconds for processes to wait
_PERSISTENCE = 10.0  # seconds for processes to stop or to end
_SCANS = 50  # that may find new processes each before those known are killed
_TICK = 0.0005
SPIN = 0.02  # seconds of processor time that threads of a pool may wait in a loop


class Family:
    """The descendants of a process, found anew each time.

    Parameters
    ----------
    keeper : int
        The process that gets what its descendants leave behind; it is not one of them.
    worker : int
        The child that matters.
    """

    def __init__(self, keeper: int, worker: int) -> None:
        self.keeper = keeper
        self.worker = worker
        self._stopped: list[int] = []

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called, and `resume` not yet."""
        return bool(self._stopped)

    def members(self) -> list[int]:
        """Return all descendants, the worker first; without /proc only the worker."""
        if not can_look():
            return [self.worker]
        found, new = [self.worker], [self.keeper, self.worker]
        while new:
            new = [pid for parent in new for pid in _children(parent) if pid not in found]
            found += dict.fromkeys(new)
        return found

    def halt(self) -> list[int]:
        """Send all members the signal to stop; return them."""
        if not self._stopped:
            _signal(-self.worker, signal.SIGSTOP)  # its group at once
        members = self.members()
        for pid in members:
            if pid not in self._stopped:
                _signal(pid, signal.SIGSTOP)
                self._stopped.append(pid)
        return members

    def stop(self) -> bool:
        """Stop all members, also those that are started or woken meanwhile; return whether."""
        end = time.perf_counter() + _PERSISTENCE
        while running := [pid for pid in self.halt() if not is_stopped(pid)]:
            if time.perf_counter() > end:
                return False
            time.sleep(_TICK)
            for pid in running:
                _signal(pid, signal.SIGSTOP)  # another one may have woken it
        return True

    def resume(self) -> None:
        """Let those members go on that `stop` has stopped."""
        for pid in self._stopped:
            _signal(pid, signal.SIGCONT)
        self._stopped = []

    def kill(self) -> bool:
        """Kill all members; return whether none was seen any more.

        They are all stopped first: those cannot start others, but count among the allowed ones.
        The keeper kills what is missed here.
        """
        end = time.perf_counter() + _PERSISTENCE
        _signal(-self.worker, signal.SIGKILL)  # its group at once
        known: list[int] = []
        scans = 0
        while members := [pid for pid in self.members() if is_alive(pid)]:
            if time.perf_counter() > end:
                return False
            scans += 1
            new = [pid for pid in members if pid not in known]
            for pid in new:
                _signal(pid, signal.SIGSTOP)
            known += new
            if not new or scans % _SCANS == 0:
                for pid in known:
                    _signal(pid, signal.SIGKILL)
                known = []
                time.sleep(_TICK)
        return True

    def work_left(self) -> float:
        """Return the seconds of processor time that members use until all of them wait.

        It gives up when they used more than threads of a pool do that wait in a loop for a while.
        """
        pids = self.members()
        if len(pids) == 1 and len(_threads(self.worker)) < 2:
            return 0.0
        end = time.perf_counter() + _PATIENCE
        before = sum(map(_cpu_seconds, pids))
        used = 0.0
        while any(map(_is_running, pids)) and used <= SPIN and time.perf_counter() < end:
            time.sleep(_TICK)
            pids = self.members()
            used = sum(map(_cpu_seconds, pids)) - before
        return max(used, 0.0)

    def memory(self) -> int:
        """Return the bytes that all members hold, shared ones counted several times."""
        return sum(map(_resident, self.members()))


def can_look() -> bool:
    """Return whether the system shows processes as files."""
    return (_PROC / "self" / "task").is_dir()


def is_stopped(pid: int) -> bool:
    """Return whether no thread of a process can run, also because it has ended."""
    if not can_look():
        return True
    return all(_state(thread) in "TtZXx" for thread in _threads(pid))


def is_alive(pid: int) -> bool:
    """Return whether a process has not ended."""
    if can_look():
        return _state(str(pid)) not in "ZXx"
    with suppress(OSError):
        os.kill(pid, 0)
        return True
    return False


def _state(path: str) -> str:
    """Return the letter that says what a process or thread does; X if it is gone."""
    with suppress(OSError, IndexError):
        return (_PROC / path / "stat").read_text().rpartition(")")[2].split()[0]
    return "X"


def _children(parent: int) -> list[int]:
    if not _LISTS_CHILDREN.exists():
        return [pid for pid in _processes() if _parent(pid) == parent]
    found: list[int] = []
    for thread in _threads(parent):
        with suppress(OSError):
            found += map(int, (_PROC / thread / "children").read_text().split())
    return found


def _processes() -> list[int]:
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]


def _parent(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int((_PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _threads(pid: int) -> list[str]:
    with suppress(OSError):
        return [f"{pid}/task/{task}" for task in os.listdir(_PROC / f"{pid}/task")]
    return []


def _is_running(pid: int) -> bool:
    return any(_state(thread) in "RD" for thread in _threads(pid))


def _cpu_seconds(pid: int) -> float:
    total = 0.0
    for thread in _threads(pid):
        with suppress(OSError, ValueError, IndexError):
            total += int((_PROC / thread / "schedstat").read_text().split()[0]) * 1e-9
    return total


def _resident(pid: int) -> int:
    with suppress(OSError, ValueError, IndexError):
        fields = (_PROC / f"{pid}/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGESIZE")
    return 0


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
