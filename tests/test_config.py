"""What was built and chosen: gd.config, gd.show_config, gd.selftest, thread counts."""

from __future__ import annotations

import os
import platform
import re
import sys
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
from gdcore.selftest import all_cases, frozen_digests
from loops import each

KEYS = [
    "version", "isa", "isas_available", "isas_built", "threads", "threads_reason",
    "thread_engine", "openmp", "compiler", "cuda", "numerics", "segment", "chunk",
]  # fmt: skip
BUILT = {"x86_64": ["baseline", "avx2", "avx512"], "aarch64": ["baseline", "neon"]}
CMAKE = Path(__file__).parents[1].joinpath("CMakeLists.txt").read_text()
TELL = "import gdcore as gd; c = gd.config(); print(c['threads'], c['threads_reason'], sep='|')"


def test_config() -> None:
    config = gd.config()
    assert list(config) == KEYS
    assert config["version"] == gd.__version__
    assert f"project(gdcore VERSION {gd.__version__} " in CMAKE
    assert config["isa"] in config["isas_available"]
    assert "baseline" in config["isas_available"]
    assert set(config["isas_available"]) <= set(config["isas_built"])
    assert "reference" not in config["isas_built"]
    assert re.fullmatch(r"\w+ \d+\.\d+.*", config["compiler"])
    assert isinstance(config["cuda"], (str, dict))
    if isinstance(config["cuda"], str):
        assert config["cuda"].endswith(".")
    assert config["segment"] == config["chunk"] == {"float32": 512, "float64": 512}
    assert 1 <= config["threads"] <= 1024
    assert config["thread_engine"] in ("pool", "openmp")
    assert config["threads_reason"]


@pytest.mark.skipif(platform.machine() not in BUILT, reason="no list for this machine")
def test_every_instruction_set_of_the_machine_was_built() -> None:
    assert gd.config()["isas_built"] == BUILT[platform.machine()]


def test_config_is_a_copy() -> None:
    gd.config()["chunk"]["float32"] = 3
    gd.config()["isas_available"].clear()
    assert gd.config()["chunk"]["float32"] == 512
    assert gd.config()["isas_available"]


def test_config_follows_the_choice(isa_and_threads: tuple[str, int]) -> None:
    config = gd.config()
    assert (config["isa"], config["threads"]) == isa_and_threads


def test_the_openmp_runtime_is_named() -> None:
    paths = gd.config()["openmp"]
    if not paths:
        pytest.skip("built without OpenMP")
    assert any(re.search(r"lib(gomp|omp|iomp)", p) for p in paths)
    assert all(os.path.isfile(p) for p in paths)
    assert paths == sorted(set(paths))


def test_show_config(capsys: Any) -> None:
    gd.show_config()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == KEYS
    assert all(len(line.split()) > 1 for line in lines)
    assert "segment         float32 512, float64 512" in lines


def test_selftest() -> None:
    before = gd._core.get_isa(), gd.get_num_threads()
    report = gd.selftest()
    assert report
    assert report.ok
    assert report.failures == ()
    assert report.cases > 100
    assert list(report.isas) == gd.config()["isas_available"]
    assert (gd._core.get_isa(), gd.get_num_threads()) == before
    assert re.fullmatch(r"numerics v2: \d+ results on .*: same bits everywhere", str(report))
    assert report.numerics == gd.config()["numerics"] == 2


@pytest.fixture
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the self-test run one case in ten."""
    module = sys.modules["gdcore.selftest"]
    monkeypatch.setattr(module, "all_cases", lambda: islice(all_cases(), 0, None, 10))


def test_selftest_leaves_the_choice_of_threads_open(few_cases: None) -> None:
    gd._core.set_num_threads(0)  # nobody chose
    reason = gd.config()["threads_reason"]
    assert gd.selftest()
    assert gd.config()["threads_reason"] == reason != "set_num_threads"


def test_each_case_is_frozen_and_no_two_are_alike() -> None:
    names = [what for what, _ in all_cases()]
    assert len(names) == len(set(names)) > 300
    assert set(names) == set(frozen_digests())


def test_selftest_sees_a_wrong_bit(few_cases: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One instruction set that adds an ulp to one product."""
    right = gd._core.matmul

    def wrong(a: Any, b: Any, out: Any = None) -> Any:
        product = right(a, b, out)
        if gd._core.get_isa() == "baseline" and product.size:
            product.flat[0] *= 1 + 2.0**-20
        return product

    monkeypatch.setattr(gd._core, "matmul", wrong)
    report = gd.selftest()
    assert not report
    assert 0 < len(report.failures) < report.cases
    assert all("matmul" in f and "baseline" in f for f in report.failures)
    assert re.search(r"\d+ differ\n", str(report))


def test_set_num_threads() -> None:
    for n in (1, 5, 1024, np.int64(3), np.array(4)):
        gd.set_num_threads(n)
        assert gd.get_num_threads() == n
        assert gd.config()["threads_reason"] == "set_num_threads"


@each("n", [0, -1, 1025, 10**12])
def test_thread_counts_out_of_range(n: int) -> None:
    before = gd.get_num_threads()
    with pytest.raises(ValueError, match=r"1 to 1024"):
        gd.set_num_threads(n)
    assert gd.get_num_threads() == before


# Threads at import: the least of several limits, and its reason.


