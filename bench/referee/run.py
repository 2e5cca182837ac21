"""What the referee catches, and what it objects to: the figures of docs/referee.md.

    python bench/referee/run.py right [--only NAME,...]     false alarms: an hour on one core
    python bench/referee/run.py mistakes [--only NAME,...]  58 mistakes in three dtypes: 3 minutes
    python bench/referee/run.py table [--checks NAME,...]   today's checks: 15 minutes
    python bench/referee/run.py cheats [--only NAME,...]    36 kinds at 10 operations: an hour
    python bench/referee/run.py race                        20 races of a kernel with itself
    python bench/referee/run.py hostile                     kernels that attack their process
    python bench/referee/run.py kernelbench                 ten models in KernelBench's form
    python bench/referee/run.py page                        the tables, of what was judged so far

Each writes its part of bench/results/referee.json and the tables of the page. With --only, what was
measured of other operations stays. Rulings are saved one by one in build/referee/, so that an
interrupted run can resume; --again starts over. Needs torch and JAX.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import torch  # noqa: E402

import gdcore as gd  # noqa: E402
from gdcore.bench import machine  # noqa: E402
from referee import hostile, judged, page, table, trials  # noqa: E402
from referee.checks import CHECKS  # noqa: E402
from referee.operations import OPERATIONS  # noqa: E402

RESULTS = ROOT / "bench/results/referee.json"
KEPT = ROOT / "build/referee"
FILES = ("cheats", "race", "hostile", "kernelbench")
PARTS = ("right", "mistakes", "table", *FILES, "page")
Names = Sequence[str]
Say = Callable[[str], None]


def merged(old: Any, new: Any, names: Names) -> Any:
    """Return old rows of other operations, and new ones."""
    return [*(row for row in old or [] if row["operation"] not in names), *new]


def measure(part: str, old: Any, names: Names, checks: Names, say: Say) -> Any:
    """Run a part; return its rows, with old ones of other operations."""
    kept = KEPT / f"{part}.jsonl"
    if part == "right":
        new = trials.right(say, names)
        return {key: merged((old or {}).get(key), new[key], names) for key in new}
    if part == "mistakes":
        return merged(old, trials.mistakes(say, names), names)
    if part == "table":
        return table.run(say, old or [], checks)
    if part == "cheats":
        return judged.cheats(say, kept, list(names))
    if part == "race":
        return judged.races(say, kept, list(names))
    return hostile.run(say, kept) if part == "hostile" else judged.problems(say, kept)


def results() -> dict[str, Any]:
    """Return what is in the file, which another part may have written meanwhile."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def keep(found: dict[str, Any]) -> None:
    """Write results and the tables of the page."""
    found["gdcore"], found["torch"] = gd.__version__, torch.__version__
    found["machine"] = {
        key: value
        for key, value in machine.environment().items()
        if key in ("cpu", "cpus_usable", "memory_bytes", "system", "python")
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    page.write(found)


def chosen(parser: argparse.ArgumentParser, what: str, given: str | None, known: Names) -> Names:
    """Return the names that are given, or all."""
    names = given.split(",") if given else list(known)
    if unknown := set(names) - set(known):
        parser.error(f"no {what} {', '.join(unknown)}; there are {', '.join(known)}.")
    return names


def main() -> None:
    """Run one part; write the results and the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--only", help="operations, such as softmax,gelu")
    parser.add_argument("--checks", help="checks of the table, such as oracle,like")
    parser.add_argument("--again", action="store_true", help="forget what was judged before")
    arguments = parser.parse_args()
    names = chosen(parser, "operation", arguments.only, list(OPERATIONS))
    checks = chosen(parser, "check", arguments.checks, list(CHECKS))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    begin, part = time.monotonic(), arguments.part
    KEPT.mkdir(parents=True, exist_ok=True)
    if arguments.again:
        (KEPT / f"{part}.jsonl").unlink(missing_ok=True)
    if part == "page":
        so_far = {each: judged.read(KEPT / f"{each}.jsonl") for each in FILES}
        keep(results() | {each: rows for each, rows in so_far.items() if rows})
        return

    def say(line: str) -> None:
        print(f"{time.monotonic() - begin:6.0f} s  {line}", flush=True)

    rows = measure(part, results().get(part), names, checks, say)
    keep(results() | {part: rows})


if __name__ == "__main__":
    main()
