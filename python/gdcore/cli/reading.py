"""The tables that commands read: files, folders, and standard input."""

from __future__ import annotations

import shutil
import sys
import tempfile
import weakref
from contextlib import ExitStack
from pathlib import Path

from gdcore.tables import Table, open_table

_MAGIC = {
    b"PAR1": ".parquet",
    b"ARROW1": ".arrow",
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".npz",
    b"\x1f\x8b": ".csv.gz",
    b"\x28\xb5\x2f\xfd": ".csv.zst",
    b"BZh": ".csv.bz2",
}


def read_table(path: Path, decimal: str = ".") -> Table:
    """Open a table; ``-`` is standard input, whose first bytes say what it is."""
    if str(path) != "-":
        return open_table(path, decimal=decimal)
    given = sys.stdin.buffer
    head = given.read(8)
    suffix = next((s for magic, s in _MAGIC.items() if head.startswith(magic)), ".csv")
    with ExitStack() as stack:  # a fit reads rows more than once, so they go to a file
        copy = stack.enter_context(tempfile.NamedTemporaryFile(suffix=suffix))
        copy.write(head)
        shutil.copyfileobj(given, copy)
        copy.flush()
        table = open_table(copy.name, decimal=decimal, label="standard input")
        weakref.finalize(table, stack.pop_all().close)
    return table
