"""Tables in files, read as numbers, some rows at a time.

===================================  ===========================================================
suffix                               columns
===================================  ===========================================================
``.csv``, ``.tsv``, also followed    named by the header line; the delimiter (comma, semicolon,
by ``.gz``, ``.zst`` or ``.bz2``     tab, ``|`` or space) is found
``.parquet``                         by their names
``.feather``, ``.arrow``             by their names
``.npz``                             a 1-D array is one column with the array's name; a 2-D
                                     array ``X`` gives ``x0``, ``x1``, ...
``.npy``                             a 2-D array gives ``x0``, ``x1``, ...; a structured
                                     array's fields keep their names
===================================  ===========================================================

A folder holds files of one of these kinds. Text, Parquet and Feather are read by pyarrow, which is
imported at first use.

pyarrow's own threads are not used: one that still holds a Python object when the interpreter ends
aborts the process. So `use_threads` is False, pyarrow opens files itself, and threads of Python
decode in parallel.
"""

from gdcore.tables.open import open_table
from gdcore.tables.table import Block, Part, Table, TableError, first_line, pyarrow

__all__ = ["Block", "Part", "Table", "TableError", "first_line", "open_table", "pyarrow"]
