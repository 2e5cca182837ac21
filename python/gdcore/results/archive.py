"""Fits and checkpoints on disk: versioned .npz files, written whole or not at all.

Imported when first used: what it needs would double the time of `import gdcore`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import gdcore._core as _core
from gdcore.kernels import Floats
from gdcore.results.saved_labels import from_text, needs_text, to_text
from gdcore.results.state import FitState, ManyState, Unsaved
from gdcore.sgd import SGD
from gdcore.status import STATUSES, Status

if TYPE_CHECKING:
    from gdcore.data.problem import Problem
    from gdcore.results.fit import Fit, Fits

FIT_FORMAT = "gdcore-fit"
MANY_FORMAT = "gdcore-fits"
CHECKPOINT_FORMAT = "gdcore-checkpoint"
VERSION = 1
VERSIONS = {FIT_FORMAT: 1, MANY_FORMAT: 2, CHECKPOINT_FORMAT: 1}  # the newest; 2: labels as text


LONGEST_V1 = _core.CHUNK["float64"] * _core.FAN_IN  # rows whose moments have v1's bits in v2
ONE_EACH = ("epochs", "status", "lr", "stability_limit", "rows")  # arrays of many fits


def save_fit(fit: Fit, path: str | os.PathLike[str]) -> None:
    """Write a fit; OSError leaves what stood there before."""
    meta = {
        "format": FIT_FORMAT,
        "version": VERSION,
        "epochs": fit.epochs,
        "status": fit.status.name,
        "lr": fit.lr,
        "momentum": fit.momentum,
        "r2_lost": fit.r2_lost,
        "detail": fit.detail,
        "stability_limit": fit.stability_limit,
        "rank": fit.rank,
    } | _described(fit)
    arrays = {"weights": fit.weights, "intercept": fit.intercept, "loss": fit.loss}
    arrays |= _present("history_", asdict(fit.history))
    if fit.start is not None:
        arrays |= _present("start_", fit.start._asdict())
    if fit.state is not None:
        arrays |= _present("state_", fit.state.as_dict())
    _write(path, meta, arrays)


def save_fits(fits: Fits, path: str | os.PathLike[str]) -> None:
    """Write many fits; OSError leaves what stood there before."""
    as_text = fits.groups is not None and needs_text(fits.groups)
    version = VERSIONS[MANY_FORMAT] if as_text else 1
    meta = {"format": MANY_FORMAT, "version": version} | _described(fits)
    arrays = {name: getattr(fits, name) for name in ("weights", "intercept", "loss", *ONE_EACH)}
    arrays["status"] = np.array([status.code for status in fits.status.tolist()], np.int8)
    labels = {"groups_text": to_text(fits.groups)} if as_text else {"groups": fits.groups}
    extra = {"rank": fits.rank, "r2_lost": fits.r2_lost, "momentum": fits.momentum}
    arrays |= _present("", labels | extra)
    arrays |= _present("history_", asdict(fits.history))
    if fits.state is not None:
        arrays |= _present("state_", fits.state.as_dict())
    _write(path, meta, arrays)


def load_fits(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the fields of Fits and those of its History; None if the file holds one fit."""
    try:
        with _read(path, MANY_FORMAT) as (meta, arrays):
            state, history = _group("state_", arrays), _group("history_", arrays)
            names = ("weights", "intercept", "loss", *ONE_EACH)
            fields = {name: arrays[name] for name in names} | _as_described(meta)
            fields["status"] = STATUSES[fields["status"]]
            text = arrays.get("groups_text")
            fields["groups"] = arrays.get("groups") if text is None else from_text(text)
            fields["rank"] = arrays.get("rank")
            unknown = np.full(len(fields["lr"]), np.nan)
            fields["r2_lost"] = arrays.get("r2_lost", unknown)
            fields["momentum"] = arrays.get("momentum", np.zeros(len(unknown)))
            fields["state"] = _many_state(state) if state else None
            history["epoch"], history["loss"]  # the two that there always are
            return fields, history
    except OtherFormError:
        return None


def _described(fit: Fit) -> dict[str, Any]:
    return {
        "method": fit.method,
        "method_reason": fit.method_reason,
        "fit_intercept": fit.fit_intercept,
        "feature_names": fit.feature_names,
        "target_name": fit.target_name,
    }


