"""Which libraries there are, and how one is opened."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from gdcore.bench.libraries.base import Library

BUILT_IN = {
    "gdcore": "gdcore.Gdcore",
    "numpy": "numpy.Numpy",
    "torch": "torch.Torch",
    "torch-vmap": "torch_many.Vmap",
    "torch-solve": "torch_many.Solve",
    "torch-lstsq": "torch_many.Lstsq",
    "jax": "jax.Jax",
    "scipy": "scipy.Scipy",
    "sklearn": "sklearn.Sklearn",
    "polars": "polars.Polars",
    "polars-ols": "polars_ols.PolarsOls",
    "polars-ds": "polars_ds.PolarsDs",
    "polars-statistics": "polars_statistics.PolarsStatistics",
    "duckdb": "duckdb.Duckdb",
    "statsmodels": "statsmodels.Statsmodels",
    "contiguous": "contiguous.Contiguous",
    "exact": "exact.Exact",
}
_KINDS = {"c++": ("libgdcore_peer_", ".so"), "python": ("gdcore_peer_", ".py")}


def find_peers(folder: Path | None) -> Mapping[str, Path]:
    """Return the peers in a folder by name.

    ``libgdcore_peer_NAME.so`` is a shared library (`gdcore.bench.libraries.shared`),
    ``gdcore_peer_NAME.py`` a file of Python functions (`gdcore.bench.libraries.functions`). One
    with the name of a built-in library gets its kind along: ``gdcore-c++``.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise ValueError(f"the folder of peers, {folder}, does not exist.")
    peers = {}
    for kind, (prefix, suffix) in _KINDS.items():
        for path in sorted(folder.glob(f"{prefix}*{suffix}")):
            name = path.name[len(prefix) : -len(suffix)]
            peers[f"{name}-{kind}" if name in BUILT_IN or name in peers else name] = path
    return peers


def open_library(name: str, path: Path | None, threads: int) -> Library:
    """Return a library ready to work: a built-in one by its name, a peer from its file."""
    if path is None:
        return _kind(name)(threads)  # type: ignore[no-any-return]
    if path.suffix == ".py":
        from gdcore.bench.libraries.functions import Functions

        return Functions(path)
    from gdcore.bench.libraries.shared import Shared

    return Shared(path, threads)


def supports(name: str, path: Path | None, jobs: Collection[str]) -> bool:
    """Return whether a library does any of some jobs, without opening it."""
    return path is not None or any(hasattr(_kind(name), job) for job in jobs)


def closed_forms(library: Library) -> Collection[str]:
    """Return the jobs that a library does in closed form."""
    return getattr(library, "closed_forms", ())


def _kind(name: str) -> Any:
    module, kind = BUILT_IN[name].split(".")
    return getattr(import_module(f"gdcore.bench.libraries.{module}"), kind)
