"""A peer that is a file of Python functions, ``gdcore_peer_NAME.py``.

Each function has the name of a suite, gets that suite's NumPy arrays and returns its outputs:
``matmul(a, b)``, and loss and gradient from ``mse(pred, target)`` and ``gradient(X, y, w)``. A
suite without a function is left out. ``__version__`` is reported if there is one. Those that solve
in closed form where others descend, such as ``fit_stack(X, y, lr)``, are named in ``closed_forms``.
"""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from gdcore.bench.case import Array, Case
from gdcore.bench.libraries.base import Run, repeating


class Functions:
    """The functions of one file, named after suites."""

    def __init__(self, path: Path) -> None:
        spec = spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"cannot load {path}")
        self.module = module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.closed_forms = getattr(self.module, "closed_forms", ())

    def describe(self) -> dict[str, Any]:
        """Return the file and its version."""
        version = getattr(self.module, "__version__", None)
        return {"version": version, "file": Path(str(self.module.__file__)).name}

    def __getattr__(self, suite: str) -> Any:
        function = getattr(self.module, suite)

        def program(case: Case, *inputs: Array) -> Run:
            return repeating(lambda: function(*inputs))

        return program
