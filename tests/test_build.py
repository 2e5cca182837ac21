"""The sources keep the rules that the bits stand on: per-ISA files, threads, layers, flags."""

from __future__ import annotations

import platform
import re
import shlex
import shutil
import subprocess
from functools import cache
from itertools import product
from pathlib import Path

import pytest

import gdcore as gd

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
CMAKE = (ROOT / "CMakeLists.txt").read_text()
SOURCES = sorted(p for p in CSRC.rglob("*") if p.suffix in (".cpp", ".hpp", ".h"))
ARCHITECTURES = {"x86_64": "x86_64|AMD64|amd64", "aarch64": "aarch64|arm64"}


def name_of(path: Path) -> str:
    return path.relative_to(CSRC).as_posix()


def code_of(path: Path) -> str:
    """Return a source without its comments and string contents."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.S)
    return re.sub(r'"(?:\\.|[^"\\\n])*"', lambda m: m[0] if "/" in m[0] else '""', text)


# What each instruction set's object holds, read with nm.


def isa_flags() -> dict[str, list[str]]:
    """Return the compiler flags of each instruction set, from the lines gdcore_isa(name bytes ...).

    Those in an if() on the processor count for that processor alone.
    """
    found: dict[str, list[str]] = {}
    wanted = True
    for line in CMAKE.splitlines():
        if match := re.match(r'(?:else)?if\(CMAKE_SYSTEM_PROCESSOR MATCHES "\^\((.*)\)\$"\)', line):
            wanted = match[1] == ARCHITECTURES.get(platform.machine())
        elif line.startswith(("endif()", "if(")):
            wanted = True
        elif wanted and (match := re.match(r"\s*gdcore_isa\((\w+) (\d+)(.*)\)", line)):
            name, vector, options = match.groups()
            defines = [f"-DGDCORE_ISA={name}", f"-DGDCORE_VECTOR_BYTES={vector}"]
            found[name] = [*defines, *options.split()]
    return found


def common_flags() -> list[str]:
    """Return the flags of all sources, and those of all per-ISA objects, but for optimisation."""
    everywhere = re.search(r"^add_compile_options\((.*)\)", CMAKE, re.M)
    per_isa = re.search(r"target_compile_options\(gdcore_isa_\S+ PRIVATE (.*) \$\{ARGN\}\)", CMAKE)
    standard = re.search(r"set\(CMAKE_CXX_STANDARD (\d+)\)", CMAKE)
    assert everywhere
    assert per_isa
    assert standard
    hidden = ["-fvisibility=hidden", "-fvisibility-inlines-hidden", "-fPIC"]
    return [f"-std=c++{standard[1]}", *hidden, *everywhere[1].split(), *per_isa[1].split()]


@pytest.fixture(scope="module")
def compiler() -> str:
    path = shutil.which("c++")
    if path is None or shutil.which("nm") is None:
        pytest.skip("needs c++ and nm")
    return path


@pytest.fixture(scope="module")
def objects(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Compile the kernels for each instruction set and type.

    Without optimisation: what would be inlined and so disappear is then a symbol that can be seen.
    """
    folder, made = tmp_path_factory.mktemp("objects"), {}
    for (isa, flags), suffix in product(isa_flags().items(), ("f32", "f64")):
        name = f"{isa}_{suffix}"
        made[name] = folder / f"{name}.o"
        source, out = str(CSRC / f"cpu/isa/kernels_{suffix}.cpp"), str(made[name])
        command = [compiler, *common_flags(), *flags, "-O0", f"-I{CSRC}", "-c", source, "-o", out]
        subprocess.run(command, check=True, capture_output=True)
    return made


def symbols(path: Path) -> list[tuple[str, str]]:
    """Return (type, name) of each symbol."""
    lines = subprocess.run(["nm", path], check=True, capture_output=True, text=True).stdout
    return [(kind, name) for *_, kind, name in map(shlex.split, lines.splitlines())]


def test_flags_were_found() -> None:
    assert list(isa_flags()) == gd.config()["isas_built"]
    assert "-fno-exceptions" in common_flags()
    if platform.machine() == "x86_64":
        assert "-mavx512f" in isa_flags()["avx512"]
        assert "-mavx512f" not in isa_flags()["avx2"]


