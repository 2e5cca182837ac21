"""Where rows are: NumPy's arrays in the host's memory, or arrays on a CUDA device.

What the core does with rows it does where they are. Python reads numbers on the host alone: `local`
brings the few that it needs there.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core

Place = int | None  # the number of a CUDA device; CPU; or None: where the arrays are
CPU = -1


def place_of(device: Any) -> Place:
    """Return the place that an argument names; ValueError for another word."""
    if device is None:
        return None
    word = str(device)  # also of a torch.device
    if word == "cpu":
        return CPU
    found = re.fullmatch(r"cuda(?::(\d+))?", word)
    if found is None:
        raise ValueError(
            f"device is {device!r}; it must be 'cpu', 'cuda' or 'cuda:1', or None to compute where "
            "the arrays are."
        )
    return int(found[1] or 0)


def device_name(ordinal: int) -> str:
    """Return the name of a CUDA device; RuntimeError or ValueError says why it is not there."""
    cuda = _core.cuda_info()
    if isinstance(cuda, str):
        raise RuntimeError(cuda)
    devices = cuda["devices"]
    if ordinal >= len(devices):
        raise ValueError(
            f"there is no GPU {ordinal}; this process sees {len(devices)}, numbered from 0."
        )
    return str(devices[ordinal]["name"])


def is_local(array: Any) -> bool:
    """Whether an array that `prepare` made is in the host's memory."""
    return isinstance(array, np.ndarray)


def local(array: Any) -> npt.NDArray[Any]:
    """Return an array that `prepare` made as NumPy's: itself, or a copy of what is on a device."""
    return array if isinstance(array, np.ndarray) else array.numpy()


def broadcast(array: Any, shape: tuple[int, ...]) -> Any:
    """Return a view of this shape; ValueError if the array does not broadcast to it."""
    if is_local(array):
        return np.broadcast_to(array, shape)
    # Tools that print a traceback's variables must not see NumPy fail on addresses of a device.
    if np.broadcast_shapes(array.shape, shape) != shape:
        raise ValueError(f"an array of shape {array.shape} does not broadcast to {shape}.")
    return array.broadcast_to(shape)


def placed(array: Any, place: Place) -> Any:
    """Return an array where it is to be, which `check_place` has allowed."""
    if place is None or place == CPU or not is_local(array):
        return array
    return upload(array, place)


def taken(array: Any, at: npt.NDArray[np.int64]) -> Any:
    """Return some entries along the first axis; those of a device go through the host."""
    if is_local(array):
        return array.take(at, axis=0)
    return upload(local(array).take(at, axis=0), array.ordinal)


def upload(array: npt.NDArray[Any], ordinal: int) -> Any:
    """Copy an array to a CUDA device: repeated elements once, each axis in its direction."""
    strides = array.strides  # the ... makes an array also of one without dimensions
    once: Any = *(slice(0, 1) if s == 0 else slice(None) for s in strides), ...
    ahead: Any = *(slice(None, None, -1 if s < 0 else 1) for s in strides), ...
    dense = array[once][ahead]
    if array.ndim == 2 and dense.flags.f_contiguous:
        there = _core.DeviceArray.from_host(dense.T, ordinal).T
    else:
        there = _core.DeviceArray.from_host(dense, ordinal)
    return there[ahead].broadcast_to(array.shape)


def check_place(array: Any, place: Place) -> None:
    """Raise ValueError if X is on a device and another place is asked for."""
    if place is None or is_local(array) or array.ordinal == place:
        return
    asked = "'cpu'" if place == CPU else f"'cuda:{place}'"
    raise ValueError(
        f"X is on CUDA device {array.ordinal} and device is {asked}; leave device out to compute "
        "where X is, or copy the arrays there first."
    )


def where(array: Any) -> str:
    """Return where an array is, in words."""
    return "in the host's memory" if is_local(array) else f"on CUDA device {array.ordinal}"
