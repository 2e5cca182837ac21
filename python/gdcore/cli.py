"""The command line: ``gdcore fit``, ``gdcore predict``, ``gdcore config``, ``gdcore selftest``.

A command reads its files, calls the plain functions below it, and prints. To add one, write it
beside the others and name it in `build_app`. It needs typer and rich (``gdcore[cli]``).

==========  =======================================================================
exit code   meaning
==========  =======================================================================
0           fine
1           the selftest failed
2           bad usage or data, told in one sentence on standard error
3           the fit diverged; its last finite weights were printed and saved all the same
130         interrupted by Ctrl-C; what was reached was printed and saved all the same
==========  =======================================================================

``gdcore fit --json`` prints one object: the keys of `summary` for the model, and ``gdcore`` (the
version), ``data`` (the file), ``normal_equation`` (the same keys for the closed form),
``interrupted`` and ``notes`` (the warnings, also on standard error). ``gdcore predict --json``
prints ``gdcore``, ``model``, ``data``, ``rows`` and ``predictions``. What is NaN or infinite is
null, and keys are only ever added.
"""

from __future__ import annotations

import csv
import json
import math
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

import gdcore as gd
from gdcore.tables import (
    OUTPUT_SUFFIXES,
    Table,
    check_writable,
    print_csv,
    read_table,
    write_table,
)

try:
    import typer
    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text
except ModuleNotFoundError as error:
    _missing = error.name
else:
    _missing = None

__all__ = ["build_app", "main"]

Array = NDArray[Any]
Rows = tuple[Array, Array]  # X (n, d) and y (n,)

_SHOWN = 40  # weights in the printed table; --json and --save have all of them
_RECORDS = 1_000_000  # epochs whose loss is kept, about, however many there are
_COLORS = {"CONVERGED": "bold green", "DIVERGED": "bold red"}


class Method(StrEnum):
    """How to fit; see `gdcore.fit`."""

    AUTO = "auto"
    STREAM = "stream"
    EXACT = "exact"


class Dtype(StrEnum):
    """The numbers to compute with."""

    FLOAT64 = "float64"
    FLOAT32 = "float32"


def main() -> None:
    """Run the command line, as the script ``gdcore`` and ``python -m gdcore`` do."""
    if _missing:
        advice = "run: pip install 'gdcore[cli]'"
        print(f"Error: the command line needs {_missing}; {advice}.", file=sys.stderr)
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # column names the terminal cannot show
    build_app()()


def build_app() -> typer.Typer:
    """Return the command line as a typer application.

    Returns
    -------
    typer.Typer
        One command for each function named here.
    """
    app = typer.Typer(
        name="gdcore",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(top)
    for command in (fit, predict, config, selftest):
        app.command()(command)
    return app


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn what the user can mend into one sentence and exit code 2, and Ctrl-C into 130."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read our output has left: typer knows what to do
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (ValueError, OSError, ImportError, MemoryError) as error:
        _say("Error", "bold red", _sentence(error))
        raise typer.Exit(2) from None


def _sentence(error: Exception) -> str:
    """Return what an exception says as one line that ends with a full stop."""
    text = str(error) or "there is not enough memory"
    if isinstance(error, OSError) and error.strerror:
        text = f"cannot use {error.filename}: {error.strerror}"
    return f"{' '.join(text.split()).rstrip('.')}."


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"gdcore {gd.__version__}")
        raise typer.Exit


