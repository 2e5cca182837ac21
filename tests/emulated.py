"""The emulated CUDA driver for the tests: built once a session, and its switches."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NATIVE = ROOT / "tests/native"
DRIVER = "libcuda_emulated.so"


def compiler() -> str:
    """Return the C++ compiler; the test is skipped without one."""
    found = shutil.which(os.environ.get("CXX", "g++"))
    if found is None or not (NATIVE / "emulated_driver.py").exists():
        pytest.skip("needs a checkout and a C++ compiler")
    return found


def once(folder: Path, make: Callable[[], object]) -> Path:
    """Make a folder's files unless another worker has, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            make()
            (folder / "complete").touch()
    return folder


def shared(root: pytest.TempPathFactory, name: str) -> Path:
    """Return a temporary folder that all workers of the session share."""
    base = root.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name


def driver(root: pytest.TempPathFactory, *options: str) -> Path:
    """Build the driver, or take the one that the environment names; return its path."""
    named = Path(os.environ.get("GDCORE_CUDA_DRIVER", ""))
    if named.name == DRIVER and not options:
        return named
    compiler()
    folder = shared(root, "-".join(["emulated", *(o.strip("-") for o in options)]))
    command = [sys.executable, str(NATIVE / "emulated_driver.py"), str(folder), *options]
    return once(folder, lambda: subprocess.run(command, check=True, capture_output=True)) / DRIVER


@cache
def switches() -> ctypes.CDLL:
    """Return the emulated driver that this process uses, to set what fails."""
    library = ctypes.CDLL(os.environ["GDCORE_CUDA_DRIVER"])
    library.emulation_get.restype = ctypes.c_longlong
    library.emulation_set.argtypes = ctypes.c_char_p, ctypes.c_longlong
    library.emulation_bytes_in_use.restype = ctypes.c_size_t
    return library


def switch(name: str, value: int) -> None:
    """Set an option of the emulated driver, such as fail_allocation, fail_launch or sm."""
    assert switches().emulation_set(name.encode(), value) == 0, name


def bytes_in_use() -> int:
    """Return how much memory of the emulated devices is allocated."""
    return int(switches().emulation_bytes_in_use())


def fail_every_allocation(call: Callable[[], Any], same: Callable[[Any, Any], bool]) -> int:
    """Fail each allocation that a call makes once; return how many there are.

    Each time the call raises MemoryError with the size and leaves no memory behind, and the next
    call returns the same result.
    """
    right = call()
    kept = bytes_in_use()
    for k in count(1):
        switch("fail_allocation", k)
        got, error = outcome(call)
        if error is None:
            assert switches().emulation_get(b"fail_allocation") > 0, "a failure was not reported"
            switch("fail_allocation", 0)
            assert same(got, right)
            return k - 1
        assert re.search(r"\d+ bytes", error), error
        assert bytes_in_use() == kept, f"memory leaked when allocation {k} failed"
        assert same(call(), right), f"wrong after allocation {k} failed"
    raise AssertionError


def outcome(call: Callable[[], Any]) -> tuple[Any, str | None]:
    """Return what a call returns, or the text of its MemoryError."""
    try:
        return call(), None
    except MemoryError as error:
        return None, str(error)