def test_no_symbol_is_shared_between_instruction_sets(objects: dict[str, Path]) -> None:
    """A weak or unique symbol may be merged: AVX-512 code would then run on every machine."""
    for name, path in objects.items():
        merged = [s for kind, s in symbols(path) if kind in "VvWwuC"]
        assert merged == [], name


def test_instruction_sets_export_their_tables_alone(objects: dict[str, Path]) -> None:
    for name, path in objects.items():
        exported = {s for kind, s in symbols(path) if kind.isupper() and kind != "U"}
        assert exported == {f"_ZN6gdcore{len(f'isa_{name}')}isa_{name}E"}, name


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
    """They call nothing but memory functions, and fma where the machine has no instruction."""
    allowed = {"memcpy", "memset", "memmove", "memcmp", "_GLOBAL_OFFSET_TABLE_"}
    for name, path in objects.items():
        called = {s for kind, s in symbols(path) if kind == "U"} - allowed
        assert called <= ({"fma", "fmaf"} if name.startswith("baseline") else set()), name


def test_nm_would_see_it(compiler: str, tmp_path: Path) -> None:
    """The same check on a source that breaks each rule."""
    source, made = tmp_path / "bad.cpp", tmp_path / "bad.o"
    source.write_text(
        "#include <algorithm>\n"
        "extern int f(int); int start = f(3);\n"
        "template <class T> T twice(T x) { return x + x; }\n"
        "int use(int x) { return twice(std::max(x, start)); }\n"
    )
    subprocess.run([compiler, "-O0", "-c", "-o", made, source], check=True)
    kinds = dict((s, kind) for kind, s in symbols(made))
    assert kinds["_Z5twiceIiET_S0_"] in "Wu"
    assert any("GLOBAL__sub_I" in s for s in kinds)


# Rules on the text of the sources.


def test_every_isa_source_is_compiled() -> None:
    """Two of them; the others are their headers."""
    sources = sorted(name_of(p) for p in (CSRC / "cpu/isa").glob("*.cpp"))
    assert sources == ["cpu/isa/kernels_f32.cpp", "cpu/isa/kernels_f64.cpp"]
    assert all(f"csrc/{source}" in CMAKE for source in sources)


def test_every_source_is_built() -> None:
    for path in SOURCES:
        if path.suffix == ".cpp":
            assert f"csrc/{name_of(path)}" in CMAKE


def test_flags_of_the_contract() -> None:
    """No contraction into fma, no fast mathematics, nothing of the machine it is built on."""
    flags = [w for w in re.split(r'[\s()"]+', CMAKE) if w.startswith("-")]
    assert "-ffp-contract=off" in flags
    assert not [f for f in flags if re.match(r"-(Ofast|ffast-math|funsafe|march=native)", f)]
    assert "#error" in (CSRC / "cpu/isa/vector.hpp").read_text()
    assert re.search(r"__FAST_MATH__", (CSRC / "cpu/isa/vector.hpp").read_text())


def test_one_place_for_threads() -> None:
    for path in SOURCES:
        if path.parent == CSRC / "cpu" and path.stem == "parallel":
            continue
        found = re.findall(r"\bomp\w*|std::(?:j?thread|async)\b|\bpthread\w*", code_of(path))
        assert found == [], name_of(path)


def test_one_place_for_floating_point_modes() -> None:
    for path in SOURCES:
        if name_of(path) != "fp_env.hpp":
            assert not re.search(r"_mm_[gs]etcsr|fesetround|fesetenv|fpcr", code_of(path))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_sum_is_left_to_the_compiler(path: Path) -> None:
    code = code_of(path)
    assert not re.search(
        r"#pragma\s+omp\s+simd|reduction\s*\(\s*\+|std::reduce|atomic<(?:f|d)", code
    )
    assert not re.search(r"fp_contract|optimize\s*\(|fast-math", code, re.I)


def test_nothing_random_but_ours() -> None:
    for path in SOURCES:
        assert not re.search(r"<random>|std::shuffle|std::rand\b|\brand\(", code_of(path))


# Layers: each may include those below it, never one above.

