"""Whether any kernel is right, and how much faster, though it may not want you to know.

`judge` takes two files, runs the kernel in a process of its own, and races it if it is right::

    from gdcore import referee

    print(referee.judge("softmax.py", "reference.py"))

`like` compares two functions in this process, and `kernel_test` makes a test of either. What they
find is a `Ruling`: right, suspicious, wrong, cheating, or not decided. See docs/any_kernel.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gdcore.oracle.trials.findings import Finding, Ruling
    from gdcore.oracle.trials.like import Likeness, like
    from gdcore.referee.judging import judge
    from gdcore.referee.problem import UsageError
    from gdcore.referee.testing import assert_kernel, kernel_test
    from gdcore.referee.verdict import Speed, Verdict

__all__ = [
    "Finding",
    "Likeness",
    "Ruling",
    "Speed",
    "UsageError",
    "Verdict",
    "assert_kernel",
    "judge",
    "kernel_test",
    "like",
]

_HOMES = {
    "Finding": "gdcore.oracle.trials.findings",
    "Likeness": "gdcore.oracle.trials.like",
    "Ruling": "gdcore.oracle.trials.findings",
    "UsageError": "gdcore.referee.problem",
    "assert_kernel": "gdcore.referee.testing",
    "judge": "gdcore.referee.judging",
    "kernel_test": "gdcore.referee.testing",
    "like": "gdcore.oracle.trials.like",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: the processes of kernels need none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "gdcore.referee.verdict")), name)
