"""Other sizes for a function's inputs: equal numbers in their shapes stay equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gdcore.oracle.trials.template import Argument

NAMES = ("given", "odd", "one", "long")
SMALL = 8  # lengths up to this may be a kernel's width or a count of channels
USUAL_ELEMENTS = 1 << 15  # of all arguments, where the families are tried
MOST_ELEMENTS = 1 << 17  # of all arguments, at a size that is not the user's own
LONG = 3001

Lengths = Mapping[int, int]


@dataclass(frozen=True)
class Size:
    """Lengths that take the place of those in the user's shapes.

    Attributes
    ----------
    name : str
        One of `NAMES`, or "smaller" for the user's own shapes made smaller.
    lengths : mapping of int to int
        New lengths by old ones; those that are not in it stay.
    """

    name: str
    lengths: Lengths = field(default_factory=dict)

    def shape(self, old: Sequence[int]) -> tuple[int, ...]:
        """Return the shape that takes the place of another."""
        return tuple(self.lengths.get(n, n) for n in old)

    def label(self, arguments: Sequence[Argument]) -> str:
        """Return the name and the shape of the largest argument, such as "odd (37x101)".

        Examples
        --------
        >>> from gdcore.oracle.trials.operand import Operand
        >>> from gdcore.oracle.trials.template import arguments_of
        >>> import numpy as np
        >>> x = arguments_of([Operand.of(np.ones((4, 6)), "float32")])
        >>> Size("odd", {4: 3, 6: 5}).label(x)
        'odd (3x5)'
        """
        shapes = [self.shape(argument.shape) for argument in arguments]
        largest = max(shapes, key=product, default=())
        return f"{self.name} ({'x'.join(map(str, largest)) or 'scalar'})"


def product(lengths: Sequence[int]) -> int:
    """Return the number of elements of a shape."""
    total = 1
    for n in lengths:
        total *= n
    return total


def elements(size: Size, arguments: Sequence[Argument]) -> int:
    """Return how many elements all arguments have at a size."""
    return sum(product(size.shape(argument.shape)) for argument in arguments)


def lengths_of(arguments: Sequence[Argument]) -> list[int]:
    """Return the lengths in the shapes of the arguments, the first argument's first."""
    seen: dict[int, None] = {}
    for argument in arguments:
        for n in argument.shape:
            seen.setdefault(n)
    return [n for n in seen if n > 0]


def odd(n: int) -> int:
    """Return an odd length near four fifths of another, at most 101 and not 1 unless it is 1.

    Examples
    --------
    >>> [odd(n) for n in (128, 64, 32, 3, 1, 4096)]
    [101, 51, 25, 5, 1, 101]
    """
    if n == 1:
        return 1
    return max(min(n * 4 // 5, 101) | 1, 5)


def wanted(name: str, arguments: Sequence[Argument]) -> dict[int, int]:
    """Return the lengths that a size of this name should have if the function takes them."""
    lengths = lengths_of(arguments)
    if name == "one":
        return dict.fromkeys(lengths, 1)
    if name == "odd":
        taken: dict[int, int] = {}
        for n in lengths:
            new = odd(n)
            while new in taken.values() and n > 1:
                new += 2  # lengths that differ go on to differ
            taken[n] = new
        return taken
    if name == "long":
        largest = max(arguments, key=lambda a: a.operand.size)
        last = largest.shape[-1] if largest.shape else 1
        small = {n: min(n, 3 if n == largest.shape[0] else 8) for n in lengths}
        long = LONG
        while long > last and elements(Size("", small | {last: long}), arguments) > MOST_ELEMENTS:
            long = long * 3 // 4 | 1  # square matrices, of which each length is this one
        return small | {last: long} if long > last else {}
    return {}


def smaller(arguments: Sequence[Argument]) -> Size:
    """Return the user's size, or smaller if that has more than `USUAL_ELEMENTS`."""
    size = Size("given")
    limit = max(lengths_of(arguments), default=1)
    while elements(size, arguments) > USUAL_ELEMENTS and limit > SMALL:
        limit = limit * 3 // 4
        kept = {n: n if n <= SMALL else max(SMALL, min(n, limit)) for n in lengths_of(arguments)}
        size = Size("smaller", {n: new for n, new in kept.items() if n != new})
    return size


def attainable(
    name: str, lengths: Lengths, takes: Callable[[Size], str]
) -> tuple[Size | None, str]:
    """Return a size as near to the one wanted as the function takes, or why there is none.

    Parameters
    ----------
    name : str
    lengths : mapping of int to int
        New lengths by old ones.
    takes : callable
        Returns why the function does not take a size, "" if it does.
    """
    changed = {n: new for n, new in lengths.items() if n != new}
    if not changed:
        return None, "it is the given size"
    size = Size(name, changed)
    reason = takes(size)
    if not reason:
        return size, ""
    larger = {n: new for n, new in changed.items() if n > SMALL}
    if larger and larger != changed and not takes(Size(name, larger)):
        return Size(name, larger), ""
    free = {n: new for n, new in changed.items() if not takes(Size(name, {n: new}))}
    if free and not takes(Size(name, free)):
        return Size(name, free), ""
    for n, new in free.items():
        return Size(name, {n: new}), ""
    return None, reason


def as_indices(argument: Argument, arguments: Sequence[Argument]) -> Argument:
    """Return whole numbers with the range of all indices if they use half of it or more."""
    length = indexed_length(argument, arguments)
    if length is None or 2 * argument.high < length - 1:
        return argument
    return replace(argument, low=min(argument.low, 0.0), high=float(length - 1))


def indexed_length(argument: Argument, arguments: Sequence[Argument]) -> int | None:
    """Return the smallest length that all whole numbers are below: of classes, or of rows."""
    floats = [a for a in arguments if a.operand.is_float]
    above = [n for a in floats for n in a.shape if n > argument.high]
    return min(above, default=None)


def label_limit(argument: Argument, size: Size, arguments: Sequence[Argument]) -> int:
    """Return the largest whole number of an argument at a size."""
    length = indexed_length(argument, arguments)
    if length is None:
        return int(argument.high)
    return max(0, min(int(argument.high), size.lengths.get(length, length) - 1))
