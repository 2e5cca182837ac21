"""Cells of text that are not all plain numbers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.tables.table import nulls_of, pyarrow

Mask = NDArray[np.bool_]


class BadCell(Exception):
    """A value that is not a number: of which row, and what may help."""

    def __init__(self, row: int, value: str) -> None:
        self.row, self.value = row, value

    def hint(self) -> str:
        """Return what to do if this is a number in another notation; else nothing."""
        point = self._decimal_point()
        grouped = re.fullmatch(r"[+-]?[1-9]\d{0,2}([ '.,])\d{3}(\1\d{3})*([.,]\d+)?", self.value)
        if not grouped:
            return point
        thousands = f"if {grouped[1]!r} separates thousands, take it out first"
        return f"{thousands}; {point}" if point else thousands

    def _decimal_point(self) -> str:
        if not re.fullmatch(r"[+-]?\d*[.,]\d+([eE][+-]?\d+)?", self.value):
            return ""
        point = "," if "," in self.value else "."
        return f"if its decimal point is {point!r}, pass --decimal {point} or decimal={point!r}"


def to_numbers(text: Any, decimal: str, label: str) -> tuple[NDArray[Any], Mask | None]:
    """Return text as numbers, and where it is null.

    A cell is a number, true or false, or one of pyarrow's names of a null, with white space or
    quotes around it; BadCell names the first that is none of these.
    """
    pa, pc = pyarrow("", label), pyarrow("compute", label)
    options = pyarrow("csv", label).ConvertOptions()
    text = pc.ascii_trim(text, ' \t"')
    null = pc.is_in(text, value_set=pa.array(options.null_values))
    number = pc.if_else(null, pa.scalar(None, "string"), text)
    for words, value in ((options.true_values, "1"), (options.false_values, "0")):
        number = pc.if_else(pc.is_in(number, value_set=pa.array(words)), value, number)
    if decimal == ",":
        dotted = pc.match_substring(number, ".")  # no decimal point here
        number = pc.if_else(dotted, "text", pc.replace_substring(number, ",", "."))
    try:
        values = number.cast("float64")
    except ValueError:
        row = _first_failing(number)
        raise BadCell(row, text[row].cast("binary").as_py().decode("utf-8", "replace")) from None
    return values.to_numpy(zero_copy_only=False), nulls_of(number)


def has_words(text: Any, label: str) -> bool:
    """Whether some cells are true or false."""
    pa, pc = pyarrow("", label), pyarrow("compute", label)
    words = pa.array(["true", "false"])
    return bool(pc.any(pc.is_in(pc.ascii_lower(text), value_set=words)).as_py())


def _first_failing(text: Any) -> int:
    """Return the first of some texts that is not a number."""
    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            text[low:middle].cast("float64")
            low = middle
        except ValueError:
            high = middle
    return low
