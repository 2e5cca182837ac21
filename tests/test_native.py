"""The core without Python: equal digests of reference and kernels, here and on an emulated ARM."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
if not (ROOT / "CMakeLists.txt").is_file() or not shutil.which("cmake"):
    pytest.skip("needs a checkout and CMake", allow_module_level=True)

pytestmark = pytest.mark.timeout(1200)  # every kernel is compiled


def build(folder: Path, *options: str) -> Path:
    """Build the program that prints the digests; -O1 compiles faster and promises the same bits."""
    quickly = ["-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1", "-DGDCORE_DIGEST=ON"]
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), *quickly, *options]
    subprocess.run(configure, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", str(folder), "-j2"], check=True, capture_output=True)
    return folder / "gdcore_digest"


def digests(*command: str) -> dict[str, str]:
    """ISA -> digest."""
    lines = subprocess.check_output(command, text=True).splitlines()
    return {isa: digest for digest, isa in map(str.split, lines)}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return digests(str(build(tmp_path_factory.mktemp("native"))))


def test_every_isa_has_the_digest_of_the_reference(here: dict[str, str]) -> None:
    assert {"reference", "baseline"} <= set(here)
    assert set(here.values()) == {here["reference"]}


@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-g++") and shutil.which("qemu-aarch64")),
    reason="needs aarch64-linux-gnu-g++ and qemu-aarch64",
)
def test_neon_has_the_digest_of_this_machine(here: dict[str, str], tmp_path: Path) -> None:
    program = build(
        tmp_path,
        "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
    )
    there = digests("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", str(program))
    assert "neon" in there
    assert set(there.values()) == {here["reference"]}
