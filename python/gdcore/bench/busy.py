"""Processes that keep CPUs busy beside what is measured, and that never outlive the measurement."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_SETTLING = 0.2  # seconds in which the scheduler gives each a CPU
# It ends when its standard input closes: at the latest with this process, however that ends.
_LOOP = """
import select

print(flush=True)
while not select.select([0], [], [], 0)[0]:
    for _ in range(100_000):
        pass
"""


@contextmanager
def busy_processes(count: int) -> Iterator[list[int]]:
    """Run a number of processes that do nothing but compute, and yield their ids."""
    with ExitStack() as stack:
        running = [_start(stack) for _ in range(count)]
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        time.sleep(_SETTLING if running else 0)
        yield [process.pid for process in running]


def _start(stack: ExitStack) -> subprocess.Popen[bytes]:
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the parent alone
        )
    )
    stack.callback(process.kill)
    return process
