"""What a process does that calls a kernel for another one; the other believes none of it."""

from __future__ import annotations

import ctypes
import math
import mmap
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

from gdcore.oracle.trials import wire
from gdcore.oracle.trials.arrays import dtype_of, parts, plain
from gdcore.oracle.trials.libraries import Library, library, listing
from gdcore.oracle.trials.operand import SIZES
from gdcore.oracle.trials.runner import POISON, said
from gdcore.oracle.trials.shared import after

_PERTURB = -6  # glibc's M_PERTURB: freed memory is filled with it, new with its complement
_LARGEST_BLOCK = 1 << 25  # glibc maps each larger block again, so that it is zero


class Server:
    """A function, and the memory in which its arguments and results lie.

    Parameters
    ----------
    line : socket
        From which requests come.
    descriptor, size : int
        The shared file.
    """

    def __init__(self, line: socket.socket, descriptor: int, size: int) -> None:
        self.line = line
        self.memory = mmap.mmap(descriptor, size)
        self.part = size // 3
        self.calls: list[list[Any]] = []
        self.held: list[Any] = []
        self.trace: list[str] | None = None

    def use(self, function: Callable[..., Any], arrays: str, device: str) -> None:
        """Take a function, the arrays to give it ("torch", "numpy" or "jax"), and their place."""
        self.function = function
        self.library: Library = library(arrays, device)

    def serve(self) -> None:
        """Answer requests until the other side is gone."""
        steps = {
            "prepare": self._prepare,
            "go": self._go,
            "return": self._return,
            "settle": self._settle,
        }
        while True:
            try:
                request = wire.request(self.line)
            except (EOFError, OSError):
                return
            answer = {"id": request["id"]}
            try:
                answer |= steps[request["do"]](request)
            except BaseException as error:  # a kernel may raise SystemExit
                answer["error"] = said(error)
            wire.send(self.line, answer)

    def _prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        self.held, self.calls = [], []
        _perturb(request["perturb"])
        self.calls = self.library.views(self.memory, request["calls"])
        self.trace = [] if request["trace"] else None
        if request["trace"]:
            with listing([]):  # the first operation imports what a list takes
                self.library.poison([1])
        self.library.poison(request["poison"])
        return {}

    def _go(self, request: dict[str, Any]) -> dict[str, Any]:
        with nullcontext() if self.trace is None else listing(self.trace):
            for number, arguments in enumerate(self.calls):
                try:
                    self.held.append(self.function(*arguments))
                except BaseException as error:
                    return {"error": said(error), "call": number}
        self.library.wait()
        answer: dict[str, Any] = {"results": self._copy(self.part)}
        if self.trace is not None:
            answer["trace"] = self.trace
        return answer

    def _copy(self, offset: int) -> list[dict[str, Any]]:
        """Copy all results to the shared memory, one after the other."""
        described: list[dict[str, Any]] = []
        most = offset + self.part
        for result in self.held:
            try:
                arrays = [plain(part) for part in parts(result)]
                abouts = [_description(array) for array in arrays]
            except TypeError as error:
                described.append({"fault": str(error)})
                continue
            for array, about in zip(arrays, abouts, strict=True):
                end = after(offset, about["bytes"])
                if end > most:
                    raise MemoryError("the results are larger than the memory shared for them")
                self.library.copy(array, self.memory, offset)
                offset = end
            described.append({"parts": abouts})
        return described

    def _return(self, request: dict[str, Any]) -> dict[str, Any]:
        """Copy the arguments back to where they came from, if they are on a card."""
        self.library.give_back(self.memory)
        return {}

    def _settle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Read the poison that replaces the arguments, and copy the results again."""
        self.library.take_again(self.memory)
        self._copy(2 * self.part)
        self.held, self.calls = [], []
        noted = getattr(self.function, "notes", None)
        return {"notes": noted() if callable(noted) else []}


def _description(array: Any) -> dict[str, Any]:
    """Return what the other process is told of a result."""
    dtype = dtype_of(array)
    size = math.prod(array.shape) * SIZES[dtype]
    return {"dtype": dtype, "shape": list(array.shape), "bytes": size}


def _perturb(on: bool) -> None:
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).mallopt(_PERTURB, POISON ^ 0xFF if on else 0)
