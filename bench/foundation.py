"""Import time, wheel size and seed 000 beside torch, in one run.

    python bench/foundation.py [--no-wheel]

prints the table of the README and writes bench/results/foundation.json. Contestants take turns, and
every number is a median over rounds; a result is checked before it is timed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import gdcore as gd

ROOT = Path(__file__).parent.parent
ROUNDS = 15
STEPS = 10_000


def seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def import_seconds(module: str) -> float:
    """Time of `import module` in a fresh interpreter, its start-up not counted."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    return float(subprocess.check_output([sys.executable, "-c", code]))


def import_times() -> dict[str, float]:
    pairs = [(import_seconds("numpy"), import_seconds("gdcore")) for _ in range(ROUNDS)]
    numpy, gdcore = (statistics.median(column) for column in zip(*pairs, strict=True))
    added = statistics.median(b - a for a, b in pairs)
    return {"numpy_ms": 1e3 * numpy, "gdcore_ms": 1e3 * gdcore, "added_ms": 1e3 * added}


def wheel_bytes() -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, str(ROOT)]
        subprocess.run(command, check=True)
        return next(Path(folder).glob("*.whl")).stat().st_size


def seed_000_gdcore() -> float:
    sgd = gd.SGD(lr=1e-3)
    fit = gd.fit(
        [[1.0]], [3.0], sgd, offset=1.0, fit_intercept=False, reduction="half_sum",
        epochs=STEPS, tol=None,
    )  # fmt: skip
    return float(fit.weights[0])


def seed_000_torch() -> float:
    import torch

    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    sgd = torch.optim.SGD([x], lr=1e-3)
    for _ in range(STEPS):
        sgd.zero_grad()
        loss = (3 - (x + 1)) ** 2 / 2
        loss.sum().backward()
        sgd.step()
    return float(x.detach()[0])


def seed_000() -> dict[str, float]:
    expected = 2 * (1 - (1 - 1e-3) ** STEPS)
    for run in (seed_000_gdcore, seed_000_torch):
        if not abs(run() - expected) <= STEPS * 2.0**-52 * expected:
            raise SystemExit(f"{run.__name__} is wrong: {run()!r}, not {expected!r}")
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours += [seconds(seed_000_gdcore) for _ in range(5)]
        theirs.append(seconds(seed_000_torch))
    ratio = statistics.median(theirs) / statistics.median(ours)
    return {
        "gdcore_ms": 1e3 * statistics.median(ours),
        "gdcore_best_ms": 1e3 * min(ours),
        "torch_ms": 1e3 * statistics.median(theirs),
        "torch_over_gdcore": ratio,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-wheel", action="store_true", help="do not build a wheel")
    arguments = parser.parse_args()
    results = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "python": platform.python_version(),
        },
        "config": gd.config() | {"openmp": [Path(p).name for p in gd.config()["openmp"]]},
        "numpy": np.__version__,
        "import": import_times(),
        "seed_000": seed_000(),
    }
    if not arguments.no_wheel:
        results["wheel_bytes"] = wheel_bytes()
    (ROOT / "bench/results").mkdir(exist_ok=True)
    (ROOT / "bench/results/foundation.json").write_text(json.dumps(results, indent=2) + "\n")
    loaded, seed = results["import"], results["seed_000"]
    print("| figure | measured |\n|---|---|")
    print(
        f"| `import gdcore` over `import numpy` | {loaded['gdcore_ms'] / loaded['numpy_ms']:.2f} x "
        f"(+{loaded['added_ms']:.0f} ms) |"
    )
    if "wheel_bytes" in results:
        print(f"| wheel | {results['wheel_bytes'] / 1e6:.2f} MB |")
    print(
        f"| seed 000, {STEPS} steps, the whole call of `gd.fit` | {seed['gdcore_ms']:.2f} ms, "
        f"torch eager takes {seed['torch_over_gdcore']:.0f} x as long |"
    )


if __name__ == "__main__":
    main()
