"""Build a CUDA driver whose GPU is this CPU, from the kernels' own source.

usage: python tests/native/emulated_driver.py OUT_DIR
           [--thread-sanitizer | --check-addresses] [--test-kernels]

GDCORE_CUDA_DRIVER=OUT_DIR/libcuda_emulated.so makes gdcore use it. With --thread-sanitizer kernels
are compiled so that a missing barrier is reported as a data race; a program that uses the driver
needs LD_PRELOAD="$(g++ -print-file-name=libtsan.so)" then. With --check-addresses each access of a
kernel is checked: it is aligned, and lies in an array of the device, in the shared memory of the
block, or in the thread's own. With --test-kernels the driver has the kernels of its own tests only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FLAGS = "-std=c++17 -fPIC -ffp-contract=off -U_FORTIFY_SOURCE -Wall -Wno-unknown-pragmas -g1"
SANITIZE = "-fsanitize=thread"
CHECK = (  # calls of what emulation/accesses.cpp defines
    "-fsanitize=kernel-address --param asan-instrumentation-with-call-threshold=0"
    " --param asan-stack=0 --param asan-globals=0 -fno-tree-vectorize -fno-store-merging"
)
OF_X86 = "-mavx2 -mfma"  # or fma is a call


def compiler() -> list[str]:
    """Return the command of the C++ compiler, cached where ccache is there."""
    return [*filter(None, [shutil.which("ccache")]), os.environ.get("CXX", "g++")]


def kernels(source: Path) -> list[Path]:
    """Return the sources of the product's kernels."""
    return sorted((source / "csrc/cuda/kernels").glob("*.cu"))


def commands(
    folder: Path, source: Path, sanitize: bool, test_kernels: bool = False, check: bool = False
) -> list[list[str]]:
    """Return the command that compiles each source into the folder; -o OBJECT comes last."""
    flags = [*FLAGS.split(), "-O1" if sanitize or check else "-O2"]
    flags += [f"-I{source / 'csrc'}", f"-I{HERE / 'emulation'}"]
    if os.uname().machine == "x86_64":
        flags += OF_X86.split()
    instrumented = [SANITIZE] if sanitize else CHECK.split() if check else []
    sources = [] if test_kernels else kernels(source)
    sources += sorted((HERE / "emulation").glob("*.cu"))
    jobs = [(path, [*instrumented, "-x", "c++"]) for path in sources]
    # The emulation itself is not instrumented: its fibers share everything.
    plain = ["-DEMULATION_TSAN"] if sanitize else []
    jobs += [(path, plain) for path in sorted((HERE / "emulation").glob("*.cpp"))]
    return [
        [*compiler(), *flags, *how, "-c", str(path), "-o", str(folder / f"{path.name}.o")]
        for path, how in jobs
    ]


def fatbin(sm: int = 90) -> bytes:
    """Return a file of kernels in nvcc's layout with one entry and nothing in it."""
    entry = struct.pack("<HHIQ3IIQQQQ", 2, 0x101, 64, 8, 0, 0, 0, sm, 0, 0, 0, 0) + bytes(8)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entry)) + entry


def build(
    folder: Path,
    sanitize: bool = False,
    source: Path = ROOT,
    test_kernels: bool = False,
    check: bool = False,
) -> Path:
    """Compile the kernels below `source` and the emulation; return the driver's path."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = commands(folder, source, sanitize, test_kernels, check)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda job: subprocess.run(job, check=True), jobs))
    driver = folder / "libcuda_emulated.so"
    link = [compiler()[-1], "-shared", *([SANITIZE] if sanitize else []), "-o", str(driver)]
    subprocess.run([*link, *(job[-1] for job in jobs)], check=True)
    (folder / "kernels.fatbin").write_bytes(fatbin())
    return driver


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    checks = parser.add_mutually_exclusive_group()
    checks.add_argument("--thread-sanitizer", action="store_true")
    checks.add_argument("--check-addresses", action="store_true")
    parser.add_argument("--test-kernels", action="store_true")
    given = parser.parse_args()
    how = {"test_kernels": given.test_kernels, "check": given.check_addresses}
    print(build(given.folder, given.thread_sanitizer, **how))
