"""What a reference's file says of the problem: its inputs, and what a model is made with."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from gdcore.oracle.trials.arrays import library_of, operand_of
from gdcore.oracle.trials.runner import said
from gdcore.referee import pack
from gdcore.referee.models import made_of
from gdcore.referee.source import INPUTS, Entry, NoInputs, find, seeded


@dataclass(frozen=True)
class Description:
    """A problem, as its reference's process has it.

    Attributes
    ----------
    about : dict
        JSON: "name"; "golden" and "model", whether there are any; "arguments" and "init", as
        `pack.split` has them; "packed"; "framework"; "device"; "inputs" and "inits", how many
        arrays; "state", names of parameters; "digest" of the parameters' bytes.
    arrays : tuple
        Of the inputs, of what the model is made with, and the parameters.
    function : callable
        The class made, or the function found.
    """

    about: dict[str, Any]
    arrays: tuple[Any, ...]
    function: Any


def describe(module: ModuleType, entry: Entry) -> Description:
    """Return what a file says of the problem.

    Raises
    ------
    NoInputs
        If it does not say enough.
    """
    found = find(module, entry)
    arguments, packed = _inputs(module, entry)
    template, arrays = _split(arguments, "its inputs")
    if not arrays:
        raise NoInputs(
            "The inputs hold no array or tensor, so there is nothing to vary; "
            "return some, as in [np.random.standard_normal((64, 128))]."
        )
    about: dict[str, Any] = {
        "name": getattr(found, "__name__", type(found).__name__),
        "golden": callable(vars(module).get("golden")),
        "model": inspect.isclass(found),
        "arguments": template,
        "packed": packed,
        "framework": "torch" if any(library_of(x) == "torch" for x in arrays) else "numpy",
        "device": next((str(x.device) for x in arrays if library_of(x) == "torch"), "cpu"),
        "inputs": len(arrays),
        "init": None,
        "inits": 0,
        "state": [],
        "digest": "",
    }
    if not about["model"]:
        return Description(about, tuple(arrays), found)
    getter = vars(module).get("get_init_inputs")
    seeded(entry)
    given = _made_by(getter, "get_init_inputs") if getter else []
    about["init"], init = _split(given, "what get_init_inputs returns")
    made = made_of(found, given, entry)
    state = dict(made.state_dict()) if hasattr(made, "state_dict") else {}
    digest = hashlib.sha256()
    for value in state.values():
        digest.update(operand_of(value).raw)
    about |= {"inits": len(init), "state": list(state), "digest": digest.hexdigest()}
    copies = [value.detach().clone() for value in state.values()]
    return Description(about, (*arrays, *init, *copies), made)


def _inputs(module: ModuleType, entry: Entry) -> tuple[Any, bool]:
    """Return the arguments that a file makes, and whether they are passed as one."""
    name = next((each for each in INPUTS if callable(vars(module).get(each))), None)
    if name is None:
        raise NoInputs(
            f"{Path(entry.path).name} says nothing of its inputs; define get_inputs(), "
            "which returns a list of the arguments.",
        )
    getter = vars(module)[name]
    seeded(entry)
    given = dict(entry.sizes)
    if name == "generate_input":
        parameters = inspect.signature(getter).parameters.values()
        given |= {"seed": entry.seed} if any(each.name == "seed" for each in parameters) else {}
        lacking = [p.name for p in parameters if p.default is p.empty and p.name not in given]
        if lacking:
            raise NoInputs(
                f"generate_input needs {', '.join(lacking)}; "
                f"say them: sizes=[{{{lacking[0]!r}: 128}}].",
            )
    made = _made_by(getter, name, **given)
    if name == "generate_input":
        return made, True
    return (tuple(made) if isinstance(made, list | tuple) else (made,)), False


def _made_by(getter: Callable[..., Any], name: str, **given: Any) -> Any:
    try:
        return getter(**given)
    except Exception as error:
        raise NoInputs(f"{name} raises {said(error)}") from None


def _split(value: Any, what: str) -> tuple[Any, list[Any]]:
    try:
        return pack.split(value)
    except TypeError as error:
        raise NoInputs(f"{what}: {error}") from None
