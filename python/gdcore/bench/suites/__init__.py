"""The suites: which computations at which sizes, what each costs, and what has to come out."""

from __future__ import annotations

from collections.abc import Sequence

from gdcore.bench.case import Case
from gdcore.bench.suites import fit, gradient, matmul, mse, operands

__all__ = ["NAMES", "cases", "sizes"]

_FULL: dict[str, Sequence[Case]] = {
    "matmul": matmul.FULL,
    "mse": mse.FULL,
    "gradient": gradient.FULL,
    "operands": operands.FULL,
    "fit": fit.FULL,
}
_QUICK: dict[str, Sequence[Case]] = {
    "matmul": matmul.QUICK,
    "mse": mse.QUICK,
    "gradient": gradient.QUICK,
    "operands": operands.QUICK,
    "fit": fit.QUICK,
}
NAMES = tuple(_FULL)


def cases(suite: str, *, quick: bool = False) -> Sequence[Case]:
    """Return the cases of a suite, or a few small ones.

    Examples
    --------
    >>> [case.name for case in cases("mse", quick=True)]
    ['10', '1,000', '100,000']
    """
    return (_QUICK if quick else _FULL)[suite]


def sizes(suite: str) -> str:
    """Return what the numbers in the names of a suite's cases are, or nothing if not known.

    Examples
    --------
    >>> sizes("matmul")
    'batch m n k'
    """
    return _FULL[suite][0].sizes if suite in _FULL else ""
