"""Put what bench/cuda_check wrote into one page: python bench/cuda/table.py OUT."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def versions() -> list[str]:
    """Return what ran: GPU, driver, clocks, compiler, torch."""
    asked = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit"
    commands = [
        ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"],
        ["nvcc", "--version"],
        [sys.executable, "-c", "import torch; print('torch', torch.__version__)"],
    ]
    found = [f"Python {sys.version.split()[0]}"]
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=8)
        except (OSError, subprocess.TimeoutExpired) as error:
            found.append(f"{command[0]}: {type(error).__name__}")
        else:
            lines = done.stdout.strip().splitlines()
            found.append(lines[-1] if lines else f"{command[0]}: {done.stderr.strip()[-200:]}")
    return found


def cell(value: Any, form: str) -> str:
    """Format a figure that may be missing."""
    return "" if value is None else format(value, form)


def timings(lines: list[dict[str, Any]]) -> list[str]:
    """Return the table of races."""
    rows = [
        "| case | ours, ms | torch, ms | torch / ours | TFLOP/s | of bandwidth | target | met |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        if "bandwidth" in line:
            rows.insert(0, f"Copy: {1e-12 * line['bandwidth']:.2f} TB/s read and written.\n")
        elif "why" in line:
            rows.append(f"| {line['name']} | {line['why']} | | | | | | |")
        else:
            rows.append(
                f"| {line['name']} | {cell(line['ours_ms'], '.4g')} "
                f"| {cell(line['theirs_ms'], '.4g')} | {cell(line['ratio'], '.3g')} "
                f"| {cell(line['tflops'], '.3g')} | {cell(line['share_of_bandwidth'], '.0%')} "
                f"| {line['target']} | {'yes' if line['met'] else 'NO'} |"
            )
    return rows


def main() -> None:
    """Read the steps and the races; write OUT/table.md."""
    out = Path(sys.argv[1])
    page = [
        "# gdcore on this GPU",
        "",
        *versions(),
        "",
        "| step | state | seconds | |",
        "|---|---|---|---|",
    ]
    for path in sorted(out.glob("*.json"), key=lambda path: path.stat().st_mtime):
        step = json.loads(path.read_text())
        said = step.get("why") or json.dumps(step.get("result"))
        page.append(f"| {step['step']} | {step['state']} | {step['seconds']} | {said[:600]} |")
    races = out / "timings.jsonl"
    if races.exists():
        page += ["", *timings([json.loads(line) for line in races.read_text().splitlines()])]
    (out / "table.md").write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
