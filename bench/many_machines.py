"""How fits with Dask grow: 10 and 100 partitions, two worker processes of this machine.

    python bench/many_machines.py

prints, for the three functions of gdcore.dask, the CPU time of the workers, how often one was sent
something by the other, the largest of these objects, and the most memory of a worker. Rows are
drawn where they are needed.
"""

from __future__ import annotations

import resource
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import xarray as xr
from distributed import Client, LocalCluster

import gdcore.dask

ROWS, COUNTS = 20_000, (2, 10, 100)  # the first warms up
NAMES = [f"x{j}" for j in range(10)]


def drawn(seed: int) -> pd.DataFrame:
    """Draw a partition of 20 000 rows, 10 features and 1 000 groups."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.standard_normal((ROWS, 10)), columns=NAMES)
    return frame.assign(y=frame.x0 + rng.standard_normal(ROWS), k=rng.integers(0, 1000, ROWS))


def one_model(count: int) -> Any:
    return gdcore.dask.fit(dd.from_map(drawn, range(count)), target="y", features=NAMES)


def groups(count: int) -> Any:
    frame = dd.from_map(drawn, range(count))
    return gdcore.dask.fit_groups(frame, target="y", features=NAMES, by="k").compute()


def pixels(count: int) -> Any:
    y = da.random.default_rng(0).standard_normal((count, 1000, 200), chunks=(1, 1000, 200))
    trend = "time", np.arange(200.0)
    rows = xr.Dataset({"y": (("row", "column", "time"), y)}, {"trend": trend})
    return gdcore.dask.fit_map(rows, target="y", features="trend").compute()


def used() -> tuple[float, int]:
    """Return the CPU time of this process in seconds, and the most memory it had, in KiB."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def main() -> None:
    print("fit        partitions  CPU (s)  transfers  largest (B)  worker (MiB)")
    log = lambda dask_worker: list(dask_worker.transfer_incoming_log)  # noqa: E731
    for work in (one_model, groups, pixels):
        for count in COUNTS[1:]:
            cluster = LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=50,
            )
            with cluster, Client(cluster) as client:
                work(COUNTS[0])
                before = client.run(log), client.run(used)
                work(count)
                after = client.run(log), client.run(used)
            sent = [
                size
                for worker, entries in after[0].items()
                for entry in entries[len(before[0][worker]) :]
                for size in entry["keys"].values()
            ]
            seconds = sum(after[1][w][0] - before[1][w][0] for w in after[1])
            memory = max(most for _, most in after[1].values()) / 1024
            print(
                f"{work.__name__:10} {count:10} {seconds:8.2f} {len(sent):10} "
                f"{max(sent, default=0):12} {memory:13.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
