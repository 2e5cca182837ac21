"""Chunks of rows from files and folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from gdcore.data.missing import WAY_OUT, check_missing
from gdcore.scalars import is_whole
from gdcore.typing import Floats, Missing, Names

if TYPE_CHECKING:
    from gdcore.tables import Block, Part, Table


class ChunkReader:
    """Chunks ``(X, y)`` of a file, with weights and offsets if asked: what `read_chunks` returns.

    It can be iterated any number of times; each time reads the file again. Its parts (the row
    groups of Parquet files; otherwise whole files) are read in another order every shuffled epoch.

    Attributes
    ----------
    feature_names : tuple of str
    target_name : str
    """

    __module__ = "gdcore"

    def __init__(
        self,
        table: Table,
        target: str,
        features: Names,
        sample_weight: str | None = None,
        offset: str | None = None,
        *,
        missing: Missing = "error",
        advice: str = "",
        rows: int = 65536,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        self.feature_names, self.target_name = features, target
        self._table, self._weight, self._offset = table, sample_weight, offset
        self._missing, self._advice, self._rows = missing, advice, rows
        self._keeps_gaps, self._dtype = False, np.dtype(dtype)

    def keeping_gaps(self) -> ChunkReader:
        """Return a reader of all rows, with NaN where a value is missing."""
        other = copy(self)
        other._missing, other._keeps_gaps = "error", True
        return other

    def __iter__(self) -> Iterator[tuple[Floats | None, ...]]:
        for part in self.parts():
            yield from part()

    def parts(self) -> Sequence[Callable[[], Iterator[tuple[Floats | None, ...]]]]:
        """Return functions that each read a part of the rows."""
        return [partial(self._read, part) for part in self._table.parts()]

    def _read(self, part: Part) -> Iterator[tuple[Floats | None, ...]]:
        given = [*self.feature_names, self.target_name, self._weight, self._offset]
        names = [name for name in given if name is not None]
        for block in part(names, self._rows):
            yield self._arrays(names, _without_gaps(block) if self._missing == "drop" else block)

    def _arrays(self, names: Sequence[str], block: Block) -> tuple[Floats | None, ...]:
        n, d = len(block.columns[0]), len(self.feature_names)
        X, y = np.empty((d, n), self._dtype).T, np.empty(n, self._dtype)
        weight = None if self._weight is None else np.empty_like(y)
        offset = None if self._offset is None else np.empty_like(y)
        places = [a for a in (*X.T, y, weight, offset) if a is not None]
        with np.errstate(over="ignore"):
            for place, column, null in zip(places, block.columns, block.nulls, strict=True):
                place[:] = column
                if null is not None:
                    place[null] = np.nan
        from gdcore.tables.table import check_finite

        check_finite(block, names, places, self._advice, gaps=self._keeps_gaps)
        if offset is not None:
            return X, y, weight, offset
        return (X, y) if weight is None else (X, y, weight)


def _without_gaps(block: Block) -> Block:
    """Return the rows of a block that have neither null nor NaN."""
    gaps = [null for null in block.nulls if null is not None]
    gaps += [np.isnan(column) for column in block.columns if np.isnan(column.min(initial=np.inf))]
    if not gaps:
        return block
    kept = np.flatnonzero(~np.logical_or.reduce(gaps))
    return block._replace(
        columns=[column[kept] for column in block.columns],
        nulls=[None] * len(block.nulls),
        place=lambda row: block.place(int(kept[row])),
    )


def read_chunks(
    source: Any,
    target: str,
    features: Sequence[str] | None = None,
    *,
    sample_weight: str | None = None,
    offset: str | None = None,
    missing: Missing | None = None,
    nulls: Missing | None = None,
    decimal: Literal[".", ","] = ".",
    rows: int = 65536,
    dtype: npt.DTypeLike = np.float64,
) -> ChunkReader:
    r"""Return the rows of a file as chunks to fit, a few of which are in memory at a time.

    Parameters
    ----------
    source : path-like or pyarrow.dataset.Dataset
        A .parquet, .feather, .arrow, .csv, .tsv, .npy or .npz file, the text also with .gz, .zst or
        .bz2 behind it; or a folder of files of one of these kinds.
    target : str
        The column to predict.
    features : sequence of str, optional
        The columns to predict it from; by default all others but the index that pandas stores.
    sample_weight : str, optional
        The column of weights.
    offset : str, optional
        The column of the prediction's fixed term.
    missing : {"error", "drop"}
        Refuse rows with a null or NaN in one of these columns, the default, or leave them out.
        ``fit(chunks, missing="drop")`` leaves them out as well, and counts them.
    nulls : {"error", "drop"}
        The name of `missing` in gdcore 0.1.
    decimal : {".", ","}
        The decimal point of text.
    rows : int
        The most in a chunk.
    dtype : float64 (default) or float32

    Returns
    -------
    ChunkReader
        For `gdcore.fit`, in the place of X and y.

    Raises
    ------
    ModuleNotFoundError
        Without pyarrow, which ``pip install 'gdcore[cli]'`` brings.
    ValueError
        If a column is missing, has no name or is not numeric, if there are no rows, or if an option
        is out of range. A value in a later row that is not a number is refused when it is read.
    OSError
        If the file cannot be opened.

    Notes
    -----
    Text has a header line; the delimiter, one of ``, ; |``, tab and space, is found. A value is a
    number, ``true`` or ``false``, or null (empty, ``NA``, ``nan``, ``null`` and the like), in every
    row of every column, whatever the rows before it hold. Integers and decimals of any size
    are rounded to float64, as arrays are; booleans are 1 and 0, and categories whose values are
    numbers are these numbers. Dates, times and text have to be encoded first.

    Examples
    --------
    >>> import tempfile, pathlib, gdcore as gd
    >>> path = pathlib.Path(tempfile.mkdtemp(), "line.csv")
    >>> _ = path.write_text("x,y\n1,3\n2,5\n3,7\n")
    >>> fit = gd.fit(gd.read_chunks(path, "y"))
    >>> print(fit.feature_names, fit.weights.round(3), fit.intercept.round(3))
    ('x',) [2.] 1.0
    """
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64):
        raise TypeError(f"dtype is {kind}; it must be float32 or float64.")
    if nulls is not None:
        if missing is not None:
            raise ValueError("nulls and missing are two names of one option; pass missing alone.")
        check_missing(nulls, "nulls")
        missing = nulls
    missing = "error" if missing is None else missing
    check_missing(missing)
    if not is_whole(rows) or not 1 <= rows < 2**31:
        raise ValueError(f"rows is {rows!r}; it must be a whole number from 1 to 2**31 - 1.")
    if isinstance(features, str | Set):  # a set has no order
        raise TypeError(f"features is {features!r}; pass a list of names.")
    from gdcore.tables import open_table  # which would slow down `import gdcore`

    table = open_table(source, decimal=decimal)
    others = [name for name in (sample_weight, offset) if name is not None]
    names = table.choose(target, features, others, lambda usable: f"features={list(usable)}")
    return ChunkReader(
        table,
        target,
        names,
        sample_weight,
        offset,
        missing=missing,
        advice=f", or {WAY_OUT}",
        rows=int(rows),
        dtype=kind,
    )
