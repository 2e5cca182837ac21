"""What all tables share: columns found by name, numbers that are checked, and sentences."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdcore.advice import listed

_ROWS = 65536  # read at a time into a matrix


class TableError(ValueError):
    """What is wrong with a file, or with a column of it, in one sentence."""


class NoRowsError(TableError):
    """A file without rows."""


class Block(NamedTuple):
    """Some rows of a table.

    `columns` are floats in the order asked for; `nulls` says where one has no value, or is None.
    `place` says in words where a row of the block is in the file.
    """

    columns: Sequence[NDArray[Any]]
    nulls: Sequence[NDArray[np.bool_] | None]
    file: str
    place: Callable[[int], str]


class Refusal(NamedTuple):
    """Why a column does not hold numbers: a value and its place, and what may help."""

    shown: str
    advice: str = ""


Part = Callable[
    [Sequence[str], int], Iterator[Block]
]  # reads columns, at most this many rows a time


class Table(ABC):
    """The columns of a file, in the file's order.

    Attributes
    ----------
    label : str
        What messages call the file.
    names : tuple of str
    index : frozenset of str
        Columns that number the rows: no features unless they are asked for.
    size : int
        Bytes of the files, unpacked, about; 0 if the rows are in memory already.
    """

    label: str
    names: tuple[str, ...]
    index: frozenset[str] = frozenset()
    size: int = 0

    @abstractmethod
    def refusal(self, name: str) -> Refusal | None:
        """Return what a column holds that is not a number, or None if it holds numbers."""

    @abstractmethod
    def parts(self) -> list[Part]:
        """Return functions that each read a part of the rows."""

    @property
    def numeric(self) -> tuple[str, ...]:
        """Names of the columns that hold numbers and can be asked for."""
        counts = Counter(self.names)
        return tuple(
            name
            for name in self.names
            if counts[name] == 1 and name not in self.index and not self._unusable(name)
        )

    def find(self, name: str) -> str:
        """Return the column meant by `name`."""
        self.require([name])
        return name

    def require(self, names: Sequence[str]) -> None:
        """Raise TableError for each of `names` that is not exactly one column."""
        wanted, there = frozenset(names), frozenset(self.names)
        check_unique([name for name in self.names if name in wanted], self.label)
        missing = [name for name in names if name not in there]
        if not missing:
            return
        close = [m for name in missing for m in difflib.get_close_matches(name, self.names, 1)]
        hint = f" (did you mean {listed(dict.fromkeys(close))}?)" if close else ""
        if all(_is_number(name) for name in self.names):
            hint += " (is the header line missing?)"
        raise TableError(
            f"{self.label} has no {_column(missing)}{hint}; its columns are {listed(self.names)}."
        )

    def choose(
        self,
        target: str,
        features: Sequence[str] | None,
        others: Sequence[str],
        advise: Callable[[Sequence[str]], str],
    ) -> tuple[str, ...]:
        """Return the features; by default all columns but the target, the index and those left out.

        Raises
        ------
        TableError
            If a column is missing, named twice or not numeric. `advise` turns the names of columns
            that would do into what to write.
        """
        taken = [target, *others]
        self.require(taken)
        if features is None:
            features = [n for n in self.names if n not in taken and n not in self.index]
        self.require(features)
        wanted = [*taken, *features]
        if len(set(wanted)) < len(wanted):
            raise TableError(
                "features must name each column once, and never the target, weight or offset."
            )
        for names in (taken, features):
            if unusable := [name for name in names if self._unusable(name)]:
                usable = [name for name in self.numeric if name not in taken]
                nameless = not any(map(self.refusal, unusable))
                hint = "name it first" if nameless else "encode it as numbers first"
                if names is features and usable:
                    hint = f"choose others: {advise(usable)}"
                refusals = filter(None, map(self.refusal, unusable))
                advice = next((r.advice for r in refusals if r.advice), hint)
                raise TableError(f"{self._why(unusable)}; {advice}.")
        return tuple(features)

    def numbers(
        self, names: Sequence[str], *, gaps: bool = False, advice: str = ""
    ) -> NDArray[np.float64]:
        """Return columns as a float64 matrix, every entry of it finite.

        With `gaps`, an entry without a value is NaN. `advice` is what else to do about one.
        """
        blocks = [*self.blocks(names, gaps=gaps, advice=advice)]
        return np.concatenate(blocks) if blocks else np.empty((0, len(names)))

    def blocks(
        self, names: Sequence[str], *, gaps: bool = False, advice: str = ""
    ) -> Iterator[NDArray[np.float64]]:
        """Yield the rows of `numbers`, some at a time."""
        self.require(names)
        if unusable := [name for name in names if self._unusable(name)]:
            raise TableError(f"{self._why(unusable)}.")
        for part in self.parts():
            for block in part(names, _ROWS):
                matrix = np.empty((len(block.columns[0]), len(names)))
                for j, (column, null) in enumerate(zip(block.columns, block.nulls, strict=True)):
                    matrix[:, j] = column
                    if null is not None:
                        matrix[null, j] = np.nan
                check_finite(block, names, matrix.T, advice, gaps=gaps)
                yield matrix

    def _unusable(self, name: str) -> bool:
        return not name or name.startswith("Unnamed: ") or self.refusal(name) is not None

    def _why(self, names: Sequence[str]) -> str:
        """Say what is wrong with columns that cannot be used, without a full stop."""
        refusals = {name: self.refusal(name) for name in names}
        if nameless := [name for name, refusal in refusals.items() if refusal is None]:
            called = f", which pandas called {nameless[0]!r}" if nameless[0] else ""
            return f"{self.label} has a column without a name{called}"
        shown = ", ".join(refusal.shown for refusal in [*refusals.values()][:3] if refusal)
        are = "are" if len(names) > 1 else "is"
        return f"{_column(names)} of {self.label} {are} not numeric: {shown}"


def check_finite(
    block: Block,
    names: Sequence[str],
    columns: Iterable[NDArray[Any]],
    advice: str = "",
    *,
    gaps: bool = False,
) -> None:
    """Raise TableError that names the first null, NaN or infinity of a block's columns.

    Parameters
    ----------
    columns : iterable of ndarray
        The block's columns in the dtype to compute with.
    advice : str
        What else to do about a null or NaN.
    gaps : bool
        Whether nulls and NaN are allowed.
    """
    for name, column, given, null in zip(names, columns, block.columns, block.nulls, strict=True):
        if gaps:
            null, row = None, _first_infinite(column)
        else:
            row = _first_not_finite(column) if null is None else int(np.argmax(null))
        if row is None:
            continue
        value, place = float(given[row]), block.place(row)
        advised = "; drop or fill such rows first"
        if null is not None:
            text = f"no number in {place}{advised}{advice}"
        elif np.isnan(value):
            text = f"no number in {place}: nan{advised}{advice}"
        elif np.isinf(value):
            text = f"an infinite number in {place}: {value}{advised}"
        else:
            text = f"{value!r} in {place}, which {column.dtype} does not hold; use float64"
        raise TableError(f"column {name!r} of {block.file} has {text}.")


def _first_not_finite(column: NDArray[Any]) -> int | None:
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(column.sum(dtype=np.float64)):
            return None  # one pass; only sums that overflow need the second one
    finite = np.isfinite(column)
    return None if finite.all() else int(np.argmin(finite))


def _first_infinite(column: NDArray[Any]) -> int | None:
    infinite = np.isinf(column)
    return int(np.argmax(infinite)) if infinite.any() else None


def pyarrow(module: str, label: str) -> Any:
    """Import a module of pyarrow, which a file needs."""
    try:
        return import_module(f"pyarrow.{module}" if module else "pyarrow")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{label} needs pyarrow; run: pip install 'gdcore[cli]'."
        ) from error


def check_unique(names: Iterable[str], label: str) -> None:
    """Raise TableError if a name is there more than once."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise TableError(
            f"{label} has more than one column named {listed(twice)}; rename them first."
        )


def nulls_of(column: Any) -> NDArray[np.bool_] | None:
    """Return where an Arrow array is null; None if nowhere."""
    return column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None


def row_place(first: int, row: int) -> str:
    """Return where a row is, `first` rows after the file's first one."""
    return f"row {first + row + 1} (counted from 1)"


def first_line(error: Exception) -> str:
    """Return the first line of what an exception says, without a full stop."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(". ")


def shown(value: Any) -> str:
    """Return a value as messages quote it."""
    return repr(str(value)[:40])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _column(names: Sequence[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {listed(names)}"
