"""Calls of a kernel in another process, for the side that keeps the clock and believes nothing."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from gdcore.oracle.trials import wire
from gdcore.oracle.trials.operand import SIZES, Operand
from gdcore.oracle.trials.runner import POISON, Outcome, Returned
from gdcore.oracle.trials.shared import Shared, after, bytes_of, placed
from gdcore.oracle.trials.wire import Broken

_clock = time.perf_counter  # bound early: it is not the kernel's to replace
_DIMENSIONS = 32
_NOTES = 20
_REMEMBERED = 16  # sizes of results


class Control(Protocol):
    """The process at the other end of the line."""

    def resume(self) -> None:
        """Let it run, if it was stopped."""

    def halt(self) -> None:
        """Stop it and all that it started, as fast as that goes."""

    def hold(self, watch: bool = False) -> tuple[str, ...]:
        """Wait until all of it has stopped; return what was seen that should not be.

        With `watch`, look first whether it goes on working.
        """

    def look(self) -> None:
        """Raise `Broken` if it has gone beyond a limit."""

    def end(self) -> str:
        """Kill it and all that it started; return how it had ended, if it had by itself."""


class Exchange:
    """One line to a process that runs `serving.Server`.

    Parameters
    ----------
    line : socket
    shared : Shared
    control : Control
    timeout : float
        Seconds for each `run`.
    card : bool
        Whether arguments lie on a card, so that they must be copied back to be compared.
    copies : bool
        Whether arguments are copied from the shared memory before the calls, as they are for a card
        and for JAX. If not, they come into it when the process is stopped and the clock about to
        run.
    """

    def __init__(
        self,
        line: socket.socket,
        shared: Shared,
        control: Control,
        timeout: float,
        card: bool = False,
        copies: bool = False,
    ) -> None:
        self.line = line
        self.shared = shared
        self.control = control
        self.timeout = timeout
        self.until = math.inf  # by the clock here; no `run` lasts longer, whatever its timeout
        self.card = card
        self.copies = card or copies
        self.perturb = True
        self.over = ""  # why nothing can be asked any more
        self._asked = 0
        self._sizes: list[int] = []
        self._extent = 0  # of the results so far, in the shared memory

    def run(self, calls: Sequence[Sequence[Operand]], trace: bool) -> Outcome:
        """See `Runner.run`."""
        if self.over:
            return Outcome(error=self.over, fatal=True)
        begin = _clock()
        try:
            return self._run(calls, trace, min(begin + self.timeout, self.until))
        except Broken as error:
            self.finish(str(error))
        return Outcome(error=self.over, fatal=True, seconds=_clock() - begin)

    def finish(self, why: str) -> None:
        """End the process; all later calls say why."""
        ended = self.control.end()
        self.over = self.over or f"{why}{': ' if ended else ''}{ended}"

    def ask(self, deadline: float, do: str, **about: Any) -> dict[str, Any]:
        """Send a request and return its answer; `Broken` if there is none that is one."""
        self._asked += 1
        try:
            wire.send(self.line, {"id": self._asked, "do": do} | about)
        except OSError:
            raise Broken("it closed the line before it was asked") from None
        return self.reply(deadline)

    def reply(self, deadline: float) -> dict[str, Any]:
        """Return the answer to what was asked last."""
        seconds = max(0.0, deadline - _clock())
        try:
            answer = wire.answer(self.line, deadline, self.control.look)
        except TimeoutError:
            raise Broken(f"it gave no answer within {seconds:.3g} s") from None
        except (EOFError, OSError):
            raise Broken("it closed the line without an answer") from None
        if answer.get("id") != self._asked:
            raise Broken("it wrote an answer that nobody had asked for")
        return answer

    def _run(self, calls: Sequence[Sequence[Operand]], trace: bool, deadline: float) -> Outcome:
        described, end = placed(calls)
        if end > self.shared.part:
            needed = f"{end} bytes, and {self.shared.part} are shared"
            return Outcome(error=f"the arguments take {needed}; give the process more memory")
        if self.copies:
            self._write(calls, described)
        sizes = [*self._sizes, *(len(operand.raw) for call in calls for operand in call)]
        for part in (1, 2):
            self.shared.fill(part * self.shared.part, self._extent, POISON)
        self.control.resume()
        asked = {"calls": described, "trace": trace, "poison": sizes, "perturb": self.perturb}
        answer = self.ask(deadline, "prepare", **asked)
        if "error" in answer:
            self.control.hold()
            return Outcome(error=f"no arguments could be made: {_text(answer['error'])}")
        if not self.copies:  # so that nothing can be computed before the clock runs
            self.control.hold()
            self._write(calls, described)
        if not wire.is_silent(self.line):
            raise Broken("it wrote an answer that nobody had asked for")
        begin = _clock()
        self.control.resume()
        answer = self.ask(deadline, "go")
        self.control.halt()
        seconds = _clock() - begin  # what is done after an early answer counts too
        self.control.hold()
        if "error" in answer:
            where = f"call {answer['call']}: " if type(answer.get("call")) is int else ""
            notes = self._settled(calls, described, deadline)[1]
            return Outcome(error=where + _text(answer["error"]), seconds=seconds, notes=notes)
        faults_and_parts = _results(answer, len(calls), self.shared.part)
        first = self._copied(faults_and_parts, self.shared.part)
        changed, said = self._settled(calls, described, deadline)
        second = self._copied(faults_and_parts, 2 * self.shared.part)
        results, late = _joined(first, second)
        written = [f"the result of call {i} was written to after the answer" for i in late]
        return Outcome(
            results=results,
            changed=changed,
            seconds=seconds,
            library_calls=_texts(answer.get("trace", [])),
            notes=(*written, *said),
        )

    def _write(self, calls: Sequence[Sequence[Operand]], described: list[Any]) -> None:
        for arguments, slot in zip(calls, described, strict=True):
            for operand, about in zip(arguments, slot, strict=True):
                self.shared.write(about["offset"], operand.raw)

    def _settled(
        self, calls: Sequence[Sequence[Operand]], described: list[Any], deadline: float
    ) -> tuple[tuple[tuple[int, int], ...], tuple[str, ...]]:
        """Compare the arguments, poison them, and have the results copied again."""
        if self.card:
            self._resumed(deadline, "return")
            self.control.hold()
        changed: list[tuple[int, int]] = []
        for i, (arguments, slot) in enumerate(zip(calls, described, strict=True)):
            for j, (operand, about) in enumerate(zip(arguments, slot, strict=True)):
                size = len(operand.raw)
                if self.shared.read(about["offset"], size) != operand.raw:
                    changed.append((i, j))
                self.shared.fill(about["offset"], size, POISON)
        answer = self._resumed(deadline, "settle")
        seen = self.control.hold(watch=True)
        return tuple(changed), (*seen, *_texts(answer.get("notes", []))[:_NOTES])

    def _resumed(self, deadline: float, do: str) -> dict[str, Any]:
        if not wire.is_silent(self.line):
            raise Broken("it answered twice")
        self.control.resume()
        return self.ask(deadline, do)

    def _copied(self, described: list[Any], offset: int) -> list[Returned]:
        """Return what lies in a part of the shared memory, as the answer describes it."""
        results = []
        begin = offset
        for parts in described:
            if isinstance(parts, str):
                results.append(Returned(fault=parts))
                continue
            operands = []
            for about in parts:
                size = bytes_of(about)
                raw = self.shared.read(offset, size)
                if len(raw) != size:
                    raise Broken("it has cut off the memory that is shared with it")
                operands.append(_contiguous(raw, about))
                offset = after(offset, size)
                if size and size not in self._sizes:
                    self._sizes = [*self._sizes, size][-_REMEMBERED:]
            results.append(Returned(tuple(operands)))
        self._extent = max(self._extent, offset - begin)
        return results


def _results(answer: dict[str, Any], count: int, room: int) -> list[Any]:
    """Return, for each call, a fault or the descriptions of its arrays, once they are checked."""
    results = answer.get("results")
    if not isinstance(results, list) or len(results) != count:
        raise Broken("its answer does not describe a result for each call")
    checked: list[Any] = []
    for result in results:
        if isinstance(result, dict) and isinstance(result.get("fault"), str):
            checked.append(_text(result["fault"]))
            continue
        parts = result.get("parts") if isinstance(result, dict) else None
        if not isinstance(parts, list) or not all(_is_description(about) for about in parts):
            raise Broken("its answer describes a result that no array can be")
        for about in parts:
            room = room - bytes_of(about) - 64
        if room < -64:
            raise Broken("its answer describes results that are larger than the memory for them")
        checked.append(parts)
    return checked


def _is_description(about: Any) -> bool:
    if not isinstance(about, dict) or not isinstance(about.get("dtype"), str):
        return False
    shape = about.get("shape")
    return (
        about["dtype"] in SIZES
        and isinstance(shape, list)
        and len(shape) <= _DIMENSIONS
        and all(type(n) is int and 0 <= n < 1 << 48 for n in shape)
    )


def _contiguous(raw: bytes, about: dict[str, Any]) -> Operand:
    shape, strides, step = tuple(about["shape"]), [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return Operand(raw, about["dtype"], shape, tuple(reversed(strides)))


def _joined(
    first: list[Returned], second: list[Returned]
) -> tuple[tuple[Returned, ...], list[int]]:
    """Return the results as they were at the answer, and the calls whose results changed later.

    Poison that came into a result afterwards stays in it: the result lies where the arguments do,
    or was not written to.
    """
    results, late = [], []
    for number, (early, then) in enumerate(zip(first, second, strict=True)):
        operands, poisoned = [], False
        for a, b in zip(early.operands, then.operands, strict=True):
            if a.raw != b.raw:
                before, afterwards = (np.frombuffer(x.raw, np.uint8) for x in (a, b))
                raw = np.where(afterwards == POISON, afterwards, before).tobytes()
                late += [number] * (raw != b.raw)
                poisoned = poisoned or raw != a.raw
                a = Operand(raw, a.dtype, a.shape, a.strides)
            operands.append(a)
        kept = early.operands if poisoned else ()
        results.append(Returned(tuple(operands), early.fault, kept))
    return tuple(results), sorted(set(late))


def _text(value: Any) -> str:
    """Return what the other side says, in a line that can be printed."""
    text = value if isinstance(value, str) else "something that is no sentence"
    return "".join(c if c.isprintable() else " " for c in text[:400])


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_text(value) for value in values) if isinstance(values, list) else ()
