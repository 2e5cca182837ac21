"""Versioned .npz files, written whole or not at all.

Imported when first used: what it needs would double the time of `import gdcore`.
"""

from __future__ import annotations

import io
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

FIT = "gdcore-fit"
FITS = "gdcore-fits"
CHECKPOINT = "gdcore-checkpoint"
NEWEST = {FIT: 1, FITS: 2, CHECKPOINT: 1}  # versions; 2: labels as text


class OtherFormError(ValueError):
    """The file is whole, but holds something else."""


def prefixed(prefix: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are not None, a prefix before their names."""
    return {prefix + name: value for name, value in fields.items() if value is not None}


def group(prefix: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """Return the arrays whose names have a prefix, without it."""
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


@contextmanager
def replacing(path: str | os.PathLike[str], *, keep: bool = True) -> Iterator[Any]:
    """Open a file that replaces the one at the path once it is complete, if `keep`."""
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


def write(path: str | os.PathLike[str], meta: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Write a file; OSError leaves what stood there before."""
    with replacing(path) as file:
        np.savez(file, meta=np.array(json.dumps(meta)), **arrays)


@contextmanager
def read(
    path: str | os.PathLike[str], form: str
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the meta data and arrays of a file; ValueError if it has another form."""
    what = "checkpoint" if form == CHECKPOINT else "fit"
    with open(path, "rb") as whole:
        content = io.BytesIO(whole.read())
    try:
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays.pop("meta")))
        found = meta["format"], meta["version"]
    except Exception:  # NumPy, zipfile, zlib and json raise many kinds for damaged files
        raise ValueError(f"{path} is not a gdcore {what}, or only a part of one.") from None
    if found[0] != form:
        raise OtherFormError(f"{path} is a {found[0]} file, not a {form}.")
    newest = NEWEST[form]
    if found[1] not in range(1, newest + 1):
        raise ValueError(
            f"{path} has version {found[1]}; this gdcore reads version {newest}"
            f"{' and older ones' if newest > 1 else ''}: use the gdcore that wrote it."
        )
    try:
        yield meta, arrays
    except KeyError as error:
        raise ValueError(f"{path} is only a part of a gdcore {what}: {error} is missing.") from None
