"""What calls a kernel, wherever it lives: in this process, in a forked one, in a sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gdcore.oracle.trials.operand import Operand

POISON = 0x7F  # each byte of memory that nobody should read: no kernel computes such a number


@dataclass(frozen=True)
class Returned:
    """What one call returned.

    Attributes
    ----------
    operands : tuple of Operand
        A tuple or dict of results has several. Empty if there is a fault.
    fault : str
        A sentence if it was not plain arrays or tensors, such as a subclass that computes later.
    """

    operands: tuple[Operand, ...] = ()
    fault: str = ""


@dataclass(frozen=True)
class Outcome:
    """What some calls in a row came to.

    Attributes
    ----------
    results : tuple of Returned
        One for each call, read after the last one.
    changed : tuple of pairs of int
        (call, argument) whose bytes were not the same afterwards.
    seconds : float
        For all calls, from the request to the answer, by the caller's clock.
    error : str
        A sentence if a call raised, the process died, hung or went beyond a limit.
    fatal : bool
        Whether the process is gone.
    library_calls : tuple of str
        Names of a library's operations that the kernel called, such as "aten::softmax", if
        they were asked for.
    notes : tuple of str
        What else was seen, such as threads that went on after the answer.
    """

    results: tuple[Returned, ...] = ()
    changed: tuple[tuple[int, int], ...] = ()
    seconds: float = 0.0
    error: str = ""
    fatal: bool = False
    library_calls: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


class Runner(Protocol):
    """Calls one function with data it is given."""

    def run(self, calls: Sequence[Sequence[Operand]], *, trace: bool = False) -> Outcome:
        """Call the function with each set of arguments in turn, and return what came out.

        The arguments of call i lie in slot i, whose address is the same in every `run` as long as
        the operands have the same sizes. All results are held until the last call has returned.
        Then the inputs are compared with what they were, byte by byte, and overwritten with
        `POISON`, and only then the results are read; the memory where results are likely to come
        to lie is poisoned before. With `trace`, the library's operations are listed.
        """

    def close(self) -> None:
        """End whatever process or memory it holds; calling it again does nothing."""


def said(error: BaseException) -> str:
    """Return an exception in a line, as `Outcome.error` has it."""
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
