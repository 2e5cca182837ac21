"""Arrays of other libraries: what a fit hands back lives where the caller's arrays do.

A fit computes its parameters in NumPy arrays and keeps them. A `Home` makes the caller's kind of
array from one of those when an attribute is read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.advice import no_array
from gdcore.data.device import is_local
from gdcore.scalars import as_numpy

Home = Callable[[npt.NDArray[Any]], Any]  # an array of a library, on a device, from a NumPy array
T = TypeVar("T")
_HOST_TYPES = (1, 3)  # of DLPack: the host's memory, and what CUDA has pinned there
_MADE = ("weights", "intercept")  # attributes that a home makes
_HOSTED = "_hosted"  # where an instance with a home keeps the NumPy arrays of those


def home_of(given: Any, prepared: Any) -> Home | None:
    """Return what makes arrays like this one; None for NumPy's, numbers, lists and data frames.

    `prepared` is what the core reads of it.
    """
    kind = type(given)
    if kind is np.ndarray or isinstance(given, np.ndarray):
        return None
    if not is_local(prepared):
        ordinal, importer = prepared.ordinal, importer_of(given)
        return lambda array: importer(_core.DeviceArray.from_host(array, ordinal))
    if not hasattr(kind, "__dlpack__"):
        return None
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(given, torch.Tensor):
        device = given.device
        return lambda array: torch.from_numpy(array).to(device)
    if not hasattr(kind, "__array_namespace__"):  # Arrow's arrays, for example
        return None
    library, device = given.__array_namespace__(), given.device
    return lambda array: library.asarray(array, device=device)


def importer_of(given: Any) -> Callable[[Any], Any]:
    """Return what makes an array of this one's library from one of the core's, without a copy."""
    if hasattr(given, "__array_namespace__"):
        library = given.__array_namespace__()
    else:
        library = sys.modules.get(type(given).__module__.partition(".")[0])
    found: Callable[[Any], Any] = getattr(library, "from_dlpack", lambda array: array)
    return found


class AtHome:
    """A field whose array a home makes when it is first read; later reads return the same array.

    Without a home the instance holds the field itself, which Python finds first.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        hosted = {} if instance is None else vars(instance).get(_HOSTED, {})
        if self._name not in hosted:  # also tells dataclasses that the field has no default
            raise AttributeError(self._name)
        made = instance.home(np.asarray(hosted[self._name]))
        vars(instance)[self._name] = made
        return made


def bring_home(kind: type) -> None:
    """Let a dataclass with the fields `home`, `weights` and `intercept` make those two."""
    for name in _MADE:
        setattr(kind, name, AtHome(name))


def settle(instance: Any) -> None:
    """Keep the NumPy arrays of a new instance with a home where `AtHome` finds them."""
    fields = vars(instance)
    fields[_HOSTED] = {name: as_numpy(fields.pop(name)) for name in _MADE}


def on_host(instance: T) -> T:
    """Return a fit whose arrays are NumPy's: itself, or a copy without its home."""
    fields = vars(instance)
    if fields.get("home") is None:
        return instance
    copy = object.__new__(type(instance))
    vars(copy).update({n: v for n, v in fields.items() if n not in (_HOSTED, *_MADE)})
    vars(copy).update(fields[_HOSTED], home=None)
    return copy


def from_device(given: Any, name: str) -> Any:
    """Return a tensor, or an array on a CUDA device, as NumPy's; anything else unchanged."""
    kind = type(given)
    if hasattr(
        kind, "detach"
    ):  # a tensor of torch, which NumPy does not read if it needs gradients
        try:
            return as_numpy(given)
        except (TypeError, RuntimeError) as error:
            raise TypeError(no_array(name, given, str(error))) from None
    if not (hasattr(kind, "__dlpack_device__") or hasattr(kind, "__cuda_array_interface__")):
        return given
    if hasattr(kind, "__dlpack_device__") and given.__dlpack_device__()[0] in _HOST_TYPES:
        return given
    return as_numpy(given)
