"""Check what the compiler made of the CUDA kernels: every rounding written out, nothing spilled.

usage: python tests/native/machine_code.py KERNELS.FATBIN

Reads the PTX and the machine code that the file holds, prints a line for each kernel, and exits
with 1 and a sentence for each broken rule. It needs cuobjdump and nvdisasm: from a toolkit, or
pip install 'nvidia-cuda-cuobjdump>=13.2,<14' 'nvidia-cuda-nvdisasm>=13.2,<14'
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MOST_BYTES = 2_000_000
ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "sm_120")
PRECISE = r"^(div|rcp|sqrt)\.rn\.f32"  # what ptxas expands into code that flushes on purpose

# What no kernel may hold, by what it is. Patterns are of PTX without predicates.
IN_PTX = {
    "a rounding that is left open": r"^(add|sub|mul|mad|fma)(\.sat)?\.f(32|64)",
    "a rounding other than to nearest": r"^(add|sub|mul|mad|fma|div|rcp|sqrt)\.r[zmp]\b",
    "a flush to zero": r"^\S+\.ftz\b",
    "an approximation": r"^\S+\.(approx|full)\b",
    "an atomic operation": r"^(atom|red)\.",
    "tensor cores that are not of float64": r"^(wmma|mma|wgmma|tcgen05)\.(?!sync\S*(\.f64){4})",
}
IN_MACHINE_CODE = {
    "local memory": r"^(LDL|STL)\b",
    "an atomic operation": r"^(ATOM|ATOMS|ATOMG|RED|REDG|REDAS)\b",
    # The reciprocals are where IEEE division and square root begin.
    "an approximation": r"^MUFU\.(?!RCP\b|RCP64H\b|RSQ\b|RSQ64H\b)",
    "tensor cores that are not of float64": r"^(?!DMMA)\w*MMA\b",
}
FLUSH = r"^F(ADD|MUL|FMA|SETP|SET|MNMX|SEL)\S*\.FTZ\b"
FUSED = ("FFMA", "DFMA", "DMMA", "FFMA2")


class ToolMissingError(Exception):
    """A program of the toolkit is not there."""


def tool(name: str) -> str:
    """Find a program of the CUDA toolkit: by its variable, on PATH, beside nvcc, in packages."""
    given = os.environ.get(name.upper())
    nvcc = shutil.which("nvcc")
    folders = [Path(nvcc).resolve().parent] if nvcc else []
    folders += [
        Path(sysconfig.get_path("platlib")) / "nvidia/cu13/bin",
        Path("/usr/local/cuda/bin"),
    ]
    found = given or shutil.which(name)
    found = found or shutil.which(name, path=os.pathsep.join(map(str, folders)))
    if not found:
        raise ToolMissingError(
            f"{name} was not found; put it on PATH, or run pip install "
            f"'nvidia-cuda-cuobjdump>=13.2,<14' 'nvidia-cuda-nvdisasm>=13.2,<14'."
        )
    return found


def dump(fatbin: Path, what: str) -> str:
    """Return what cuobjdump prints of a file: "ptx", "sass" or "res-usage"."""
    folder = str(Path(tool("nvdisasm")).parent)  # cuobjdump looks for it on PATH
    environment = {**os.environ, "PATH": os.pathsep.join([folder, os.environ.get("PATH", "")])}
    command = [tool("cuobjdump"), f"-{what}", str(fatbin)]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout


@dataclass(frozen=True)
class Instruction:
    """One instruction of machine code: where it is, its name with suffixes, where it jumps."""

    address: int
    name: str
    target: int | None = None

    @property
    def base(self) -> str:
        return self.name.partition(".")[0]


@dataclass
class Kernel:
    """A kernel compiled for one architecture."""

    name: str
    architecture: str
    code: list[Instruction] = field(default_factory=list)
    registers: int = 0

    def loop_share(self) -> float:
        """Return the share of fused products in the main loop.

        That is the shortest one with half as many of them as any loop has.
        """
        at = {one.address: i for i, one in enumerate(self.code)}
        loops = []
        for end, one in enumerate(self.code):
            start = at.get(one.target, end) if one.target is not None else end
            if start < end:
                loops.append((end + 1 - start, _fused(self.code[start : end + 1])))
        most = max((fused for _, fused in loops), default=0)
        length, fused = min((each for each in loops if 2 * each[1] >= most), default=(1, 0))
        return fused / length

    def tile_share(self) -> float:
        """Return their share in the stretch without a jump or barrier that holds the most."""
        targets = {one.target for one in self.code}
        best, share, start = 0, 0.0, 0
        for i, one in enumerate(self.code):
            if one.address in targets or one.base in ("BRA", "BAR", "EXIT", "CALL"):
                fused = _fused(self.code[start:i])
                if fused > best:
                    best, share = fused, fused / (i - start)
                start = i + (one.address not in targets)
        return share


def _fused(code: list[Instruction]) -> int:
    return sum(one.base in FUSED for one in code)


def read_machine_code(text: str) -> Iterator[Kernel]:
    """Read what cuobjdump -sass prints."""
    architecture, kernel = "", None
    for line in text.splitlines():
        if header := re.match(r"\s*(?:arch = |code for )(sm_\w+)", line):
            architecture = header[1]
        elif header := re.match(r"\s*Function : (\S+)", line):
            if kernel:
                yield kernel
            kernel = Kernel(header[1], architecture)
        elif kernel and (
            found := re.match(
                r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)\s*(.*?);", line
            )
        ):
            target = re.search(r"(0x[0-9a-f]+)\s*$", found[3])
            jumps = found[2].startswith("BRA") and target
            kernel.code.append(
                Instruction(int(found[1], 16), found[2], int(target[1], 16) if jumps else None)
            )
    if kernel:
        yield kernel


def read_registers(text: str) -> dict[tuple[str, str], int]:
    """Read what cuobjdump -res-usage prints, by kernel and architecture."""
    found, architecture, name = {}, "", ""
    for line in text.splitlines():
        if header := re.match(r"\s*(?:arch = |code for )(sm_\w+)", line):
            architecture = header[1]
        elif header := re.match(r"\s*Function (\S+):", line):
            name = header[1]
        elif registers := re.match(r"\s*REG:(\d+)", line):
            found[name, architecture] = int(registers[1])
    return found


def read_ptx(text: str) -> dict[str, list[str]]:
    """Return the instructions of each kernel or function, without predicates."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        # A function's return value stands before its name: .func (.param ...) name(
        if head := re.match(r"\s*(?:\.\w+\s+)*\.(?:entry|func)\s+(?:\(.*?\)\s*)?([\w$]+)", line):
            lines = found.setdefault(head[1], [])
        elif one := re.match(r"\s*(?:\{\s*)?(?:@!?%\w+\s+)?([a-z]\w*\.[\w.:]+)", line):
            lines.append(one[1])
    return found


