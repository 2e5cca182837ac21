"""The same kernels through the checks that are used today, and through gdcore's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from referee.cheats import CHEATS
from referee.checks import CHECKS, answer, warm_up
from referee.mistakes import MISTAKES
from referee.operations import OPERATIONS
from referee.right import RIGHT, Kernel


def kernels() -> Iterator[tuple[str, str, str, Callable[[], Kernel]]]:
    """Yield what each kernel is, its group, its operation, and what makes it."""
    for kind, cheat in CHEATS.items():
        for name, operation in OPERATIONS.items():
            yield "cheat", kind, name, partial(cheat, operation.eager)
    for what, corpus in (("mistake", MISTAKES), ("right", RIGHT)):
        for name, functions in corpus.items():
            for function in functions:
                yield what, name, name, lambda function=function: function


def run(say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return for each group how many kernels each check accepts."""
    warm_up()
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for what, group, name, make in kernels():
        empty = {"what": what, "group": group, "kernels": 0, "fast": 0, **dict.fromkeys(CHECKS, 0)}
        row = rows.setdefault((what, group), empty)
        if not row["kernels"]:
            say(f"{what} {group}")
        row["kernels"] += 1
        for check in CHECKS:
            said = answer(check, name, make)
            row[check] += bool(said)
            row["fast"] += said == "FAST"
    return list(rows.values())
