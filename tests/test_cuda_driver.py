"""What gdcore does with a CUDA driver, shown on the emulated one: errors, memory, streams."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import emulated
import fits
from loops import each

pytestmark = pytest.mark.timeout(600)  # the emulated driver is compiled

HOST = ["api", "device_state", "driver", "fatbin", "info", "staging"]
CUDA = "import gdcore as gd; print(gd.config()['cuda'])"
RIGHT = "right\n"
NO_FORK = "CUDA was used before this process was forked"
RESTART = "restart the process to use the GPU"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return tests/native/cuda_driver.cpp compiled with the host's side of the driver."""
    compiler = emulated.compiler()
    folder = emulated.shared(tmp_path_factory, "cuda_driver")

    def compiled(source: Path) -> str:
        output = folder / f"{source.name}.o"
        includes = [f"-I{emulated.ROOT / 'csrc'}", f"-I{emulated.NATIVE}"]
        command = [compiler, "-std=c++17", "-g1", *includes, "-c", str(source), "-o", str(output)]
        subprocess.run(command, check=True)
        return str(output)

    def make() -> None:
        sources = [emulated.ROOT / f"csrc/cuda/{name}.cpp" for name in HOST]
        sources.append(emulated.NATIVE / "cuda_driver.cpp")
        with ThreadPoolExecutor(2) as pool:
            objects = list(pool.map(compiled, sources))
        output = ["-o", str(folder / "cuda_driver")]
        subprocess.run([compiler, *objects, *output, "-ldl", "-pthread"], check=True)

    return str(emulated.once(folder, make) / "cuda_driver")


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(emulated.driver(tmp_path_factory, "--test-kernels"))


