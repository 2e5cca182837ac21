"""Which reader a file needs."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gdcore.tables.arrays import open_arrays
from gdcore.tables.arrow import ArrowTable, open_arrow
from gdcore.tables.table import NoRowsError, Part, Refusal, Table, TableError, first_line, pyarrow
from gdcore.tables.text import TextTable

_TEXT = (".csv", ".tsv")
_COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_ARROW = {".parquet": "parquet", ".feather": "feather", ".arrow": "feather"}
_ARRAYS = (".npy", ".npz")
_UNPACKED = 4  # times the size of a compressed file, about
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile)
_SUFFIXES = (*_TEXT, *_ARROW, *_ARRAYS)


def open_table(source: Any, *, decimal: str = ".", label: str | None = None) -> Table:
    """Open a file, a folder of files, or a pyarrow.dataset.Dataset.

    Parameters
    ----------
    source : path-like or Dataset
        Its suffix says how a file is read.
    decimal : {".", ","}
        The decimal point of text.
    label : str, optional
        What messages call the file; by default its path.
    """
    if decimal not in (".", ","):
        raise ValueError(f"decimal is {decimal!r}; choose '.' or ','.")
    if not isinstance(source, str | os.PathLike):
        if isinstance(source, pyarrow("dataset", "read_chunks").Dataset):
            return ArrowTable(source, "the dataset")
        raise TypeError(
            f"source is {type(source).__name__}; pass a path or a pyarrow.dataset.Dataset."
        )
    path = Path(source)
    label = label or str(path)
    if path.is_dir():
        return _open_folder(path, label, decimal)
    if not _kind(path):
        raise TableError(
            f"{label} has a suffix that gdcore does not read (behind that of text, "
            f"{', '.join(_COMPRESSED)} may follow); it reads {', '.join(_SUFFIXES)}."
        )
    return _open_file(path, label, decimal)


def compression(path: Path) -> str | None:
    """Return how a file of text is compressed, by its suffix."""
    return _COMPRESSED.get(path.suffix.lower())


def _kind(path: Path) -> str | None:
    """Return the suffix that says how to read a file, or None."""
    packed = compression(path) is not None
    suffix = Path(path.stem if packed else path.name).suffix.lower()
    return suffix if suffix in (_TEXT if packed else _SUFFIXES) else None


def _open_file(path: Path, label: str, decimal: str) -> Table:
    kind = _kind(path)
    assert kind is not None
    if kind not in _ARRAYS:
        pyarrow("", label)
    with path.open("rb") as file:  # pyarrow's errors name no file
        if not file.read(1):
            raise NoRowsError(f"{label} is an empty file.")
    codec, tab = compression(path), "\t" if kind == ".tsv" else ""
    try:
        if kind in _ARRAYS:
            return open_arrays(path, label)
        if kind in _ARROW:
            table: Table = open_arrow(path, label, _ARROW[kind])
        else:
            table = TextTable(path, label, codec, tab, decimal)
    except (TableError, ModuleNotFoundError):
        raise
    except _UNREADABLE as error:
        raise TableError(f"cannot read {label} as {kind[1:]}: {first_line(error)}.") from error
    table.size = path.stat().st_size * (_UNPACKED if codec else 1)
    return table


def _open_folder(path: Path, label: str, decimal: str) -> Table:
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and _kind(file)
        and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    ]
    kinds = sorted({str(_kind(file)) for file in files})
    if len(kinds) != 1:
        what = f"files of several kinds ({', '.join(kinds)})" if kinds else "no file to read"
        raise TableError(f"{label} holds {what}; a folder holds files of one kind.")
    tables = []
    for file in files:
        try:
            tables.append(_open_file(file, str(file), decimal))
        except NoRowsError:
            continue
    if not tables:
        raise NoRowsError(f"{label} has no rows of data.")
    return tables[0] if len(tables) == 1 else _Folder(label, tables)


class _Folder(Table):
    """Tables one below the other, their columns matched by name."""

    def __init__(self, label: str, tables: Sequence[Table]) -> None:
        self.label, self._tables = label, tables
        self.names, self.index = tables[0].names, tables[0].index
        self.size = sum(table.size for table in tables)

    def require(self, names: Sequence[str]) -> None:
        for table in self._tables:
            table.require(names)

    def refusal(self, name: str) -> Refusal | None:
        for table in self._tables:
            if name in table.names and (refusal := table.refusal(name)):
                return Refusal(f"{refusal.shown} of {table.label}", refusal.advice)
        return None

    def parts(self) -> list[Part]:
        return [part for table in self._tables for part in table.parts()]
