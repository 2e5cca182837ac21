"""No miss: every mutant is caught, and its mistake named."""

from __future__ import annotations

import re
import time
import warnings
from typing import Any

from oracle_mutants import Mutant, all_mutants, default_mutants

from gdcore import oracle


def judged(mutant: Mutant, seed: int = 0) -> tuple[bool, str]:
    """Return whether a mutant is caught, and the first line that says why."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            oracle.assert_grad(
                mutant.fn,
                mutant.kind,
                shapes=mutant.shapes,
                operands=mutant.operands,
                seed=seed,
                quiet=True,
            )
    except AssertionError as error:
        return True, str(error).splitlines()[0]
    return False, ""


def named(mutant: Mutant, text: str) -> bool:
    """Whether the cause named is the right one; # stands for any number."""
    patterns = (re.escape(part).replace(r"\#", r"\d+") for part in mutant.cause.split("|"))
    return any(re.search(pattern, text) for pattern in patterns)


def run() -> dict[str, Any]:
    """Judge every mutant; return the counts and what was missed."""
    missed, misnamed, count, seconds = [], [], 0, 0.0
    for mutant in (*all_mutants(), *default_mutants()):
        start = time.perf_counter()
        caught, text = judged(mutant)
        seconds += time.perf_counter() - start
        count += 1
        if not caught:
            missed.append(f"{mutant.kind}: {mutant.name}")
        elif not named(mutant, text):
            misnamed.append(f"{mutant.kind}: {mutant.name}: {text}")
    return {
        "mutants": count,
        "caught": count - len(missed),
        "named": count - len(missed) - len(misnamed),
        "missed": missed,
        "misnamed": misnamed,
        "seconds_each": seconds / count,
    }


if __name__ == "__main__":
    for key, value in run().items():
        print(key, value if not isinstance(value, list) else "\n  " + "\n  ".join(value))
