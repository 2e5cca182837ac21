"""How often a race between a function and itself is decided, and how often a true difference is.

    python bench/self_race.py [--races N] [--slower 0,3,10] [--only NAME,...] [--seconds S]
    python bench/self_race.py --bench SUITE [--races N]

The first races 20 pairs in `gdcore.bench.compare`, N times each in processes of their own: five
functions with temporaries of 1 KB to 1 MB, their operands in the caches and out of them. One of a
pair does 0, 3 or 10 % more of the same work. The second races two copies of NumPy's functions in
`gdcore bench`. Prints how many races were decided, with the margin of 5 % and with none, and keeps
that in bench/results/self_race.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gdcore.bench import compare, machine, run
from gdcore.bench.verdict import MARGIN, Ratio, Verdict, judge

RESULTS = Path(__file__).parent / "results/self_race.json"
SIZES = {"1 KB": 2**10, "16 KB": 2**14, "128 KB": 2**17, "1 MB": 2**20}
LARGE = 2**20  # bytes of operands of which a few percent are worth a call
MARGINS = (MARGIN, 0.0)
DECIDED = (Verdict.FAST, Verdict.SLOW)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
PEER = """
import numpy as np

def matmul(a, b):
    return a @ b

def mse(pred, target):
    r = pred - target
    return np.dot(r, r) / len(r), r * r.dtype.type(2 / len(r))

def gradient(X, y, w):
    r = X @ w - y
    return np.dot(r, r) / len(r), (r @ X) * r.dtype.type(2 / len(r))
"""
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "products": lambda X, w: X.T @ (X @ w),
    "squares": lambda a, b: ((a - b) ** 2).sum(),
    "combination": lambda a, b: 2 * a + b,
    "matmul": lambda a, b: a @ b,
    "rows": lambda A, v: A @ v,
}


def operands(name: str, size: int) -> tuple[Any, ...]:
    """Return operands whose temporary or result takes `size` bytes."""
    rng, n = np.random.default_rng(), size // 8
    shapes = {
        "products": ((n, 8), (8,)),
        "squares": ((n,), (n,)),
        "combination": ((n,), (n,)),
        "matmul": ((int(n**0.5), int(n**0.5)),) * 2,
        "rows": ((n, 2**23 // n), (2**23 // n,)),  # 64 MB: out of every cache
    }
    return tuple(rng.random(shape) for shape in shapes[name])


def pair(name: str, size: int, percent: float) -> dict[str, Callable[..., Any]]:
    """Return a function and one that does `percent` % more, by a part of the rows or more calls."""
    function = FUNCTIONS[name]
    if not percent:
        return {"it": lambda *args: function(*args), "other": lambda *args: function(*args)}

    def partly_twice(a: Any, b: Any) -> Any:
        rows = round(len(a) * percent / 100)
        function(a[:rows], b[:rows] if a.shape == b.shape and a.ndim == 1 else b)
        return function(a, b)

    def repeated(times: int) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            for _ in range(times - 1):
                function(*args)
            return function(*args)

        return call

    if name == "rows" or size >= LARGE:
        return {"it": lambda *args: function(*args), "other": partly_twice}
    times = round(100 / percent)
    return {"it": repeated(times), "other": repeated(times + 1)}


def race(name: str, size: int, percent: float, seconds: float) -> None:
    """Race one pair in this process, and print what came out as JSON."""
    contestants, args = pair(name, size, percent), operands(name, size)
    ours, theirs = compare(contestants, args, reference=FUNCTIONS[name], seconds=seconds).rows
    assert ours.status == theirs.status == "timed", (ours.note, theirs.note)
    print(json.dumps(judged(ours.rounds, theirs.rounds)))


def judged(ours: Any, theirs: Any) -> dict[str, Any]:
    """Return a ratio, and the verdicts with each margin."""
    found: dict[float, Ratio] = {margin: judge(ours, theirs, margin) for margin in MARGINS}
    ratio = found[MARGIN]
    return {
        "rounds": len(ours),
        "ratio": [round(each, 4) for each in ratio[:3]],
        "verdicts": {str(margin): str(each.verdict) for margin, each in found.items()},
    }


def races(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Race pairs in `compare`, each race in a process of its own."""
    names = arguments.only.split(",") if arguments.only else list(FUNCTIONS)
    for percent in map(float, arguments.slower.split(",")):
        for name, (label, size) in ((name, each) for name in names for each in SIZES.items()):
            for _ in range(arguments.races):
                command = [sys.executable, __file__, "--seconds", str(arguments.seconds)]
                command += ["--one", name, str(size), str(percent)]
                output = subprocess.check_output(command, env=os.environ | ONE_THREAD)
                yield {"pair": f"{name}, {label}", "slower": percent} | json.loads(output)


def bench_races(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Race two copies of one peer in `gdcore bench`, in fresh processes each time."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first", "second"):
            (Path(folder) / f"gdcore_peer_{name}.py").write_text(PEER)
        for _ in range(arguments.races):
            against = ["first", "second"]
            report = run(arguments.bench, against=against, threads=[1], peers=folder)
            for key, rows in report.races():
                rounds = {row.library: row.rounds for row in rows}
                name = f"{key.suite} {key.case}, {key.dtype}"
                yield {"pair": name, "slower": 0.0} | judged(rounds["first"], rounds["second"])


def rates(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each difference and margin how many races had which verdict."""
    table = []
    for percent in sorted({each["slower"] for each in found}):
        chosen = [each for each in found if each["slower"] == percent]
        for margin in map(str, MARGINS):
            counts = Counter(each["verdicts"][margin] for each in chosen)
            about = {"slower": percent, "margin": float(margin), "races": len(chosen)}
            table.append(about | {str(verdict): counts[verdict] for verdict in Verdict})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--races", type=int, default=5, help="of each pair")
    parser.add_argument("--slower", default="0,3,10", help="percent that one of a pair does more")
    parser.add_argument("--only", help="some of " + ", ".join(FUNCTIONS))
    parser.add_argument("--seconds", type=float, default=1.0, help="of each race")
    parser.add_argument("--bench", metavar="SUITE", help="matmul, mse or gradient")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, size, percent = arguments.one
        race(name, int(size), float(percent), arguments.seconds)
        return
    found, load = [], os.getloadavg()
    for each in bench_races(arguments) if arguments.bench else races(arguments):
        found.append(each)
        print(*each.values(), file=sys.stderr, flush=True)
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kind = f"bench {arguments.bench}" if arguments.bench else "compare"
    for percent in {each["slower"] for each in found}:
        chosen = [each for each in found if each["slower"] == percent]
        widths = [each["ratio"][2] / each["ratio"][1] for each in chosen]
        decided = [each["pair"] for each in chosen if each["verdicts"]["0.0"] in DECIDED]
        kept[f"{kind}, {percent:g} % more"] = {
            "cpu": machine.cpu_model(),
            "load": [load[0], os.getloadavg()[0]],
            "rates": rates(chosen),
            "median_width": statistics.median(widths),
            "decided": Counter(decided),
        }
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print(
        "| does more | margin | races | FAST | SLOW | SAME | AMBG |\n|---|---|---|---|---|---|---|"
    )
    for row in rates(found):
        verdicts = " | ".join(str(row[str(verdict)]) for verdict in Verdict)
        print(f"| {row['slower']:g} % | {row['margin']:g} | {row['races']} | {verdicts} |")


if __name__ == "__main__":
    main()
