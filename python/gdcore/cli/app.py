"""The commands and their options."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import gdcore as gd
from gdcore.cli.bench import bench
from gdcore.cli.check import check
from gdcore.cli.large import is_large, learn_large
from gdcore.cli.pictures import draw, film
from gdcore.cli.reading import read_table
from gdcore.cli.referee import referee
from gdcore.cli.report import (
    collect_notes,
    described,
    one_sentence,
    print_json,
    print_report,
    print_summary,
    say_note,
    summary,
)
from gdcore.cli.training import (
    choose_features,
    learn,
    model_columns,
    note_of_dropped,
    parse_rate,
    read_rows,
    split_rows,
)
from gdcore.cli.writing import check_outputs, print_csv, write_table

_DATA = "A .csv, .tsv, .parquet, .feather, .npy or .npz file, or - for standard input."
_DEVICE = "Where to compute: cuda is the first GPU."
_DECIMAL = "Decimal point of a .csv or .tsv file."
_RECORDS = 1_000_000  # epochs whose loss is kept, about, however many there are


class Method(StrEnum):
    """How to fit; see `gdcore.fit`."""

    AUTO = "auto"
    STREAM = "stream"
    EXACT = "exact"


class MissingRows(StrEnum):
    """What to do about a row of a fit in which a value is missing."""

    ERROR = "error"
    DROP = "drop"


class MissingCells(StrEnum):
    """What to predict for a row in which a value is missing."""

    ERROR = "error"
    NAN = "nan"


class Dtype(StrEnum):
    """The numbers to compute with."""

    FLOAT64 = "float64"
    FLOAT32 = "float32"


class Covariance(StrEnum):
    """How to estimate standard errors; see `gdcore.fit`."""

    OLS = "ols"
    HC0 = "hc0"
    HC1 = "hc1"
    HC2 = "hc2"
    HC3 = "hc3"


def build_app() -> typer.Typer:
    """Return the command line as a typer application: a command for each function named here."""
    app = typer.Typer(
        name="gdcore",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(top)
    for command in (fit, predict, check, referee, bench, config, selftest):
        app.command()(command)
    return app


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
    """Return the settings of an option and the part of the help it stands in."""
    return typer.Option(*names, help=text, rich_help_panel=part, **settings)


def _file(text: str) -> Any:
    """Return the settings of an option that names a file to write."""
    return _option("Output", text, metavar="FILE")


@one_sentence()
def fit(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help=_DATA),
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
    missing: Annotated[
        MissingRows,
        _option("Data", "Rows in which a value is missing: refuse them, or leave them out."),
    ] = MissingRows.ERROR,
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
            "--standardize/--no-standardize",
        ),
    ] = True,
    decimal: Annotated[str, _option("Data", _DECIMAL, metavar=".|,")] = ".",
    dtype: Annotated[Dtype, _option("Data", "Numbers to compute with.")] = Dtype.FLOAT64,
    method: Annotated[
        Method, _option("Training", "stream: gradient descent, exact: the normal equation.")
    ] = Method.AUTO,
    lr: Annotated[str, _option("Training", "Learning rate.", metavar="auto|<float>")] = "auto",
    epochs: Annotated[int, _option("Training", "Passes over the rows, at most.")] = 10_000,
    tol: Annotated[
        float,
        _option(
            "Training",
            "Stop this close to the best predictions, in deviations of the target; 0: never.",
        ),
    ] = 1e-6,
    batch_size: Annotated[
        int | None, _option("Training", "Rows in a step.", show_default="all")
    ] = None,
    momentum: Annotated[
        str, _option("Training", "Share of the last step to add.", metavar="auto|<float>")
    ] = "0",
    dampening: Annotated[float, _option("Training", "Share of the gradient to drop.")] = 0.0,
    nesterov: Annotated[bool, _option("Training", "Nesterov momentum.", "--nesterov")] = False,
    weight_decay: Annotated[
        float, _option("Training", "L2 penalty on the weights, not on the intercept.")
    ] = 0.0,
    covariance: Annotated[
        Covariance | None,
        _option(
            "Training",
            "Print standard errors too; hc0 to hc3 if the variance of the errors differs.",
            show_default="none",
        ),
    ] = None,
    device: Annotated[str, _option("Training", _DEVICE, metavar="cpu|cuda|cuda:1")] = "cpu",
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
    check_outputs(
        [data],
        {"--plot": plot, "--animate": animate, "--save": save, "--checkpoint": checkpoint},
    )
    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "tol": tol or None,
        "method": method.value,
        "covariance": covariance and covariance.value,
        "device": device,
        "history": max(1, epochs // _RECORDS),
        "progress": sys.stderr.isatty() and not (as_json or no_progress),
    }
    sgd = gd.SGD(
        parse_rate("--lr", lr),
        parse_rate("--momentum", momentum),
        dampening,
        weight_decay,
        nesterov,
        decay_intercept=False,
    )
    table = read_table(data, decimal)
    target = table.find(target)
    names = choose_features(table, target, features)
    drop = missing is MissingRows.DROP
    if is_large(table):
        if plot or animate or checkpoint:
            raise ValueError(
                f"{table.label} is too large to be read whole, as --plot, --animate and "
                "--checkpoint ask."
            )
        with collect_notes() as notes:
            model, *scores, dropped, interrupted = learn_large(
                table,
                target,
                names,
                sgd,
                drop=drop,
                test_size=test_size,
                standardize=standardize,
                dtype=dtype.value,
                save=save,
                **settings,
            )
            note_of_dropped(dropped, dropped + sum(int(score["rows"]) for score in scores))
        result = described(model, *scores) | {"dropped": dropped}
        _finish(data, result, None, interrupted, notes, as_json)
        print_summary(model, as_json)
        if save and not as_json:
            print(f"Wrote {save}.")
        _exit_if_diverged(model)
        return
    if animate and (len(names) > 1 or method is Method.EXACT):
        raise ValueError(
            "--animate films gradient descent on one feature: choose it with --features, "
            "and leave out --method exact."
        )
    rows, dropped = read_rows(table, [*names, target], drop=drop)
    train, test = split_rows(rows[:, :-1], rows[:, -1], test_size=test_size, seed=seed)
    with collect_notes() as notes:
        note_of_dropped(dropped, dropped + len(rows))
        model, exact, interrupted = learn(
            train,
            names,
            target,
            sgd,
            standardize=standardize,
            dtype=dtype.value,
            save=save,
            checkpoint=checkpoint,
            **settings,
        )
    result, beside = summary(model, train, test), summary(exact, train, test)
    result |= {"dropped": dropped}
    _finish(data, result, beside, interrupted, notes, as_json)
    print_summary(exact, as_json)
    tested = test if len(test[1]) else None
    if plot:
        draw(model, train, tested, plot)
    if animate:
        film(model, train, tested, animate)
    if not as_json and (written := [str(path) for path in (plot, animate, save) if path]):
        print(f"Wrote {', '.join(written)}.")
    _exit_if_diverged(model)


def _finish(
    data: Path,
    result: dict[str, Any],
    beside: dict[str, Any] | None,
    interrupted: bool,
    notes: list[str],
    as_json: bool,
) -> None:
    """Print what came of a fit, how far off it is too; exit if it was interrupted."""
    if result["status"] != "CONVERGED":
        notes.append(result["message"])
        if as_json:
            say_note(result["message"])
    report = {
        "gdcore": gd.__version__,
        "data": str(data),
        **result,
        "normal_equation": beside,
        "interrupted": interrupted,
        "notes": notes,
    }
    if as_json:
        print_json(report)
    else:
        print_report(report)
    if interrupted:
        raise typer.Exit(130)


def _exit_if_diverged(model: gd.Fit) -> None:
    if model.status is gd.Status.DIVERGED:
        raise typer.Exit(3)


@one_sentence()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="What gdcore fit --save wrote.")],
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A table with the model's features, or -.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write them to a file: .csv, .parquet or .npy."),
    ] = None,
    missing: Annotated[
        MissingCells,
        typer.Option(
            help="Rows in which a value is missing: refuse them, or predict NaN, which is an "
            "empty cell of CSV and null of JSON."
        ),
    ] = MissingCells.ERROR,
    decimal: Annotated[str, typer.Option(metavar=".|,", help=_DECIMAL)] = ".",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object only.")] = False,
) -> None:
    """Predict the target for the rows of a table, its columns matched by name."""
    check_outputs([data, model], {"--out": out})
    fitted = gd.load(model)
    table = read_table(data, decimal)
    columns_read = model_columns(fitted, table)
    gaps = missing is MissingCells.NAN
    blocks = table.blocks(columns_read, gaps=gaps, advice=", or pass --missing nan")
    values = np.concatenate([fitted.predict(X) for X in blocks])
    if values.ndim == 1:
        columns = {"prediction": values}
    else:
        columns = {f"prediction{j}": values[:, j] for j in range(values.shape[1])}
    if out:
        write_table(out, columns)
    if as_json:
        print_json(
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


@one_sentence()
def selftest(
    device: Annotated[str, typer.Option(help=_DEVICE, metavar="cpu|cuda|cuda:1")] = "cpu",
) -> None:
    """Prove that on this machine every result has the bits it should have."""
    report = gd.selftest(device)
    print(report)
    if not report:
        raise typer.Exit(1)
