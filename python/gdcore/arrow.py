"""Chunks of rows out of Parquet, CSV and Feather files, by pyarrow, imported at first use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gdcore.kernels import Floats

_FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".feather": "feather",
    ".arrow": "feather",
}


class ChunkReader:
    """Chunks ``(X, y)`` of a file, with weights and offsets if asked: what `read_chunks` returns.

    It can be iterated any number of times, each of which reads the file anew. Its parts (the row
    groups of Parquet files; whole files else) are read in another order every shuffled epoch.

    Attributes
    ----------
    feature_names : tuple of str
    target_name : str
    """

    def __init__(
        self,
        dataset: Any,
        target: str,
        features: tuple[str, ...],
        sample_weight: str | None,
        offset: str | None,
        drop: bool,
        rows: int,
        dtype: np.dtype[Any],
    ) -> None:
        self.feature_names, self.target_name = features, target
        self._dataset, self._weight, self._offset = dataset, sample_weight, offset
        self._drop, self._rows, self._dtype = drop, rows, dtype

    def __iter__(self) -> Iterator[tuple[Floats | None, ...]]:
        for part in self.parts():
            yield from part()

    def parts(self) -> Sequence[Callable[[], Iterator[tuple[Floats | None, ...]]]]:
        """Return functions that each read a part of the rows."""
        fragments: list[Any] = []
        for fragment in self._dataset.get_fragments():
            split = getattr(fragment, "split_by_row_group", None)
            fragments += split() if split else [fragment]
        return [partial(self._read, fragment) for fragment in fragments]

    def _read(self, fragment: Any) -> Iterator[tuple[Floats | None, ...]]:
        names = [*self.feature_names, self.target_name, self._weight, self._offset]
        scanner = fragment.scanner(
            schema=self._dataset.schema,
            columns=[name for name in names if name is not None],
            batch_size=self._rows,
            batch_readahead=1,
            fragment_readahead=1,
            use_threads=True,
        )
        for batch in scanner.to_batches():
            chunk = self._without_nulls(batch)
            if chunk.num_rows:
                yield self._arrays(chunk)

    def _without_nulls(self, batch: Any) -> Any:
        nulls = {n: c.null_count for n, c in zip(batch.schema.names, batch.columns, strict=True)}
        if not any(nulls.values()):
            return batch
        if self._drop:
            return batch.drop_null()
        told = ", ".join(f"{count} in {name!r}" for name, count in nulls.items() if count)
        raise ValueError(
            f"{batch.num_rows} rows hold nulls: {told}; fill them, or pass nulls='drop' to leave "
            "out rows with a null"
        )

    def _arrays(self, batch: Any) -> tuple[Floats | None, ...]:
        d = len(self.feature_names)
        X, y = np.empty((d, batch.num_rows), self._dtype).T, np.empty(batch.num_rows, self._dtype)
        weight = None if self._weight is None else np.empty_like(y)
        offset = None if self._offset is None else np.empty_like(y)
        places = [a for a in (*X.T, y, weight, offset) if a is not None]
        with np.errstate(over="ignore"):  # infinity is told of by the fit
            for place, column in zip(places, batch.columns, strict=True):
                if column.type not in ("float", "double"):
                    column = column.cast("float64")
                place[:] = column.to_numpy(zero_copy_only=False)
        if offset is not None:
            return X, y, weight, offset
        return (X, y) if weight is None else (X, y, weight)


def read_chunks(
    source: Any,
    target: str,
    features: Sequence[str] | None = None,
    *,
    sample_weight: str | None = None,
    offset: str | None = None,
    nulls: Literal["error", "drop"] = "error",
    rows: int = 65536,
    dtype: npt.DTypeLike = np.float64,
) -> ChunkReader:
    r"""Return the rows of a file as chunks to fit, a few of which are in memory at a time.

    Parameters
    ----------
    source : path-like or pyarrow.dataset.Dataset
        A .parquet, .csv, .tsv, .feather or .arrow file, or a folder of Parquet files.
    target : str
        The column to predict.
    features : sequence of str, optional
        The columns to predict it from; all others by default.
    sample_weight : str, optional
        The column of weights.
    offset : str, optional
        The column of the prediction's fixed term.
    nulls : {"error", "drop"}
        What becomes of rows with a null in one of these columns.
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
        If a column is missing or not numeric, or an option is out of range.
    OSError
        If the file cannot be opened.

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
    if nulls not in ("error", "drop"):
        raise ValueError(f"nulls is {nulls!r}; choose 'error' or 'drop'.")
    if isinstance(rows, bool) or not isinstance(rows, int | np.integer) or not 1 <= rows < 2**31:
        raise ValueError(f"rows is {rows!r}; it must be a whole number from 1 to 2**31 - 1.")
    dataset = _open(source)
    names = dataset.schema.names
    if features is None:
        features = [name for name in names if name not in (target, sample_weight, offset)]
    if isinstance(features, str):
        raise TypeError(f"features is the string {features!r}; pass a list of names.")
    extra = [name for name in (sample_weight, offset) if name is not None]
    wanted = [target, *extra, *features]
    if len(set(wanted)) < len(wanted):
        raise ValueError("features, target, weight and offset must each name other columns.")
    for name in wanted:
        _check_column(dataset.schema, name)
    drop = nulls == "drop"
    return ChunkReader(
        dataset, target, tuple(features), sample_weight, offset, drop, int(rows), kind
    )


def _open(source: Any) -> Any:
    try:
        ds = import_module("pyarrow.dataset")
        csv = import_module("pyarrow.csv")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "read_chunks needs pyarrow; run: pip install 'gdcore[cli]'."
        ) from error
    if not isinstance(source, str | os.PathLike):
        if isinstance(source, ds.Dataset):
            return source
        raise TypeError(
            f"source is {type(source).__name__}; pass a path or a pyarrow.dataset.Dataset."
        )
    path = Path(source)
    suffix = ".parquet" if path.is_dir() else path.suffix.lower()
    form = _FORMATS.get(suffix)
    if form is None:
        raise ValueError(f"{path} has a suffix that is not read: {', '.join(_FORMATS)} are.")
    if form == "tsv":
        form = ds.CsvFileFormat(parse_options=csv.ParseOptions(delimiter="\t"))
    return ds.dataset(path, format=form)


def _check_column(schema: Any, name: str) -> None:
    if schema.names.count(name) != 1:
        import difflib

        close = difflib.get_close_matches(name, schema.names, 1)
        hint = f" (did you mean {close[0]!r}?)" if close and close[0] != name else ""
        many = "more than one column" if name in schema.names else "no column"
        raise ValueError(
            f"the data has {many} {name!r}{hint}; its columns are {', '.join(schema.names)}."
        )
    types = import_module("pyarrow.types")
    kind = schema.field(name).type
    checks = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    if not any(check(kind) for check in checks):
        raise ValueError(
            f"column {name!r} is {kind}, not numeric; leave it out of features=, or encode it."
        )
