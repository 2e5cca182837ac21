"""Messages for arguments that gdcore cannot take: what to do instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from datetime import date
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

COMPUTES = "gdcore computes in float32 and float64"
MOST_NAMES = 12  # listed in a message before "and 88 more"
SGD_OPTIONS = {
    "lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize", "decay_intercept",
}  # fmt: skip
OTHER_NAMES = {  # used by scikit-learn, torch, Keras
    "lr": "learning_rate learning_rate_init eta eta0 step_size",
    "weight_decay": "alpha l2 l2_regularization reg_lambda ridge lam",
    "epochs": "max_iter n_iter num_iter iterations n_epochs num_epochs n_iterations",
    "tol": "tolerance eps atol rtol",
    "seed": "random_state random_seed rng",
    "sample_weight": "weights weight sample_weights w",
    "fit_intercept": "intercept bias add_intercept",
    "standardize": "normalize standardise scale",
    "batch_size": "batch minibatch_size",
    "n_threads": "n_jobs num_threads threads",
    "method": "solver algorithm",
    "init": "warm_start coef_init start w0",
    "progress": "verbose callback",
    "sgd": "optimizer optim",
    "reduction": "loss",
}
MEANS = {new: old for old, names in OTHER_NAMES.items() for new in names.split()}


def reject(function: Callable[..., Any], unknown: Mapping[str, Any]) -> None:
    """Raise TypeError for keyword arguments that a function does not have."""
    if not unknown:
        return
    from difflib import get_close_matches

    name, value = next(iter(unknown.items()))
    known = [p for p in inspect.signature(function).parameters if p not in ("self", "unknown")]
    option = MEANS.get(name, name)
    text = f"{function.__name__}() takes no {name}="
    if option in SGD_OPTIONS:
        shown = repr(value) if isinstance(value, int | float | str) else "..."
        text += f"; it is an option of the descent: sgd=gdcore.SGD({option}={shown})"
        if name == "alpha":
            text += " (scikit-learn's Ridge(alpha) is weight_decay=2 * alpha / n)"
    elif option in known:
        text += f"; it is {option}= here"
    elif close := get_close_matches(name, known, 1):
        text += f"; did you mean {close[0]}=?"
    else:
        text += f"; it takes {', '.join(known)}"
    raise TypeError(text + ("" if text[-1] == "?" else "."))


def listed(names: Iterable[str]) -> str:
    """Return names in quotes, the first ones of many."""
    names = list(names)
    rest = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(map(repr, names[:MOST_NAMES])) + rest


def no_array(name: str, value: Any, error: str) -> str:
    """Return why NumPy cannot make an array of numbers from a value, and what to pass."""
    kind = type(value).__name__
    if isinstance(value, np.ma.MaskedArray):
        return (
            f"{name} is a masked array, whose mask would be lost; drop or fill the masked entries "
            f"first, for example with {name}.filled(0)."
        )
    if hasattr(value, "toarray"):
        return (
            f"{name} is sparse ({kind}) and gdcore reads dense arrays; {_dense_advice(name, value)}"
        )
    if type(value).__module__.partition(".")[0] == "torch":
        return _tensor_advice(name, value, error)
    if kind.endswith("Tracer"):
        return (
            f"{name} is traced by JAX ({kind}), and gdcore reads numbers; call gdcore outside of "
            "jax.jit, jax.grad and jax.vmap, or by jax.pure_callback."
        )
    if hasattr(value, "__cuda_array_interface__"):
        return f"{name} is on a GPU ({kind}) and does not say where there; pass {name}.get()."
    what = f"{name} is not an array of numbers ({kind})"
    if isinstance(value, Iterator):
        chunks = ", or chunks (X, y) in place of X and y" if name == "X" else ""
        return f"{what}; pass list({name}){chunks}."
    if kind == "LazyFrame":
        return f"{what}; pass {name}.collect()."
    if isinstance(value, Mapping):
        columns = any(hasattr(column, "__len__") for column in value.values())
        make = "numpy.column_stack" if columns else "numpy.array"
        return f"{what}; pass {make}(list({name}.values()))."
    if isinstance(value, Set):
        return f"{what}, and has no order; pass a list."
    if isinstance(value, str | PathLike) and name == "X":
        return f"{what}; gdcore.read_chunks(path, target=...) reads a file."
    if isinstance(value, list | tuple) and (ragged := _ragged(value)):
        return f"{what}: {ragged}; pass nested lists of equal lengths."
    because = f": {error.splitlines()[0].rstrip('.')}" if error else ""
    return f"{what}{because}; pass a NumPy array or nested lists of equal lengths."


def no_floats(name: str, value: Any, array: npt.NDArray[Any]) -> str:
    """Return why an array cannot be converted to floats, and what to pass."""
    if array.ndim == 0 and array.dtype.kind in "OUS" and not isinstance(value, np.ndarray):
        return no_array(name, value, "")
    has = f"{name} has dtype {array.dtype}"
    cast = f"{name}.astype" if isinstance(value, np.ndarray) else f"numpy.asarray({name}, "
    cast += "(numpy.float64)" if cast.endswith("astype") else "numpy.float64)"
    kind = array.dtype.kind
    if kind == "c":
        return f"{has}; {COMPUTES}: pass {name}.real, or {name}.real and {name}.imag as columns."
    if kind == "M":
        return (
            f"{has}; {COMPUTES}: subtract a date and divide by a unit, for example "
            f"({name} - {name}.min()) / numpy.timedelta64(1, 'D')."
        )
    if kind == "m":
        return f"{has}; {COMPUTES}: divide by a unit, {name} / numpy.timedelta64(1, 'D')."
    if array.dtype.names:
        return (
            f"{has}; {COMPUTES}: pass structured_to_unstructured({name}) of numpy.lib.recfunctions."
        )
    if kind in "OUST":
        found = _first_non_number(name, array)
        if found is not None:
            entry, place = found
            if entry is None or type(entry).__name__ in ("NAType", "NaTType"):
                return f"{has} and holds {entry} at {place}; drop or fill such rows before fitting."
            if isinstance(entry, date):
                how = "count days, for example (dates - dates.min()) / numpy.timedelta64(1, 'D')"
            else:
                how = "encode it as numbers" + (", or leave its column out" * (name == "X"))
            return f"{has} and holds {entry!r} at {place}, which is not a real number; {how}."
    return f"{has}; {COMPUTES}: convert it first, for example with {cast}."


def _dense_advice(name: str, value: Any) -> str:
    text = f"pass {name}.toarray(), which takes {8e-6 * float(np.prod(value.shape)):,.3g} MB"
    if name == "X":
        text += (
            ", or chunks of it in place of X and y: "
            "X = X.tocsr(); gdcore.fit(lambda: ((X[i:i + 10_000].toarray(), y[i:i + 10_000]) "
            "for i in range(0, X.shape[0], 10_000)))"
        )
    return text + "."


def _tensor_advice(name: str, value: Any, error: str) -> str:
    """Return why NumPy cannot read a tensor, and the calls that help."""
    steps: list[tuple[str, str]] = []
    if getattr(value, "requires_grad", False):
        steps.append(("requires grad", ".detach()"))
    if (device := str(getattr(value, "device", "cpu"))) == "meta":
        return f"{name} is a tensor on meta, which has no numbers; pass one that has."
    if device != "cpu":
        steps.append((f"is on {device}", ".cpu()"))
    if str(getattr(value, "layout", "torch.strided")) != "torch.strided":
        steps.append(("is sparse", ".to_dense()"))
    if getattr(value, "is_quantized", False):
        steps.append(("is quantized", ".dequantize()"))
    elif "float" in (dtype := str(getattr(value, "dtype", ""))) and dtype not in (
        "torch.float16", "torch.float32", "torch.float64",
    ):  # fmt: skip
        steps.append((f"is {dtype.removeprefix('torch.')}", ".float()"))
    if not steps and "storage" in error:
        return (
            f"{name} is a tensor without numbers of its own, as inside of torch.vmap and "
            "torch.func; call gdcore outside of them, or pass all problems at once."
        )
    if not steps:
        return f"{name} is a tensor that NumPy cannot read: {error.splitlines()[0]}"
    whats, calls = zip(*steps, strict=True)
    call = "".join(calls)
    how = f"pass {name}{call}" if name.isidentifier() else f"call {call} on it"
    return f"{name} is a tensor that {' and '.join(whats)}; {how}."


def _ragged(rows: Any) -> str:
    """Name the first row whose length differs from that of row 0, if there is one."""
    lengths = [len(row) if hasattr(row, "__len__") else None for row in rows]
    for i, length in enumerate(lengths):
        if length != lengths[0]:
            first, this = (
                "is one number" if n is None else f"has length {n}" for n in (lengths[0], length)
            )
            return f"row 0 {first} and row {i} {this}"
    nested = (_ragged(row) for row in rows if isinstance(row, list | tuple))
    return next(filter(None, nested), "")


def _first_non_number(name: str, array: npt.NDArray[Any]) -> tuple[Any, str] | None:
    """Return the first entry that is not a real number, and its place."""
    for at, entry in np.ndenumerate(array):
        try:
            float(entry)
        except (TypeError, ValueError):
            plain = entry.item() if isinstance(entry, np.generic) else entry
            axes = ("problem", "row", "column")[-array.ndim :]
            if name == "X" and array.ndim in (2, 3):
                place = ", ".join(f"{axis} {i}" for axis, i in zip(axes, at, strict=True))
            else:
                place = f"row {at[0]}" if array.ndim == 1 else f"index {list(at)}"
            return plain, f"{place} (counted from 0)"
    return None
