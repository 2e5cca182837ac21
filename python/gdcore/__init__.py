"""Linear models by gradient descent, with the same bits on every machine.

The whole public API is here::

    import gdcore as gd

    fit = gd.fit(X, y)
    fit.predict(X_new)

Kernels: `matmul`, `mse`, `mse_value_and_grad`, `linear_mse_value_and_grad`,
`linear_value_and_grad`. Fitting: `fit`, `fit_groups`, `fit_rolling`, `SGD`, `Moments`,
`read_chunks`, `load`. Pictures: `gdcore.plot` (extra ``plot``). Command line: ``gdcore`` (extra
``cli``). Measurements: `gdcore.bench` (extra ``bench``).
"""

from importlib import import_module
from typing import TYPE_CHECKING

import gdcore._core as _core
from gdcore.config import config, get_num_threads, set_num_threads, show_config
from gdcore.errors import (
    ChunkError,
    DataLostError,
    FitInterrupted,
    FitWarning,
    LearningRateWarning,
    NoCovarianceError,
    RollingInterrupted,
)
from gdcore.fitting import fit
from gdcore.kernels import (
    LinearGrad,
    linear_mse_value_and_grad,
    linear_value_and_grad,
    matmul,
    mse,
    mse_value_and_grad,
)
from gdcore.results.fit import Fit, History, Start
from gdcore.results.inference import Inference
from gdcore.results.interval import Prediction
from gdcore.selftest import SelfTest, selftest
from gdcore.sgd import SGD, SGDState
from gdcore.status import Status

if TYPE_CHECKING:
    from gdcore.chunks.files import ChunkReader, read_chunks
    from gdcore.groups import fit_groups
    from gdcore.moments import Moments
    from gdcore.results.fits import Fits
    from gdcore.results.load import load
    from gdcore.results.rolling import RollingFit
    from gdcore.results.summary import Summary
    from gdcore.rolling import fit_rolling

__version__: str = _core.VERSION

__all__ = [
    "SGD",
    "ChunkError",
    "ChunkReader",
    "DataLostError",
    "Fit",
    "FitInterrupted",
    "FitWarning",
    "Fits",
    "History",
    "Inference",
    "LearningRateWarning",
    "LinearGrad",
    "Moments",
    "NoCovarianceError",
    "Prediction",
    "RollingFit",
    "RollingInterrupted",
    "SGDState",
    "SelfTest",
    "Start",
    "Status",
    "Summary",
    "__version__",
    "config",
    "fit",
    "fit_groups",
    "fit_rolling",
    "get_num_threads",
    "linear_mse_value_and_grad",
    "linear_value_and_grad",
    "load",
    "matmul",
    "mse",
    "mse_value_and_grad",
    "read_chunks",
    "selftest",
    "set_num_threads",
    "show_config",
]

_LATER = {  # what a first fit does not need, and the module that is imported when it is asked for
    "ChunkReader": "gdcore.chunks.files",
    "Fits": "gdcore.results.fits",
    "Moments": "gdcore.moments",
    "RollingFit": "gdcore.results.rolling",
    "Summary": "gdcore.results.summary",
    "fit_groups": "gdcore.groups",
    "fit_rolling": "gdcore.rolling",
    "load": "gdcore.results.load",
    "read_chunks": "gdcore.chunks.files",
}


if not TYPE_CHECKING:  # type checkers would take every name for one that is there

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        found = globals()[name] = getattr(import_module(_LATER[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


# Pickles and messages name a class by where users find it, not by the file that defines it. Those
# that are imported later say so themselves.
for _value in [globals()[name] for name in __all__ if name not in _LATER]:
    if isinstance(_value, type):
        _value.__module__ = __name__
