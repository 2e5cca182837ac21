"""Files that a command writes: checked before the work, written after it."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from gdcore.tables import TableError, first_line, pyarrow


def check_outputs(inputs: Sequence[Path], outputs: Mapping[str, Path | None]) -> None:
    """Raise unless each output can be written, over nothing that is in use."""
    taken = {path.resolve(): "this command reads" for path in inputs}
    for option, path in outputs.items():
        if path is None:
            continue
        if path.resolve() in taken:
            raise ValueError(f"{option} would overwrite {path}, which {taken[path.resolve()]}.")
        taken[path.resolve()] = f"{option} writes"
        check_writable(path, _output_suffixes(option))
        if option == "--animate" and path.suffix.lower() == ".mp4" and not shutil.which("ffmpeg"):
            raise ValueError("an .mp4 needs ffmpeg, and it is not installed: use .gif or .html.")


def _output_suffixes(option: str) -> Sequence[str]:
    """Return the suffixes of files that an option can write; none means any."""
    if option in ("--plot", "--animate"):
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError as error:
            raise ImportError(
                f"{option} needs {error.name}; run: pip install 'gdcore[plot]'."
            ) from error
        if option == "--plot":
            return [f".{suffix}" for suffix in Figure().canvas.get_supported_filetypes()]
    return {
        "--animate": (".gif", ".mp4", ".html"),
        "--save": (".npz",),
        "--out": tuple(_WRITERS),
    }.get(option, ())


def write_table(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of numbers to a ``.csv``, ``.parquet`` or ``.npy`` file.

    An ``.npy`` file holds one column as a 1-D array, several as a 2-D one, without their names.
    """
    _WRITERS[path.suffix.lower()](path, columns)


def print_csv(file: TextIO, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of numbers as CSV, each number with as many digits as it takes.

    NaN is an empty cell.

    Examples
    --------
    >>> import sys
    >>> print_csv(sys.stdout, {"a": np.array([0.1, np.nan]), "b": np.float32([0.1, 1e-9])})
    a,b
    0.1,0.1
    ,1e-09
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    cells = [np.where(np.isnan(c), "", c.astype(str)) for c in columns.values()]
    writer.writerows(zip(*cells, strict=True))


def check_writable(path: Path, suffixes: Sequence[str] = ()) -> None:
    """Raise `TableError` unless a file could be written at `path`, with a suffix out of any given.

    What it holds already is left alone.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        either = " or ".join(", ".join(suffixes).rsplit(", ", 1))
        raise TableError(f"cannot write {path}: its suffix must be {either}.")
    existed = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise TableError(f"cannot write {path}: {first_line(error)}.") from error
    if not existed:
        path.unlink()


def _write_csv(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        print_csv(file, columns)


def _write_parquet(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    table = pyarrow("", str(path)).table(dict(columns))
    pyarrow("parquet", str(path)).write_table(table, path)


def _write_npy(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    arrays = list(columns.values())
    np.save(path, arrays[0] if len(arrays) == 1 else np.column_stack(arrays))


_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet, ".npy": _write_npy}
