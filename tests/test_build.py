"""The sources keep the rules that the bits stand on: per-ISA files, threads, layers, flags."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
CMAKE = (ROOT / "CMakeLists.txt").read_text()
SOURCES = sorted(p for p in CSRC.rglob("*") if p.suffix in (".cpp", ".hpp", ".h", ".cu"))
KERNELS = [p for p in SOURCES if p.parent == CSRC / "cuda/kernels"]


def name_of(path: Path) -> str:
    return path.relative_to(CSRC).as_posix()


def code_of(path: Path) -> str:
    """Return a source without its comments and string contents."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.S)
    return re.sub(r'"(?:\\.|[^"\\\n])*"', lambda m: m[0] if "/" in m[0] else '""', text)


def breaking(rule: str, paths: list[Path] = SOURCES, flags: int = 0) -> list[tuple[str, str]]:
    """Return (source, what was found) of each source whose code matches a pattern."""
    found = ((name_of(path), re.search(rule, code_of(path), flags)) for path in paths)
    return [(name, match[0]) for name, match in found if match]


# Rules on the text of the sources.


def test_every_isa_source_is_compiled() -> None:
    """There are three; all other files of the folder are their headers."""
    sources = sorted(name_of(p) for p in (CSRC / "cpu/isa").glob("*.cpp"))
    names = "kernels_f32", "kernels_f64", "other_losses"
    assert sources == [f"cpu/isa/{name}.cpp" for name in names]
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
    names = ("openmp.cpp", "os_thread.cpp", "os_thread.hpp", "pool.cpp", "process_cpus.cpp")
    theirs = {f"cpu/{name}" for name in (*names, "threads.cpp")}
    elsewhere = [p for p in SOURCES if name_of(p) not in theirs]
    threads = r"\bomp\w*|std::(?:j?thread|this_thread|async)\b|\bpthread_(?!atfork)\w*"
    assert breaking(threads, elsewhere) == []


def test_one_place_for_floating_point_modes() -> None:
    elsewhere = [p for p in SOURCES if name_of(p) != "fp_env.hpp"]
    assert breaking(r"_mm_[gs]etcsr|fesetround|fesetenv|fpcr", elsewhere) == []


def test_no_sum_is_left_to_the_compiler() -> None:
    sums = r"#pragma\s+omp\s+simd|reduction\s*\(\s*\+|std::reduce|atomic<(?:f|d)"
    assert breaking(sums) == []
    assert breaking(r"fp_contract|optimize\s*\(|fast-math", flags=re.I) == []


def test_no_random_numbers_of_the_standard_library() -> None:
    assert breaking(r"<random>|std::shuffle|std::rand\b|\brand\(") == []


# Layers: each may include those below it, never one above.

ALLOWED: dict[str, set[str]] = {
    "bindings": {
        *("bindings", "fit", "cuda", "device", "numerics"),
        *("threads", "dispatch", "probe", "groups"),
    },
    "fit": {"fit", "device", "numerics"},
    "device": {"device", "numerics"},
    "cpu": {
        *("cpu", "isa", "table", "lanes", "device", "numerics"),
        *("threads", "dispatch", "probe", "groups", "plain"),
    },
    "cuda": {"cuda", "params", "device", "numerics"},
    "cuda/kernels": {"cuda/kernels", "params", "numerics"},
    "params": {"params", "numerics"},
    "threads": {"threads", "numerics"},
    "dispatch": {"dispatch", "table"},
    "probe": set(),
    "groups": {"device", "numerics"},
    "isa": {"isa", "table", "lanes", "numerics"},
    "table": {"lanes", "numerics"},
    "lanes": set(),
    "reference": {"plain", "device", "numerics"},
    "plain": {"device", "numerics"},
    "numerics": {"numerics"},
}
FREESTANDING = {"cstdint", "stdint.h", "cstddef", "stddef.h", "immintrin.h", "arm_neon.h"}
EMULATION = "emulation.hpp"  # of the tests, where no compiler of CUDA's reads the kernels


def layer_of(name: str) -> str:
    """Return the layer of a file: its folder, but for the few that stand by themselves."""
    single = {
        "device.hpp": "device",
        "descend.hpp": "device",
        "grouped_rows.hpp": "device",
        "host.hpp": "device",
        "contract.hpp": "numerics",
        "dims.hpp": "numerics",
        "double_double.hpp": "numerics",
        "hd.hpp": "numerics",
        "loss.hpp": "numerics",
        "ordinary_epoch.hpp": "numerics",
        "packed_quadratic.hpp": "numerics",
        "quadratic.hpp": "numerics",
        "shuffle.hpp": "numerics",
        "sums.hpp": "numerics",
        "views.hpp": "numerics",
        "fp_env.hpp": "numerics",
        "cpu/isa/table.hpp": "table",
        "cpu/dispatch.hpp": "dispatch",
        "cpu/groups.hpp": "groups",
        "cpu/lane_layout.hpp": "lanes",
        "cpu/parallel.hpp": "threads",
        "cpu/threads.hpp": "threads",
        "cpu/probe.hpp": "probe",
        "cpu/row_ids.hpp": "groups",
        "reference/reference.hpp": "plain",
    }
    if name in single:
        return single[name]
    if name.endswith("_params.hpp"):
        return "params"
    folder = name.rpartition("/")[0]
    return "isa" if folder == "cpu/isa" else folder


