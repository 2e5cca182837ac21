"""Whether a kernel is right, and how much faster, though it may not want you to know."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gdcore.oracle.trials.findings import Finding, Ruling
    from gdcore.referee.judging import judge
    from gdcore.referee.problem import UsageError
    from gdcore.referee.verdict import Speed, Verdict

__all__ = ["Finding", "Ruling", "Speed", "UsageError", "Verdict", "judge"]

_HOMES = {"judge": "judging", "UsageError": "problem"}


def __getattr__(name: str) -> Any:
    """Import what is asked for: the processes of kernels need none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'verdict')}"), name)
