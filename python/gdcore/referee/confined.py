"""A confined process with all that it starts: starting, stopping, watching and killing it."""

from __future__ import annotations

import ctypes
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from gdcore.oracle.trials.forked import how
from gdcore.oracle.trials.wire import Broken
from gdcore.referee.family import SPIN, Family, can_look, is_alive, is_stopped

_HERE = Path(__file__).resolve().parent
_PR_SET_DUMPABLE = 4
_KEPT = ("PATH", "LD_LIBRARY_PATH", "CC", "CXX", "TZ", "CUDA_HOME", "CUDA_VISIBLE_DEVICES")
WORKS_ON = "threads or processes of it went on computing after its answer"
OUTLIVED = "processes that it had started were alive after its answer"
_LOOKS = 5  # in a row that find a process stopped, before it counts as having stopped itself
_START = 10.0  # seconds for a script without packages to start
_END = 0.2  # seconds for a process that is ending to have ended


class Confined:
    """A process that `keeper` starts; it implements `gdcore.oracle.trials.exchange.Control`.

    Parameters
    ----------
    descriptors : sequence of int
        Which the process inherits; the first is the line.
    readable, hidden : sequence of str
        Files that it must be able to read, and files that it must not.
    processes : int
    file_size : int
        Bytes, of each file and of all temporary ones together.
    memory : int
        Bytes for all its processes together; 0: not looked at.
    threads : int
        Of a library's pool.
    """

    _open: ClassVar[int] = 0  # how many need this process's memory closed to others

    def __init__(
        self,
        descriptors: Sequence[int],
        readable: Sequence[str],
        hidden: Sequence[str],
        *,
        processes: int,
        file_size: int,
        memory: int,
        threads: int,
    ) -> None:
        self.limits: tuple[str, ...] = ()
        self._processes, self._memory = processes, memory
        self._folder = tempfile.mkdtemp(prefix="gdcore-")
        self._family: Family | None = None
        self._closes_memory = self._close_memory(1)
        self._lines: list[dict[str, Any]] = []
        self._partial = b""
        self._looks_stopped = 0
        self._ended = False
        self._status, status = os.pipe()
        life, self._life = os.pipe()
        config = {
            "status": status,
            "life": life,
            "pass": list(descriptors),
            "folder": self._folder,
            "room": file_size,
            "file_size": file_size,
            "processes": processes,
            "others": _tasks_of_user() if os.geteuid() else 0,
            "number": random.SystemRandom().getrandbits(30),
            "readable": list(readable),
            "hidden": list(hidden),
            "command": [sys.executable, "-I", str(_HERE / "worker.py"), str(descriptors[0])],
            "environment": environment(self._folder, threads),
        }
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_HERE / "keeper.py"), json.dumps(config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={},
                pass_fds=(status, life, *descriptors),
            )
        finally:
            os.close(status)
            os.close(life)

    def started(self) -> None:
        """Wait until the process runs, and learn what could not be kept from it."""
        worker = self._line("worker", _START)
        self._family = Family(self._keeper.pid, worker["worker"])
        self.limits = tuple(self._line("limits", _START)["limits"])
        if worker["own_pids"] and self._closes_memory:
            self._closes_memory = self._close_memory(-1)
        if not can_look():
            self.limits += ("processes that it starts in sessions of their own are not found",)

    def resume(self) -> None:
        """Let it and all that it started go on."""
        self._looks_stopped = 0
        if self._family:
            self._family.resume()

    def halt(self) -> None:
        """Have it and all that it started stop, without waiting until it has."""
        if self._family:
            self._family.halt()

    def hold(self, watch: bool = False) -> tuple[str, ...]:
        """Stop it and all that it started; with `watch`, return what still ran, in sentences."""
        family = self._family
        if not family:
            return ()
        worked = watch and family.work_left() > SPIN
        if not family.stop():
            raise Broken("it could not be stopped")
        others = sum(map(is_alive, family.members()[1:])) if watch else 0
        return (WORKS_ON,) * worked + (OUTLIVED,) * (others > 0)

    def look(self) -> None:
        """Raise `Broken` if it stopped itself, or has too many processes or too much memory."""
        family = self._family
        if not family or not can_look():
            return
        if not is_alive(family.worker):
            raise Broken("it ended without an answer")
        stopped = is_stopped(family.worker)
        self._looks_stopped = self._looks_stopped + 1 if stopped else 0
        if self._looks_stopped >= _LOOKS:
            raise Broken("it stopped itself")
        if len(family.members()) > self._processes:
            raise Broken(f"it started more than {self._processes} processes")
        if self._memory and family.memory() > self._memory:
            raise Broken(
                f"it and what it started took more than {self._memory >> 20} MiB of memory"
            )

    def end(self) -> str:
        """Kill all its processes and remove its files; return how it had ended by itself."""
        if self._ended:
            return ""
        self._ended = True
        said = ""
        if self._family:
            with suppress(Broken):  # it has not ended
                if self._family.is_stopped:
                    raise Broken
                status = self._line("status", _END)["status"]
                said = f"the process ended by itself, {how(status)}"
            self._family.kill()
        os.close(self._life)
        try:
            self._keeper.wait(_START)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        os.close(self._status)
        if self._closes_memory:
            self._closes_memory = self._close_memory(-1)
        shutil.rmtree(self._folder, ignore_errors=True)
        return said

    def _line(self, name: str, patience: float) -> dict[str, Any]:
        """Return what the keeper says under a name."""
        end = time.perf_counter() + patience
        while True:
            for line in self._lines:
                if "failed" in line and name != "status":
                    raise Broken(f"the process could not be started: {line['failed']}")
                if name in line:
                    return line
            left = end - time.perf_counter()
            if left <= 0 or not select.select([self._status], [], [], left)[0]:
                raise Broken("the process could not be started in time")
            data = os.read(self._status, 1 << 16)
            if not data:
                raise Broken("the process could not be started")
            *lines, self._partial = (self._partial + data).split(b"\n")
            self._lines += map(json.loads, lines)

    @classmethod
    def _close_memory(cls, change: int) -> bool:
        """Close this process's memory to others of its user, as long as some process needs it."""
        if sys.platform != "linux":
            return False
        cls._open += change
        if cls._open in (0, 1):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0 if cls._open else 1, 0, 0, 0)
        return change > 0


def environment(folder: str, threads: int) -> dict[str, str]:
    """Return the environment of a confined process: of this one's, only where programs are."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    names = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
    pools = {f"{name}_NUM_THREADS": str(threads) for name in names}
    return (
        kept
        | pools
        | {
            "HOME": folder,
            "TMPDIR": folder,
            "USER": "kernel",
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
            "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no pool of processes
            # what the compiler tries first takes longer than what it compiles once
            "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0",
            "TORCHINDUCTOR_VEC_ISA_OK": "1",  # the processor's own list of what it has is believed
            "TRITON_CACHE_DIR": f"{folder}/triton",
            # threads of a pool that wait in a loop would look as if they went on computing
            "KMP_BLOCKTIME": "5",
            "OPENBLAS_THREAD_TIMEOUT": "20",
        }
    )


def _tasks_of_user() -> int:
    """Return how many threads this user has: a limit on their number counts them all."""
    count = 0
    user = os.geteuid()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if entry.stat().st_uid == user:
                count += len(os.listdir(entry / "task"))
    return count