def _as_described(meta: dict[str, Any]) -> dict[str, Any]:
    names = meta["feature_names"]
    return {
        "method": str(meta["method"]),
        "method_reason": str(meta["method_reason"]),
        "fit_intercept": bool(meta["fit_intercept"]),
        "feature_names": None if names is None else tuple(names),
        "target_name": meta["target_name"],
    }


class OtherFormError(ValueError):
    """The file is whole, but holds something else."""


def load_fit(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], tuple[Floats, Any, int] | None, dict[str, Any]]:
    """Return the fields of a Fit, those of its Start if it has one, and those of its History."""
    with _read(path, FIT_FORMAT) as (meta, arrays):
        state, start = _group("state_", arrays), _group("start_", arrays)
        fields = _as_described(meta) | {
            "weights": arrays["weights"],
            "intercept": arrays["intercept"][()],
            "loss": arrays["loss"][()],
            "epochs": int(meta["epochs"]),
            "status": Status[meta["status"]],
            "lr": float(meta["lr"]),
            "momentum": float(meta.get("momentum", 0.0)),
            "r2_lost": float(meta.get("r2_lost", math.nan)),
            "detail": str(meta.get("detail", "")),
            "stability_limit": float(meta["stability_limit"]),
            "rank": meta.get("rank"),
            "state": _state(state) if state else None,
        }
        begin = (start["weights"], start["intercept"][()], int(start["epoch"])) if start else None
        history = _group("history_", arrays)
        history["epoch"], history["loss"]  # the two that every fit has
        return fields, begin, history