def top(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Fit linear models by gradient descent, and see how good they are."""


def _option(part: str, text: str, *names: str, **settings: Any) -> Any:
    """Return the settings of an option, told of in a part of the help."""
    return typer.Option(*names, help=text, rich_help_panel=part, **settings)


def _file(text: str) -> Any:
    """Return the settings of an option that names a file to write."""
    return _option("Output", text, metavar="FILE")


@_sentences()
def fit(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="A .csv, .tsv, .parquet, .feather, .npy or .npz file."),
    ],
    target: Annotated[
        str, _option("Data", "Column to predict; in an .npy file, its index.", metavar="NAME")
    ],
    features: Annotated[
        str | None,
        _option(
            "Data", "Columns to predict it from.", metavar="A,B,...", show_default="all others"
        ),
    ] = None,
    test_size: Annotated[
        float, _option("Data", "Share of the rows, drawn at random, to test on.")
    ] = 0.25,
    seed: Annotated[
        int, _option("Data", "Which draw of test rows and batches.", min=0, metavar="<int>")
    ] = 0,
    standardize: Annotated[
        bool,
        _option(
            "Data",
            "Train on columns of mean 0 and deviation 1: far fewer epochs. "
            "The weights shown are those for the columns as they are.",
            "--standardize",
        ),
    ] = False,
    dtype: Annotated[Dtype, _option("Data", "Numbers to compute with.")] = Dtype.FLOAT64,
    method: Annotated[
        Method, _option("Training", "stream: gradient descent, exact: the normal equation.")
    ] = Method.AUTO,
    lr: Annotated[str, _option("Training", "Learning rate.", metavar="auto|<float>")] = "auto",
    epochs: Annotated[int, _option("Training", "Passes over the rows, at most.")] = 10_000,
    tol: Annotated[
        float, _option("Training", "Stop at this share of the first gradient; 0: never.")
    ] = 1e-6,
    batch_size: Annotated[
        int | None, _option("Training", "Rows in a step.", show_default="all")
    ] = None,
    momentum: Annotated[float, _option("Training", "Share of the last step to add.")] = 0.0,
    dampening: Annotated[float, _option("Training", "Share of the gradient to drop.")] = 0.0,
    nesterov: Annotated[bool, _option("Training", "Nesterov momentum.", "--nesterov")] = False,
    weight_decay: Annotated[float, _option("Training", "L2 penalty on the weights.")] = 0.0,
    checkpoint: Annotated[
        Path | None, _file("Keep the state of training, and resume from it.")
    ] = None,
    plot: Annotated[Path | None, _file("Draw training and fit: .png, .svg, .pdf.")] = None,
    animate: Annotated[
        Path | None, _file("Film the line of one feature: .gif, .mp4, .html.")
    ] = None,
    save: Annotated[Path | None, _file("Save the model for gdcore predict: .npz.")] = None,
    as_json: Annotated[bool, _option("Output", "Print one JSON object only.", "--json")] = False,
    no_progress: Annotated[bool, _option("Output", "Show no bar.", "--no-progress")] = False,
) -> None:
    """Fit a linear model to a table, and set it beside the normal equation's."""
    _check_outputs(
        [data],
        {"--plot": plot, "--animate": animate, "--save": save, "--checkpoint": checkpoint},
    )
    table = read_table(data)
    target = table.find(target)
    names = choose_features(table, target, features)
    if animate and (len(names) > 1 or method is Method.EXACT):
        raise ValueError(
            "--animate films gradient descent on one feature: choose it with --features, "
            "and leave out --method exact."
        )
    train, test = split_rows(
        table.numbers(names), table.numbers([target])[:, 0], test_size=test_size, seed=seed
    )
    sgd = gd.SGD(_parse_lr(lr), momentum, dampening, weight_decay, nesterov)

    with _notes() as notes:
        scaling = Scaling.of(train[0], names) if standardize else None
        learned = _in_dtype(scaling.apply(train[0]) if scaling else train[0], train[1], dtype)

        def finished(model: gd.Fit) -> gd.Fit:
            model = scaling.undo(model) if scaling else model
            return replace(model, feature_names=names, target_name=target)

        interrupted = False
        try:
            model = gd.fit(
                *learned,
                sgd,
                epochs=epochs,
                batch_size=batch_size,
                seed=seed,
                tol=tol or None,
                method=method.value,
                history=max(1, epochs // _RECORDS),
                progress=sys.stderr.isatty() and not (as_json or no_progress),
                checkpoint=checkpoint,
            )
        except gd.FitInterrupted as stopped:
            model, interrupted = stopped.fit, True
            warnings.warn(f"interrupted after {model.epochs} epochs.", stacklevel=1)
        model = finished(model)
        if save:
            model.save(save)
        exact = finished(gd.fit(*learned, sgd, method="exact"))

    report = {
        "gdcore": gd.__version__,
        "data": str(data),
        **summary(model, train, test),
        "normal_equation": summary(exact, train, test),
        "interrupted": interrupted,
        "notes": notes,
    }
    if as_json:
        _print_json(report)
    else:
        _print_report(report)
    if interrupted:
        raise typer.Exit(130)
    if plot:
        _draw(model, train, test, plot)
    if animate:
        _film(model, train, test, animate)
    if not as_json and (written := [str(path) for path in (plot, animate, save) if path]):
        print(f"Wrote {', '.join(written)}.")
    if model.status is gd.Status.DIVERGED:
        raise typer.Exit(3)


@_sentences()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="What gdcore fit --save wrote.")],
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A table with the model's features.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write them to a file: .csv, .parquet or .npy."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
) -> None:
    """Predict the target for the rows of a table, its columns matched by name."""
    _check_outputs([data, model], {"--out": out})
    fitted = gd.load(model)
    table = read_table(data)
    values = fitted.predict(table.numbers(_model_columns(fitted, table)))
    if values.ndim == 1:
        columns = {"prediction": values}
    else:
        columns = {f"prediction{j}": values[:, j] for j in range(values.shape[1])}
    if out:
        write_table(out, columns)
    if as_json:
        _print_json(
            {
                "gdcore": gd.__version__,
                "model": str(model),
                "data": str(data),
                "rows": len(values),
                "predictions": values.tolist(),
            }
        )
    elif out:
        print(f"{len(values)} predictions in {out}")
    else:
        print_csv(sys.stdout, columns)


