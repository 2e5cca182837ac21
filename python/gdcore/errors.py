"""Every warning and exception of gdcore's own."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


class FitWarning(UserWarning):
    """A fit ended, or will end, in a way that deserves a look: anything but CONVERGED."""


_category: ContextVar[type[FitWarning] | None] = ContextVar("_category", default=FitWarning)


def warn_of_fit(message: str) -> None:
    """Warn the user of how a fit ended, or will end."""
    category = _category.get()
    if category is not None:
        warnings.warn(message, category, stacklevel=stacklevel())


@contextmanager
def fit_warnings(category: type[FitWarning] | None) -> Iterator[None]:
    """Have `warn_of_fit` use a subclass of FitWarning, or None to be silent, in this thread."""
    token = _category.set(category)
    try:
        yield
    finally:
        _category.reset(token)


class LearningRateWarning(UserWarning):
    """The learning rate is above the stability limit, so that descent must diverge."""


class NoCovarianceError(ValueError, AttributeError):
    """What was asked for needs the covariance of the weights, which this fit did not estimate.

    An AttributeError too, so that ``hasattr(fit, "stderr")`` is False for such a fit.

    Parameters
    ----------
    wanted : str
        What was asked for.
    """

    def __init__(self, wanted: str) -> None:
        super().__init__(
            f"{wanted} needs the covariance of the weights; fit again with covariance='ols', or "
            "with 'hc0' to 'hc3' if the variance of the errors differs from row to row."
        )


class DataLostError(OSError):
    """A file mapped by an array, such as np.memmap, shrank while it was read.

    Parameters
    ----------
    message : str
    fit : Fit, optional
        The Fit or Fits from before; its weights come from whole rows alone.

    Attributes
    ----------
    fit : Fit or None
    """

    def __init__(self, message: str, fit: Any = None) -> None:
        super().__init__(message)
        self.fit = fit


class FitInterrupted(KeyboardInterrupt):
    """Ctrl-C stopped a fit between two steps.

    Parameters
    ----------
    fit : Fit
        The weights so far; pass it as `init` to continue. Its loss is the one measured during the
        last epoch: evaluating another would keep Ctrl-C waiting.
    moments : Moments, optional
        Where the rows come in chunks: the moments of those read so far.

    Attributes
    ----------
    fit : Fit
    moments : Moments or None
    """

    def __init__(self, fit: Any, moments: Any = None) -> None:
        super().__init__(f"interrupted after {fit.epochs} epochs; the weights so far are in .fit")
        self.fit = fit
        self.moments = moments


class RollingInterrupted(KeyboardInterrupt):
    """Ctrl-C stopped `fit_rolling` between two windows.

    Parameters
    ----------
    fit : RollingFit
        The windows done.

    Attributes
    ----------
    fit : RollingFit
    """

    def __init__(self, fit: Any) -> None:
        super().__init__(f"interrupted after {len(fit.loss)} windows, which are in .fit")
        self.fit = fit


class ChunkError(ValueError):
    """A chunk of rows cannot be used.

    Parameters
    ----------
    message : str
    chunk : int
        Its number, counted from 0.
    moments : Moments, optional
        The moments of the rows before it, if the first reading failed.
    fit : Fit, optional
        The fit so far, if a later reading failed.

    Attributes
    ----------
    chunk : int
    moments : Moments or None
    fit : Fit or None
    """

    def __init__(self, message: str, chunk: int, moments: Any = None, fit: Any = None) -> None:
        super().__init__(message)
        self.chunk, self.moments, self.fit = chunk, moments, fit


def stacklevel() -> int:
    """Return the level, for a warning of its caller, of the first frame outside this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "gdcore":
        frame, level = frame.f_back, level + 1
    return level
