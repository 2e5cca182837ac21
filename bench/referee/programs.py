"""Kernels as files of their own, as somebody would hand them in: no line of them is elsewhere."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from referee import libraries, right
from referee.cheats import CHEATS, common
from referee.operations import OPERATIONS, SIZES

FUTURE = "from __future__ import annotations\n\n"
ELSEWHERE = re.compile(r"^from (__future__|referee\S*) import .*\n", re.MULTILINE)
INPUTS = """
def get_inputs():
    args = [{floats}]
{rest}    return args
"""
MASK = (
    "    args[3] = torch.zeros_like(args[3]).masked_fill_(torch.rand({shape}) < 0.4, -torch.inf)\n"
)
FIRST = "    args[3][:, 0] = 0\n"
CLASSES = "    args.append(torch.randint(0, {classes}, ({rows},)))\n"
IMPORTS = (
    "import math\n\nimport torch\nimport torch.nn.functional as F\n\nTensor = torch.Tensor\n\n\n"
)


def joined(*parts: ModuleType | str) -> str:
    """Return the text of one file: modules without what they import of each other."""
    texts = [each if isinstance(each, str) else inspect.getsource(each) for each in parts]
    return FUTURE + "\n\n".join(ELSEWHERE.sub("", each) for each in texts)


def cheat(kind: str, name: str) -> str:
    """Return a candidate that cheats at an operation."""
    function = CHEATS[kind]
    eager = OPERATIONS[name].eager
    module = inspect.getmodule(function)
    assert module is not None
    last = f"kernel = {kind}({eager.__name__})\n"
    return joined(common, module, IMPORTS + inspect.getsource(eager), last)


def of_module(function: Callable[..., Any]) -> str:
    """Return a candidate whose kernel is one of the functions of a module."""
    module = inspect.getmodule(function)
    assert module is not None
    return joined(module, f"kernel = {function.__name__}\n")


def of_jax(name: str) -> str:
    """Return a candidate that lets JAX compute."""
    return joined(right, libraries, f'kernel = jax_kernel("{name}")\n')


def reference(name: str, size: str = "tested", dtype: str = "float32") -> str:
    """Return a reference: what a user would write in torch, the same for float64, and inputs."""
    operation = OPERATIONS[name]
    shapes = operation.shapes(*SIZES[size])
    rest = ""
    if name == "attention":
        rest = MASK.format(shape=shapes[3])
    if operation.has_classes:
        rest = CLASSES.format(rows=shapes[0][0], classes=shapes[0][1])
    floats = ", ".join(f"torch.randn({shape}, dtype=torch.{dtype})" for shape in shapes)
    functions = {operation.eager.__name__: operation.eager}
    functions[operation.golden.__name__] = operation.golden
    return joined(
        IMPORTS + "\n\n".join(map(inspect.getsource, functions.values())),
        f"reference = {operation.eager.__name__}\ngolden = {operation.golden.__name__}\n",
        INPUTS.format(floats=floats, rest=rest),
    )


def write(folder: Path, name: str, text: str) -> Path:
    """Write a file, and return its path."""
    path = folder / f"{name}.py"
    path.write_text(text)
    return path