@cache
def includes(path: Path) -> tuple[list[str], list[str]]:
    """Return the project's files that a source includes, and all others it includes."""
    ours, others = [], []
    for kind, name in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)', path.read_text(), re.M):
        beside = path.parent / name
        if kind == "<":
            others.append(name)
        elif name == EMULATION:
            assert name_of(path) == "cuda/kernels/language.hpp", path
        elif (CSRC / name).exists():
            ours.append(name)
        else:
            assert beside.exists(), f"{name_of(path)} includes {name}, which is nowhere"
            ours.append(name_of(beside))
    return ours, others


def test_layers() -> None:
    """Bindings, algorithms, device table, CPU or CUDA, kernels: includes go down only."""
    upwards = [
        f"{name_of(path)} includes {name}"
        for path in SOURCES
        for name in includes(path)[0]
        if layer_of(name) not in ALLOWED[layer_of(name_of(path))]
    ]
    assert upwards == []


def test_includes_have_no_cycle() -> None:
    circular = []
    for path in SOURCES:
        seen: set[str] = set()
        waiting = list(includes(path)[0])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += includes(CSRC / name)[0]
        if name_of(path) in seen:
            circular.append(name_of(path))
    assert circular == []


def test_kernels_include_no_library() -> None:
    for path in SOURCES:
        if layer_of(name_of(path)) in ("isa", "table"):
            assert set(includes(path)[1]) <= FREESTANDING, name_of(path)


def test_cuda_kernels_include_what_a_gpu_compiles() -> None:
    """Headers of both machines mark their functions, or hold plain structs only."""
    structs = {"views.hpp"}
    for path in KERNELS:
        assert set(includes(path)[1]) <= FREESTANDING | {"type_traits", "limits"}, path
        for name in includes(path)[0]:
            ours = name.startswith("cuda/kernels/")
            marked = name in structs or "GDCORE_HD" in (CSRC / name).read_text()
            assert ours or marked, (path, name)


def test_cuda_kernels_share_nothing_between_blocks() -> None:
    """Whatever blocks exchange while they run depends on their order."""
    assert breaking(r"\batomic\w*|__threadfence\w*|cooperative_groups|\bvolatile\b", KERNELS) == []


def test_cuda_kernels_round_to_nearest() -> None:
    other_roundings = r"__[fd](?:add|sub|mul|div|sqrt|ma|maf)_r[udz]\b|__\w+2\w+_r[udz]\b"
    assert breaking(other_roundings + r"|__fdividef|__(?:exp|log|pow)f|__frsqrt", KERNELS) == []


def test_cuda_is_opened_by_its_driver_alone() -> None:
    """No header or library of CUDA's: the driver is opened when it is first asked for."""
    others = [path for path in SOURCES if path.parent != CSRC / "cuda"]
    assert breaking(r"\bcu[A-Z]\w+\s*\(|\bcuda[A-Z]\w+\s*\(", others) == []
    for path in SOURCES:
        assert not [n for n in includes(path)[1] if n.startswith(("cuda", "nv"))], path


def test_python_is_included_by_the_bindings_alone() -> None:
    others = [path for path in SOURCES if layer_of(name_of(path)) != "bindings"]
    for path in others:
        assert not [n for n in includes(path)[1] if "pybind11" in n or "Python" in n], path
    assert breaking(r"\bpy::|Py[A-Z_]\w+\(", others) == []


def test_headers_are_included_once() -> None:
    headers = [path for path in SOURCES if path.suffix == ".hpp"]
    assert [p for p in headers if not re.search(r"^#pragma once", p.read_text(), re.M)] == []


def test_python_holds_no_numerical_loops() -> None:
    """Modules import NumPy and the standard library; functions that need more import it."""
    extras = r"^(?:import|from) (?:torch|scipy|sklearn|numba|pandas)\b"
    for path in (ROOT / "python/gdcore").rglob("*.py"):
        if path.parent.name != "sklearn":  # its classes derive from scikit-learn's
            assert not re.search(extras, path.read_text(), re.M), path.name


def test_algorithms_get_their_device_from_the_problem() -> None:
    """The device is where the arrays are, not one for the whole process."""
    for path in SOURCES:
        if layer_of(name_of(path)) == "fit":
            assert not re.search(r"\b(host|cpu|reference)_device\s*<", code_of(path)), path.name
