"""Files of fits and checkpoints: what they store, and how to damage them."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np


def stored(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return dict(file)


def rewrite(path: Path, **changes: Any) -> None:
    """Change entries of the meta data (or arrays, by name) of a file."""
    arrays = stored(path)
    meta = json.loads(str(arrays["meta"]))
    for name, value in changes.items():
        if name in arrays:
            arrays[name] = value
        else:
            meta[name] = value
    arrays["meta"] = np.array(json.dumps(meta))
    with path.open("wb") as file:
        np.savez(file, **arrays)


def other_files(whole: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "text": b"epoch 5, loss 3\n",
        "zip": b"PK\x05\x06" + bytes(18),
        "npy": b"\x93NUMPY\x01\x00" + whole[100:300],
        **{f"cut-{i}": whole[: len(whole) * i // 8] for i in range(1, 8)},
        "cut-last": whole[:-1],
        "head-lost": whole[64:],
    }


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
