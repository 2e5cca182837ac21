"""The parent's side of the workers: start them, ask them one at a time, survive their deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socketpair
from typing import Any

_START = (
    "import os, sys; {bind}; sys.path[:] = {path!r}; from gdcore.bench.worker import main; main()"
)
# Another build's gdcore, measured by this harness: it comes before what an editable install finds.
_START_BEFORE = """
import os, sys; {bind}
from importlib.machinery import PathFinder

class Harness:
    def find_spec(name, path, target=None):
        if name.startswith("gdcore.bench"):
            return PathFinder.find_spec(name, [{folder!r}] if name == "gdcore.bench" else path)

sys.meta_path.insert(0, Harness)
from gdcore.bench.worker import main; main()
"""
BEFORE = {"before": "gdcore", "before-exact": "exact"}  # contestants of another build

_LONGEST = 1e6  # seconds: the system counts the milliseconds to wait in an int


class WorkerError(Exception):
    """A worker could not do what it was asked.

    Attributes
    ----------
    status : str
        ``failed``, ``unsupported`` or ``missing``.
    """

    def __init__(self, status: str, note: str) -> None:
        super().__init__(note)
        self.status = status


def usable_cpus() -> list[int]:
    """Return the CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class WorkerProcess:
    """A library in a process of its own, held to as many CPUs as it has threads.

    The process is stopped while it is not asked: idle threads of some libraries spin for seconds,
    on a CPU that the next one needs. It may die in foreign code: what it was asked then fails, and
    the next case finds a new process. With `before`, the Python of another build, `BEFORE` names
    what that build does. One that does not answer within `timeout` seconds is killed,
    and not started again: it would hang on the next case too.
    """

    def __init__(
        self,
        library: str,
        path: Path | None,
        threads: int,
        timeout: float,
        before: str | os.PathLike[str] | None = None,
    ) -> None:
        self.library, self.path, self.threads = library, path, threads
        self.timeout = timeout
        self.python = before if before and library in BEFORE else None
        self._hung = False
        self._start()

    def _start(self) -> None:
        ours, theirs = socketpair()
        cpus = usable_cpus()[-self.threads :]
        bind = f"os.sched_setaffinity(0, {cpus})" if hasattr(os, "sched_setaffinity") else "pass"
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        name = BEFORE[self.library] if self.python else self.library
        arguments = [str(theirs.fileno()), name, str(self.path or ""), str(self.threads)]
        start = _START_BEFORE if self.python else _START
        code = start.format(bind=bind, path=sys.path, folder=str(Path(__file__).parent.parent))
        with theirs:
            self._process = subprocess.Popen(
                [self.python or sys.executable, "-c", code, *arguments],
                env=os.environ | _environment(self.threads),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C reaches the parent alone
            )
        self._pipe = Connection(ours.detach())
        self._pipe.send(("open",))

    def opened(self) -> dict[str, Any]:
        """Wait for the library to be there, and return what it says of itself."""
        about = dict(self._answer())
        self._stop()
        return about

    def ask(self, method: str, *arguments: Any) -> Any:
        """Return what a method of the worker returns, or raise `WorkerError`."""
        if self._hung:
            raise WorkerError("failed", "it was killed before, when it did not answer in time")
        if self._process.poll() is not None:
            self.close()
            self._start()
            self.opened()
        self._process.send_signal(signal.SIGCONT)
        self._pipe.send((method, *arguments))
        try:
            return self._answer()
        finally:
            self._stop()

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)

    def _answer(self) -> Any:
        try:
            if not self._pipe.poll(min(self.timeout, _LONGEST)):
                raise WorkerError("failed", self._killed())
            kind, value = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise WorkerError("failed", self._death()) from None
        if kind != "done":
            raise WorkerError(kind, value)
        return value

    def _killed(self) -> str:
        """Kill a process that does not answer, which may be stopped, and return the reason."""
        self._hung = True
        self._process.kill()
        self._process.wait()
        return (
            f"it did not answer within {self.timeout:g} s and was killed; "
            "if it is only slow, set a longer timeout"
        )

    def _death(self) -> str:
        """Return what a process died of, with the last line it wrote."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        how = f"of signal {-code}" if code < 0 else f"with exit code {code}"
        return f"its process died {how}{': ' * bool(last)}{last}"

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._errors.close()


def _environment(threads: int) -> dict[str, str]:
    """Return what tells each library its thread count before it is imported."""
    many = str(threads > 1).lower()
    flags = f"--xla_cpu_multi_thread_eigen={many} intra_op_parallelism_threads={threads}"
    names = ("OMP", "OPENBLAS", "MKL", "BLIS", "GDCORE")
    return {f"{name}_NUM_THREADS": str(threads) for name in names} | {
        "NPROC": str(threads),
        "POLARS_MAX_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip(),
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": "cpu",
    }
