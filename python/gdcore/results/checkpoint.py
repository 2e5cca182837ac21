"""The file that keeps a fit's state and history while it runs."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import gdcore._core as _core
from gdcore.results.state import FitState

if TYPE_CHECKING:
    from pathlib import Path


class Unsaved:
    """The place of a checkpoint in a fit that asked for none."""

    state: FitState | None = None  # where an earlier process stopped

    def history(self, descent: _core.Descent) -> tuple[Any, Any, Any]:
        """Return the epochs, losses and parameters recorded."""
        return descent.history()

    def save(self, descent: _core.Descent, *, force: bool) -> None:
        """Save the state, if it is time to or if forced."""


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
        fingerprint: str,
        settings: dict[str, Any],
        start: FitState,
    ) -> Checkpoint:
        """Read the file if there is one; ValueError if it belongs to another fit."""
        import hashlib
        import json
        from pathlib import Path

        from gdcore.results import archive

        begin = hashlib.blake2b(start.params.tobytes(), digest_size=16).hexdigest()
        settings = settings | {"start": begin, "first_epoch": start.epoch}
        meta = {
            "format": archive.CHECKPOINT,
            "version": archive.NEWEST[archive.CHECKPOINT],
            "numerics": _core.NUMERICS,
            "data": fingerprint,
            "settings": json.loads(json.dumps(settings)),
        }
        self = cls(Path(path), meta)
        if not Path(path).exists():
            with archive.replacing(path, keep=False):  # fails now if it cannot be written later
                return self
        with archive.read(path, archive.CHECKPOINT) as (found, arrays):
            if found["data"] != meta["data"]:
                older = (
                    f" One of chunks with more than {_core.SEGMENT['float64'] * _core.FAN_IN} rows "
                    "that gdcore 0.1 wrote has sums of other bits: finish that fit with gdcore 0.1."
                )
                raise ValueError(
                    f"the checkpoint {self.path} is of another problem (its data, shapes, dtype, "
                    "intercept or reduction differ); give this fit another file, or delete it."
                    + (older if found.get("numerics", 1) < _core.NUMERICS else "")
                )
            # gdcore 0.1 did not know these.
            before = {"standardize": False, "decay_intercept": True} | found["settings"]
            differing = [k for k, v in meta["settings"].items() if before.get(k) != v]
            if differing:
                raise ValueError(
                    f"the checkpoint {self.path} was made with another {', '.join(differing)}; "
                    "use the same settings to continue, or give this fit another file."
                )
            self.state = FitState.from_file(archive.group("state_", arrays))
            self.past = (arrays["history_epoch"], arrays["history_loss"], arrays["history_params"])
        return self

    def history(self, descent: _core.Descent) -> tuple[Any, Any, Any]:
        """Return the epochs, losses and parameters recorded, by earlier processes too."""
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
        """Write the file, if it is time to or if forced."""
        if not (force or time.monotonic() >= self._next):
            return
        from gdcore.results.archive import prefixed, write

        begin = time.monotonic()
        epoch, loss, params = self.history(descent)
        arrays = {"history_epoch": epoch, "history_loss": loss, "history_params": params}
        write(self.path, self.meta, arrays | prefixed("state_", descent.state()))
        end = time.monotonic()
        self._next = end + max(self.seconds, 20 * (end - begin))  # at most a twentieth of the time
