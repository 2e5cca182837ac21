"""A case: one computation at one size, which every library does on the same numbers."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_WHOLE = 2**20  # whole numbers in one operand: the sum of their residuals' squares is below 2^24


class Work(NamedTuple):
    """The least work and memory traffic of one call.

    Attributes
    ----------
    flops : float
        Additions and multiplications; a fused pair counts as two.
    read, written : float
        Bytes that have to be moved, each operand once.
    resident : float
        Bytes the call goes over: what decides which memory they come from.
    arithmetic : str, optional
        The dtype of the operations, where it is not that of the data.
    """

    flops: float
    read: float
    written: float
    resident: float
    arithmetic: str | None = None

    @property
    def bytes(self) -> float:
        """Bytes read and written."""
        return self.read + self.written


class Situation(NamedTuple):
    """When calls are made that are timed one by one.

    Attributes
    ----------
    pause : float
        Seconds of rest before each call; with 0, calls follow each other.
    busy : int
        Processes that compute beside it.
    """

    pause: float
    busy: int

    def __str__(self) -> str:
        when = f"after {1000 * self.pause:g} ms" if self.pause else "in a loop"
        return when + (f", beside {self.busy} busy" if self.busy else "")


class Expected(NamedTuple):
    """What an output has to be, and how far it may lie from that, element by element."""

    name: str
    value: Array
    bound: Array


@dataclass(frozen=True)
class Case(ABC):
    """One computation at one size.

    To add a suite, write its cases beside the others in `gdcore.bench.suites`; a library takes
    part in it with a method of the name of their `job` (`gdcore.bench.libraries`).

    Parameters
    ----------
    on_whole : bool
        Whether the inputs are small whole numbers.
    """

    suite: ClassVar[str]
    sizes: ClassVar[str]  # what the numbers in `name` are
    on_whole: bool = field(default=False, kw_only=True)

    @property
    @abstractmethod
    def name(self) -> str:
        """The sizes in words."""

    @property
    def job(self) -> str:
        """The name of the method by which a library does it: by default the suite's."""
        return self.suite

    @property
    def computation(self) -> Case:
        """What that method gets: the case, or a part of it that says what to compute."""
        return self

    @property
    def situation(self) -> Situation | None:
        """When its calls are made, if they are timed one by one."""
        return None

    @property
    def shares(self) -> Mapping[str, int]:
        """The libraries so slow that they do a part of the case, and one in how many it is.

        Only those whose time grows with the part, such as a loop over problems: it is scaled.
        """
        return {}

    def part(self, share: int) -> Case:
        """Return a case of which this one has `share` times as much."""
        raise NotImplementedError(f"{self.name} has no parts")

    @abstractmethod
    def inputs(self, dtype: str) -> tuple[Array, ...]:
        """Return the inputs: the same numbers in every process."""

    @abstractmethod
    def work(self, dtype: str) -> Work:
        """Return what a call has to do."""

    @abstractmethod
    def expected(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return each output as computed in the next wider type, and its bound."""

    def solved(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return the outputs of a library that solves in closed form, where others descend."""
        return self.expected(inputs)

    def whole(self) -> Case | None:
        """Return a case like this on whole numbers, the same exactly in every order of summation.

        None if there is none, since the order of more than sums decides.
        """
        return None

    def random(self) -> np.random.Generator:
        """Return a generator that depends on the case alone."""
        return np.random.default_rng(zlib.crc32(f"{self.suite} {self.name}".encode()))

    def uniform(self, dtype: str, *shapes: tuple[int, ...]) -> tuple[Array, ...]:
        """Return arrays that depend on the case alone: between -1 and 1, or whole from -2 to 2."""
        rng = self.random()
        if self.on_whole:
            return tuple(rng.integers(-2, 3, shape).astype(dtype) for shape in shapes)
        arrays = tuple(rng.random(shape, np.dtype(dtype).type) for shape in shapes)
        for array in arrays:
            array *= 2
            array -= 1
        return arrays


def whole_rows(n: int, d: int = 1) -> int:
    """Return how many of n rows of d whole numbers have exact sums, and an exact mean.

    Examples
    --------
    >>> whole_rows(7500, 2), whole_rows(10**7)
    (4096, 1048576)
    """
    return 1 << (min(n, _WHOLE // d).bit_length() - 1)


def moments_flops(n: float, p: int) -> float:
    """Return the operations of the second moments of n rows: p columns, and y beside them.

    Examples
    --------
    >>> moments_flops(1, 2)
    12
    """
    return n * (p + 1) * (p + 2)
