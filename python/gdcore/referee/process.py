"""A kernel's file in a confined process of its own; the clock and the golden values stay here."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
import weakref
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gdcore.oracle.trials import wire
from gdcore.oracle.trials.exchange import Exchange
from gdcore.oracle.trials.operand import Operand
from gdcore.oracle.trials.runner import Outcome
from gdcore.oracle.trials.shared import Shared
from gdcore.oracle.trials.wire import Broken
from gdcore.referee.confined import Confined

NO_CARD = "no card was used"
_clock = time.perf_counter
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {f"{unit}I": 1 << (10 * power) for power, unit in enumerate("KMGT", 1)}


class Sandbox:
    """Calls a function of a file in a process that has few rights.

    A fresh Python imports the file. What it may not reach is what the system allows to take away:
    see `limits`. The process is stopped whenever it is not its turn, with all that it started.

    Parameters
    ----------
    path : str or Path
        The file.
    role : str
        What the loader is to make of it: such as "candidate", "golden", "eager", "compiled".
    options : dict, optional
        More for the loader, as JSON.
    timeout : float
        Seconds for loading, and for each `run`; the process is killed when they are over.
    memory : str or int
        Bytes by which its address space may grow, such as "4GB". A quarter each is for the
        arguments and for the results of one `run`.
    processes : int
        Processes and threads that it may have.
    file_size : str or int
        Bytes of a file, and of all temporary files together.
    threads : int
        That a library may use for one operation.
    arrays : {"torch", "numpy", "jax"}
        What the function is given, unless it has an attribute `arrays` that says so.
    device : str
        "cpu" or "cuda".
    hidden : sequence of str or Path
        Files that it cannot read, such as the reference's.
    loader : str
        The function ``(path, role, options) -> callable`` that is called in the process, as
        "module:function" or "file.py:function".

    Attributes
    ----------
    about : dict
        What the loaded function says of itself, once `ready` has returned.
    error_kind : str
        The attribute `kind` of the exception that loading raised.
    perturb : bool
        Whether fresh memory holds poison. It costs a pass over the memory, so not for races.
    limits : tuple of str
        Sentences: what could not be kept from the process, or was not tried.

    Raises
    ------
    ValueError
        If a size is not one.
    """

    def __init__(
        self,
        path: str | Path,
        role: str = "candidate",
        options: dict[str, Any] | None = None,
        *,
        timeout: float = 60.0,
        memory: str | int = "4GB",
        processes: int = 64,
        file_size: str | int = "256MB",
        threads: int = 1,
        arrays: str = "torch",
        device: str = "cpu",
        hidden: Sequence[str | Path] = (),
        loader: str = "gdcore.referee.load:load",
    ) -> None:
        room, files = size_of(memory), size_of(file_size)
        self.about: dict[str, Any] = {}
        self.error_kind = ""
        self._device = device
        self._timeout = timeout
        self._begun = _clock()
        self._is_ready = False
        path, options = str(Path(path).resolve()), options or {}
        on_card = device != "cpu"
        self._shared = Shared(room // 4)
        self._line, theirs = socket.socketpair()
        self._process = Confined(
            [theirs.fileno(), self._shared.descriptor],
            _needed(path, options, loader, arrays),
            [str(Path(each).resolve()) for each in hidden],
            processes=processes,
            file_size=files,
            memory=2 * room + (1 << 30),
            threads=threads,
        )
        theirs.close()
        self._exchange = Exchange(
            self._line, self._shared, self._process, timeout, on_card, arrays == "jax"
        )
        self._finalizer = weakref.finalize(self, _close, self._exchange, self._line, self._shared)
        self._request = {
            "id": 0,
            "memory": self._shared.descriptor,
            "size": self._shared.size,
            "bytes": 0 if on_card else room,
            "secret": role != "candidate",
            "search": [os.path.abspath(each) for each in sys.path],
            "loader": loader,
            "path": path,
            "role": role,
            "options": options,
            "arrays": arrays,
            "device": device,
            "threads": threads,
        }
        wire.send(self._line, self._request)

    def end_within(self, seconds: float) -> None:
        """Have neither loading nor any `run` last longer than until so many seconds from now."""
        self._exchange.until = _clock() + seconds

    @property
    def perturb(self) -> bool:
        """Whether fresh memory holds poison."""
        return self._exchange.perturb

    @perturb.setter
    def perturb(self, value: bool) -> None:
        self._exchange.perturb = value

    @property
    def limits(self) -> tuple[str, ...]:
        """What could not be kept from the process, or was not tried; complete once it is ready."""
        limits = self._process.limits
        if self._request["arrays"] != "torch":
            limits += ("operations of NumPy and JAX are not listed",)
        if self._device == "cpu":
            return (*limits, NO_CARD)
        return (*limits, "its memory is not limited, since a card's is mapped into it")

    def ready(self) -> str:
        """Wait until the function is loaded; return "" or why it could not be, in a sentence."""
        if self._is_ready or self._exchange.over:
            return self._exchange.over
        try:
            self._process.started()
            answer = self._exchange.reply(min(self._begun + self._timeout, self._exchange.until))
            if "error" in answer:
                self.error_kind = str(answer.get("kind", ""))
                self._process.hold()
                raise Broken(str(answer["error"])[:1000])
            self._process.hold()
        except Broken as error:
            self._exchange.finish(str(error))
            return self._exchange.over
        about = answer.get("about")
        self.about = about if isinstance(about, dict) else {}
        self._is_ready = True
        return ""

    def run(self, calls: Sequence[Sequence[Operand]], *, trace: bool = False) -> Outcome:
        """Call the function with each set of arguments; see `Runner`.

        With `trace`, the operations of torch are listed; calls of NumPy cannot be seen, nor what a
        compiled function does inside.
        """
        error = self.ready()
        return Outcome(error=error, fatal=True) if error else self._exchange.run(calls, trace)

    def close(self) -> None:
        """Kill the process with all that it started, and remove its files."""
        self._finalizer()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(exchange: Exchange, line: socket.socket, shared: Shared) -> None:
    exchange.finish("the process was closed")
    line.close()
    shared.close()


def _needed(path: str, options: dict[str, Any], loader: str, arrays: str) -> list[str]:
    """Return files that the process cannot do without."""
    files = [sys.executable, path, __file__, os.__file__]
    files += [os.path.abspath(each) for each in sys.path if os.path.exists(each)]
    where = loader.rpartition(":")[0]
    files += [where] if where.endswith(".py") else []
    files += [each for each in options.values() if isinstance(each, str) and os.path.isfile(each)]
    for name in ("numpy", arrays):
        spec = find_spec(name)
        files += [spec.origin] if spec and spec.origin else []
    return files


def size_of(size: str | int) -> int:
    """Return a number of bytes, such as of "4GB", "512 MiB" or 1000000.

    Examples
    --------
    >>> size_of("4GB"), size_of("1.5 MiB"), size_of(7)
    (4000000000, 1572864, 7)
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?I?)B?\s*", str(size).upper())
    try:
        if match and (count := int(float(match[1]) * _UNITS[match[2]])) > 0:
            return count
    except (KeyError, ValueError):
        pass
    raise ValueError(f"{size!r} is not a size; write a number of bytes, or such as '4GB'")
