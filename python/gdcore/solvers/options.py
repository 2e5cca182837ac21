"""The options of a fit, checked."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from gdcore.frozen import at_once, changed
from gdcore.scalars import as_numpy, as_scalar, is_finite, is_whole
from gdcore.sgd import SGD

DEFAULT = SGD()
_ENDS = ("epochs", 2**62), ("history", 2**62), ("seed", 2**64)
_CHOICES = (
    ("stop", ("gradient", "loss_equal")),
    ("method", ("auto", "stream", "gram", "exact")),
    ("missing", ("error", "drop")),
    ("covariance", (None, "ols", "hc0", "hc1", "hc2", "hc3")),
)
_WORD = (str, type(None))
_PLAIN = {int, float, bool, str, tuple, type(None)}  # the types of almost all options


@at_once
@dataclass(frozen=True, kw_only=True)
class Options:
    """See `gdcore.fit` for the meaning of each."""

    epochs: int
    tol: Any  # float, one for each of many problems, or None
    stop: str
    method: str
    batch_size: int | None = None
    shuffle: bool = False
    seed: int = 0
    history: int = 0
    n_threads: int | None = None
    standardize: bool = False
    rcond: Any = None
    missing: str = "error"
    covariance: str | None = None
    exact_by_default: bool = False  # method "exact" was not asked for by name
    ignored: tuple[str, ...] = ()  # options given that the method does not read

    def __post_init__(self) -> None:
        if _PLAIN.issuperset(map(type, vars(self).values())):
            return
        for name, given in vars(self).items():
            if (value := as_scalar(given)) is not given:
                object.__setattr__(self, name, value)
        if hasattr(self.tol, "__dlpack__"):
            with suppress(TypeError, RuntimeError):  # a tensor without data
                object.__setattr__(self, "tol", as_numpy(self.tol))

    def solved_exactly(self, ignored: tuple[str, ...]) -> Options:
        """Return the options with the closed form as the default method."""
        return changed(self, method="exact", exact_by_default=True, ignored=ignored)

    @property
    def expects_convergence(self) -> bool:
        """Whether running out of epochs deserves a warning: a `tol` was to be met."""
        return self.tol is not None and self.epochs > 0

    @property
    def threads(self) -> int:
        """Threads for the core; 0 for as many as `get_num_threads` says."""
        self._check_threads()  # labels are sorted before `check` knows the rows
        return self.n_threads or 0

    def _check_threads(self) -> None:
        if self.n_threads is not None and not (
            is_whole(self.n_threads) and 1 <= self.n_threads <= 1024
        ):
            raise ValueError(
                f"n_threads is {self.n_threads!r}; it must be a whole number from 1 to 1024."
            )

    def check(self, rows: int, count: int | None = None) -> None:
        """Raise ValueError for an option that is out of range or conflicts with another.

        `rows` is the most that a problem has, `count` the number of many problems.
        """
        for name, end in _ENDS:
            value = getattr(self, name)
            if not is_whole(value) or not 0 <= value < end:
                power = end.bit_length() - 1
                raise ValueError(
                    f"{name} is {value!r}; it must be a whole number from 0 to 2**{power} - 1."
                )
        self.check_batch(rows)
        self._check_tol(count)
        self._check_threads()
        for name, choices in _CHOICES:
            given = getattr(self, name)
            if not isinstance(given, _WORD) or given not in choices:
                raise ValueError(
                    f"{name} is {given!r}; choose one of {', '.join(map(repr, choices))}."
                )
        if self.rcond is not None and not (is_finite(self.rcond) and 0 <= self.rcond < 1):
            raise ValueError(
                f"rcond is {self.rcond!r}; it must be None or a number from 0 to below 1."
            )
        if self.method in ("gram", "exact") and self.batch_size is not None:
            raise ValueError(
                f"method={self.method!r} takes no batch_size; drop it, or use method='stream'."
            )

        if self.covariance is not None and self.batch_size is not None:
            raise ValueError(
                "covariance is for fits at the minimum, where mini-batches do not end; leave out "
                "batch_size, or leave out covariance."
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
        """Raise ValueError if there is a batch size that is not 1 to the number of rows."""
        if self.batch_size is None:
            return
        dropping = self.missing == "drop"
        most = 2**62 if dropping and not rows else max(rows, 1)  # no row left is no mistake
        if not (is_whole(self.batch_size) and 1 <= self.batch_size <= most):
            left = " that have no missing value" if dropping else ""
            raise ValueError(
                f"batch_size is {self.batch_size!r}; it must be a whole number from 1 to the "
                f"{rows} rows of X{left}, or None for all rows at once."
            )


def check_sgd(sgd: SGD | None, method: str) -> SGD:
    """Return the options, the default ones for None; TypeError or ValueError if they are wrong."""
    sgd = DEFAULT if sgd is None else sgd
    if not isinstance(sgd, SGD):
        hint = f"SGD(lr={sgd!r})" if isinstance(sgd, float) else "SGD(lr=..., momentum=...)"
        raise TypeError(f"sgd is {type(sgd).__name__}; pass gdcore.{hint}.")
    if sgd.maximize and method == "exact":
        raise ValueError("method='exact' has no maximum to find; drop maximize=True.")
    return sgd
