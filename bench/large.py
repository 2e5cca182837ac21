"""Fits of files larger than memory, and how much memory fits take.

    python bench/large.py [--gigabytes 2] [--folder DIR]

writes a Parquet file and a pair of .npy files of that size (16 features and a target,
float32) into a temporary folder, and the results to bench/raw/large.json. Every measurement has a
process of its own; times are medians over rounds in turns, of files in the system's cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import gdcore as gd
from gdcore.bench import machine

ROOT = Path(__file__).parent.parent
ROUNDS = 5
D = 16
GROUP = 2**20  # rows of a row group
BLOCK = 2**22  # bytes
MEGA, GIGA = 1e6, 1e9
MODEL = np.linspace(1, -1, D), 0.5
WITHIN = 0.01  # of the model; there are millions of rows


# What is measured, each in a process of its own: a function that returns a fit, or None.


def parquet_fit(folder: Path) -> Any:
    chunks = gd.read_chunks(folder / "rows.parquet", "y", dtype=np.float32)
    return gd.fit(chunks, sgd=gd.SGD(), epochs=100, tol=None)


def parquet_chunks(folder: Path) -> None:
    for _ in gd.read_chunks(folder / "rows.parquet", "y", dtype=np.float32):
        pass


def parquet_decode(folder: Path) -> None:
    import pyarrow.dataset as ds

    for _ in ds.dataset(folder / "rows.parquet").to_batches(batch_size=65536):
        pass


def memmap_fit(folder: Path) -> Any:
    X, y = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in "Xy")
    return gd.fit(X, y, gd.SGD(), epochs=100, tol=None, method="gram")


def memmap_read(folder: Path) -> None:
    room = bytearray(BLOCK)
    for name in "Xy":
        with (folder / f"{name}.npy").open("rb", buffering=0) as file:
            while file.readinto(room):
                pass


_TASKS = (parquet_fit, parquet_chunks, parquet_decode, memmap_fit, memmap_read)
FILES: dict[str, Callable[[Path], Any]] = {each.__name__: each for each in _TASKS}


def one(shape: tuple[int, ...], **how: Any) -> Callable[[], tuple[list[Any], Callable[[], Any]]]:
    """Return what makes X and y of a shape, and a fit of them."""

    def make() -> tuple[list[Any], Callable[[], Any]]:
        rng = np.random.default_rng(0)
        X, y = rng.random(shape, np.float32), rng.random(shape[:-1], np.float32)
        return [X, y], lambda: gd.fit(X, y, gd.SGD(), epochs=3, tol=None, **how)

    return make


def groups() -> tuple[list[Any], Callable[[], Any]]:
    rng = np.random.default_rng(0)
    n = 10_000_000
    X, y = rng.random((n, 4), np.float32), rng.random(n, np.float32)
    labels = rng.integers(0, n // 50, n)
    return [X, y, labels], lambda: gd.fit_groups(X, y, labels, gd.SGD(), epochs=3, tol=None)


MEMORY: dict[str, Callable[[], tuple[list[Any], Callable[[], Any]]]] = {
    "4 000 000 x 64, gram": one((4_000_000, 64), method="gram"),
    "4 000 000 x 64, stream": one((4_000_000, 64), method="stream"),
    "4 000 000 x 64, exact": one((4_000_000, 64), method="exact"),
    "4 000 000 x 64, batches of 64": one((4_000_000, 64), batch_size=64),
    "500 000 of 64 x 4, gram": one((500_000, 64, 4), method="gram", history=0),
    "500 000 of 64 x 4, stream": one((500_000, 64, 4), method="stream", history=0),
    "200 000 groups of about 50 x 4": groups,
}


def status(key: str) -> int:
    """Return bytes that the system counts for this process: VmRSS, VmHWM, RssAnon and so on."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def peak_since(run: Callable[[], Any]) -> tuple[int, Any]:
    """Return the largest resident memory while something ran, and what it returned."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    result = run()
    return status("VmHWM"), result


@contextmanager
def private_peak() -> Iterator[list[int]]:
    """Watch the memory that is no file's: the system takes pages of a mapped file back at will."""
    peak, done = [status("RssAnon")], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], status("RssAnon"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def file_child(name: str, folder: Path) -> dict[str, float]:
    import pyarrow.dataset  # noqa: F401

    before = status("RssAnon")
    begin = time.perf_counter()
    with private_peak() as peak:
        fit = FILES[name](folder)
        seconds = time.perf_counter() - begin
    if fit is not None:
        error = max(np.abs(fit.weights - MODEL[0]).max(), abs(fit.intercept - MODEL[1]))
        if not error <= WITHIN:
            raise SystemExit(f"{name} is off by {error}: {fit.weights} {fit.intercept}")
    return {"seconds": seconds, "peak_bytes": peak[0] - before}


def memory_child(name: str) -> dict[str, float]:
    before = status("VmRSS")
    inputs, fit = MEMORY[name]()
    size = sum(each.nbytes for each in inputs)
    peak, _ = peak_since(fit)
    return {"input_bytes": size, "peak_bytes": peak - before, "ratio": (peak - before) / size}


def child(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", __file__, "--child", *arguments]
    found: dict[str, float] = json.loads(subprocess.check_output(command))
    return found


def write_files(folder: Path, gigabytes: float) -> int:
    """Write the same rows as Parquet and as .npy, and return how many they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = int(gigabytes * GIGA / (4 * (D + 1)))
    names = [f"x{j}" for j in range(D)]
    schema = pa.schema([(name, pa.float32()) for name in [*names, "y"]])
    header = np.lib.format.open_memmap
    X = header(folder / "X.npy", "w+", np.float32, (n, D))
    y = header(folder / "y.npy", "w+", np.float32, (n,))
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(folder / "rows.parquet", schema) as writer:
        for first in range(0, n, GROUP):
            rows = slice(first, min(first + GROUP, n))
            part = rng.uniform(-1, 1, (rows.stop - first, D)).astype(np.float32)
            target = part @ MODEL[0] + MODEL[1] + rng.normal(0, 0.1, len(part))
            X[rows], y[rows] = part, target
            writer.write_table(pa.table([*part.T.copy(), y[rows]], schema))
    X.flush()
    y.flush()
    return n


def measure_files(folder: Path) -> dict[str, Any]:
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in FILES}
    for lap in range(-1, ROUNDS):  # the first one fills the system's cache
        for name in list(FILES)[:: -1 if lap % 2 else 1]:
            found = child(name, str(folder))
            if lap >= 0:
                rounds[name].append(found)
    return {
        name: {
            "seconds": statistics.median(each["seconds"] for each in found),
            "rounds": [each["seconds"] for each in found],
            "peak_bytes": max(each["peak_bytes"] for each in found),
        }
        for name, found in rounds.items()
    }


def ratio(files: dict[str, Any], fit: str, than: str) -> float:
    """Return how fast a fit goes through a file, as a share of the speed of reading it."""
    pairs = zip(files[than]["rounds"], files[fit]["rounds"], strict=True)
    return statistics.median(theirs / ours for theirs, ours in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2, help="of each kind of file")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, *folder = arguments.child
        found = file_child(name, Path(*folder)) if folder else memory_child(name)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = write_files(Path(folder), arguments.gigabytes)
        files = measure_files(Path(folder))
    results = {
        "environment": machine.environment(),
        "gigabytes": arguments.gigabytes,
        "rows": rows,
        "files": files,
        "shares": {
            "Parquet, beside pyarrow's decoding": ratio(files, "parquet_fit", "parquet_decode"),
            "Parquet, beside `read_chunks` alone": ratio(files, "parquet_fit", "parquet_chunks"),
            "memmap, beside reading the file": ratio(files, "memmap_fit", "memmap_read"),
        },
        "memory": {name: child(name) for name in MEMORY},
    }
    target = ROOT / "bench/raw/large.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(results, indent=1) + "\n")
    for what, share in results["shares"].items():
        print(f"{what}: {100 * share:.0f} % of its speed")
    for name, found in files.items():
        print(f"{name}: {found['seconds']:.2f} s, {found['peak_bytes'] / MEGA:.0f} MB")
    for name, found in results["memory"].items():
        print(f"{name}: {found['ratio']:.3f} x the input")


if __name__ == "__main__":
    main()
