"""The options of a fit that are plain numbers and names, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gdcore.sgd import is_finite, plain

BLOCK_SECONDS = 0.04  # of C++ between two looks at signals, progress and checkpoints


@dataclass(frozen=True)
class Options:
    """See `gdcore.fit` for the meaning of each."""

    epochs: int
    batch_size: int | None
    shuffle: bool
    seed: int
    tol: Any  # float, one for each of many problems, or None
    stop: str
    method: str
    history: int
    n_threads: int | None
    standardize: bool = False
    rcond: Any = None
    exact_by_default: bool = False  # method "exact" was not asked for by name
    ignored: tuple[str, ...] = ()  # options given that the method does not read

    def __post_init__(self) -> None:
        for name, given in vars(self).items():
            if (value := plain(given)) is not given:
                object.__setattr__(self, name, value)

    def check(self, rows: int, count: int | None = None) -> None:
        """Raise ValueError for what is out of range or does not go together.

        `rows` is the most that a problem has, `count` the number of many problems.
        """
        for name, bits in (("epochs", 62), ("history", 62), ("seed", 64)):
            value = getattr(self, name)
            if not _is_int(value) or not 0 <= value < 2**bits:
                raise ValueError(
                    f"{name} is {value!r}; it must be a whole number from 0 to 2**{bits} - 1."
                )
        self.check_batch(rows)
        self._check_tol(count)
        if self.n_threads is not None and not (
            _is_int(self.n_threads) and 1 <= self.n_threads <= 1024
        ):
            raise ValueError(
                f"n_threads is {self.n_threads!r}; it must be a whole number from 1 to 1024."
            )
        for name, choices in (
            ("stop", ("gradient", "loss_equal")),
            ("method", ("auto", "stream", "gram", "exact")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; "
                    f"choose one of {', '.join(map(repr, choices))}."
                )
        if self.rcond is not None and not (is_finite(self.rcond) and 0 <= self.rcond < 1):
            raise ValueError(
                f"rcond is {self.rcond!r}; it must be None or a number from 0 to below 1."
            )
        if self.method in ("gram", "exact") and self.batch_size is not None:
            raise ValueError(
                f"method={self.method!r} takes no batch_size; drop it, or use method='stream'."
            )

    def _check_tol(self, count: int | None) -> None:
        if self.tol is None or (is_finite(self.tol) and self.tol >= 0):
            return
        if count is not None and isinstance(self.tol, np.ndarray) and self.tol.dtype.kind in "fiu":
            if self.tol.shape != (count,):
                raise ValueError(
                    f"tol has shape {self.tol.shape}; with {count} problems it must be ({count},)."
                )
            if np.all(np.isfinite(self.tol) & (self.tol >= 0)):
                return
        raise ValueError(
            f"tol is {self.tol!r}; it must be 0 or larger, or None to run every epoch."
        )

    def check_batch(self, rows: int) -> None:
        """Raise ValueError unless the batch size, if there is one, is of so many rows or fewer."""
        if self.batch_size is not None and not (
            _is_int(self.batch_size) and 1 <= self.batch_size <= max(rows, 1)
        ):
            raise ValueError(
                f"batch_size is {self.batch_size!r}; it must be a whole number from 1 to the "
                f"{rows} rows of X, or None for all rows at once."
            )


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
