"""Fixtures that force the instruction set, the thread count and the dtype, and put them back."""

from __future__ import annotations

import math
import os
import signal
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # workers share the CPUs; before NumPy

import numpy as np
import pytest

import emulated
import gdcore as gd
from loops import settings_restored

ISAS = tuple(gd._core.available_isas())
THREADS = (1, 2, 3, 7)
SEVERAL = THREADS[1:]
PAIRS = [(isa, 1) for isa in ISAS] + [
    (ISAS[i % len(ISAS)], SEVERAL[i % len(SEVERAL)]) for i in range(max(len(ISAS), len(SEVERAL)))
]
collect_ignore = ["data", "mutants"]  # scripts: doctests would import them


@cache
def why_no_gpu() -> str:
    """Return why tests of the GPU cannot run here, empty if they can.

    A driver that the environment names must work, so its tests run and fail.
    """
    if os.environ.get("GDCORE_CUDA_DRIVER"):
        return ""
    cuda = gd.config()["cuda"]
    return f"needs a GPU, or GDCORE_CUDA_DRIVER: {cuda}" if isinstance(cuda, str) else ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and why_no_gpu():
        pytest.skip(why_no_gpu())


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_works() -> Iterator[None]:
    """Take SIGINT, here and in all children, also where a job in the background ignores it."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def _progress_without_a_clock() -> Iterator[None]:
    """Call progress callables between blocks of steps only, however slow the machine is.

    test_progress.py sets the clock where it tests it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gdcore.solvers.progress._Callback.quiet", math.inf)
        yield


@pytest.fixture(autouse=True, scope="session")
def _every_thread_takes_part() -> Iterator[None]:
    """Share small tasks too, which users' threads leave to the caller: the bits are tested."""
    gd._core.let_everyone_take_part(True)
    yield
    gd._core.let_everyone_take_part(False)


@pytest.fixture(autouse=True)
def _settings_restored() -> Iterator[None]:
    with settings_restored():
        yield


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    """Each instruction set of this machine in turn, forced."""
    gd._core.set_isa(request.param)
    return str(request.param)


@pytest.fixture(params=PAIRS, ids=lambda pair: "{}-threads{}".format(*pair))
def isa_and_threads(request: pytest.FixtureRequest) -> tuple[str, int]:
    """Each instruction set on one thread, and each thread count with one of them, forced.

    How threads share the work does not depend on the vectors, so no full product.
    """
    isa, threads = request.param
    gd._core.set_isa(isa)
    gd.set_num_threads(threads)
    return str(isa), int(threads)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Any:
    """float32, then float64."""
    return np.dtype(request.param)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that differ from test to test and never from run to run."""
    return np.random.default_rng(list(request.node.nodeid.rpartition("/")[2].encode()))


@pytest.fixture(scope="session")
def torch() -> Any:
    """Torch on one thread, full precision; imported only when a test asks for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("torch")
    module.set_num_threads(1)
    module.set_float32_matmul_precision("highest")
    return module


@pytest.fixture(scope="session")
def emulated_driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of the emulated CUDA driver with gdcore's kernels, built once a session."""
    return str(emulated.driver(tmp_path_factory))