@cache
def chosen(**environment: str) -> tuple[int, str]:
    for name in ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "GDCORE_NUM_THREADS"):
        environment.setdefault(name, "")
    script = "import os\n" + "\n".join(
        f"os.environ.pop({k!r})" for k, v in environment.items() if not v
    )
    options: dict[str, Any] = environment  # mypy takes them for the other parameters
    threads, reason = fits.python(f"{script}\n{TELL}", **options).stdout.strip().split("|")
    return int(threads), reason


def test_threads_of_the_machine() -> None:
    threads, reason = chosen()
    assert 1 <= threads <= len(os.sched_getaffinity(0))
    assert "CPU" in reason


def test_threads_of_the_environment() -> None:
    assert chosen(GDCORE_NUM_THREADS="1") == (1, "GDCORE_NUM_THREADS") or chosen()[0] == 1
    assert chosen(OMP_NUM_THREADS="1") == (1, "OMP_NUM_THREADS") or chosen()[0] == 1
    assert chosen(OMP_NUM_THREADS="1,4")[0] == 1
    assert chosen(OMP_THREAD_LIMIT="1") == (1, "OMP_THREAD_LIMIT") or chosen()[0] == 1
    most = chosen()
    assert chosen(GDCORE_NUM_THREADS="1000") == most  # asks for no more than there are
    assert chosen(GDCORE_NUM_THREADS="1000", OMP_NUM_THREADS="1")[0] == 1


def test_threads_of_the_affinity_mask() -> None:
    script = f"import os\nos.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n{TELL}"
    assert fits.python(script, OMP_NUM_THREADS="64").stdout == "1|CPUs this process may run on\n"


def test_bound_threads_leave_all_cpus_to_count() -> None:
    """OpenMP's runtime, as it is loaded, binds the importing thread to one CPU."""
    free = chosen()[0]
    cpus = sorted(os.sched_getaffinity(0))
    bindings = [
        {"OMP_PROC_BIND": "true"}, {"OMP_PROC_BIND": "master"}, {"OMP_PROC_BIND": "spread"},
        {"OMP_PLACES": "cores"}, {"OMP_PLACES": "threads", "OMP_PROC_BIND": "close"},
        {"GOMP_CPU_AFFINITY": f"{cpus[0]}-{cpus[-1]}"},
    ]  # fmt: skip
    for binding in bindings:
        assert chosen(**binding)[0] == free, binding
    assert chosen(OMP_PLACES=f"{{{cpus[0]}}}")[0] == 1, "the user's own choice of CPUs"


def test_another_runtime_that_was_loaded_first() -> None:
    """That runtime binds the importing thread to one CPU; ours must still count all CPUs."""
    helpers = "sklearn.utils._openmp_helpers"  # its wheel has a runtime of its own
    pytest.importorskip(helpers)
    script = f"""
import {helpers}
import os, numpy as np, gdcore as gd
gd.fit(np.ones((20_000, 40)), np.ones(20_000), gd.SGD(), epochs=9, tol=None, method="stream")
masks = [os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task")]
print(gd.get_num_threads(), len(set().union(*masks)))
"""
    free = chosen()[0]
    done = fits.python(script, OMP_PROC_BIND="true", OPENBLAS_NUM_THREADS="1")
    assert done.stdout.split() == [str(free), str(len(os.sched_getaffinity(0)))]


LIMITED = """
import os, time
import numpy as np, gdcore as gd, threadpoolctl
gd._core.let_everyone_take_part(True)  # even if other processes have the CPUs
X, y = np.ones((60_000, 16)), np.ones(60_000)
def threads_of_a_fit(**how):
    def ran():
        ids = os.listdir("/proc/self/task")
        return {i: int(open(f"/proc/self/task/{i}/schedstat").read().split()[0]) for i in ids}
    time.sleep(0.1)  # threads without work spin a while
    before = ran()
    gd.fit(X, y, gd.SGD(), method="stream", epochs=100, tol=None, history=0, **how)
    spent = [ns - before.get(i, 0) for i, ns in ran().items()]
    return sum(ns > max(spent) / 4 for ns in spent)
free = gd.get_num_threads()
assert free == 1 or threads_of_a_fit() > 1
with threadpoolctl.threadpool_limits(1):
    assert gd.get_num_threads() == 1
    assert "threadpoolctl" in gd.config()["threads_reason"]
    assert threads_of_a_fit() == 1
    assert threads_of_a_fit(n_threads=2) == 2
    assert gd.get_num_threads() == 1
assert gd.get_num_threads() == free
threadpoolctl.threadpool_limits(1)
assert gd.get_num_threads() == 1
gd.set_num_threads(2)
assert gd.get_num_threads() == threads_of_a_fit() == 2
assert gd.config()["threads_reason"] == "set_num_threads"
print("obeyed")
"""


def test_limits_of_other_packages_are_obeyed() -> None:
    """Unless the user chose a number for gdcore itself."""
    pytest.importorskip("threadpoolctl")
    if chosen()[0] == 1:
        pytest.skip("one CPU has no limits to set")
    assert fits.python(LIMITED).stdout == "obeyed\n"


def test_the_limit_of_torch_is_obeyed() -> None:
    """torch's wheels for Linux share an OpenMP runtime with gdcore, in either order of imports."""
    pytest.importorskip("torch")
    for imports in ("import torch, gdcore as gd", "import gdcore as gd, torch"):
        script = f"{imports}\nif len(gd.config()['openmp']) == 1: torch.set_num_threads(1)"
        script += "\nprint(gd.get_num_threads(), len(gd.config()['openmp']))"
        threads, runtimes = fits.python(script).stdout.split()
        assert threads == "1" or runtimes != "1"