def config() -> None:
    """Show what was built and what this machine runs."""
    gd.show_config()


def selftest() -> None:
    """Prove that on this machine every result has the bits it should have."""
    report = gd.selftest()
    print(report)
    if not report:
        raise typer.Exit(1)


def _check_outputs(inputs: Sequence[Path], outputs: Mapping[str, Path | None]) -> None:
    """Raise unless each output can be written, over nothing that is in use."""
    taken = {path.resolve(): "this command reads" for path in inputs}
    for option, path in outputs.items():
        if path is None:
            continue
        if path.resolve() in taken:
            raise ValueError(f"{option} would overwrite {path}, which {taken[path.resolve()]}.")
        taken[path.resolve()] = f"{option} writes"
        check_writable(path, _output_suffixes(option))
        if option == "--animate" and path.suffix.lower() == ".mp4" and not shutil.which("ffmpeg"):
            raise ValueError(
                "an .mp4 is made by ffmpeg, which is not installed: use .gif or .html."
            )


def _output_suffixes(option: str) -> Sequence[str]:
    """Return the suffixes of files that an option can write; none means any."""
    if option in ("--plot", "--animate"):
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError as error:
            raise ImportError(
                f"{option} needs {error.name}; run: pip install 'gdcore[plot]'."
            ) from error
        if option == "--plot":
            return [f".{suffix}" for suffix in Figure().canvas.get_supported_filetypes()]
    return {
        "--animate": (".gif", ".mp4", ".html"),
        "--save": (".npz",),
        "--out": OUTPUT_SUFFIXES,
    }.get(option, ())


def choose_features(table: Table, target: str, wanted: str | None) -> tuple[str, ...]:
    """Return the columns to predict from.

    Parameters
    ----------
    table : Table
        The data.
    target : str
        The column to predict.
    wanted : str, optional
        Names separated by commas, quoted as in a CSV file where a name holds one; by default,
        all columns but the target.

    Returns
    -------
    tuple of str
        Their names.

    Examples
    --------
    >>> table = Table(Path("cars.npz"), {name: np.ones(1) for name in ("mass", "hp", "mpg")})
    >>> choose_features(table, "mpg", None)
    ('mass', 'hp')
    >>> choose_features(table, "mpg", "hp")
    ('hp',)
    """
    if wanted is None:
        names = [name for name in table.names if name != target]
    else:
        names = [name.strip() for name in next(csv.reader([wanted], skipinitialspace=True), [])]
        table.require(names)
    if not names:
        raise ValueError(f"there is no column of {table.path} to predict {target!r} from.")
    if target in names or len(set(names)) < len(names):
        raise ValueError("--features must name each column once, and never the target.")
    usable = [name for name in table.numeric if name and name != target]
    if unusable := [name for name in names if name not in usable]:
        advice = f"; choose others: --features {shlex.quote(','.join(usable))}" if usable else ""
        reason = "has a column without a name" if "" in unusable else table.not_numeric(unusable)
        raise ValueError(f"{reason}{advice}.")
    return tuple(names)