def broken_in_ptx(name: str, instructions: list[str]) -> Iterator[str]:
    """Say which rules the PTX of a kernel breaks."""
    for what, pattern in IN_PTX.items():
        if seen := sorted({one for one in instructions if re.match(pattern, one)}):
            yield f"the PTX of {name} has {what}: {', '.join(seen)}."


def broken_in_machine_code(kernel: Kernel, precise: bool) -> Iterator[str]:
    """Say which rules a kernel's machine code breaks; `precise`: it divides float32 numbers."""
    rules = IN_MACHINE_CODE if precise else {**IN_MACHINE_CODE, "a flush to zero": FLUSH}
    for what, pattern in rules.items():
        if seen := sorted({one.name for one in kernel.code if re.match(pattern, one.name)}):
            yield f"{kernel.name} for {kernel.architecture} has {what}: {', '.join(seen)}."


def check(fatbin: Path) -> list[str]:
    """Print a table of the kernels of a file; return a sentence for each broken rule."""
    broken = []
    if (size := fatbin.stat().st_size) > MOST_BYTES:
        broken.append(f"{fatbin} has {size} bytes; at most {MOST_BYTES} are allowed.")
    ptx = read_ptx(dump(fatbin, "ptx"))
    for name, instructions in ptx.items():
        broken += broken_in_ptx(name, instructions)
    registers = read_registers(dump(fatbin, "res-usage"))
    table: dict[str, dict[str, Kernel]] = {}
    for kernel in read_machine_code(dump(fatbin, "sass")):
        kernel.registers = registers.get((kernel.name, kernel.architecture), 0)
        table.setdefault(kernel.name, {})[kernel.architecture] = kernel
        precise = any(re.match(PRECISE, one) for one in ptx.get(kernel.name, []))
        broken += broken_in_machine_code(kernel, precise)
    broken += [
        f"{name} is not compiled for {architecture}."
        for name in table
        for architecture in ARCHITECTURES
        if architecture not in table[name]
    ]
    _print(table, size)
    return broken


def _print(table: dict[str, dict[str, Kernel]], size: int) -> None:
    print("registers, and the share of fused products in the main loop / in the fullest stretch")
    print(f"{'kernel':34}" + "".join(f"{each:>20}" for each in ARCHITECTURES))
    for name, kernels in sorted(table.items()):
        cells = (
            f"{each.registers:4d} {each.loop_share():5.0%} /{each.tile_share():5.0%}"
            for each in (kernels.get(architecture) for architecture in ARCHITECTURES)
            if each
        )
        print(f"{name:34}" + "".join(f"{cell:>20}" for cell in cells))
    print(f"{len(table)} kernels, {size / 1e6:.2f} MB")


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 2
    try:
        broken = check(Path(sys.argv[1]))
    except (ToolMissingError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(broken) if broken else "No rule is broken.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
