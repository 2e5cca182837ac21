"""What a candidate does to its own process: functions it replaces, exceptions it hides."""

from __future__ import annotations

import gc
import importlib
import inspect
import statistics
import sys
import time
import timeit
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

REPLACED = "it replaces "
HIDDEN = "it raises and hides "

# What tests and clocks are made of. Only what replaces none of them can be timed or compared in
# its own process; a name that is not there is skipped.
_NAMES = {
    "torch": "allclose equal isclose testing.assert_close autograd.gradcheck cuda.synchronize"
    " cuda.Event.elapsed_time cuda.Event.record cuda.Event utils.benchmark.Timer profiler.profile"
    " Tensor.allclose Tensor.equal Tensor.isclose Tensor.double Tensor.__eq__",
    "numpy": "allclose isclose array_equal testing.assert_allclose testing.assert_array_equal",
    "triton": "testing.do_bench",
    "builtins": "all any abs max min sum isinstance",
}
_WHOLE = (time, timeit, statistics, gc)  # all of their functions
_ORDINARY = (StopIteration, StopAsyncIteration, GeneratorExit, KeyError)  # loops and caches


class Watch:
    """What functions were before a file was imported, and what became of them.

    It finds what replaces a clock or a comparison openly, as patches do. Nothing depends on it:
    the time and the golden values are those of another process.
    """

    def __init__(self) -> None:
        self._before = dict(_functions())
        self._hidden: dict[str, None] = {}

    def replaced(self) -> list[str]:
        """Return the names of functions that are now others, of no library's own making."""
        now = dict(_functions(only_loaded=True))
        return sorted(
            name
            for name, function in self._before.items()
            if name in now and now[name] is not function and not _by_library(now[name], name)
        )

    @contextmanager
    def hidden_exceptions(self, path: str) -> Iterator[None]:
        """Note exceptions that go through functions of a file, unless they come out of it."""
        seen: dict[str, None] = {}

        def local(frame: FrameType, event: str, argument: Any) -> Any:
            if event == "exception" and not issubclass(argument[0], _ORDINARY):
                seen[f"{argument[0].__name__}: {argument[1]}"[:200]] = None
            return local

        def calls(frame: FrameType, event: str, argument: Any) -> Any:
            return local if frame.f_code.co_filename == path else None

        before = sys.gettrace()
        sys.settrace(calls)
        try:
            yield
        finally:
            sys.settrace(before)
        self._hidden |= seen  # not reached by what came out

    def notes(self) -> list[str]:
        """Return sentences, the same ones each time."""
        found = [REPLACED + name for name in self.replaced()]
        return found + [HIDDEN + text for text in self._hidden]


def _functions(only_loaded: bool = False) -> Iterator[tuple[str, Any]]:
    for module in _WHOLE:
        for name, value in vars(module).items():
            if callable(value) and not name.startswith("_"):
                yield f"{module.__name__}.{name}", value
    for library, names in _NAMES.items():
        if library not in sys.modules:
            continue
        for name in names.split():
            parts = name.split(".")
            if parts[0] in ("testing", "utils", "profiler") and not only_loaded:
                _import(library, parts[:-1])
            found: Any = sys.modules[library]
            for part in parts:
                found = inspect.getattr_static(found, part, None)
            if found is not None:
                yield f"{library}.{name}", found


def _import(library: str, parts: list[str]) -> None:
    """Load a part of a library that it loads late, so that its functions can be compared."""
    try:
        importlib.import_module(".".join([library, *parts]))
    except Exception:  # it cannot be compared then, nor patched by many
        return


def _by_library(function: Any, name: str) -> bool:
    """Whether the code of a function lies in the folder of the library that it is named after.

    Libraries wrap functions of their own, such as torch when its compiler is first used.
    """
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    origin = getattr(sys.modules.get(name.partition(".")[0]), "__file__", None)
    return (
        code is not None
        and origin is not None
        and (Path(origin).parent in Path(code.co_filename).parents)
    )