def _parse_lr(text: str) -> float | Literal["auto"]:
    """Return the learning rate that a word means."""
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--lr must be auto or a number, not {text!r}.") from None


def split_rows(X: Array, y: Array, *, test_size: float, seed: int) -> tuple[Rows, Rows]:
    """Draw rows to test on; the others, in their order, are for training.

    Parameters
    ----------
    X, y : ndarray of shape (n, d) and (n,)
        The data.
    test_size : float
        Share of the rows to test on, rounded up to a whole number of them.
    seed : int
        Which draw: the first of ``numpy.random.default_rng(seed).permutation(n)``.

    Returns
    -------
    train, test : pair of ndarrays
        The features and the target of each.

    Examples
    --------
    >>> X, y = np.arange(4.0)[:, None], np.arange(4.0)
    >>> train, test = split_rows(X, y, test_size=0.25, seed=0)
    >>> train[1], test[1]
    (array([0., 1., 3.]), array([2.]))
    """
    if not 0 <= test_size < 1:
        raise ValueError(f"--test-size must be at least 0 and below 1, not {test_size:g}.")
    n = len(y)
    n_test = math.ceil(n * test_size)
    if n_test == n:
        raise ValueError(
            f"with {n} row{'s' if n > 1 else ''} and --test-size {test_size:g} none is left to "
            "train on; use --test-size 0."
        )
    testing = np.zeros(n, bool)
    testing[np.random.default_rng(seed).permutation(n)[:n_test]] = True
    return (X[~testing], y[~testing]), (X[testing], y[testing])


@dataclass(frozen=True)
class Scaling:
    """Shift and scale of columns to mean 0 and standard deviation 1, and back.

    Parameters
    ----------
    mean, scale : ndarray of shape (d,)
        A scaled column is ``(column - mean) / scale``.

    Examples
    --------
    >>> X = np.array([[1.0, 5.0], [3.0, 9.0]])
    >>> Scaling.of(X, ["a", "b"]).apply(X)
    array([[-1., -1.],
           [ 1.,  1.]])
    """

    mean: Array
    scale: Array

    @classmethod
    def of(cls, X: Array, names: Sequence[str]) -> Self:
        """Measure columns; a constant one becomes 0, with a warning that names it.

        Parameters
        ----------
        X : ndarray of shape (n, d)
            The columns.
        names : sequence of str
            Their names.

        Returns
        -------
        Scaling
            Their scaling.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            scale = X.std(axis=0)
        if not np.isfinite(scale).all():
            raise ValueError("the squares of some columns overflow; divide these columns first.")
        constant = (X[0] == X).all(axis=0) | (scale == 0)
        if constant.any():
            listed = ", ".join(np.asarray(names)[constant])
            warnings.warn(f"constant in the training rows, so of no use: {listed}.", stacklevel=2)
        return cls(np.where(constant, X[0], X.mean(axis=0)), np.where(constant, 1.0, scale))

    def apply(self, X: Array) -> Array:
        """Scale columns.

        Parameters
        ----------
        X : ndarray of shape (n, d)
            The columns.

        Returns
        -------
        ndarray of shape (n, d)
            The scaled ones.
        """
        return (X - self.mean) / self.scale

    def undo(self, model: gd.Fit) -> gd.Fit:
        """Return a model of scaled columns as one of the columns themselves.

        Parameters
        ----------
        model : Fit
            A model of scaled columns, one target.

        Returns
        -------
        Fit
            The same predictions from unscaled columns, its history included.
        """
        history = model.history
        if history.weights is not None:
            weights, intercept = self._undone(history.weights, history.intercept)
            history = replace(history, weights=weights, intercept=intercept)
        weights, intercept = self._undone(model.weights, model.intercept)
        return replace(model, weights=weights, intercept=intercept[()], history=history, state=None)

    def _undone(self, weights: Array, intercept: Any) -> tuple[Array, Array]:
        unscaled = weights / self.scale
        shifted = np.asarray(intercept - unscaled @ self.mean)
        return unscaled.astype(weights.dtype), shifted.astype(weights.dtype)


def _in_dtype(X: Array, y: Array, dtype: str) -> Rows:
    """Return data in the dtype to compute with, none of its numbers overflown."""
    with np.errstate(over="ignore"):
        X, y = X.astype(dtype), y.astype(dtype)
    if not (np.isfinite(X).all() and np.isfinite(y).all()):
        raise ValueError(f"the data holds numbers that {dtype} does not; use --dtype float64.")
    return X, y


def _model_columns(model: gd.Fit, table: Table) -> tuple[str, ...]:
    """Return the columns of a table that a model predicts from: by name, if it has any."""
    d = len(model.weights)
    if model.feature_names is None and len(table.names) != d:
        raise ValueError(
            f"the model has no names for its {d} features, so {table.path} must have exactly "
            f"{d} columns in the same order, not {len(table.names)}."
        )
    return model.feature_names or table.names


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
        ``stability_limit``, ``epochs``, ``status`` and ``message``; ``weights`` by feature
        and ``intercept``; ``train`` and ``test``, each with ``rows``, ``mse`` and ``r2``.
    """
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
        "weights": dict(zip(names, model.weights.tolist(), strict=True)),
        "intercept": float(model.intercept),
        "train": _score(model, *train),
        "test": _score(model, *test),
    }


