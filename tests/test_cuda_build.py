"""GDCORE_CUDA decides whether there are kernels, says why not, and changes nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if not (ROOT / "CMakeLists.txt").is_file() or not shutil.which("cmake"):
    pytest.skip("needs a checkout and CMake", allow_module_level=True)
pybind11 = pytest.importorskip("pybind11")

OLD = 'echo "Cuda compilation tools, release 12.6, V12.6.20"'
BROKEN = 'if [ "$1" = --version ]; then echo "release 13.0"; else echo "fatal: no cicc"; exit 1; fi'
FINE = 'if [ "$1" = --version ]; then echo "release 13.0"; fi'

NVCC_FOLDERS = ["/usr/local/cuda/bin", "/usr/local/bin"]
NVCC_FOLDERS += [path for path in os.get_exec_path() if shutil.which("nvcc", path=path)]


class Build:
    """A build folder that is configured again and again, with an nvcc that is a script."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.nvcc = folder / "build", folder / "nvcc"
        assert self.configure("OFF", FINE).returncode == 0  # finds the compiler

    def configure(self, wanted: str, nvcc: str = "") -> subprocess.CompletedProcess[str]:
        self.nvcc.write_text(f"#!/bin/sh\n{nvcc}\n")
        self.nvcc.chmod(0o755)
        options = [
            f"-DGDCORE_CUDA={wanted}",
            f"-DGDCORE_NVCC={self.nvcc if nvcc else 'NOTFOUND'}",
            f"-DCMAKE_IGNORE_PATH={';'.join(NVCC_FOLDERS) if not nvcc else ''}",
            "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            "-UGDCORE_NVCC_TRIED",
        ]
        hidden = ("CUDACXX", "CUDA_HOME", "CUDA_PATH", "PYTHONPATH")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        return subprocess.run(
            ["cmake", "-S", str(ROOT), "-B", str(self.folder), *options],
            capture_output=True,
            text=True,
            env=environment,
        )

    def commands(self) -> str:
        return (self.folder / "compile_commands.json").read_text()


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return Build(tmp_path_factory.mktemp("cuda"))


def words(text: str) -> str:
    """Undo CMake's wrapping of errors."""
    return " ".join(text.split())


def test_the_core_is_the_same_with_and_without_kernels(build: Build) -> None:
    """Byte for byte: no command that compiles or links it depends on the option."""
    found = []
    for wanted, nvcc in [("OFF", FINE), ("ON", FINE)]:
        done = build.configure(wanted, nvcc)
        assert done.returncode == 0, done.stderr
        link = [p.read_text() for p in sorted(build.folder.rglob("_core.dir/link.txt"))]
        found.append((build.commands(), link))
        assert ("CUDA kernels by" in done.stdout) == (wanted == "ON")
    assert found[0] == found[1]


def test_without_nvcc(build: Build) -> None:
    done = build.configure("AUTO")
    assert done.returncode == 0, done.stderr
    assert "No CUDA kernels: nvcc was not found; put it on PATH" in done.stdout
    done = build.configure("1")
    assert done.returncode != 0
    assert "GDCORE_CUDA=ON, but nvcc was not found; put it on PATH" in words(done.stderr)


@pytest.mark.parametrize(
    ("nvcc", "why"),
    [
        (OLD, "is of CUDA 12.6, and the kernels need 12.8 or later; update the toolkit"),
        (BROKEN, "does not compile an empty kernel (fatal: no cicc); repair or update"),
        ("exit 1", "--version' names no release; set CUDACXX to another nvcc."),
    ],
)
def test_an_nvcc_that_does_not_serve(build: Build, nvcc: str, why: str) -> None:
    done = build.configure("AUTO", nvcc)
    assert done.returncode == 0, done.stderr
    assert why in words(done.stdout)
    done = build.configure("ON", nvcc)
    assert done.returncode != 0
    assert why in words(done.stderr)


def test_a_wrong_option(build: Build) -> None:
    done = build.configure("maybe", FINE)
    assert "GDCORE_CUDA is 'maybe'; it must be AUTO, ON or OFF." in words(done.stderr)
