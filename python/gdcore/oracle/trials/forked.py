"""A function in a forked process, so that a kernel and its golden function share no memory."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from gdcore.oracle.trials.exchange import Exchange
from gdcore.oracle.trials.operand import Operand
from gdcore.oracle.trials.runner import Outcome
from gdcore.oracle.trials.serving import Server
from gdcore.oracle.trials.shared import Shared

_PR_SET_PDEATHSIG = 1


class ForkedRunner:
    """Calls a function, which may be a lambda, in a process forked for it.

    Nothing confines the process; it is for functions that are trusted, such as golden ones. What
    the function changes in its memory is not seen here.

    Parameters
    ----------
    function : callable
        Takes arrays and returns one, or a tuple, list or dict of them.
    timeout : float
        Seconds for each `run`; the process is killed when they are over.
    arrays : {"numpy", "torch", "jax"}
        What the function is given. Arrays of JAX are safe only if JAX has computed nothing yet
        in this process: its threads are not forked.
    room : int
        Bytes for all arguments of one `run`, and for all results. They are taken when used.

    Examples
    --------
    >>> with ForkedRunner(lambda x: x.sum(axis=0)) as runner:
    ...     outcome = runner.run([[Operand.of([[1.0, 2.0], [3.0, 4.0]], "float32")]])
    >>> outcome.results[0].operands[0].values()
    array([4., 6.])
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        timeout: float = 60.0,
        arrays: str = "numpy",
        room: int = 1 << 31,
    ) -> None:
        if arrays == "torch":
            importlib.import_module(arrays)  # once, and not within the time of the first call
        self._shared = Shared(room)
        self._line, theirs = socket.socketpair()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of forking beside threads: the child uses none
            pid = os.fork()
        if not pid:
            self._line.close()
            _serve(function, theirs, self._shared, arrays)
        theirs.close()
        self._control = _Fork(pid)
        self._exchange = Exchange(
            self._line, self._shared, self._control, timeout, copies=arrays == "jax"
        )

    def run(self, calls: Sequence[Sequence[Operand]], *, trace: bool = False) -> Outcome:
        """Call the function with each set of arguments; see `Runner`."""
        return self._exchange.run(calls, trace)

    def close(self) -> None:
        """End the process."""
        self._exchange.finish("the process was closed")
        self._line.close()
        self._shared.close()

    def __enter__(self) -> ForkedRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Fork:
    """A child of this process, which nothing else ends."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def resume(self) -> None:
        """Do nothing: it was not stopped."""

    def halt(self) -> None:
        """Let it wait for the next request."""

    def hold(self, watch: bool = False) -> tuple[str, ...]:
        """Let it wait for the next request."""
        return ()

    def look(self) -> None:
        """Set no limits."""

    def end(self) -> str:
        """Kill the process if it is still there."""
        if not self._pid:
            return ""
        pid, self._pid = self._pid, 0
        time.sleep(0)  # one that is ending may do so
        with suppress(ChildProcessError):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return f"the process ended by itself, {how(status)}"
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return ""


def how(status: int) -> str:
    """Return how a process ended, from what `os.waitpid` says."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def _serve(function: Callable[..., Any], line: socket.socket, shared: Shared, arrays: str) -> None:
    """Serve the other process, and leave without what it has left to be done at exit."""
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)  # those of its pool are not forked
        server = Server(line, shared.descriptor, shared.size)
        server.use(function, arrays, "cpu")
        server.serve()
    finally:
        os._exit(1)