def _score(model: gd.Fit, X: Array, y: Array) -> dict[str, float]:
    """Return the size, mean squared error and R2 of some rows; NaN where not defined."""
    mse = float(gd.mse(model.predict(X), y)) if len(y) else math.nan
    variance = float(gd.mse(np.full(len(y), y.mean()), y)) if len(y) else math.nan
    return {"rows": len(y), "mse": mse, "r2": 1 - mse / variance if variance else math.nan}


def _draw(model: gd.Fit, train: Rows, test: Rows, path: Path) -> None:
    """Draw the loss curve beside the line of one feature or the residuals of several."""
    from matplotlib.figure import Figure

    from gdcore.plot import FittedLineDisplay, LossCurveDisplay, ResidualsDisplay

    recorded = len(model.history.loss) > 0
    figure = Figure(figsize=(12 if recorded else 6.5, 4.5), layout="constrained")
    *left, right = figure.subplots(1, 1 + recorded, squeeze=False)[0]
    for ax in left:
        LossCurveDisplay.from_fit(model, ax=ax)
    display = FittedLineDisplay if len(model.weights) == 1 else ResidualsDisplay
    display.from_fit(model, *train, test=test if len(test[1]) else None, ax=right)
    figure.savefig(path, dpi=120)


def _film(model: gd.Fit, train: Rows, test: Rows, path: Path) -> None:
    """Film the line of one feature closing in on its points."""
    from gdcore.plot import animate_line, save_animation

    save_animation(animate_line(model, *train, test=test if len(test[1]) else None), path)


@contextmanager
def _notes() -> Iterator[list[str]]:
    """Print each warning once, as soon as it is given, as a note; yield the list of them."""
    notes: list[str] = []

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in notes:
            notes.append(str(message))
            _say("Note", "bold yellow", str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", gd.FitWarning)  # the report has every fit's status
        warnings.showwarning = note
        yield notes


def _say(label: str, style: str, text: str, *, stderr: bool = True) -> None:
    """Print a labelled sentence, wrapped only where a person reads it."""
    console = Console(stderr=stderr)
    console.print(Text.assemble((f"{label}: ", style), text), soft_wrap=not console.is_terminal)


def _print_json(report: Mapping[str, Any]) -> None:
    """Print an object as JSON, which has no NaN and no infinity: they become null."""
    print(json.dumps(_plain(report), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_report(report: Mapping[str, Any]) -> None:
    """Print a fit as a table, and its status in words."""
    exact = report["normal_equation"]
    models = {"gradient descent": report, "normal equation": exact}
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
