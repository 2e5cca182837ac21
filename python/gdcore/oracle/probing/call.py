"""Call a function under test, and refuse what it must not do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.intake import to_numpy
from gdcore.oracle.probing.kind import ContractViolation, Kind
from gdcore.oracle.probing.probe import Probe
from gdcore.oracle.references.reference import Reference

Array = NDArray[Any]
_POISON = 0xFF  # each byte of memory that a result may come to lie in: NaN in every format
_POISONED = 1 << 20  # bytes
_GARBAGE = 2.0**10  # times larger or smaller than the right result


class Call:
    """The function under test, and what it must not do."""

    def __init__(
        self, fn: Callable[..., Any], to: Callable[[Array], Any] | None, kind: Kind
    ) -> None:
        if not callable(fn):
            raise TypeError(f"fn is {type(fn).__name__}, which cannot be called.")
        self.fn, self.to, self.kind = fn, to, kind

    returns_loss = False

    def __call__(self, probe: Probe, again: bool) -> list[tuple[Reference, Any]]:
        """Return the references and the results; of two equal calls if `again`."""
        references = self.kind.references(probe.operands)
        sizes = [
            reference.value.size * next(iter(probe.operands.values())).itemsize
            for reference in references[1]
        ]
        outputs, given = self._run(probe, sizes)
        if again:
            first = self._copies(outputs)  # before a second call writes into the same memory
            outputs, given = self._run(probe, sizes)
            second = self._copies(outputs)
            if first is not None and second is not None and _bytes(first) != _bytes(second):
                error = ContractViolation(self._unsteady(probe, references, first, second))
                error.unsteady = True
                raise error
        pairs = self.kind.pair(probe, references, outputs)
        for name, argument in given.items():
            if not self.kind.may_alias and any(
                _share_memory(output, argument) for _, output in pairs
            ):
                raise ContractViolation(
                    f"fn returned the memory of its argument {name}: a change of one changes the "
                    f"other; the probe was {probe.description}."
                )
        self.returns_loss = references[0] is not None and pairs[0][0] is references[0]
        return pairs

    def _unsteady(self, probe: Probe, references: Any, first: Any, second: Any) -> str:
        """Return why two calls with the same arguments gave different results."""
        wanted = [r for r in references[1] if r is not None][-len(second) :]
        for reference, *results in zip(
            wanted, first[-len(wanted) :], second[-len(wanted) :], strict=False
        ):
            if all(each.shape == reference.value.shape for each in results):
                differ = _bits(results[0]) != _bits(results[1])
                garbage = np.any([_is_garbage(each, reference.value) for each in results], axis=0)
                if (differ & garbage).any():
                    return (
                        f"uninitialised memory: fn returns {int(differ.sum())} of {differ.size} "
                        f"elements that nobody wrote, so that they differ from call to call; the "
                        f"probe was {probe.description}."
                    )
        return (
            "fn is random: called twice with the same arguments it returned different "
            f"results; the probe was {probe.description}."
        )

    def _run(self, probe: Probe, sizes: list[int]) -> tuple[list[Any], dict[str, Any]]:
        """Return the outputs, and the arguments that they were made of."""
        given = {
            name: array if self.to is None else self.to(array)
            for name, array in probe.operands.items()
        }
        before = {name: self._copies([x]) for name, x in given.items()}
        positional, keywords = self.kind.arguments(given)
        silent = {"nan", "infinity", "subnormal"} & set(probe.groups)  # NumPy would warn of these
        _poison(sizes)
        try:
            with np.errstate(all="ignore") if silent else nullcontext():
                result = self.fn(*(given[k] for k in positional), **{k: given[k] for k in keywords})
        except (Exception, SystemExit) as error:
            raise ContractViolation(
                f"fn raised {type(error).__name__}: {error}; the probe was {probe.description}."
            ) from error
        for name, old in before.items():
            now = self._copies([given[name]])
            if (
                old is not None and now is not None and _bytes(now) != _bytes(old)
            ):  # None: given away
                raise ContractViolation(
                    f"fn changes its argument {name}; the probe was {probe.description}."
                )
        if isinstance(result, list) and any(getattr(each, "shape", ()) for each in result):
            raise ContractViolation(
                "fn returned a list of arrays; return an array, or a tuple such as (loss, "
                f"gradient); the probe was {probe.description}."
            )
        return list(_leaves(result)), given

    @staticmethod
    def _copies(outputs: list[Any]) -> list[Array] | None:
        try:
            return [np.array(to_numpy("result", output), order="C") for output in outputs]
        except TypeError:
            return None  # reported when the result is judged


def _poison(sizes: list[int]) -> None:
    """Leave freed memory full of NaN, so that elements nobody writes show as NaN."""
    blocks = [np.full(size, _POISON, np.uint8) for size in sizes if size < _POISONED for _ in "123"]
    del blocks


def _bits(x: Array) -> Array:
    return np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}").reshape(x.shape)


def unwritten(actual: Array) -> Array:
    """Return which elements still hold what `_poison` left."""
    poisoned: Array = _bits(actual) == np.iinfo(f"u{actual.dtype.itemsize}").max
    return poisoned


def _is_garbage(actual: Array, value: Array) -> Array:
    """Return which elements have nothing to do with the right ones."""
    size, right = np.abs(actual, dtype=np.float64), np.abs(value)
    near = (size <= _GARBAGE * right) & (size * _GARBAGE >= right)
    garbage: Array = ~np.isfinite(size) | (~near & (size > 0) & (right > 0))
    return garbage


def _bytes(arrays: list[Array]) -> list[bytes]:
    return [array.tobytes() for array in arrays]


def _share_memory(output: Any, argument: Any) -> bool:
    """Whether a result lies in the memory of an argument that may be written."""
    try:
        x, y = to_numpy("result", output), to_numpy("argument", argument)
    except TypeError:
        return False
    return y.flags.writeable and np.may_share_memory(x, y) and np.shares_memory(x, y)


def _leaves(result: Any) -> Any:
    if isinstance(result, tuple):
        for each in result:
            yield from _leaves(each)
    elif result is not None:
        yield result
