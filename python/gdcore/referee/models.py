"""Models in KernelBench's form, with the reference's parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from gdcore.oracle.trials.libraries import array_in
from gdcore.oracle.trials.runner import said
from gdcore.referee import pack
from gdcore.referee.source import BadModel, Entry, OtherParameters, seeded


def made_of(found: Any, arguments: Any, entry: Entry) -> Any:
    """Return a model that a class makes under the seed of an entry."""
    seeded(entry)
    try:
        return found(**arguments) if isinstance(arguments, dict) else found(*arguments)
    except Exception as error:
        raise BadModel(f"{found.__name__} cannot be made: {said(error)}") from None


def copied(found: Any, entry: Entry) -> Any:
    """Return a model that has the reference's parameters."""
    held = pack.read(entry.state) if entry.state else []
    tensors = [array_in(np.frombuffer(bytearray(x.raw), np.uint8), x, "torch") for x in held]
    count = len(held) - len(entry.names)
    arguments = pack.join(entry.init, tensors) if entry.init is not None else ()
    made = made_of(found, arguments, entry)
    if hasattr(made, "state_dict"):
        _copy_state(made, dict(zip(entry.names, tensors[count:], strict=True)), found.__name__)
    return made


def forward(made: Any, entry: Entry) -> Callable[..., Any]:
    """Return the forward pass of a model, as it is after being made: nobody calls `eval()`."""
    import torch

    if hasattr(made, "to"):
        dtype = "float64" if entry.role == "golden" else entry.dtype
        made = made.to(entry.device or None, getattr(torch, dtype) if dtype else None)
    if not callable(made):
        made = getattr(made, "forward", None)
    if made is None:
        raise BadModel("The model has no forward.")
    return made if entry.grads else torch.no_grad()(made)  # type: ignore[no-any-return]


def _copy_state(made: Any, wanted: dict[str, Any], name: str) -> None:
    """Copy the reference's parameters to those of the same name and shape.

    Those of other names stay if they are one of the reference's to the last bit, as models that
    make the same ones in the same order under one seed have them.
    """
    own = dict(made.state_dict())
    same = {k for k, v in own.items() if k in wanted and v.shape == wanted[k].shape}
    left = {k: v for k, v in wanted.items() if k not in same}
    foreign = [k for k, v in own.items() if k not in same and not _pop_equal(left, v)]
    if foreign or left:
        sentence = f"the parameters of {name} are not the reference's:"
        if foreign:
            sentence += f" {_listed(foreign, own)} of its own;"
        if left:
            sentence += f" {_listed(left, wanted)} only in the reference;"
        raise OtherParameters(
            sentence[:-1] + ". Give them the same names and shapes, so that they can be copied.",
        )
    import torch

    with torch.no_grad():
        for key in same:
            own[key].copy_(wanted[key])


def _pop_equal(left: dict[str, Any], value: Any) -> bool:
    """Take a tensor that is equal to the last bit out of those that are left, if there is one."""
    for key, other in left.items():
        if (other.shape, other.dtype) == (value.shape, value.dtype) and bool(
            (other == value).all()
        ):
            del left[key]
            return True
    return False


def _listed(names: Iterable[str], tensors: dict[str, Any]) -> str:
    shown = [f"{name} ({'x'.join(map(str, tensors[name].shape)) or '1'})" for name in names]
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")
