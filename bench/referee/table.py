"""The same kernels through the checks that are used today, and through gdcore's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from referee.cheats import CHEATS
from referee.checks import answer, warm_up
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


def run(
    say: Callable[[str], None], old: list[dict[str, Any]], checks: Sequence[str]
) -> list[dict[str, Any]]:
    """Return for each group how many kernels each check accepts.

    What other checks said stays. `like` is asked about cheats alone: mistakes and right kernels
    have parts of their own, with all dtypes.
    """
    warm_up()
    rows = {(row["what"], row["group"]): dict(row) for row in old}
    begun = set()
    for what, group, name, make in kernels():
        row = rows.setdefault((what, group), {"what": what, "group": group})
        mine = [check for check in checks if check != "like" or what == "cheat"]
        if (what, group) not in begun:
            say(f"{what} {group}")
            begun.add((what, group))
            row |= dict.fromkeys(["kernels", *mine, *(["fast"] if "compare" in mine else [])], 0)
        row["kernels"] += 1
        for check in mine:
            said = answer(check, name, make)
            row[check] += bool(said)
            if check == "compare":
                row["fast"] += said == "FAST"
    return list(rows.values())
