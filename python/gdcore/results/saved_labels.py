"""Labels that are Python objects, as text in a file: nothing is pickled."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from importlib import import_module
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[Any]


def needs_text(labels: Labels) -> bool:
    """Whether NumPy would pickle these labels, or write what it cannot read."""
    return labels.dtype.hasobject or labels.dtype.kind == "T"


def to_text(labels: Labels) -> npt.NDArray[np.uint8]:
    """Return labels as bytes of JSON; ValueError names a label that would not come back equal."""
    plain = []
    for label in labels.tolist():
        plain.append(_plain(label))
        if _label(plain[-1]) != label:
            raise _unknown(label)
    text = {"kind": labels.dtype.kind, "labels": plain}
    return np.frombuffer(json.dumps(text).encode(), np.uint8)


def from_text(text: npt.NDArray[np.uint8]) -> Labels:
    """Return the labels that `to_text` wrote."""
    try:
        found = json.loads(text.tobytes())
        labels = np.empty(len(found["labels"]), object)
        labels[:] = [_label(plain) for plain in found["labels"]]
        return labels.astype(np.dtypes.StringDType()) if found["kind"] == "T" else labels
    except (AttributeError, ArithmeticError, KeyError, TypeError, json.JSONDecodeError):
        raise ValueError("the labels of the groups in this file are damaged.") from None


def _plain(label: Any) -> Any:
    """Return a value for JSON: text, a number, or {name of the type: its parts}."""
    kind: Any = type(label)
    if kind in (str, int, float, bool):
        return label
    if isinstance(label, tuple):
        return {"tuple": [_plain(part) for part in label]}
    if isinstance(label, np.str_):
        return str(label)
    if isinstance(label, np.bytes_):
        return _plain(bytes(label))
    if isinstance(label, np.generic) and not isinstance(label, np.void):
        return {"numpy": [label.dtype.str, label.tobytes().hex()]}
    if kind in _PARTS:
        return {kind.__name__: _PARTS[kind](label)}
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        if kind is pandas.Timestamp:
            return {"pandas.Timestamp": [*_moment(label), label.unit]}
        if kind is pandas.Timedelta:
            return {"pandas.Timedelta": [label.isoformat(), label.unit]}
        if kind is pandas.Period:
            return {"pandas.Period": [label.ordinal, label.freqstr]}
        if kind is pandas.Interval:
            return {"pandas.Interval": [_plain(label.left), _plain(label.right), label.closed]}
    raise _unknown(label)


def _unknown(label: Any) -> ValueError:
    return ValueError(
        f"the label {label!r} is a {type(label).__name__}, which a file cannot keep; fit with "
        "numbers, text, bytes, dates or tuples of them as labels."
    )


def _moment(label: Any) -> tuple[str, str | None]:
    """Return a time in ISO format, and the name of its zone or None."""
    zone = getattr(label.tzinfo, "key", getattr(label.tzinfo, "zone", None))  # pytz: zone
    return (label if zone is None else label.astimezone(UTC)).isoformat(), zone


def _label(plain: Any) -> Any:
    """Return the label that `_plain` was given."""
    if not isinstance(plain, dict):
        return plain
    ((name, parts),) = plain.items()
    return _MAKE[name](parts)


def _numpy(parts: Any) -> Any:
    return np.frombuffer(bytes.fromhex(parts[1]), parts[0])[0]


def _datetime(parts: Any) -> datetime:
    moment = datetime.fromisoformat(parts[0])
    return moment if parts[1] is None else moment.astimezone(_zone(parts[1]))


def _zone(name: str) -> Any:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"labels of this file are in the time zone {name!r}, which is not known here: "
            "pip install tzdata."
        ) from None


def _pandas() -> Any:
    try:
        return import_module("pandas")
    except ImportError:
        raise ImportError("labels of this file are of pandas: pip install pandas.") from None


def _timestamp(parts: Any) -> Any:
    moment = _pandas().Timestamp(parts[0]).as_unit(parts[2])
    return moment if parts[1] is None else moment.tz_convert(_zone(parts[1]))


def _interval(parts: Any) -> Any:
    return _pandas().Interval(_label(parts[0]), _label(parts[1]), parts[2])


_PARTS: dict[Any, Callable[[Any], Any]] = {
    bytes: lambda label: base64.b64encode(label).decode(),
    Decimal: str,
    Fraction: str,
    UUID: str,
    date: date.isoformat,
    datetime: _moment,
    time: time.isoformat,
    timedelta: lambda label: [label.days, label.seconds, label.microseconds],
}
_MAKE: dict[str, Callable[[Any], Any]] = {
    "tuple": lambda parts: tuple(map(_label, parts)),
    "numpy": _numpy,
    "bytes": base64.b64decode,
    "Decimal": Decimal,
    "Fraction": Fraction,
    "UUID": UUID,
    "date": date.fromisoformat,
    "datetime": _datetime,
    "time": time.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
    "pandas.Timestamp": _timestamp,
    "pandas.Timedelta": lambda parts: _pandas().Timedelta(parts[0]).as_unit(parts[1]),
    "pandas.Period": lambda parts: _pandas().Period(ordinal=parts[0], freq=parts[1]),
    "pandas.Interval": _interval,
}
