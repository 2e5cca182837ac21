"""What a command prints: tables, JSON, notes, and one sentence for a mistake.

``gdcore fit --json`` prints one object: the keys of `summary` for the model, ``dropped`` (the rows
left out as values of theirs are missing), ``gdcore`` (the version), ``data`` (the file),
``normal_equation`` (the same keys for the closed form; null for a file too large to be read whole),
``interrupted`` and ``notes`` (the warnings, also on standard error). ``gdcore predict --json``
prints ``gdcore``, ``model``, ``data``, ``rows`` and ``predictions``. NaN and infinity are
null, and keys are only ever added.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

import gdcore as gd
from gdcore.cli.training import Array, Rows

_SHOWN = 40  # weights in the printed table; --json and --save have all of them
_COLORS = {"CONVERGED": "bold green", "DIVERGED": "bold red"}


def summary(model: gd.Fit, train: Rows, test: Rows) -> dict[str, Any]:
    """Return what there is to say of a model, in words and plain numbers.

    Parameters
    ----------
    model : Fit
        A model with names for its features.
    train, test : pair of ndarrays
        The rows it was trained on, and those kept for testing.

    Returns
    -------
    dict
        ``target``, ``features``, ``method`` and ``method_reason``, ``lr``,
        ``stability_limit``, ``epochs``, ``status``, ``message`` and ``r2_lost``; ``weights`` by
        feature and ``intercept``; ``train`` and ``test``, each with ``rows``, ``mse`` and ``r2``;
        ``inference``, None unless the fit was asked for a covariance.
    """
    return described(model, _score(model, *train), _score(model, *test))


def described(model: gd.Fit, train: dict[str, float], test: dict[str, float]) -> dict[str, Any]:
    """Return `summary` of a model whose scores are known."""
    names = model.feature_names or ()
    return {
        "target": model.target_name,
        "features": names,
        "method": model.method,
        "method_reason": model.method_reason,
        "lr": float(model.lr),
        "stability_limit": float(model.stability_limit),
        "epochs": int(model.epochs),
        "status": str(model.status),
        "message": model.message,
        "r2_lost": float(model.r2_lost),
        "weights": dict(zip(names, model.weights.tolist(), strict=True)),
        "intercept": float(model.intercept),
        "train": train,
        "test": test,
        "inference": _inference(model),
    }


def _inference(model: gd.Fit) -> dict[str, Any] | None:
    """Return standard errors and what is derived from them, by parameter; p-values need scipy."""
    if model.inference is None:
        return None
    names = [*(model.feature_names or ()), *(["intercept"] if model.fit_intercept else [])]
    columns = {"stderr": model.stderr, "tvalues": model.tvalues}
    with suppress(ImportError):
        columns["pvalues"] = model.pvalues
    return {
        "covariance": model.inference.kind,
        "reason": model.inference.reason,
        "df_resid": int(model.df_resid),
        "r2": float(model.r2),
        "adj_r2": float(model.adj_r2),
        "sigma2": float(model.sigma2),
        **{key: dict(zip(names, v.tolist(), strict=True)) for key, v in columns.items()},
    }


def print_summary(model: gd.Fit, as_json: bool) -> None:
    """Print the table of standard errors, unless there are none or JSON has them."""
    if model.inference is not None and not as_json:
        print(model.summary())


def _score(model: gd.Fit, X: Array, y: Array) -> dict[str, float]:
    """Return the size, mean squared error and R2 of some rows; NaN where not defined."""
    mse = float(gd.mse(model.predict(X), y)) if len(y) else math.nan
    variance = float(gd.mse(np.full(len(y), y.mean()), y)) if len(y) else math.nan
    return {"rows": len(y), "mse": mse, "r2": 1 - mse / variance if variance else math.nan}


def print_json(report: Mapping[str, Any]) -> None:
    """Print an object as JSON; NaN and infinity become null."""
    print(json.dumps(_plain(report), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_report(report: Mapping[str, Any]) -> None:
    """Print a fit as a table, and its status in words."""
    exact = report["normal_equation"]
    models = {"gradient descent": report}
    if exact is not None:
        models["normal equation"] = exact
    if report["method"] == "exact":
        models = {"normal equation": report}
    grid = Grid(box=box.SIMPLE_HEAD)
    grid.add_column(Text(f"{report['target']} ="), overflow="fold")
    for name in models:
        grid.add_column(name, justify="right")

    def row(label: str, values: Iterable[float]) -> None:
        grid.add_row(Text(label), *(f"{value:.6g}" for value in values))

    names = report["features"]
    for name in names[:_SHOWN]:
        row(name, (model["weights"][name] for model in models.values()))
    if len(names) > _SHOWN:
        grid.add_row(f"... {len(names) - _SHOWN} more, see --json")
    row("intercept", (model["intercept"] for model in models.values()))
    grid.add_section()
    for key, score in (("mse", "MSE"), ("r2", "R2")):
        for part in ("train", "test"):
            if rows := report[part]["rows"]:
                row(f"{score}, {rows} {part} rows", (m[part][key] for m in models.values()))
    Console().print(grid)
    for name, model in models.items():
        status = model["status"]
        if model is not exact or status != "CONVERGED":
            label = f"{status} ({name})" if model is exact else status
            _say(label, _COLORS.get(status, "bold yellow"), model["message"], stderr=False)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn what the user can mend into one sentence and exit code 2, and Ctrl-C into 130."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read our output has left: typer knows what to do
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error) is not RuntimeError:
            raise  # a mistake of this program; a GPU that is missing or fails is not
        _say("Error", "bold red", _sentence(error))
        raise typer.Exit(2) from None


def _sentence(error: Exception) -> str:
    """Return what an exception says as one line that ends with a full stop."""
    text = str(error) or "there is not enough memory"
    if isinstance(error, OSError) and error.strerror:
        name = "standard output" if error.filename is None else error.filename
        text = f"cannot use {name}: {error.strerror}"
    return f"{' '.join(text.split()).rstrip('.')}."


@contextmanager
def collect_notes() -> Iterator[list[str]]:
    """Print each warning once, as soon as it is given, as a note; yield the list of them."""
    notes: list[str] = []

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in notes:
            notes.append(str(message))
            say_note(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", gd.FitWarning)  # the report has every fit's status
        warnings.showwarning = note
        yield notes


def say_note(text: str) -> None:
    """Print a note on standard error."""
    _say("Note", "bold yellow", text)


def _say(label: str, style: str, text: str, *, stderr: bool = True) -> None:
    """Print a labelled sentence, wrapped only where a person reads it."""
    console = Console(stderr=stderr)
    console.print(Text.assemble((f"{label}: ", style), text), soft_wrap=not console.is_terminal)
