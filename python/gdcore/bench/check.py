"""Whether what a contestant returned is right: asked before it is timed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.bench.case import Expected

Array = NDArray[Any]
_CPU = (1, 3)  # as DLPack numbers devices: memory of the CPU, and such as CUDA has pinned


def as_arrays(result: Any) -> list[Array]:
    """Return the outputs of a call as NumPy arrays.

    They are one array, or a tuple, list or dict of them. A list of numbers is one array.
    """
    return [
        np.asarray(each.detach() if hasattr(each, "detach") else each)
        for each in _outputs(result).values()
    ]


def names_of(result: Any) -> list[str]:
    """Return what messages call the outputs of a call."""
    return [f"result {key}".rstrip() for key in _outputs(result)]


def _outputs(result: Any) -> dict[str, Any]:
    if isinstance(result, Mapping):
        return dict(sorted((repr(key), each) for key, each in result.items()))
    if isinstance(result, tuple) or (isinstance(result, list) and not _is_array(result)):
        return (
            {str(i): each for i, each in enumerate(result)} if len(result) != 1 else {"": result[0]}
        )
    return {"": result}


def _is_array(given: Any) -> bool:
    """Whether a list holds numbers alone, or lists of them, of equal lengths."""
    if isinstance(given, list | tuple):
        lengths = {len(each) if isinstance(each, list | tuple) else -1 for each in given}
        return len(lengths) == 1 and all(map(_is_array, given))
    return isinstance(given, Number | np.generic)


def wait(result: Any) -> Any:
    """Return a result once all of it is there: JAX, for one, returns before it has computed.

    An array of a kind that is not known may compute when somebody looks: it is read.
    """
    for each in _leaves(result):
        if hasattr(each, "block_until_ready"):
            each.block_until_ready()
        elif _may_be_lazy(each):
            np.asarray(each.detach() if hasattr(each, "detach") else each)
    return result


def is_awaited(result: Any) -> bool:
    """Return whether a call may return before its result is there."""
    return any(hasattr(each, "block_until_ready") or _may_be_lazy(each) for each in _leaves(result))


def _may_be_lazy(value: Any) -> bool:
    """Return whether a value becomes an array by code that nobody knows."""
    if isinstance(value, np.generic) or not hasattr(value, "__array__"):
        return False
    plain = [np.ndarray, np.memmap]
    if torch := sys.modules.get("torch"):
        plain += [torch.Tensor, torch.nn.Parameter]
    return type(value) not in plain and find_device(value) is None


def find_device(result: Any) -> str | None:
    """Return the device of a result that cannot be awaited, None if it is on the CPU."""
    for each in _leaves(result):
        if hasattr(each, "block_until_ready") or not hasattr(each, "__dlpack_device__"):
            continue
        try:
            kind, number = each.__dlpack_device__()
        except Exception:  # what DLPack has no number for is not the CPU
            kind, number = 0, 0
        if kind not in _CPU:
            return str(getattr(each, "device", f"{kind}:{number}"))
    return None


def _leaves(result: Any) -> Iterator[Any]:
    if isinstance(result, Mapping):
        result = tuple(result.values())
    if isinstance(result, tuple | list):
        for each in result:
            yield from _leaves(each)
    else:
        yield result


def exactly(expected: Sequence[Expected]) -> list[Expected]:
    """Return what outputs have to be without any error."""
    return [each._replace(bound=np.zeros(())) for each in expected]


def find_fault(outputs: Sequence[Array], expected: Sequence[Expected]) -> str | None:
    """Return what is wrong with outputs in one sentence, or None.

    Examples
    --------
    >>> expected = [Expected("sum", np.float64([1, 2]), np.float64(1e-6))]
    >>> find_fault([np.float32([1, 2])], expected)
    >>> print(find_fault([np.float32([1, 3])], expected))  # doctest: +ELLIPSIS
    1 of 2 elements of the sum outside the bound; first at [1]: 3 instead of 2, off by 1 ...
    >>> print(find_fault([np.float32([1])], expected))
    the sum has shape (1,) instead of (2,)
    """
    if len(outputs) != len(expected):
        names = ", ".join(each.name for each in expected)
        return f"{len(outputs)} outputs instead of {len(expected)} ({names})"
    faults = (_fault(output, each) for output, each in zip(outputs, expected, strict=True))
    return next((fault for fault in faults if fault), None)


def _fault(output: Array, expected: Expected) -> str | None:
    name, value, bound = expected
    numbers = "biufc" if value.dtype.kind == "c" else "biuf"
    if output.shape != value.shape:
        return f"the {name} has shape {output.shape} instead of {value.shape}"
    if output.dtype.kind not in numbers:
        what = "numbers" if numbers[-1] == "c" else "real numbers"
        return f"the {name} is of dtype {output.dtype} instead of {what}"
    if (
        output.dtype.kind in "biu"
    ):  # NumPy does not subtract truth values, and wraps unsigned numbers
        output = output.astype(np.longdouble)
    if bad := int((np.isnan(output) & ~np.isnan(value)).sum()):
        return f"{bad} of {output.size} elements of the {name} are NaN"
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(output - value)
        near = (error <= bound) & np.isfinite(value)  # no bound makes up for an infinity
        outside = ~(near | (output == value) | (np.isnan(output) & np.isnan(value)))
    if not outside.any():
        return None
    first = tuple(int(i) for i in np.argwhere(outside)[0])
    place = f"; first at {list(first)}" if first else ""
    allowed = np.broadcast_to(bound, value.shape)[first]
    return (
        f"{outside.sum()} of {output.size} elements of the {name} outside the bound{place}: "
        f"{output[first]:.9g} instead of {value[first]:.9g}, "
        f"off by {error[first]:.2g} where {allowed:.2g} is allowed"
    )
