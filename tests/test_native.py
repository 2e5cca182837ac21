"""The core without Python, compiled once: its symbols, and the digests of all that it computes.

Nothing is optimised. That compiles in a fifth of the time and promises the same bits, and what
would be inlined, and so disappear, is a symbol that can be seen.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import gdcore as gd

ROOT = Path(__file__).parent.parent
if not (ROOT / "CMakeLists.txt").is_file() or not shutil.which("cmake"):
    pytest.skip("needs a checkout and CMake", allow_module_level=True)

pytestmark = pytest.mark.timeout(1200)  # every kernel is compiled


def build(folder: Path, *options: str) -> Path:
    """Build the program that prints the digests, and return its folder."""
    quickly = ["-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O0", "-DGDCORE_DIGEST=ON"]
    quickly += ["-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"]
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), *quickly, *options]
    subprocess.run(configure, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", str(folder), "-j2"], check=True, capture_output=True)
    return folder


def digests(*command: str) -> dict[str, str]:
    """Return the digest of each instruction set."""
    lines = subprocess.check_output(command, text=True).splitlines()
    return {isa: digest for digest, isa in map(str.split, lines)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def here(built: Path) -> dict[str, str]:
    return digests(str(built / "gdcore_digest"))


# Digests.


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
    there = digests("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", str(program / "gdcore_digest"))
    assert "neon" in there
    assert set(there.values()) == {here["reference"]}


def test_the_cuda_device_has_the_bits_of_the_reference(built: Path, emulated_driver: str) -> None:
    """On the emulated driver, threads in three orders; .ci/run's stage cuda runs every case."""
    for order in "0", "1", "7":
        done = subprocess.run(
            [built / "gdcore_cuda_operations", "--few"],
            env=os.environ | {"GDCORE_CUDA_DRIVER": emulated_driver, "EMULATION_ORDER": order},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-1000:]
        assert re.fullmatch(r"\d{3,} cases, 0 failures", done.stdout.splitlines()[-1])


# What the object of each instruction set holds, read with nm.


@pytest.fixture(scope="module")
def objects(built: Path) -> dict[str, Path]:
    """Return the objects of each instruction set, such as avx2_f32, avx2_f64 and avx2_losses."""
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    found = {}
    for path in built.glob("CMakeFiles/gdcore_isa_*.dir/**/*.o"):
        isa = path.relative_to(built / "CMakeFiles").parts[0].removesuffix(".dir")
        unit = path.stem.removesuffix(".cpp").rpartition("_")[2]
        found[isa.removeprefix("gdcore_isa_") + "_" + unit] = path
    return found


def table(name: str) -> str:
    """Return the symbol of a variable of the namespace gdcore."""
    return f"_ZN6gdcore{len(name)}{name}E"


def flags_of(built: Path, isa: str) -> list[str]:
    """Return the words of the command that compiled the float32 kernels of an instruction set."""
    commands = json.loads((built / "compile_commands.json").read_text())
    target = f"gdcore_isa_{isa}.dir"
    (command,) = (
        each["command"]
        for each in commands
        if each["file"].endswith("kernels_f32.cpp") and target in each["command"]
    )
    return shlex.split(command)


def symbols(path: Path) -> list[tuple[str, str]]:
    """Return (type, name) of each symbol."""
    lines = subprocess.run(["nm", path], check=True, capture_output=True, text=True).stdout
    return [(kind, name) for *_, kind, name in map(shlex.split, lines.splitlines())]


def test_every_instruction_set_has_its_flags(built: Path, objects: dict[str, Path]) -> None:
    isas = gd.config()["isas_built"]
    assert set(objects) == {f"{isa}_{unit}" for isa in isas for unit in ("f32", "f64", "losses")}
    for isa in isas:
        assert "-fno-exceptions" in flags_of(built, isa)
    if platform.machine() == "x86_64":
        assert "-mavx512f" in flags_of(built, "avx512")
        assert "-mavx512f" not in flags_of(built, "avx2")


def test_no_symbol_is_shared_between_instruction_sets(objects: dict[str, Path]) -> None:
    """A weak or unique symbol may be merged: AVX-512 code would then run on every machine."""
    for name, path in objects.items():
        merged = [s for kind, s in symbols(path) if kind in "VvWwuC"]
        assert merged == [], name


def test_instruction_sets_export_only_their_tables(objects: dict[str, Path]) -> None:
    for name, path in objects.items():
        exported = {s for kind, s in symbols(path) if kind.isupper() and kind != "U"}
        tables = {f"isa_{name}"}
        if name.endswith("_losses"):
            isa = name.removesuffix("_losses")
            tables = {f"losses_{isa}_{suffix}" for suffix in ("f32", "f64")}
        assert exported == set(map(table, tables)), name


def test_nothing_runs_at_load(objects: dict[str, Path]) -> None:
    """Dynamic initialisers would run the newest instructions on a machine that has none."""
    for name, path in objects.items():
        names = [s for _, s in symbols(path)]
        assert not [s for s in names if "GLOBAL__sub_I" in s or "static_init" in s], name
        assert not [s for s in names if "cxa_atexit" in s or "cxa_guard" in s], name
        if shutil.which("objdump"):
            listed = ["objdump", "-h", str(path)]
            headers = subprocess.run(listed, check=True, capture_output=True, text=True).stdout
            assert not re.search(r"\.(init_array|ctors|preinit_array)", headers), name


def test_kernels_are_freestanding(objects: dict[str, Path]) -> None:
    """They call memory functions only, and fma where the machine has no such instruction."""
    allowed = {"memcpy", "memset", "memmove", "memcmp", "_GLOBAL_OFFSET_TABLE_"}
    for name, path in objects.items():
        called = {s for kind, s in symbols(path) if kind == "U"} - allowed
        called.discard(table(f"losses_{name}"))
        assert called <= ({"fma", "fmaf"} if name.startswith("baseline") else set()), name


def test_nm_shows_a_source_that_breaks_each_rule(tmp_path: Path) -> None:
    compiler = shutil.which("c++")
    if compiler is None or shutil.which("nm") is None:
        pytest.skip("needs c++ and nm")
    source, made = tmp_path / "bad.cpp", tmp_path / "bad.o"
    source.write_text(
        "#include <algorithm>\n"
        "extern int f(int); int start = f(3);\n"
        "template <class T> T twice(T x) { return x + x; }\n"
        "int use(int x) { return twice(std::max(x, start)); }\n"
    )
    subprocess.run([compiler, "-O0", "-c", "-o", made, source], check=True)
    kinds = {s: kind for kind, s in symbols(made)}
    assert kinds["_Z5twiceIiET_S0_"] in "Wu"
    assert any("GLOBAL__sub_I" in s for s in kinds)


# The other engine of threads, last: it replaces the program.


def test_openmp_has_the_digest_of_the_reference(built: Path, here: dict[str, str]) -> None:
    if not gd.config()["openmp"]:
        pytest.skip("built without OpenMP")
    assert digests(str(build(built, "-DGDCORE_THREADS=openmp") / "gdcore_digest")) == here
