"""The suites: which computations at which sizes, what each costs, and what has to come out."""

from __future__ import annotations

from collections.abc import Sequence

from gdcore.bench.case import Case
from gdcore.bench.suites import fit, gradient, many, matmul, mse, operands, rest

__all__ = ["JOBS", "NAMES", "cases", "sizes"]

_FULL: dict[str, Sequence[Case]] = {
    "matmul": matmul.FULL,
    "mse": mse.FULL,
    "gradient": gradient.FULL,
    "operands": operands.FULL,
    "fit": (*fit.FULL, *many.FULL),
    "rest": rest.FULL,
}
_QUICK: dict[str, Sequence[Case]] = {
    "matmul": matmul.QUICK,
    "mse": mse.QUICK,
    "gradient": gradient.QUICK,
    "operands": operands.QUICK,
    "fit": (*fit.QUICK, *many.QUICK),
    "rest": rest.QUICK,
}
_LARGE: dict[str, Sequence[Case]] = {"fit": many.LARGE}
NAMES = tuple(_FULL)
JOBS = tuple(dict.fromkeys(case.job for cases in _FULL.values() for case in cases))


def cases(suite: str, *, quick: bool = False, large: bool = False) -> Sequence[Case]:
    """Return the cases of a suite, or a few small ones, or those that take a long time.

    Examples
    --------
    >>> [case.name for case in cases("mse", quick=True)]
    ['10', '1,000', '100,000']
    """
    if large:
        return _LARGE.get(suite, ())
    return (_QUICK if quick else _FULL)[suite]


def sizes(suite: str) -> str:
    """Return what the numbers in the names of a suite's cases are, or nothing if not known.

    Examples
    --------
    >>> sizes("matmul")
    'batch m n k'
    """
    return _FULL[suite][0].sizes if suite in _FULL else ""
