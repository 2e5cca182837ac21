"""Which of many fits an index means: a position, slice, mask or label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gdcore.data.home import from_device
from gdcore.data.labels import as_labels, as_objects
from gdcore.scalars import as_scalar, is_whole
from gdcore.typing import Ints

Find = Callable[[Any], Ints]  # positions of an array of labels; KeyError if one is not there


def selected(key: Any, count: int, find: Find | None) -> int | Ints:
    """Return the position that ``fits[key]`` means, or the positions of several.

    `find` is None where the fits have no labels.
    """
    key = key if isinstance(key, np.generic) else as_scalar(key)  # which makes times numbers
    if isinstance(key, slice):
        return _of_slice(key, count)
    if isinstance(key, list | range) or (hasattr(type(key), "__array__") and np.ndim(key)):
        return _of_several(key, count, find)
    if is_whole(key):
        return _position(int(key), count)
    if find is None or isinstance(key, bool | np.bool_) or key is Ellipsis:
        raise TypeError(f"fits[{key!r}]: {_expected(find)}.")
    return int(find(one_label(key))[0])


def one_label(label: Any) -> Any:
    """Return an array that holds one label."""
    return np.asarray(label)[None] if isinstance(label, np.generic) else as_objects([label])


def _of_slice(key: slice, count: int) -> Ints:
    try:
        return np.arange(*key.indices(count))
    except TypeError:
        raise TypeError(
            f"fits[{key.start!r}:{key.stop!r}]: a slice goes by the numbers of the problems; pass "
            "a list of labels."
        ) from None


def _of_several(key: Any, count: int, find: Find | None) -> Ints:
    given = from_device(key, "the index")
    several = given if isinstance(given, np.ndarray) else as_labels(given)
    if several.ndim != 1:
        raise TypeError(f"the index has shape {several.shape}; pass one dimension.")
    if not len(several) and isinstance(given, list):
        return np.empty(0, np.int64)
    kind = several.dtype.kind
    if kind == "b":
        if len(several) != count:
            raise IndexError(
                f"the mask has {len(several)} entries; it must have one for each of {count} fits."
            )
        return np.flatnonzero(several)
    if kind in "iu":
        outside = (several < -count) | (several >= count)
        if outside.any():
            _position(int(several[outside][0]), count)
        return several.astype(np.int64) % max(count, 1)
    if find is None:
        raise TypeError(f"the index has dtype {several.dtype}: {_expected(find)}.")
    return find(several)


def _position(i: int, count: int) -> int:
    if not -count <= i < count:
        raise IndexError(f"problem {i} is not among the {count} of these fits.")
    return i % count


def _expected(find: Find | None) -> str:
    if find is None:
        return "the number of a problem is a whole number; slices, masks and lists work too"
    return "pass the number of a problem, a label, a slice, a mask, or a list of these"
