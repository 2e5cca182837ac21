"""The build and the settings: instruction set, threads, OpenMP, CUDA."""

from __future__ import annotations

import os
from copy import deepcopy
from functools import cache
from typing import Any

import gdcore._core as _core
from gdcore.scalars import as_scalar, is_whole


def get_num_threads() -> int:
    """Return how many threads gdcore uses.

    The number that `set_num_threads` set. Without it, the smallest of: the CPUs this process may
    run on; the control group's CPU quota; OMP_NUM_THREADS, OMP_THREAD_LIMIT and GDCORE_NUM_THREADS
    at import; the limit that ``threadpoolctl.threadpool_limits`` or ``torch.set_num_threads`` set
    for the calling thread.

    Returns
    -------
    int
    """
    return _core.get_num_threads()


def set_num_threads(n: int) -> None:
    """Set how many threads gdcore uses; results do not change by a bit.

    The number replaces all limits that `get_num_threads` lists. ``n_threads=`` of a call replaces
    it for that call.

    Parameters
    ----------
    n : int
        1 to 1024. Small work runs on one thread with any n.

    Raises
    ------
    ValueError
        If n is out of range.

    Examples
    --------
    >>> import gdcore as gd
    >>> before = gd.get_num_threads()
    >>> gd.set_num_threads(2)
    >>> gd.get_num_threads()
    2
    >>> gd.set_num_threads(before)
    """
    n = as_scalar(n)
    if not is_whole(n) or not 1 <= n <= 1024:
        raise ValueError(f"n is {n!r}; the number of threads must be a whole number, 1 to 1024.")
    _core.set_num_threads(n)


def config() -> dict[str, Any]:
    """Return how gdcore was built and what it uses.

    Returns
    -------
    dict
        ``version``; ``isa`` in use, ``isas_available`` on this machine, ``isas_built``; ``threads``
        and ``threads_reason``, which limit set them; ``thread_engine``, "pool" (gdcore's own
        threads) or "openmp", chosen when gdcore was built; ``openmp``, the runtimes loaded in
        this process; ``compiler``; ``cuda``; ``numerics``, the version of
        the contract on bits; ``segment``, the terms of a segment of a long sum in each dtype
        (gdcore 0.1 called it ``chunk``).

        ``cuda`` is a sentence that says why no GPU can be used, or a dict: ``driver``, the version
        of CUDA that the driver supports; ``devices``, each with its ``name``, ``sm`` (90 for
        compute capability 9.0), ``memory`` in bytes and ``kernels``, the architecture it runs
        (empty: none in this build); ``fatbin``, the file of kernels with its ``path``, ``bytes``
        and ``architectures``.

    Notes
    -----
    A process that has used CUDA cannot fork workers that use it. So where CUDA is not in use yet,
    the devices are read in a child process, and the answer is kept.

    Examples
    --------
    >>> import gdcore as gd
    >>> gd.config()["isa"] in gd.config()["isas_available"]
    True
    """
    return {
        "version": _core.VERSION,
        "isa": _core.get_isa(),
        "isas_available": _core.available_isas(),
        "isas_built": _core.built_isas(),
        "threads": _core.get_num_threads(),
        "threads_reason": _core.threads_reason(),
        "thread_engine": _core.thread_engine(),
        "openmp": _openmp_runtimes(),
        "compiler": _core.COMPILER,
        "cuda": _cuda(),
        "numerics": _core.NUMERICS,
        "segment": dict(_core.SEGMENT),
        "chunk": dict(_core.SEGMENT),
    }


def show_config() -> None:
    """Print `config()`, one line an entry."""
    for name, value in config().items():
        if name == "cuda" and isinstance(value, dict):
            value = _cuda_line(value)
        elif isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = ", ".join(value) or "none"
        print(f"{name:15} {value}")


@cache
def _known_cuda() -> Any:
    return _core.cuda_info()


def _cuda() -> Any:
    """Return what there is of CUDA, a copy; ask again as long as there is nothing."""
    found = _known_cuda()
    if isinstance(found, str):
        _known_cuda.cache_clear()
    return deepcopy(found)


def _cuda_line(cuda: dict[str, Any]) -> str:
    """Return one line on the GPUs, the driver and the kernels."""
    devices = [
        f"{d['name']} (sm_{d['sm']}, {d['memory'] / 2**30:.1f} GiB, "
        f"{d['kernels'] or 'no kernels for it'})"
        for d in cuda["devices"]
    ]
    fatbin = cuda["fatbin"]
    architectures = " ".join(fatbin["architectures"])
    kernels = f"{fatbin['bytes'] / 1e6:.2f} MB of kernels for {architectures}, {fatbin['path']}"
    return "; ".join([*devices, f"driver for CUDA {cuda['driver']}", kernels])


def _openmp_runtimes() -> list[str]:
    """Return the paths of the OpenMP libraries mapped into this process."""
    try:
        with open("/proc/self/maps") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6}
    return sorted(
        p for p in paths if any(n in os.path.basename(p) for n in ("libgomp", "libomp", "libiomp"))
    )
