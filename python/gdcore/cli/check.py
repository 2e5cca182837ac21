"""The command ``gdcore check``."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from gdcore.cli.report import one_sentence


class Kind(StrEnum):
    """What the function computes; see `gdcore.oracle.assert_grad`."""

    LINEAR_MSE = "linear_mse"
    MSE = "mse"
    MATMUL = "matmul"
    LINEAR = "linear"
    SUM = "sum"
    MEAN = "mean"
    VAR = "var"
    SOFTMAX = "softmax"
    LOG_SOFTMAX = "log_softmax"
    LOGSUMEXP = "logsumexp"
    CROSS_ENTROPY = "cross_entropy"
    LAYER_NORM = "layer_norm"
    RMS_NORM = "rms_norm"
    GELU = "gelu"
    ATTENTION = "attention"


@one_sentence()
def check(
    function: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="What to call: kernels:gradient, of a module in this folder, or a file, "
            "./kernels.py:gradient.",
        ),
    ],
    kind: Annotated[
        Kind,
        typer.Option(
            help="fn(X, y, weights) or fn(pred, target), which return the gradient or (loss, "
            "gradient); fn(a, b), fn(x), fn(x, weight, bias), fn(logits, target), fn(q, k, v), "
            "which return the value."
        ),
    ] = Kind.LINEAR_MSE,
    dtype: Annotated[
        str, typer.Option(help="float32, float64, float16, bfloat16 or tf32.", metavar="DTYPE")
    ] = "float32",
    accumulator: Annotated[
        str | None,
        typer.Option(help="Where sums are kept.", metavar="DTYPE", show_default="the dtype"),
    ] = None,
    reduction: Annotated[
        str,
        typer.Option(
            help="mean, sum, half_mean or half_sum; mean, sum or none of cross_entropy.",
            metavar="NAME",
        ),
    ] = "mean",
    operands: Annotated[
        str | None,
        typer.Option(
            help="Pass these: intercept, offset, sample_weight; weight, bias; mask.",
            metavar="A,B,...",
            show_default="weight, bias where there are any",
        ),
    ] = None,
    grad_out: Annotated[
        bool,
        typer.Option(
            "--grad-out", help="fn also takes grad_out, and returns the gradients of its operands."
        ),
    ] = False,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="What the function computes, such as eps=1e-6, axis=0, causal=true, "
            "approximate=tanh, label_smoothing=0.1.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    skip: Annotated[
        str,
        typer.Option(
            help="Leave out stacks, targets, nan, infinity, subnormal.", metavar="A,B,..."
        ),
    ] = "",
    to: Annotated[
        str | None,
        typer.Option(
            help="Applied to each argument, such as torch:from_numpy.", metavar="MODULE:FUNCTION"
        ),
    ] = None,
    shapes: Annotated[
        str | None,
        typer.Option(
            help="Sizes of the data: n x d or n x d x targets; m x k x n for matmul; rows x n.",
            metavar="33x7,...",
            show_default="many, odd ones among them",
        ),
    ] = None,
    factor: Annotated[
        float | None,
        typer.Option(
            help="Errors above this many times the typical one are SUSPECT.",
            min=0,
            show_default="16",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed, the same probes.", min=0)] = 0,
) -> None:
    """Call a function with the data that find mistakes, and name the mistake.

    The exit code is 1 if the function is proven wrong, 2 for a mistake in the command.
    """
    from gdcore.oracle import assert_grad
    from gdcore.oracle.references.reference import SUSPICION

    before = list(sys.path)
    sys.path.insert(0, "")  # as `python -m` does
    try:
        report = assert_grad(
            _guarded(_find(function), function),
            kind.value,
            dtype=dtype,
            accumulator=accumulator,
            reduction=reduction,
            operands=None if operands is None else _words(operands),
            grad_out=grad_out,
            options=dict(_option(word) for word in option or ()),
            skip=_words(skip),
            to=None if to is None else _converting(_find(to), to),
            shapes=None if shapes is None else [_shape(word) for word in shapes.split(",")],
            seed=seed,
            quiet=True,
            factor=SUSPICION if factor is None else factor,
        )
    except AssertionError as error:
        print(error)
        raise typer.Exit(1) from None
    finally:
        sys.path[:] = before
    print(report)


def _words(text: str) -> list[str]:
    """Return the words in "a, b"."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _option(word: str) -> tuple[str, Any]:
    """Return the name and the value in "eps=1e-6": a number, a truth value or a word."""
    name, equals, text = word.partition("=")
    if not equals:
        raise ValueError(f"--option has {word!r}; write NAME=VALUE, as eps=1e-6.")
    if text.lower() in ("true", "false"):
        return name, text.lower() == "true"
    for read in (int, float):
        try:
            return name, read(text)
        except ValueError:
            continue
    return name, text


def _shape(word: str) -> tuple[int, ...]:
    """Return the sizes in "33x7"."""
    try:
        return tuple(int(size) for size in word.split("x"))
    except ValueError:
        raise ValueError(f"--shapes has {word!r}; write sizes as 33x7, or 33x7,100x1.") from None


def _guarded(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a function whose call to exit ends nothing: it is an error like another."""

    def call(*operands: Any, **more: Any) -> Any:
        try:
            return function(*operands, **more)
        except SystemExit as error:
            raise RuntimeError(f"{name} called exit({error.code})") from error

    return call


def _converting(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a function whose errors are a mistake in the command: ValueError."""

    def convert(operand: Any) -> Any:
        try:
            return function(operand)
        except (Exception, SystemExit) as error:
            raise ValueError(f"--to {name} raised {type(error).__name__}: {error}") from error

    return convert


def _find(name: str) -> Callable[..., Any]:
    """Return what MODULE:FUNCTION or FILE:FUNCTION names; ValueError if nothing has that name."""
    module, _, path = name.rpartition(":")
    module = module.removesuffix(":")  # pytest has file.py::function
    if not module or not path:
        raise ValueError(
            f"{name!r} names no function; write MODULE:FUNCTION, as kernels:gradient, or "
            "FILE:FUNCTION, as ./kernels.py:gradient."
        )
    is_file = module.endswith(".py") or "/" in module or os.sep in module
    try:
        found: Any = _load(Path(module)) if is_file else importlib.import_module(module)
    except (Exception, SystemExit) as error:
        kind = "" if isinstance(error, ImportError | OSError) else f"{type(error).__name__}: "
        raise ValueError(f"cannot import {module}: {kind}{error}") from None
    for part in path.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{module} has no {path}.")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{name} is {type(found).__name__}, which cannot be called.")
    return found  # type: ignore[no-any-return]


def _load(file: Path) -> ModuleType:
    """Import a file as a module that may import others of its folder."""
    path = file.resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    name = f"{path.stem} ({path})"  # not the name of any other module, such as random
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
