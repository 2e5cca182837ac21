"""What a process calls in place of a candidate or of a reference; runs in that process."""

from __future__ import annotations

import ctypes
import inspect
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from types import ModuleType
from typing import Any

from gdcore.oracle.trials.arrays import copying
from gdcore.oracle.trials.pullback import Pullback
from gdcore.referee import pack
from gdcore.referee.describe import describe
from gdcore.referee.models import copied, forward
from gdcore.referee.source import Entry, find, imported
from gdcore.referee.watch import Watch

# glibc's M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD: the largest that it takes of the last
_MALLOC = {-1: 1 << 30, -2: 1 << 25, -3: 1 << 25}


class Kernel:
    """A function of arrays alone, in place of one that takes them with constants.

    Attributes
    ----------
    arrays : str
        "torch" or "numpy": what it is to be given.
    about : dict
        JSON: of a reference, what `describe` has.
    """

    def __init__(self, function: Callable[..., Any], entry: Entry, watch: Watch | None) -> None:
        self.arrays, self.about = entry.framework, {}  # type: str, dict[str, Any]
        self._watch, self._path, self._called = watch, entry.path, watch is None
        self._function = _of_arrays(function, entry)

    def __call__(self, *arrays: Any) -> Any:
        """Return what the function returns, untouched."""
        if self._called:
            return self._function(*arrays)
        self._called = True
        with self._watch.hidden_exceptions(self._path) if self._watch else nullcontext():
            return self._function(*arrays)  # this call alone is watched: it costs time

    def notes(self) -> list[str]:
        """Return what was seen of the function so far, in sentences."""
        return self._watch.notes() if self._watch else []


class Reference(Kernel):
    """A reference; called without arrays, it returns those that describe the problem."""

    def __init__(self, function: Callable[..., Any], entry: Entry, described: Any) -> None:
        super().__init__(function, entry, None)
        self.about, self._described = described.about, described.arrays

    def __call__(self, *arrays: Any) -> Any:
        """Return its result, or the arrays of the inputs, of the model's making, and its state."""
        return self._function(*arrays) if arrays else self._described


def load(path: str, role: str, options: dict[str, Any]) -> Kernel:
    """Return the function of a file.

    Parameters
    ----------
    path : str
    role : {"candidate", "reference", "golden", "contestant", "compiled", "idle"}
        All but the first are the reference's: as it is, in float64, with results that may share
        memory with its inputs, by torch.compile, and without doing anything.
    options : dict
        As `Entry.options` has them.

    Raises
    ------
    LoadError
        With a sentence, if the file does not offer what it should.
    """
    _keep_memory()
    entry = Entry.of(path, role, options)
    if role != "candidate":
        module = imported(entry)
        _forbid_tf32()
        return _reference(module, entry)
    if entry.framework == "torch":
        import torch  # noqa: F401  what the watch has to know before the candidate does
    _forbid_tf32()
    watch = Watch()
    with watch.hidden_exceptions(path):
        module = imported(entry)
    found = find(module, entry)
    function = forward(copied(found, entry), entry) if inspect.isclass(found) else found
    return Kernel(function, entry, watch)


def _reference(module: ModuleType, entry: Entry) -> Reference:
    described = describe(module, entry)
    about = described.about
    entry = replace(
        entry,
        framework=about["framework"],
        inputs=about["inputs"],
        arguments=about["arguments"],
        packed=about["packed"],
        device=entry.device or ("" if about["device"] == "cpu" else about["device"]),
    )
    function = forward(described.function, entry) if about["model"] else described.function
    if entry.role == "golden":
        function = vars(module)["golden"] if about["golden"] else function
        _compute_in_float64(entry)
    if entry.role == "idle":
        function = _idle
    if entry.role == "compiled":
        import torch

        function = torch.compile(function)
    return Reference(function, entry, described)


def _of_arrays(function: Callable[..., Any], entry: Entry) -> Callable[..., Any]:
    template, flat = entry.arguments, function

    def joined(*arrays: Any) -> Any:
        arguments = pack.join(template, arrays)
        return function(arguments) if entry.packed else function(*arguments)

    if template is not None and (entry.packed or not pack.is_flat(template)):
        flat = joined
    if entry.grads:
        flat = Pullback(flat, entry.inputs)
    return copying(flat) if entry.role in ("reference", "golden") else flat


def _idle(*arguments: Any) -> float:
    return 0.0


def _forbid_tf32() -> None:
    """Have float32 mean float32, also for what the candidate is measured against."""
    if torch := sys.modules.get("torch"):
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False


def _keep_memory() -> None:
    """Have malloc keep what is freed.

    Else a call may fault in pages that the last one gave back, in one process and not in another
    that runs the same code: that made two copies of a kernel differ by 12 %.
    """
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            for parameter, size in _MALLOC.items():
                mallopt(parameter, size)


def _compute_in_float64(entry: Entry) -> None:
    """Have constants that a reference makes without a dtype be as precise as golden values."""
    if entry.framework == "torch":
        import torch

        torch.set_default_dtype(torch.float64)
