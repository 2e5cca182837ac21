"""Build a CUDA driver whose GPU is this CPU, from the kernels' own source.

usage: python tests/native/emulated_driver.py OUT_DIR [--thread-sanitizer]

GDCORE_CUDA_DRIVER=OUT_DIR/libcuda_emulated.so makes gdcore use it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
FLAGS = (
    "-std=c++17 -fPIC -mfma -mavx2 -ffp-contract=off -U_FORTIFY_SOURCE -Wall -Wno-unknown-pragmas"
)


def build(folder: Path, sanitize: bool = False, source: Path = ROOT) -> Path:
    """Compile the kernels below `source` and the emulation; return the driver's path."""
    folder.mkdir(parents=True, exist_ok=True)
    compiler = [*filter(None, [shutil.which("ccache")]), os.environ.get("CXX", "g++")]
    emulation = HERE / "emulation"
    flags = [*FLAGS.split(), "-O1" if sanitize else "-O2", "-g1"]
    flags += [f"-I{source / 'csrc'}", f"-I{emulation}"]
    jobs = []
    for path in sorted((source / "csrc/cuda/kernels").glob("*.cu")):
        extra = ["-fsanitize=thread"] if sanitize else []
        jobs.append((path, [*flags, *extra, "-x", "c++"]))
    for path in sorted(emulation.glob("*.cpp")):  # the emulation itself is not instrumented
        jobs.append((path, [*flags, *(["-DEMULATION_TSAN"] if sanitize else [])]))

    def compiled(job: tuple[Path, list[str]]) -> str:
        path, how = job
        output = str(folder / f"{path.stem}{path.suffix}.o")
        subprocess.run([*compiler, *how, "-c", "-o", output, str(path)], check=True)
        return output

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, jobs))
    driver = folder / "libcuda_emulated.so"
    link = ["-shared", "-fvisibility=hidden", *(["-fsanitize=thread"] if sanitize else [])]
    subprocess.run([*compiler[-1:], *link, "-o", str(driver), *objects], check=True)
    (folder / "kernels.fatbin").write_bytes(b"the kernels are in the driver")
    return driver


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--thread-sanitizer", action="store_true")
    given = parser.parse_args()
    print(build(given.folder, given.thread_sanitizer))