ALLOWED: dict[str, set[str]] = {
    "bindings": {"bindings", "fit", "device", "numerics", "threads", "dispatch", "probe", "groups"},
    "fit": {"fit", "device", "numerics"},
    "device": {"device", "numerics"},
    "cpu": {
        *("cpu", "isa", "lanes", "device", "numerics"),
        *("threads", "dispatch", "probe", "groups", "plain"),
    },
    "threads": {"threads", "numerics"},
    "dispatch": {"dispatch", "table"},
    "probe": set(),
    "groups": set(),
    "isa": {"isa", "table", "lanes", "numerics"},
    "table": {"lanes", "numerics"},
    "lanes": set(),
    "reference": {"plain", "device", "numerics"},
    "plain": {"device", "numerics"},
    "numerics": {"numerics"},
}
FREESTANDING = {"cstdint", "stdint.h", "cstddef", "stddef.h", "immintrin.h", "arm_neon.h"}


def layer_of(name: str) -> str:
    """Return the layer of a file: its folder, but for the few that stand by themselves."""
    single = {
        "device.hpp": "device",
        "descend.hpp": "device",
        "host.hpp": "device",
        "contract.hpp": "numerics",
        "dims.hpp": "numerics",
        "double_double.hpp": "numerics",
        "hd.hpp": "numerics",
        "ordinary_epoch.hpp": "numerics",
        "packed_quadratic.hpp": "numerics",
        "quadratic.hpp": "numerics",
        "shuffle.hpp": "numerics",
        "fp_env.hpp": "numerics",
        "cpu/isa/table.hpp": "table",
        "cpu/dispatch.hpp": "dispatch",
        "cpu/groups.hpp": "groups",
        "cpu/lane_layout.hpp": "lanes",
        "cpu/parallel.hpp": "threads",
        "cpu/probe.hpp": "probe",
        "reference/reference.hpp": "plain",
    }
    if name in single:
        return single[name]
    folder = name.rpartition("/")[0]
    return "isa" if folder == "cpu/isa" else folder


@cache
def includes(path: Path) -> tuple[list[str], list[str]]:
    """Return the files of this project that a source includes, and the others."""
    ours, others = [], []
    for kind, name in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)', path.read_text(), re.M):
        beside = path.parent / name
        if kind == "<":
            others.append(name)
        elif (CSRC / name).exists():
            ours.append(name)
        else:
            assert beside.exists(), f"{name_of(path)} includes {name}, which is nowhere"
            ours.append(name_of(beside))
    return ours, others


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_layers(path: Path) -> None:
    """Bindings, algorithms, device table, CPU, kernels: includes go down that list only."""
    layer = layer_of(name_of(path))
    for name in includes(path)[0]:
        assert layer_of(name) in ALLOWED[layer], f"{layer} must not include {name}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_includes_have_no_cycle(path: Path) -> None:
    seen: set[str] = set()
    waiting = list(includes(path)[0])
    while waiting:
        name = waiting.pop()
        assert name != name_of(path), f"{name} includes itself"
        if name not in seen:
            seen.add(name)
            waiting += includes(CSRC / name)[0]


def test_kernels_include_no_library() -> None:
    for path in SOURCES:
        if layer_of(name_of(path)) in ("isa", "table"):
            assert set(includes(path)[1]) <= FREESTANDING, name_of(path)


def test_python_is_included_by_the_bindings_alone() -> None:
    for path in SOURCES:
        if layer_of(name_of(path)) != "bindings":
            assert not [n for n in includes(path)[1] if "pybind11" in n or "Python" in n]
            assert not re.search(r"\bpy::|Py[A-Z_]\w+\(", code_of(path))


def test_headers_are_included_once() -> None:
    for path in SOURCES:
        if path.suffix == ".hpp":
            assert re.search(r"^#pragma once", path.read_text(), re.M), name_of(path)


def test_python_holds_no_numerical_loops() -> None:
    """No import but of NumPy and the standard library, outside functions that need more."""
    extras = r"^(?:import|from) (?:torch|scipy|sklearn|numba|pandas)\b"
    for path in (ROOT / "python/gdcore").rglob("*.py"):
        assert not re.search(extras, path.read_text(), re.M), path.name


def test_algorithms_get_their_device_from_the_problem() -> None:
    """The device is where the arrays are, not one for the whole process."""
    for path in SOURCES:
        if layer_of(name_of(path)) == "fit":
            assert not re.search(r"\b(host|cpu|reference)_device\s*<", code_of(path)), path.name
