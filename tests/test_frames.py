"""Groups of a data frame: from every library, with the bits, labels and order that arrays give."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

import gdcore as gd
from fits import refused
from loops import each

N = 240
RNG = np.random.default_rng(8)
A, B, NOISE = RNG.normal(size=(3, N))
X = np.stack([A, B], 1)
CODES = RNG.permutation(np.arange(N) % 11)  # groups of 21 or 22 rows, in no order
Y = 2 * A - 3 * B + CODES + 0.1 * NOISE
COLUMNS = {"y": Y, "a": A, "b": B}
CALL: dict[str, Any] = {"target": "y", "features": ["a", "b"]}
LIBRARIES = ["pandas", "polars", "pyarrow"]

DAY = datetime.date(2024, 2, 27)
BERLIN = ZoneInfo("Europe/Berlin")
AUTUMN = datetime.datetime(2024, 10, 26, 23, 30, tzinfo=datetime.UTC)  # before an hour comes twice


def berlin(code: int) -> datetime.datetime:
    return (AUTUMN + datetime.timedelta(minutes=30 * code)).astimezone(BERLIN)


KEYS: dict[str, Any] = {
    "int": lambda c: 3 * c - 7,
    "far apart": lambda c: 10**15 * c - 5,
    "bool": lambda c: c % 2 == 0,
    "float": lambda c: c * 0.5,
    "text": lambda c: f"s{c:02}",
    "letters": lambda c: "öäü€𝄞zZaA é"[c],
    "empty text": lambda c: "x" * c,
    "date": lambda c: DAY + datetime.timedelta(days=c),
    "datetime": lambda c: datetime.datetime(2024, 1, 1, c, 30),
    "zone": berlin,
    "duration": lambda c: datetime.timedelta(hours=c),
    "bytes": lambda c: b"\x00" * c + b"k",
    "decimal": lambda c: Decimal(c) / 4,
}


def frame(library: str, **columns: Any) -> Any:
    module = pytest.importorskip(library)
    return module.table(columns) if library == "pyarrow" else module.DataFrame(columns)


def same(found: gd.Fits, want: gd.Fits) -> None:
    """Assert that two fits have the same labels in the same order, and the same bits."""
    assert found.groups.tolist() == want.groups.tolist()
    for name in ("weights", "intercept", "loss", "rows"):
        assert getattr(found, name).tobytes() == getattr(want, name).tobytes(), name
