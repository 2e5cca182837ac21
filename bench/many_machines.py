"""How fits with Dask grow: 10 and 100 partitions, two worker processes of this machine.

Prints time, what workers sent each other, and the largest memory of a worker, for the three functions
of gdcore.dask. Each partition is drawn where it is needed, so that nothing but the fit is sent.
"""

from __future__ import annotations

import resource
import sys
from time import perf_counter
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import xarray as xr
from distributed import Client, LocalCluster

import gdcore.dask

ROWS, COUNTS = 100_000, (2, 10, 100)  # the first warms up
NAMES = [f"x{j}" for j in range(10)]


def drawn(seed: int) -> pd.DataFrame:
    """Draw a partition of 100 000 rows, 10 features and 1 000 groups."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.standard_normal((ROWS, 10)), columns=NAMES)
    return frame.assign(y=frame.x0 + rng.standard_normal(ROWS), k=rng.integers(0, 1000, ROWS))


def one_model(count: int) -> Any:
    return gdcore.dask.fit(dd.from_map(drawn, range(count)), target="y", features=NAMES)


def groups(count: int) -> Any:
    frame = dd.from_map(drawn, range(count))
    return gdcore.dask.fit_groups(frame, target="y", features=NAMES, by="k").compute()


def pixels(count: int) -> Any:
    y = da.random.default_rng(0).standard_normal((count, 5000, 200), chunks=(1, 5000, 200))
    trend = "time", np.arange(200.0)
    rows = xr.Dataset({"y": (("row", "column", "time"), y)}, {"trend": trend})
    return gdcore.dask.fit_map(rows, target="y", features="trend").compute()


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    print("fit          partitions  seconds  sent (bytes)  largest (bytes)  worker (MiB)")
    for work in (one_model, groups, pixels):
        for count in COUNTS[1:]:
            with (
                LocalCluster(
                    2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
                ) as cluster,
                Client(cluster) as client,
            ):
                work(COUNTS[0])
                log = lambda dask_worker: list(dask_worker.transfer_incoming_log)  # noqa: E731
                before = {w: len(entries) for w, entries in client.run(log).items()}
                begin = perf_counter()
                work(count)
                seconds = perf_counter() - begin
                sent = [
                    size
                    for w, entries in client.run(log).items()
                    for entry in entries[before[w] :]
                    for size in entry["keys"].values()
                ]
                memory = max(client.run(peak).values()) / (
                    2**20 if sys.platform == "darwin" else 2**10
                )
                print(
                    f"{work.__name__:12} {count:10} {seconds:8.2f} {sum(sent):13} "
                    f"{max(sent, default=0):16} {memory:13.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
