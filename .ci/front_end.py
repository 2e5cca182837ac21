"""Compile the C++ sources for platforms that are not here, up to LLVM's intermediate code.

Usage: python .ci/front_end.py BUILD_FOLDER [--jobs N]

The cross compiler is clang from the package ziglang, which brings the headers of macOS and of
Linux with musl. Every source is compiled for macOS on ARM, whose compiler, instruction set and C
library differ from Linux's on x86. For musl only the sources that include a header of the C library
are compiled. A warning counts as an error. Needs cmake, ninja and pybind11 as well.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


MACOS, MUSL = "aarch64-macos", ("aarch64-linux-musl", "x86_64-linux-musl")
C_LIBRARY = re.compile(r"#include <(sys/|dlfcn|fcntl|pthread|sched|unistd|c?signal)")


def compiler_for(target: str, build: Path) -> Path:
    """Write a command that compiles for a platform, as clang names it."""
    compiler = build / f"c++-{target}"
    clang = f'"{sys.executable}" -m ziglang c++ -target {target}'
    compiler.write_text(f'#!/bin/sh\nexec {clang} "$@"\n')
    compiler.chmod(0o755)
    return compiler


def configure(compiler: Path, build: Path) -> list[dict[str, str]]:
    """Return what CMake would run for each source on macOS."""
    pybind11 = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True, check=True
    )
    settings = {
        "CMAKE_SYSTEM_NAME": "Darwin",
        "CMAKE_SYSTEM_PROCESSOR": "arm64",
        "CMAKE_CXX_COMPILER": compiler,
        "CMAKE_CXX_FLAGS": "-O0 -Werror",
        "CMAKE_BUILD_TYPE": "None",
        "CMAKE_TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY",
        "CMAKE_INSTALL_NAME_TOOL": "install_name_tool",  # asked for, and not used
        "CMAKE_EXPORT_COMPILE_COMMANDS": "ON",
        "CMAKE_DISABLE_FIND_PACKAGE_OpenMP": "ON",
        "GDCORE_CUDA": "OFF",
        "HAS_FLTO": "OFF",  # found by linking
        "HAS_FLTO_AUTO": "OFF",
        "HAS_FLTO_THIN": "OFF",
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.stdout.strip(),
    }
    defined = [f"-D{name}={value}" for name, value in settings.items()]
    command = ["cmake", "-G", "Ninja", "-S", str(ROOT), "-B", str(build), *defined]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"cmake failed\n{done.stdout}{done.stderr}")
    found: list[dict[str, str]] = json.loads((build / "compile_commands.json").read_text())
    return found


def compile_one(entry: dict[str, str]) -> str:
    """Return what the compiler says against a source, "" if nothing."""
    words = shlex.split(entry["command"])
    folder = Path(entry["directory"])
    output = folder / words[words.index("-o") + 1]
    output.parent.mkdir(parents=True, exist_ok=True)
    words += ["-O0", "-emit-llvm"]  # half the time of machine code
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def main() -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("build", type=Path, metavar="BUILD_FOLDER")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    build = options.build.resolve()
    build.mkdir(parents=True)
    compiler = compiler_for(MACOS, build)
    every = configure(compiler, build)
    of_platform = [entry for entry in every if C_LIBRARY.search(Path(entry["file"]).read_text())]
    work = {MACOS: every}
    for target in MUSL:
        other = str(compiler_for(target, build))
        work[target] = [
            entry | {"command": entry["command"].replace(str(compiler), other)}
            for entry in of_platform
        ]
    failures = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for target, entries in work.items():
            said = [text for text in pool.map(compile_one, entries) if text]
            print(*said, sep="", end="")
            print(f"{target}: {len(entries) - len(said)} of {len(entries)} sources compile")
            failures += len(said)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
