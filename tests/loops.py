"""Loop inside a test over sizes, strides and options: one test, and every case that fails named.

Dtypes and instruction sets are parameters of pytest; all else is a loop, since a test costs more
than most of these cases.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gdcore as gd

Test = Callable[..., None]
Axis = list[dict[str, Any]]


@contextmanager
def settings_restored() -> Iterator[None]:
    """Put the instruction set and the thread count back."""
    isa, threads = gd._core.get_isa(), gd.get_num_threads()
    try:
        yield
    finally:
        gd._core.set_isa(isa)
        gd.set_num_threads(threads)


def each(names: str, values: Iterable[Any]) -> Callable[[Test], Test]:
    """Run a test for each of the values of its argument, or of the tuples of its arguments.

    Takes the place of `pytest.mark.parametrize`; decorators below each other are nested loops. All
    cases run, each with its own random numbers, settings, patches and folder, even after
    another case failed. The test then fails once and lists the failed cases.
    """
    arguments = tuple(name.strip() for name in names.split(","))
    axis = [
        dict(zip(arguments, value if len(arguments) > 1 else (value,), strict=True))
        for value in values
    ]
    assert axis, f"no values of {names}"

    def decorate(test: Test) -> Test:
        body, axes = getattr(test, "loop", (test, ()))
        return _loop(body, (axis, *axes))

    return decorate


def _loop(body: Test, axes: tuple[Axis, ...]) -> Test:
    looped = [name for axis in axes for name in axis[0]]
    signature = inspect.signature(body)
    for name in looped:
        assert name in signature.parameters, f"{name} is not an argument of {body.__name__}"
    fixtures_only = [p for name, p in signature.parameters.items() if name not in looped]
    indices = list(product(*(range(len(axis)) for axis in axes)))

    @functools.wraps(body)
    def test(*instance: Any, **fixtures: Any) -> None:
        offenders: list[str] = []
        skipped: list[pytest.skip.Exception] = []
        first: BaseException | None = None
        for place in indices:
            values: dict[str, Any] = {}
            for axis, i in zip(axes, place, strict=True):
                values |= axis[i]
            try:
                with settings_restored(), _own(fixtures, place) as own:
                    body(*instance, **own, **values)
            except pytest.skip.Exception as error:
                skipped.append(error)
            except (Exception, pytest.fail.Exception) as error:
                if "Timeout" in str(error):  # pytest-timeout's: no case after it has a limit
                    raise
                offenders.append(f"{_label(values)}: {_first_line(error)}")
                first = first or error
        if offenders:
            failed = f"{len(offenders)} of {len(indices)} cases failed:"
            raise AssertionError("\n".join([failed, *offenders])) from first
        if len(skipped) == len(indices) > 0:
            raise skipped[0]

    test.loop = (body, axes)  # type: ignore[attr-defined]
    test.__signature__ = signature.replace(parameters=fixtures_only)  # type: ignore[attr-defined]
    return test


def _label(values: dict[str, Any]) -> str:
    words = {name: " ".join(str(value).split()) for name, value in values.items()}
    return ", ".join(f"{name}={text:.60}" for name, text in words.items())


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


@contextmanager
def _own(fixtures: dict[str, Any], place: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Give a case its own random numbers, patches and folder, as a test of its own would have."""
    own = dict(fixtures)
    folder = "-".join(map(str, place))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in fixtures.items():
            if isinstance(value, np.random.Generator):
                seed: Any = value.bit_generator.seed_seq
                own[name] = np.random.default_rng([*seed.entropy, *place])
            elif isinstance(value, pytest.MonkeyPatch):
                own[name] = patch
            elif isinstance(value, Path):  # a folder, or a file that may come to be
                own[name] = value / folder if value.is_dir() else value.parent / folder / value.name
                (own[name] if value.is_dir() else own[name].parent).mkdir()
        yield own
