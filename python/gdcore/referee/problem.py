"""The problem that a reference poses: data for it, and whether it can be posed at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any

import numpy as np

from gdcore.oracle.trials.families import make
from gdcore.oracle.trials.golden import NoGoldenError
from gdcore.oracle.trials.operand import Operand
from gdcore.oracle.trials.plan import Reference, wide, with_domains
from gdcore.oracle.trials.runner import Outcome, Runner
from gdcore.oracle.trials.template import Argument, arguments_of
from gdcore.referee.source import Entry

Source = str | os.PathLike[str] | Callable[..., Any]


class UsageError(ValueError):
    """What was given cannot be judged; the sentence says what to give instead."""


class Undecided(Exception):
    """Nothing can be said of the candidate; the sentence says why."""


def entry_of(source: Source, role: str, what: str) -> Entry:
    """Return how another process finds a file, a function of a file, or a function given.

    Parameters
    ----------
    source : str, path or callable
        "file.py" or "file.py:name", or a function or class at the top of a module.
    role : str
        See `gdcore.referee.load.load`.
    what : str
        What messages call it.

    Raises
    ------
    UsageError
        If there is no such file, or no other process could import the function.
    """
    if callable(source) and not isinstance(source, str | os.PathLike):
        return _entry_of_callable(source, role, what)
    text = os.fspath(source)
    name = ""
    if not Path(text).exists() and ":" in text:
        text, _, name = text.rpartition(":")
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"The {what}, {text}, is not a file; give a Python file, or file.py:name.")
    if not path.name.endswith(tuple(all_suffixes())):
        raise UsageError(f"The {what}, {text}, is not a Python file; its name is to end in .py.")
    return Entry(path=str(path.resolve()), name=name, role=role)


def _entry_of_callable(function: Callable[..., Any], role: str, what: str) -> Entry:
    name = getattr(function, "__qualname__", "")
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    path = getattr(module, "__file__", None)
    if not name or found is None or path is None:
        shown = name or repr(function)
        raise UsageError(
            f"The {what}, {shown}, cannot be found by another process; "
            "define it with `def` at the top of a file, and give it or 'file.py:name'."
        )
    entry = Entry(path=str(Path(path).resolve()), name=name, role=role)
    package = module.__name__ if module and "." in module.__name__ else ""
    if package:
        return replace(entry, module=package, search=tuple(each for each in sys.path if each))
    return entry


@dataclass(frozen=True)
class Problem:
    """A reference's inputs, and how other processes are told of them.

    Attributes
    ----------
    about : dict
        As `gdcore.referee.describe.Description` has it.
    template : tuple of Operand
        The inputs that the reference's file makes.
    arguments : tuple of Argument
        What is known of them.
    held : tuple of Operand
        What a model is made with, and its parameters.
    dtype : str or None
        That all floating-point inputs are to have.
    """

    about: dict[str, Any]
    template: tuple[Operand, ...]
    arguments: tuple[Argument, ...]
    held: tuple[Operand, ...]
    dtype: str | None

    @classmethod
    def of(cls, reference: Runner, about: dict[str, Any], dtype: str | None) -> Problem:
        """Ask a reference's process for the arrays that describe it.

        Raises
        ------
        UsageError, Undecided
            If they are not to be had, or not such as can be tried.
        """
        outcome = reference.run([[]])
        if outcome.error:
            raise Undecided(f"The reference's inputs could not be read. {outcome.error}")
        returned = outcome.results[0]
        if returned.fault:
            raise UsageError(f"One of the reference's inputs cannot be used: {returned.fault}")
        count = about["inputs"]
        template = returned.operands[:count]
        if not any(each.is_float for each in template):
            raise UsageError(
                "None of the reference's inputs is of floating-point numbers, whose rounding is "
                "what a result is measured by; give one at least, and compare integers with ==."
            )
        if not all(each.size for each in template):
            raise UsageError("One of the reference's inputs has no elements; give it some.")
        arguments = tuple(arguments_of(template, dtype))
        return cls(about, template, arguments, returned.operands[count:], dtype)

    def entry_for(self, candidate: Entry, state: str) -> Entry:
        """Return a candidate's entry with what it has to know of the problem."""
        return replace(
            candidate,
            framework=self.about["framework"],
            wanted=(self.about["name"],),
            inputs=self.about["inputs"],
            arguments=self.about["arguments"],
            packed=self.about["packed"],
            init=self.about["init"],
            state=state if self.held else "",
            names=tuple(self.about["state"]),
        )

    def draw(self, seed: int) -> tuple[Operand, ...]:
        """Return inputs of the template's shapes, with normal numbers that golden takes."""
        return make("normal", self.arguments, seed=seed)

    def checked(self, golden: Runner, eager: Runner, seed: int) -> Problem:
        """Return it with the numbers that the reference takes.

        Golden values have to be there, the same again, and depend on the inputs.

        Raises
        ------
        Undecided
            If not.
        """
        try:
            arguments = with_domains(Reference(golden, eager, False), list(self.arguments))
        except NoGoldenError as error:
            said = str(error).removeprefix("call 0: ").rstrip(".")
            if said.startswith("returned "):
                raise Undecided(f"The reference {said}; it is to return those.") from None
            raise Undecided(
                f"The reference does not take its own inputs: {said}. "
                "get_inputs() is to return a list of the reference's arguments."
            ) from None
        found = replace(self, arguments=tuple(arguments))
        found._check(golden, seed)
        return found

    def _check(self, golden: Runner, seed: int) -> None:
        sets = [self.draw(seed), self.draw(seed), self.draw(seed + 1)]
        outcome = golden.run([wide(each) for each in sets])
        fault = fault_of(outcome)
        if fault:
            raise Undecided(
                f"The reference could not be evaluated in float64. {fault} "
                "Define `golden`, the same in float64, in its file."
            )
        first, again, other = (each.operands for each in outcome.results)
        if any(each.is_float and each.dtype != "float64" for each in first):
            raise Undecided(
                "The reference returns less than float64 for float64 inputs; "
                "define `golden`, the same in float64, in its file."
            )
        if [each.raw for each in first] != [each.raw for each in again]:
            raise Undecided(
                "The reference is not repeatable: the same inputs gave other results. "
                "Take out what is random, such as dropout."
            )
        if all(np.isnan(each.values()).all() for each in first if each.is_float):
            raise Undecided(
                "The reference returns nothing but NaN for normal random numbers; "
                "correct it, or have get_inputs() make numbers that it takes."
            )
        if [each.raw for each in first] == [each.raw for each in other]:
            raise Undecided(
                "The reference is degenerate: its result is the same whatever the inputs are, "
                "so that a constant would pass. Weights of zero are a usual reason."
            )


def fault_of(outcome: Outcome) -> str:
    """Return why an outcome has no results, in a sentence, or an empty string."""
    return outcome.error or next((each.fault for each in outcome.results if each.fault), "")