class Checkpoint(Unsaved):
    """The file that keeps a fit's state and history."""

    seconds = 1.0  # between two writes, at least

    def __init__(self, path: Path, meta: dict[str, Any]) -> None:
        self.path, self.meta = path, meta
        self.past: tuple[Any, Any, Any] | None = None  # history before this process
        self._next = time.monotonic() + self.seconds

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        problem: Problem,
        sgd: SGD,
        options: Any,
        start: FitState,
        method: str,
    ) -> Checkpoint:
        """Read the file if there is one; ValueError if it belongs to another fit."""
        settings = {
            "sgd": sgd.options | {"lr": "a schedule" if callable(sgd.lr) else sgd.lr},
            "decay_intercept": sgd.decay_intercept,
            "method": method,
            "batch_size": options.batch_size,
            "shuffle": bool(options.shuffle),
            "seed": int(options.seed),
            "history": int(options.history),
            "standardize": bool(options.standardize),
            "start": _digest(start.params),
            "first_epoch": start.epoch,
        }
        meta = {
            "format": CHECKPOINT_FORMAT,
            "version": VERSION,
            "numerics": _core.NUMERICS,
            "data": problem.fingerprint(),
            "settings": json.loads(json.dumps(settings)),
        }
        self = cls(Path(path), meta)
        if not Path(path).exists():
            with _replacing(path, keep=False):  # fails now if it cannot be written later
                return self
        with _read(path, CHECKPOINT_FORMAT) as (found, arrays):
            if found["data"] != meta["data"]:
                if found.get("numerics", 1) == 1 and problem.rowless and problem.n > LONGEST_V1:
                    raise ValueError(
                        f"the checkpoint {self.path} was written by gdcore 0.1, whose sums of more "
                        f"than {LONGEST_V1} rows in chunks have other bits: it may not be of these "
                        "rows. Delete it, or finish this fit with gdcore 0.1."
                    )
                raise ValueError(
                    f"the checkpoint {self.path} is of another problem (its data, shapes, dtype, "
                    "intercept or reduction differ); give this fit another file, or delete it."
                )
            # gdcore 0.1 did not know these.
            before = {"standardize": False, "decay_intercept": True} | found["settings"]
            differing = [k for k, v in meta["settings"].items() if before.get(k) != v]
            if differing:
                raise ValueError(
                    f"the checkpoint {self.path} was made with another {', '.join(differing)}; "
                    "use the same settings to go on, or give this fit another file."
                )
            self.state = _state(_group("state_", arrays))
            self.past = (arrays["history_epoch"], arrays["history_loss"], arrays["history_params"])
        return self

    def history(self, descent: _core.Descent) -> tuple[Any, Any, Any]:
        """Epochs, losses and parameters recorded, by earlier processes too."""
        now = descent.history()
        if self.past is None:
            return now
        # A step that was taken back takes its record along.
        kept = int(np.count_nonzero(self.past[0] <= descent.epoch))
        records = max(len(self.past[0]), 1)
        past = (a[: kept * (len(a) // records)] for a in self.past)
        epoch, loss, params = (np.concatenate(pair) for pair in zip(past, now, strict=True))
        return epoch, loss, params

    def save(self, descent: _core.Descent, *, force: bool) -> None:
        """Write the file if it is time to, or if forced."""
        if not (force or time.monotonic() >= self._next):
            return
        begin = time.monotonic()
        epoch, loss, params = self.history(descent)
        arrays = {"history_epoch": epoch, "history_loss": loss, "history_params": params}
        _write(self.path, self.meta, arrays | _present("state_", descent.state()))
        end = time.monotonic()
        self._next = end + max(self.seconds, 20 * (end - begin))  # at most a twentieth of the time


def _digest(array: Floats) -> str:
    return hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()


def _present(prefix: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: value for name, value in fields.items() if value is not None}


def _group(prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _state(arrays: dict[str, Any]) -> FitState:
    return FitState(
        params=arrays["params"],
        velocity=arrays["velocity"],
        epoch=int(arrays["epoch"]),
        step=int(arrays["step"]),
        first_loss=float(arrays["first_loss"]),
        last_loss=float(arrays["last_loss"]),
        epoch_sums=arrays["epoch_sums"],
        lr=float(arrays["lr"]),
        momentum=float(arrays.get("momentum", math.nan)),
        previous=arrays["previous"],
        moved=bool(arrays["moved"]),
        epoch_moved=bool(arrays["epoch_moved"]),
        rows=int(arrays.get("rows", 0)),
        batch_size=int(arrays.get("batch_size", 0)),
        scaling=arrays.get("scaling", np.empty(0)),
    )


def _many_state(arrays: dict[str, Any]) -> ManyState:
    """Return a state; those of gdcore 0.1 lack what came later."""
    fresh = ManyState.at(arrays["params"]).as_dict()
    arrays = {name: fresh[name] for name in ("lr", "momentum", "scaling")} | arrays
    return ManyState(**{name: arrays[name] for name in ManyState.__dataclass_fields__})


@contextmanager
def _replacing(path: str | os.PathLike[str], *, keep: bool = True) -> Iterator[Any]:
    """Open a file that takes the path's place only once it is complete (and `keep`)."""
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        try:
            with open(unfinished, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if keep:
                unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise type(error)(f"cannot write {target}: {error.strerror or error}") from error


def _write(path: str | os.PathLike[str], meta: dict[str, Any], arrays: dict[str, Any]) -> None:
    with _replacing(path) as file:
        np.savez(file, meta=np.array(json.dumps(meta)), **arrays)


@contextmanager
def _read(
    path: str | os.PathLike[str], form: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Meta data and arrays of a file of this form; ValueError if it is none."""
    what = "checkpoint" if form == CHECKPOINT_FORMAT else "fit"
    with open(path, "rb") as whole:
        content = io.BytesIO(whole.read())
    try:
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays.pop("meta")))
        found = meta["format"], meta["version"]
    except Exception:  # whatever a damaged archive makes of NumPy, zipfile, zlib and json
        raise ValueError(f"{path} is no gdcore {what}, or only a part of one.") from None
    if found[0] != form:
        raise OtherFormError(f"{path} is a {found[0]} file, not a {form}.")
    newest = VERSIONS[form]
    if found[1] not in range(1, newest + 1):
        raise ValueError(
            f"{path} has version {found[1]}; this gdcore reads version {newest}"
            f"{' and older ones' if newest > 1 else ''}: use the gdcore that wrote it."
        )
    try:
        yield meta, arrays
    except KeyError as error:
        raise ValueError(f"{path} is only a part of a gdcore {what}: {error} is missing.") from None
