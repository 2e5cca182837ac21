"""gdcore.dask on two processes: the same bits, no rows between them, and one is killed.

test_dask.py runs this file with pytest, in a process of its own.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fits import bits

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")
pytest.importorskip("xarray")

import gdcore.dask as gk  # noqa: E402
from test_dask import (  # noqa: E402
    BY_DESCENT,
    GROUPS,
    NAMES,
    cube,
    grouped,
    of_arrays,
    of_frame,
    on,
    rows,
    sorted_by,
    table,
)


@pytest.fixture(autouse=True)
def _in_this_thread() -> Iterator[None]:
    with on("sync"):
        yield


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two processes on this machine, which are gone at the end."""
    with dask.config.set({"distributed.worker.daemon": True}):
        cluster = distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit="1GB",
            silence_logs="CRITICAL",
        )
    pids = []
    try:
        with distributed.Client(cluster, set_as_default=False) as connected:
            connected.wait_for_workers(2, timeout=60)
            yield connected
            pids = list(connected.run(os.getpid).values())
    finally:
        cluster.close(timeout=20)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@contextmanager
def on_workers(client: Any) -> Iterator[None]:
    """Compute in the two processes; a nanny that restarts one must be able to pickle the config."""
    with on(None), client.as_current():
        yield


def test_threads_processes_and_workers_agree(rng: Any, client: Any) -> None:
    p = rows(rng)
    found = []
    for run in (on("sync"), on("threads"), on_workers(client)):
        with run:
            found.append(bits(of_arrays(p, (50, 3))))
            found.append(bits(of_frame(dd.from_pandas(table(p), npartitions=4))))
    assert len({str(b) for b in found}) == 1


def drawn(seed: int) -> Any:
    """Draw a partition where it is needed."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.standard_normal((20_000, 3)), columns=NAMES)
    return frame.assign(y=frame.a - frame.b + rng.standard_normal(20_000))


def sent(client: Any) -> list[Any]:
    """Return what each worker was sent by the other: keys and bytes."""
    logs = client.run(lambda dask_worker: list(dask_worker.transfer_incoming_log))
    return [entry for log in logs.values() for entry in log]


def test_no_rows_between_workers(client: Any) -> None:
    """What workers send each other are sums: far less than one row in a thousand."""
    whole = pd.concat([drawn(seed) for seed in range(20)])
    in_memory = gk.fit(dd.from_pandas(whole, npartitions=3, sort=False), target="y")
    before = len(sent(client))
    with on_workers(client):
        found = gk.fit(dd.from_map(drawn, range(20)), target="y")
        X = da.from_delayed(dask.delayed(drawn)(0).to_numpy(), (20_000, 4), float)
        arrays = da.concatenate([X, X, X])
        gk.fit(arrays[:, :3], arrays[:, 3])
    assert bits(found) == bits(in_memory)
    transfers = sent(client)[before:]
    assert transfers
    for entry in transfers:
        assert max(entry["keys"].values()) < 8 * 1000, entry
    assert len(pickle.dumps(gk._sum_rows(whole[NAMES], whole.y, None, None, "error"))) < 1200


class DiesOnce:
    """Draw a partition; the first worker that draws it is killed meanwhile."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __call__(self, seed: int) -> Any:
        if seed == 11 and not self.mark.exists():
            self.mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return drawn(seed)


def test_a_worker_killed_in_the_middle_changes_no_bit(client: Any, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    whole = gk.fit(dd.from_map(drawn, range(20)), target="y")
    with on_workers(client):
        found = gk.fit(dd.from_map(DiesOnce(mark), range(20)), target="y")
    assert bits(found) == bits(whole)
    client.wait_for_workers(2, timeout=60)
    assert int(mark.read_text()) not in client.run(os.getpid).values()


def test_groups_on_workers(rng: Any, client: Any) -> None:
    frame = grouped(rng)
    parts = dd.from_pandas(frame, npartitions=3, sort=False)
    wanted = sorted_by(gk.fit_groups(parts, **GROUPS).compute(), GROUPS["by"])
    with on_workers(client):
        found = sorted_by(gk.fit_groups(parts, **GROUPS).compute(), GROUPS["by"])
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)


def test_a_map_on_workers(rng: Any, client: Any) -> None:
    rows = cube(rng).rename(time="month")
    found = gk.fit_map(rows, **BY_DESCENT)
    with on_workers(client):
        assert gk.fit_map(rows.chunk(lat=2), **BY_DESCENT).compute().identical(found)
