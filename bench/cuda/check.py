"""Probe, prove and time gdcore on a machine with an NVIDIA GPU, in eight minutes.

    bench/cuda_check [OUT] [--wheel FILE] [--kernels FILE] [--seconds N] [--emulated]

Needs Python >= 3.11 with torch for CUDA and NumPy, and nvcc; CMake, a C++ compiler,
scikit-build-core and pybind11 unless a wheel is given; pytest for the step `tests`, and
compute-sanitizer for `sanitizer`. Every step has its own limit of time and writes OUT/STEP.json at
once and OUT/STEP.log as it runs, so that a failure costs that step alone. OUT/table.md comes last.

--wheel       install this wheel, in place of building one from this tree
--installed   install nothing: this Python has gdcore already
--kernels     a kernels.fatbin to use if the build makes none
--emulated    the same steps at tiny sizes on the emulated driver, to prove the script; what only a
              GPU can say is skipped
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
STREAMS, TIMINGS, TABLE = HERE / "streams.py", HERE / "timings.py", HERE / "table.py"


class Skipped(Exception):
    """A step cannot run here; says why."""


@dataclass
class Check:
    """One run of all steps."""

    out: Path
    wheel: Path | None
    kernels: Path | None
    installed: bool
    emulated: bool
    ends: float

    def __post_init__(self) -> None:
        self.site = self.out / "site"
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(self.site), str(ROOT / "tests")]),
            "PYTHONUNBUFFERED": "1",
            "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count()),
        }
        self.build: subprocess.Popen[bytes] | None = None

    # ---- Processes

    def start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own; what it prints goes to a log."""
        with (self.out / f"{name}.log").open("ab") as log:
            log.write(f"$ {' '.join(command)}\n".encode())
            log.flush()
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        """Wait for the end of a command; end it at the deadline, and all that it started."""
        try:
            status = process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise TimeoutError("the time was over") from None
        if status != 0:
            raise subprocess.CalledProcessError(status, process.args)

    def call(self, name: str, command: list[str], deadline: float) -> str:
        """Run a command; return all that the step has printed."""
        self.wait(self.start(name, command), deadline)
        return (self.out / f"{name}.log").read_text(errors="replace")

    def python(self, name: str, arguments: list[str], deadline: float) -> str:
        return self.call(name, [sys.executable, *arguments], deadline)

    # ---- Steps, in their order

    def begin_build(self) -> None:
        """Begin to install gdcore into OUT/site, while the GPU is probed."""
        if self.installed:
            return
        install = [sys.executable, "-m", "pip", "install", "--no-deps", "--upgrade"]
        install += ["--target", str(self.site), "--no-index"]
        if self.wheel:
            install += [str(self.wheel)]
        else:
            install += ["--no-build-isolation", str(ROOT), "-C", "cmake.define.GDCORE_CUDA=AUTO"]
        self.build = self.start("build", install)

    def step_probe(self, deadline: float) -> dict[str, Any]:
        """Ask the GPU what the design rests on: the order of its tensor cores, latencies, bytes."""
        if self.emulated:
            raise Skipped("only a GPU has latencies and a bandwidth")
        program = str(self.out / "probe")
        flags = ["-std=c++17", "-O3", "-fmad=false", "-arch=native"]
        self.call("probe", ["nvcc", *flags, "-o", program, str(HERE / "probe.cu")], deadline)
        return last_json(self.call("probe", [program], deadline))

    def step_build(self, deadline: float) -> dict[str, Any]:
        """Wait for the installation, and give it kernels if it made none."""
        if self.build:
            self.wait(self.build, deadline)
        if self.emulated:
            driver = self.out / "driver"
            script = ROOT / "tests" / "native" / "emulated_driver.py"
            self.python("build", [str(script), str(driver)], deadline)
            self.environment["GDCORE_CUDA_DRIVER"] = str(driver / "libcuda_emulated.so")
        fatbin = self.site / "gdcore" / "kernels.fatbin"
        if self.kernels and not self.installed and not fatbin.exists():
            shutil.copy2(self.kernels, fatbin)
        config = "import json, gdcore; print(json.dumps(gdcore.config()['cuda'], default=str))"
        return {
            "cuda": last_json(self.python("build", ["-c", config], deadline)),
            "fatbin_bytes": fatbin.stat().st_size if fatbin.exists() else None,
        }

    def step_selftest(self, deadline: float) -> dict[str, Any]:
        """Compare every frozen digest."""
        code = (
            "import gdcore, sys; found = gdcore.selftest('cuda'); print(found); sys.exit(not found)"
        )
        text = self.python("selftest", ["-c", code], deadline)  # the command line needs packages
        return {"said": text.strip().splitlines()[-1]}

    def step_streams(self, deadline: float) -> dict[str, Any]:
        """Compare results on the caller's second stream and in a graph with the CPU's bits."""
        if self.emulated:
            raise Skipped("torch has no CUDA here; tests/test_cuda_* check streams and captures")
        return last_json(self.python("streams", [str(STREAMS)], deadline))

    def step_tests(self, deadline: float) -> dict[str, Any]:
        """Run the tests that are marked cuda."""
        # Not pyproject's options: not every machine has the plugins they ask for.
        options = ["-o", "addopts=--import-mode=importlib", "-m", "cuda", "--maxfail=5"]
        options += ["-p", "no:cacheprovider", "-q"]
        if find_spec("xdist"):
            options += ["-n", "4"]
        if self.emulated:
            options += ["-k", "same_bits or moments"]
        text = self.python("tests", ["-m", "pytest", "tests", *options], deadline)
        return {"said": text.strip().splitlines()[-1]}

    def step_sanitizer(self, deadline: float) -> dict[str, Any]:
        """Look for stray accesses, races and misused barriers in some products, sums and fits."""
        if self.emulated:
            raise Skipped(
                "compute-sanitizer needs a GPU; ThreadSanitizer checks the emulated kernels"
            )
        program = find_sanitizer()
        found = {}
        for tool in ("memcheck", "racecheck", "synccheck"):
            command = [program, "--tool", tool, "--error-exitcode", "1"]
            command += [sys.executable, str(STREAMS), "--few"]
            try:
                self.call("sanitizer", command, deadline)
                found[tool] = "no report"
            except subprocess.CalledProcessError:
                found[tool] = "REPORTS, see sanitizer.log"
        return found

    def step_timings(self, deadline: float) -> dict[str, Any]:
        """Time operations against torch's in one process."""
        arguments = [str(TIMINGS), str(self.out / "timings.jsonl")]
        arguments += ["--seconds", str(int(deadline - time.monotonic()) - 5)]
        self.python("timings", [*arguments, *["--emulated"] * self.emulated], deadline)
        return {"lines": len((self.out / "timings.jsonl").read_text().splitlines())}

    def step_table(self, deadline: float) -> dict[str, Any]:
        """Put everything into one table."""
        self.python("table", [str(TABLE), str(self.out)], deadline)
        return {"table": str(self.out / "table.md")}


