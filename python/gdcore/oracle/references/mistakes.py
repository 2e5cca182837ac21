"""What people get wrong about a result, as data: `gdcore.oracle.diagnosis.causes` looks for it.

Elements of a result are numbered as `ravel` does; `ALL` is every one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import rounded

Array = NDArray[Any]
Where = Any  # indices of elements (E,), or ALL
ALL = slice(None)
SLACK = 4.0  # bounds of the right result that a mistaken one may be off by
BLOCKS = (4, 8, 16, 32, 64, 100, 128)
PRECISIONS: dict[str, Callable[[Any], Array]] = {
    "float16": lambda x: np.asarray(x).astype(np.float16).astype(np.float64),
    "bfloat16": lambda x: rounded(x, 8),
    "TF32": lambda x: rounded(x, 11),
    "int32": lambda x: np.trunc(np.asarray(x, np.float64)),
}


class Cause(NamedTuple):
    """What explains a wrong result: the mistake alone, and a sentence on this very result."""

    name: str
    sentence: str


class Factor(NamedTuple):
    """A number that a known mistake multiplies every element by."""

    value: float
    cause: str


class Alternative(NamedTuple):
    """What a known mistake makes of some elements of the result."""

    cause: str
    of: Callable[[Where], Array]


class Addition(NamedTuple):
    """What a known mistake adds to the result, times any number."""

    cause: str
    value: Array


class Loss(NamedTuple):
    """How far a way to compute the result may be off that is not within the bound."""

    cause: str
    bound: Array


class Terms(NamedTuple):
    """Terms of the result in the order they are added: mistakes drop some at an end.

    Attributes
    ----------
    what : str
        Such as "k = 7 products".
    number : int
    cost : int
        Numbers read for the terms of one element.
    at : callable
        Takes indices of elements; returns their terms (E, number).
    total : callable
        Takes a slice of the terms; returns its sum, for every element.
    mean : bool
        Whether their number also divides the result.
    where : str
        What the terms are dropped from, if not from the result itself.
    """

    what: str
    number: int
    cost: int
    at: Callable[[Array], Array]
    total: Callable[[slice], Array]
    mean: bool = False
    where: str = ""


class Parts(NamedTuple):
    """Which parts of two operands each part of the result is made of: mistakes take others.

    Attributes
    ----------
    what : str
        What a part is: "problem" of a stack, "target".
    names : pair of str
        The operands'.
    shape : tuple of int
        Of the parts of the result, such as the batch dimensions.
    numbers : pair of ndarray of int
        The parts of each operand, numbered, in its own shape, which broadcasts to `shape`.
    of : callable
        Takes a part of each operand; returns the part that they make (size,).
    split : callable
        Takes all elements of a result; returns its parts (P, size).
    """

    what: str
    names: tuple[str, str]
    shape: tuple[int, ...]
    numbers: tuple[Array, Array]
    of: Callable[[int, int], Array]
    split: Callable[[Array], Array]


@dataclass(frozen=True)
class Mistakes:
    """What people get wrong about a result.

    Attributes
    ----------
    of : str
        What the result is, such as "the mean-loss gradient with n = 4".
    factors : tuple of Factor
    alternatives, terms, additions, parts : callable
        Return these, computed only when a result is wrong.
    lost : callable
        Returns alternatives that explain why NaN or infinity is lost.
    losses : callable
        Returns what loses digits, looked for where nothing else explains the result.
    nonfinite : callable
        Returns alternatives that make NaN or infinity where the right result is finite.
    """

    of: str
    factors: tuple[Factor, ...] = ()
    alternatives: Callable[[], Iterable[Alternative]] = tuple
    terms: Callable[[], Iterable[Terms]] = tuple
    additions: Callable[[], Iterable[Addition]] = tuple
    parts: Callable[[], Parts | None] = lambda: None
    lost: Callable[[], Iterable[Alternative]] = tuple
    losses: Callable[[], Iterable[Loss]] = tuple
    nonfinite: Callable[[], Iterable[Alternative]] = tuple


def as_float64(x: Array) -> Array:
    """Return numbers as they are: no mistake."""
    return x.astype(np.float64, copy=False)


def vectors(a: Array, b: Array, where: Array) -> tuple[Array, Array]:
    """Return the rows of a (…,m,k) and columns of b (…,k,n), (E,k) each, of elements of a @ b."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = np.swapaxes(np.broadcast_to(b, (*batch, *b.shape[-2:])), -1, -2)
    *at, row, column = np.unravel_index(where, (*batch, a.shape[-2], b.shape[-2]))
    return a[(*at, row)], b[(*at, column)]


def usual_blocks(count: int) -> Iterator[int]:
    """Yield how many of `count` are left for the last block, for usual sizes of blocks."""
    seen = {0, count}
    for size in BLOCKS:
        for rest in (count % size, size):
            if rest < count and rest not in seen:
                seen.add(rest)
                yield rest