@pytest.fixture
def run(program: str, driver: str) -> Any:
    """Return a function that runs one scenario of the program and returns what it prints."""

    def ran(scenario: str, expected: int = 0, **options: Any) -> str:
        environment = os.environ | {"GDCORE_CUDA_DRIVER": str(driver)}
        environment |= {name: str(value) for name, value in options.items()}
        done = subprocess.run(
            [program, scenario], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == expected, done.stderr
        return done.stdout

    return ran


def config(**environment: Any) -> str:
    """Return gd.config()["cuda"] of a new process, as text."""
    given: Any = {name: str(value) for name, value in environment.items()}
    return fits.python(CUDA, **given).stdout.strip()


# Memory, copies, streams.


@each("order", [0, 1, 7])
def test_copies_and_kernels(run: Any, order: int) -> None:
    """Of one number to some MB, through pinned buffers that are reused while they may travel."""
    assert run("works", EMULATION_ORDER=order) == 5 * RIGHT
    assert run("rows") == 2 * RIGHT
    assert run("reverse", EMULATION_ORDER=order) == RIGHT


def test_too_much_memory(run: Any) -> None:
    error, after, left = run("memory").splitlines()
    assert re.match(r"MemoryError: the GPU has no room for 1099511627776 bytes \(1024 GiB\)", error)
    assert (after, left) == ("right", "0 bytes in use")


def test_every_allocation_fails_once(run: Any) -> None:
    """Two blocks of the device, two pinned buffers of the host."""
    *failed, last = run("every_allocation").splitlines()
    assert last == "right"
    assert failed[1::3] == 4 * ["right"]
    assert failed[2::3] == 4 * ["0 bytes in use"]
    owners = ["the GPU", "the GPU", "the host", "the host"]
    for error, owner in zip(failed[::3], owners, strict=True):
        assert re.match(rf"MemoryError: {owner} has no room .*4194304 bytes \(4 MiB\)", error)


def test_streams_of_the_caller_and_of_each_thread(run: Any) -> None:
    """The legacy, the per-thread and gdcore's own streams; an ended thread's is taken over."""
    expected = ["right"] * 3 + ["same", "right", "another", "right"]
    assert run("streams").split() == expected
    assert run("order_of_streams") == RIGHT


def test_threads(run: Any) -> None:
    assert run("threads", EMULATION_DEVICES=2) == RIGHT + "0 bytes in use\n"


def test_graphs(run: Any) -> None:
    """Kernels and temporary memory are captured; waiting and copies of the host are refused."""
    first, second, waiting, copying, invalidated = run("capture").splitlines()
    assert first == second == "right"
    for line, doing in (waiting, "waiting for the GPU"), (copying, "copying to the GPU"):
        assert line.startswith(f"CUDA does not allow {doing} while a graph is captured")
    assert invalidated == "901"


def test_calls_are_logged(run: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert run("streams", EMULATION_LOG=log).startswith(RIGHT)
    lines = log.read_text().splitlines()
    assert re.fullmatch(r"launch test_add blocks 4 threads 256 shared 0 stream \S+", lines[4])
    kinds = {re.sub(r" \d+| stream.*", "", line).strip() for line in lines}
    expected = {"init", "allocate", "free", "copy to device", "copy to host", "synchronize"}
    assert expected <= kinds


# Errors.


def test_errors_that_stay(run: Any) -> None:
    first, second, third, _ = run("sticky").splitlines()
    assert first.startswith("CUDA failed while")
    assert "an illegal memory access was encountered, error 700" in first
    assert second == third
    assert second.startswith("CUDA failed before in this process (an illegal memory access")
    assert all(RESTART in line for line in (first, second))


def test_errors_that_pass(run: Any) -> None:
    error, after = run("not_sticky").splitlines()
    assert "running test_add (1 blocks of 256 threads, 0 bytes of shared memory each)" in error
    assert "too many resources requested for launch, error 701" in error
    assert after == "right"


@each("scenario, error", [("stale", "error 700"), ("beside", "error 719"), ("stuck", "719")])
def test_kernels_that_break_off(run: Any, scenario: str, error: str) -> None:
    """Memory that was freed, memory beside a block, a barrier that some threads never reach."""
    text = run(scenario)
    assert error in text
    assert RESTART in text


def test_the_host_cannot_touch_the_devices_memory(run: Any) -> None:
    assert run("host_reads", expected=-11) == ""


def test_two_devices(run: Any) -> None:
    lines = run("another_device", EMULATION_DEVICES=2).splitlines()
    assert lines[0] == "there is no GPU 2; this process sees 2, numbered from 0."
    assert lines[1:4] == ["device 1", "right", "0 bytes in use"]
    assert "invalid resource handle" in lines[4], "a stream of the other device"
    assert "error 700" in lines[5], "memory of the other device"


def test_a_scope_that_fails_changes_nothing(run: Any) -> None:
    error, place, after = run("failing_scope", EMULATION_DEVICES=2).splitlines()
    assert "using the device" in error
    assert (place, after) == ("device 0, stream 0x2", "right")
    assert run("outside") == 2 * "an operation of the GPU ran outside a Scope\n"


def test_limits_of_launches(run: Any) -> None:
    shared, blocks, unknown, threads, after = run("limits").splitlines()
    assert "307200 bytes of shared memory a block, and this GPU, Emulated GPU, has 232448" in shared
    assert "too large for one launch" in blocks
    assert "no test_nothing: it is of another version" in unknown
    assert "invalid argument" in threads
    assert after == "right"


def test_memory_that_is_not_the_devices_own(run: Any) -> None:
    managed, of_host = run("managed").splitlines()
    assert managed.startswith("the array is in managed memory, which the host and the GPU both own")
    assert of_host == "the array is not in the memory of a GPU that CUDA knows."


def test_forked_processes(run: Any) -> None:
    child, parent = run("forks").splitlines()
    assert child.startswith(NO_FORK)
    assert "'spawn'" in child
    assert parent == "right"


# Why there is no GPU.

REASONS: list[tuple[dict[str, Any], str]] = [
    ({"EMULATION_DRIVER": 12080}, "it supports CUDA 12.8, and gdcore's kernels need 13.0"),
    ({"EMULATION_DEVICES": 0}, "found no GPU that this process may use .*nvidia-smi"),
    ({"GDCORE_CUDA_FATBIN": "/nowhere/k"}, "no CUDA kernels .*/nowhere/k.*GDCORE_CUDA=1 pip"),
    ({"GDCORE_CUDA_DRIVER": "/nowhere/libcuda.so"}, "GDCORE_CUDA_DRIVER names no driver"),
]


@each("environment, reason", REASONS)
def test_reasons(driver: str, run: Any, environment: dict[str, Any], reason: str) -> None:
    """config() says what an operation says, in one sentence."""
    said = config(**({"GDCORE_CUDA_DRIVER": driver} | environment))
    assert re.search(reason, said)
    assert said.endswith(".")
    if "GDCORE_CUDA_FATBIN" not in environment:
        assert run("sentence", **environment).strip() == said


def test_no_driver_is_installed(program: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "GDCORE_CUDA_DRIVER"}
    done = subprocess.run([program, "sentence"], env=environment, capture_output=True, text=True)
    known = "no CUDA driver is installed here (libcuda.so.1 was not found)", "right", "this build"
    assert done.stdout.startswith(known)


def test_a_card_without_kernels_is_named(run: Any) -> None:
    said = run("sentence", EMULATION_SM=75)
    assert "gdcore's kernels (sm_90) cannot run on this GPU, Emulated GPU with sm_75" in said


def test_a_gpu_without_memory_pools(run: Any) -> None:
    assert "has no memory pools (cuMemAllocAsync)" in run("sentence", EMULATION_POOLS=0)


# config() and import.


def test_config_names_devices_driver_and_kernels(driver: str) -> None:
    found = eval(config(GDCORE_CUDA_DRIVER=driver, EMULATION_DEVICES=2, EMULATION_SM=100))
    device: dict[str, Any] = {"name": "Emulated GPU", "sm": 100, "memory": 4 << 30, "kernels": ""}
    assert found["devices"] == [device, device]
    assert found["driver"] == "13.0"
    fatbin = {"path": str(Path(driver).parent / "kernels.fatbin"), "architectures": ["sm_90"]}
    assert found["fatbin"] == fatbin | {"bytes": os.path.getsize(fatbin["path"])}


def test_show_config_prints_one_line(driver: str) -> None:
    script = "import gdcore as gd; gd.show_config()"
    lines = fits.python(script, GDCORE_CUDA_DRIVER=str(driver)).stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("cuda"))
    shown = r"cuda +Emulated GPU \(sm_90, 4.0 GiB, sm_90\); driver for CUDA 13.0; .* for sm_90, /.*"
    assert re.fullmatch(shown, line)


def fatbin(*entries: tuple[int, int]) -> bytes:
    """Return a file of kernels with empty entries: kind (1: PTX, 2: machine code) and sm."""
    body = b"".join(
        struct.pack("<HHIQ3II32x", k, 1, 64, 8, 0, 0, 0, sm) + bytes(8) for k, sm in entries
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


@each(
    "sm, kernels",
    [(75, ""), (80, "sm_80"), (86, "sm_80"), (90, "sm_90"), (100, "compute_90"), (120, "sm_120")],
)
def test_architectures(driver: str, tmp_path: Path, sm: int, kernels: str) -> None:
    path = tmp_path / "kernels.fatbin"
    path.write_bytes(fatbin((2, 120), (1, 90), (2, 80), (2, 90)))
    found = eval(config(GDCORE_CUDA_DRIVER=driver, GDCORE_CUDA_FATBIN=path, EMULATION_SM=sm))
    assert found["fatbin"]["architectures"] == ["sm_80", "sm_90", "sm_120", "compute_90"]
    assert found["devices"][0]["kernels"] == kernels


@each("content", [b"", b"no kernels", fatbin((2, 90))[:-30], fatbin((2, 90))[:20]])
def test_files_that_are_no_kernels(driver: str, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kernels.fatbin"
    path.write_bytes(content)
    found = eval(config(GDCORE_CUDA_DRIVER=driver, GDCORE_CUDA_FATBIN=path))
    assert set(found["fatbin"]["architectures"]) <= {"sm_90"}


def test_config_does_not_initialise_cuda(run: Any) -> None:
    """A child that is forked afterwards uses the GPU."""
    assert run("information", EMULATION_DEVICES=2) == "|13.0|2\n" + RIGHT


def test_import_opens_no_driver(driver: str) -> None:
    script = (
        "import gdcore as gd, numpy as np\n"
        "gd.fit(np.ones((9, 2)), np.ones(9)); gd.matmul(np.ones((2, 2)), np.ones((2, 2)))\n"
        "print('libcuda' in open('/proc/self/maps').read())\n"
        "gd.config()\n"
        "print('libcuda' in open('/proc/self/maps').read())\n"
    )
    maps = fits.python(script, GDCORE_CUDA_DRIVER=str(driver)).stdout.split()
    assert maps == ["False", "True"]


# The emulation itself.


def sanitized(program: str, driver: str, scenario: str) -> subprocess.CompletedProcess[str]:
    library = subprocess.check_output(
        [emulated.compiler(), "-print-file-name=libtsan.so"], text=True
    )
    environment = {"GDCORE_CUDA_DRIVER": str(driver), "LD_PRELOAD": library.strip()}
    environment["TSAN_OPTIONS"] = "exitcode=66"
    command = [str(program), scenario]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


def test_thread_sanitizer_sees_a_missing_barrier(
    program: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    driver = str(emulated.driver(tmp_path_factory, "--thread-sanitizer", "--test-kernels"))
    assert sanitized(program, driver, "reverse").stdout == RIGHT
    assert sanitized(program, driver, "reverse").returncode == 0
    racing = sanitized(program, driver, "race")
    assert racing.returncode == 66
    assert re.search(r"data race.*reverse<false>.*test_kernels\.cu", racing.stderr, re.S)


def test_each_access_is_checked(program: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of the host's memory, of a byte beside a block, of memory that was freed."""
    checking = emulated.driver(tmp_path_factory, "--check-addresses", "--test-kernels")
    environment = os.environ | {"GDCORE_CUDA_DRIVER": str(checking)}

    def ran(scenario: str) -> subprocess.CompletedProcess[str]:
        command = [program, scenario]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    assert ran("reverse").stdout == RIGHT
    for scenario, what in [("illegal_access", "read"), ("beside", "write"), ("stale", "read")]:
        done = ran(scenario)
        assert re.match(rf"emulation: illegal {what} of 4 bytes at 0x", done.stderr)
        assert "error 700" in done.stdout


def test_the_command_of_the_docs(driver: str) -> None:
    script = str(emulated.NATIVE / "emulated_driver.py")
    usage = subprocess.check_output([sys.executable, script, "--help"], text=True)
    assert "--thread-sanitizer" in usage
    assert Path(driver).name == "libcuda_emulated.so"