# Step, and the most seconds it may take.
STEPS: list[tuple[str, int]] = [
    ("probe", 60),
    ("build", 120),
    ("selftest", 25),
    ("streams", 20),
    ("tests", 90),
    ("sanitizer", 75),
    ("timings", 150),
    ("table", 10),
]


def last_json(text: str) -> Any:
    """Return the last line of a text that is JSON."""
    for line in reversed(text.splitlines()):
        if line.startswith(("{", "[", '"')):
            return json.loads(line)
    raise ValueError("the step printed no JSON")


def find_sanitizer() -> str:
    """Find compute-sanitizer: on PATH, or in the toolkit."""
    nvcc = shutil.which("nvcc") or ""
    folders = [str(Path(nvcc).resolve().parent), "/usr/local/cuda/bin"]
    found = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path=os.pathsep.join(folders)
    )
    if not found:
        raise Skipped("compute-sanitizer was not found")
    return found


def run(check: Check, name: str, limit: float) -> None:
    """Run one step and write what came of it, whatever happens in it."""
    step: Callable[[float], dict[str, Any]] = getattr(check, f"step_{name}")
    began = time.monotonic()
    deadline = min(began + limit, check.ends)
    record: dict[str, Any] = {"step": name}
    try:
        if deadline - began < 3:
            raise Skipped("no time was left")
        record |= {"state": "done", **{"result": step(deadline)}}
    except Skipped as skipped:
        record |= {"state": "skipped", "why": str(skipped)}
    except Exception as error:
        record |= {
            "state": "FAILED",
            "why": f"{type(error).__name__}: {error}",
            "log": tail(check, name),
        }
    record["seconds"] = round(time.monotonic() - began, 1)
    (check.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    what = record.get("why") or json.dumps(record.get("result"))
    print(f"{name:10} {record['state']:8} {record['seconds']:6.1f} s  {what[:300]}", flush=True)


def tail(check: Check, name: str) -> list[str]:
    """Return the end of a step's log."""
    log = check.out / f"{name}.log"
    return log.read_text(errors="replace").splitlines()[-30:] if log.exists() else []


def main() -> int:
    """Read the command line and run the steps; 0 if none failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "bench" / "raw" / "cuda")
    parser.add_argument("--wheel", type=Path)
    parser.add_argument("--kernels", type=Path)
    parser.add_argument("--installed", action="store_true")
    parser.add_argument("--seconds", type=int, default=480, help="for all steps together")
    parser.add_argument("--emulated", action="store_true")
    given = parser.parse_args()
    out = given.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    ends = time.monotonic() + given.seconds
    check = Check(out, given.wheel, given.kernels, given.installed, given.emulated, ends)
    check.begin_build()
    for name, limit in STEPS:
        if name == "timings":  # leave time for the table
            limit = min(limit, check.ends - time.monotonic() - 10)
        run(check, name, limit)
    table = out / "table.md"
    if table.exists():
        print("\n" + table.read_text())
    states = [json.loads((out / f"{name}.json").read_text())["state"] for name, _ in STEPS]
    return int("FAILED" in states)


if __name__ == "__main__":
    sys.exit(main())
