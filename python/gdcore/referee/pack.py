"""Arguments of any nesting as plain JSON and a list of arrays, for another process."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np

from gdcore.oracle.trials.operand import Operand

_PLAIN = (bool, int, float, str, type(None))


def is_array(value: Any) -> bool:
    """Whether something is a tensor or an array, which a scalar of NumPy is not."""
    return hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, np.generic)


def split(value: Any) -> tuple[Any, list[Any]]:
    """Return JSON that says how a value is made of arrays and constants, and the arrays.

    Raises
    ------
    TypeError
        If it holds anything but arrays, numbers, strings, None, and lists, tuples, dicts of them.

    Examples
    --------
    >>> split((2, [np.zeros(3)]))
    ({'tuple': [{'value': 2}, {'list': [{'array': 0}]}]}, [array([0., 0., 0.])])
    """
    arrays: list[Any] = []
    return _split(value, arrays), arrays


def _split(value: Any, arrays: list[Any]) -> Any:
    if is_array(value):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _PLAIN):
        return {"value": value}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_split(each, arrays) for each in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": [[key, _split(each, arrays)] for key, each in value.items()]}
    name = f"{type(value).__module__}.{type(value).__name__}"
    if name in ("torch.dtype", "torch.device"):
        return {name: str(value).removeprefix("torch.")}
    raise TypeError(
        f"{name} does not cross to another process; "
        "give arrays, numbers, strings, None, or lists, tuples and dicts of them."
    )


def join(template: Any, arrays: Sequence[Any]) -> Any:
    """Return the value that `split` took apart, with arrays in their places.

    Examples
    --------
    >>> join({"tuple": [{"value": 2}, {"array": 0}]}, ["x"])
    (2, 'x')
    """
    ((kind, content),) = template.items()
    if kind == "array":
        return arrays[content]
    if kind in ("list", "tuple"):
        parts = [join(each, arrays) for each in content]
        return parts if kind == "list" else tuple(parts)
    if kind == "dict":
        return {key: join(each, arrays) for key, each in content}
    if kind in ("torch.dtype", "torch.device"):
        import torch

        return getattr(torch, content) if kind == "torch.dtype" else torch.device(content)
    return content


def is_flat(template: Any) -> bool:
    """Whether the arguments are the arrays themselves, in order."""
    parts = template.get("tuple", template.get("list"))
    return parts is not None and parts == [{"array": i} for i in range(len(parts))]


def save(path: str | PathLike[str], operands: Iterable[Operand]) -> None:
    """Write operands to a file without code in it."""
    held = list(operands)
    arrays = {f"a{i}": np.frombuffer(each.raw, np.uint8) for i, each in enumerate(held)}
    about = json.dumps([each.description() for each in held])
    with open(path, "wb") as file:
        np.savez(file, about=np.frombuffer(about.encode(), np.uint8), **arrays)  # type: ignore[arg-type]


def read(path: str | PathLike[str]) -> list[Operand]:
    """Return the operands of a file that `save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return [
            Operand(
                file[f"a{i}"].tobytes(),
                each["dtype"],
                tuple(each["shape"]),
                tuple(each["strides"]),
            )
            for i, each in enumerate(json.loads(file["about"].tobytes()))
        ]
