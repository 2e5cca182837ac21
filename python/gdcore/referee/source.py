"""What a file offers to be judged: a function, or a model in KernelBench's form.

======================  =============================================================
a reference file has    ``Model``, ``get_inputs()`` and ``get_init_inputs()``; or one
                        function (``reference``, ``ref_kernel``, or the only public
                        one) and ``get_inputs()``, ``inputs()`` or
                        ``generate_input(..., seed)``; and perhaps ``golden``, the
                        same in float64, which will do alone
a candidate file has    ``ModelNew`` or ``Model``; or ``kernel``, ``custom_kernel``,
                        ``solution``, a function of the reference's name, or only one
                        public function
======================  =============================================================

What ``generate_input`` returns is passed as one argument, as GPU MODE's ``ref_kernel(data)`` and
``custom_kernel(data)`` take it; what the two others return is passed as so many arguments.

All of it runs in the process of the file's code.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import random
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gdcore.oracle.trials.runner import said

INPUTS = ("get_inputs", "inputs", "generate_input")
_HELPERS = (*INPUTS, "get_init_inputs", "golden", "check_implementation")
_NAMES = {
    "candidate": ("ModelNew", "Model", "kernel", "custom_kernel", "solution"),
    "reference": ("Model", "reference", "ref_kernel", "eager"),
}


class LoadError(Exception):
    """A file does not offer what it should; the sentence says what is missing."""


class NoSuchName(LoadError):
    """A file has no function or class of the name that was given, or that is looked for."""


class DoesNotImport(LoadError):
    """A file raises when it is imported."""


class NoInputs(LoadError):
    """A reference does not say what its inputs are."""


class BadModel(LoadError):
    """A model cannot be made."""


class OtherParameters(LoadError):
    """The parameters of a model have other names or shapes than the reference's."""


@dataclass(frozen=True)
class Entry:
    """What a process is to call: plain data, which JSON holds.

    Attributes
    ----------
    path, name : str
        Of the file and of what to call in it; an empty name is looked for.
    module, search : str, tuple of str
        How to import it instead, as part of a package.
    role : str
        "candidate", "reference", "compiled" (by torch.compile) or "golden" (in float64).
    framework : str
        "torch" or "numpy": what a candidate's arrays are.
    wanted : tuple of str
        More names to look for.
    seed : int
        Under which inputs and models are made.
    dtype, device : str
        Of a model's parameters; empty: as it makes them.
    inputs : int
        How many arrays the arguments hold; with `grads`, gradients of the results follow them.
    arguments, init : JSON
        As `pack.split` says how they are made of arrays.
    packed : bool
        Whether all arguments are passed as one.
    state : str
        A file with the arrays of `init` and then the parameters called `names`.
    grads : bool
        Whether gradients are wanted too; see `gdcore.oracle.trials.pullback`.
    sizes : dict
        What ``generate_input`` takes besides a seed.
    """

    path: str
    name: str = ""
    module: str = ""
    search: tuple[str, ...] = ()
    role: str = "candidate"
    framework: str = "torch"
    wanted: tuple[str, ...] = ()
    seed: int = 0
    dtype: str = ""
    device: str = ""
    inputs: int = 0
    arguments: Any = None
    packed: bool = False
    init: Any = None
    state: str = ""
    names: tuple[str, ...] = ()
    grads: bool = False
    sizes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str, role: str, options: dict[str, Any]) -> Entry:
        """Return the entry that `options` gave to another process."""
        tuples: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in options.items()
        }
        return cls(path=path, role=role, **tuples)

    def options(self) -> dict[str, Any]:
        """Return all but path and role, as JSON has it."""
        return {k: v for k, v in asdict(self).items() if k not in ("path", "role")}


def imported(entry: Entry) -> ModuleType:
    """Import the file of an entry, in a module of its own."""
    try:
        if entry.module:
            sys.path[:] = [*entry.search, *(each for each in sys.path if each not in entry.search)]
            return importlib.import_module(entry.module)
        sys.path.insert(0, str(Path(entry.path).parent))
        name = Path(entry.path).stem
        spec = importlib.util.spec_from_file_location(name, entry.path)
        if spec is None or spec.loader is None:
            raise DoesNotImport(f"{entry.path} is not a Python file.")
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(name, module)
        spec.loader.exec_module(module)
        return module
    except LoadError:
        raise
    except BaseException as error:  # SystemExit too: nothing can be called afterwards
        raise DoesNotImport(f"Importing {Path(entry.path).name} raises {said(error)}.") from None


def find(module: ModuleType, entry: Entry) -> Any:
    """Return the class or function that an entry names, or the one that conventions name."""
    file = Path(entry.path).name
    names = vars(module)
    if entry.name:
        value: Any = module
        for part in entry.name.split("."):
            value = getattr(value, part, None)
        if not callable(value):
            raise NoSuchName(f"{file} has no function {entry.name}. {_offers(names, file)}")
        return value
    kind = "candidate" if entry.role == "candidate" else "reference"
    for name in (*_NAMES[kind], *entry.wanted):
        if callable(names.get(name)):
            return names[name]
    public = _public(names)
    if len(public) == 1:
        return names[public[0]]
    if kind == "reference" and callable(names.get("golden")):
        return names["golden"]
    looked = ", ".join(dict.fromkeys((*_NAMES[kind], *entry.wanted)))
    raise NoSuchName(
        f"{file} has none of {looked}, nor one public function alone. {_offers(names, file)}",
    )


def _public(names: dict[str, Any]) -> list[str]:
    """Return what a file defines that can be called, but for classes and what makes inputs."""
    return [
        name
        for name, value in names.items()
        if callable(value)
        and not inspect.isclass(value)
        and not name.startswith("_")
        and name not in _HELPERS
        and getattr(value, "__module__", None) == names["__name__"]
    ]


def _offers(names: dict[str, Any], file: str) -> str:
    public = _public(names)
    if not public:
        return "It defines no public function: the kernel is to be one."
    return f"It defines {', '.join(public)}: name one, as in {file}:{public[0]}."


def seeded(entry: Entry) -> None:
    """Seed all that makes random numbers."""
    random.seed(entry.seed)
    np.random.seed(entry.seed % 2**32)  # noqa: NPY002  the file may use it
    if torch := sys.modules.get("torch"):
        torch.manual_seed(entry.seed)
