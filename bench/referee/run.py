"""What the referee catches, and what it objects to: the figures of docs/referee.md.

    python bench/referee/run.py right [--only NAME,...]     false alarms: an hour on one core
    python bench/referee/run.py mistakes [--only NAME,...]  58 mistakes in three dtypes: 3 minutes
    python bench/referee/run.py table                       today's checks: 15 minutes
    python bench/referee/run.py cheats [--only NAME,...]    36 kinds at 10 operations: an hour
    python bench/referee/run.py race                        20 races of a kernel with itself
    python bench/referee/run.py hostile                     kernels that attack their process
    python bench/referee/run.py kernelbench                 ten models in KernelBench's form
    python bench/referee/run.py page                        only write the tables of the page

Each writes its part of bench/results/referee.json and the tables of the page. With --only, what was
measured of other operations stays. Judged files are kept in build/referee/ one by one, so that a
run that ends early goes on there; --again begins anew. Needs torch and JAX.
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
from referee.operations import OPERATIONS  # noqa: E402

RESULTS = ROOT / "bench/results/referee.json"
KEPT = ROOT / "build/referee"
PARTS = ("right", "mistakes", "table", "cheats", "race", "hostile", "kernelbench", "page")
Names = Sequence[str]
Say = Callable[[str], None]


def merged(old: Any, new: Any, names: Names) -> Any:
    """Return old rows of other operations, and new ones."""
    return [*(row for row in old or [] if row["operation"] not in names), *new]


def measure(part: str, found: dict[str, Any], names: Names, say: Say, again: bool) -> None:
    """Run a part, and put its rows in their place."""
    kept = KEPT / f"{part}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if again:
        kept.unlink(missing_ok=True)
    if part == "right":
        old = found.get("right", {})
        new = trials.right(say, names)
        found["right"] = {key: merged(old.get(key), new[key], names) for key in new}
    elif part == "mistakes":
        found["mistakes"] = merged(found.get("mistakes"), trials.mistakes(say, names), names)
    elif part == "cheats":
        found["cheats"] = judged.cheats(say, kept, list(names))
    elif part == "race":
        found["race"] = judged.races(say, kept, list(names))
    elif part == "table":
        found["table"] = table.run(say)
    elif part == "hostile":
        found["hostile"] = hostile.run(say, kept)
    elif part == "kernelbench":
        found["kernelbench"] = judged.problems(say, kept)


def main() -> None:
    """Run one part; write the results and the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--only", help="operations, such as softmax,gelu")
    parser.add_argument("--again", action="store_true", help="forget what was judged before")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(OPERATIONS)
    if unknown := set(names) - set(OPERATIONS):
        parser.error(f"no operation {', '.join(unknown)}; there are {', '.join(OPERATIONS)}.")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    begin = time.monotonic()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if arguments.part != "page":

        def say(line: str) -> None:
            print(f"{time.monotonic() - begin:6.0f} s  {line}", flush=True)

        measure(arguments.part, found, names, say, arguments.again)
        seconds = found.setdefault("seconds", {})
        seconds[arguments.part] = round(time.monotonic() - begin)
        found["gdcore"], found["torch"] = gd.__version__, torch.__version__
        found["machine"] = {
            key: value
            for key, value in machine.environment().items()
            if key in ("cpu", "cpus_usable", "memory_bytes", "system", "python")
        }
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    page.write(found)


if __name__ == "__main__":
    main()
