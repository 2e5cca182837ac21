"""Import time and wheel size.

    python bench/foundation.py [--no-wheel]

prints the table of the README and writes bench/results/foundation.json. The imports take turns, and
times are medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import gdcore as gd

ROOT = Path(__file__).parent.parent
ROUNDS = 15


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
    }
    if not arguments.no_wheel:
        results["wheel_bytes"] = wheel_bytes()
    (ROOT / "bench/results").mkdir(exist_ok=True)
    (ROOT / "bench/results/foundation.json").write_text(json.dumps(results, indent=2) + "\n")
    loaded = results["import"]
    print("| figure | measured |\n|---|---|")
    print(
        f"| `import gdcore` over `import numpy` | {loaded['gdcore_ms'] / loaded['numpy_ms']:.2f} x "
        f"(+{loaded['added_ms']:.0f} ms) |"
    )
    if "wheel_bytes" in results:
        print(f"| wheel | {results['wheel_bytes'] / 1e6:.2f} MB |")


if __name__ == "__main__":
    main()
