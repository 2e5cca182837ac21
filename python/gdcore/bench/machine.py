"""Where a run was made: processor, caches, system, load, code; all of it goes into the JSON."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gdcore as gd

_CPU = Path("/sys/devices/system/cpu")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
_OPENMP = re.compile(r"(lib(?:gomp|omp|iomp5)\b[^/]*\.so[^/]*)$")


class Cache(NamedTuple):
    """A cache for data: its level, its bytes, and how many CPUs share it."""

    level: int
    size: int
    cpus: int


def environment() -> dict[str, Any]:
    """Return what is known of this machine and of this run before it starts."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "flags": cpu_flags(),
        "caches": [each._asdict() for each in caches()],
        "cpus_usable": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "gdcore": gd.config(),
        "git": git_revision(),
        "load_before": os.getloadavg(),
        "load_after": None,
    }


def cpu_model() -> str:
    """Return the processor's name."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_flags() -> list[str]:
    """Return the features of the processor, as the system names them."""
    return (_cpuinfo("flags") or _cpuinfo("Features")).split()


def caches() -> list[Cache]:
    """Return the data caches of the first usable CPU, from the nearest; none if not known."""
    first = min(os.sched_getaffinity(0))
    found = []
    for folder in (_CPU / f"cpu{first}" / "cache").glob("index*"):
        try:
            if (folder / "type").read_text().strip() == "Instruction":
                continue
            size = (folder / "size").read_text().strip()
            cpus = _count((folder / "shared_cpu_list").read_text())
            level = int((folder / "level").read_text())
        except (OSError, ValueError):
            continue
        found.append(Cache(level, int(size[:-1]) * _UNITS[size[-1]], cpus))
    return sorted(found)


def openmp_runtimes() -> list[str]:
    """Return the OpenMP runtimes loaded in this process."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    return sorted({match[1] for line in lines if (match := _OPENMP.search(line))})


def git_revision() -> str | None:
    """Return the commit of the checkout that gdcore was imported from, if it is one.

    A ``+`` at the end says that files differ from it.
    """
    project = _git("rev-parse", "--show-toplevel")
    if project is None or 'name = "gdcore"' not in _read(Path(project) / "pyproject.toml"):
        return None
    revision = _git("rev-parse", "HEAD")
    return f"{revision}+" if revision and _git("status", "--porcelain", "-uno") else revision


def _git(*arguments: str) -> str | None:
    try:
        run = subprocess.run(
            ["git", "-C", str(Path(gd.__file__).parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def _cpuinfo(key: str) -> str:
    found = re.search(rf"^{key}\s*:\s*(.*)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return found[1] if found else ""


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _count(ranges: str) -> int:
    """Return how many CPUs a list such as ``0-3,8`` has."""
    parts = (part.split("-") for part in ranges.strip().split(","))
    return sum(int(part[-1]) - int(part[0]) + 1 for part in parts)
