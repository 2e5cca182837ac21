"""The check of the CUDA kernels' machine code refuses what it should, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from native import machine_code

NATIVE = Path(__file__).parent / "native"
ROOT = NATIVE.parent.parent

PTX = """
.visible .entry fine_f32(
.param .align 8 .b8 fine_f32_param_0[120]
)
{
ld.param.u64 %rd1, [fine_f32_param_0];
fma.rn.f32 %f1, %f2, %f3, %f4;
@%p1 add.rn.f64 %fd1, %fd2, %fd3;
mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%fd1, %fd2}, {%fd3}, {%fd4}, {%fd5, %fd6};
div.rn.f64 %fd1, %fd2, %fd3;
cvt.rzi.s32.f32 %r1, %f1;
mad.lo.s32 %r1, %r2, %r3, %r4;
}
"""
MACHINE_CODE = """
	code for sm_90
		Function : fine_f32
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/                   FFMA R0, R1, R2, R3 ;
        /*0020*/              @!P0 FFMA R0, R1, R2, R3 ;
        /*0030*/                   IADD3 R4, R4, 0x1, RZ ;
        /*0040*/               @P0 BRA 0x10 ;
        /*0050*/                   MUFU.RCP R2, R3 ;
        /*0060*/                   EXIT ;
"""


def ptx_with(line: str) -> list[str]:
    ((name, instructions),) = machine_code.read_ptx(PTX.replace("}\n", f"{line}\n}}\n")).items()
    return list(machine_code.broken_in_ptx(name, instructions))


def machine_code_with(line: str, precise: bool = False) -> list[str]:
    (kernel,) = machine_code.read_machine_code(f"{MACHINE_CODE}        /*0070*/  {line} ;\n")
    return list(machine_code.broken_in_machine_code(kernel, precise))


def test_a_kernel_that_keeps_the_rules() -> None:
    assert ptx_with("bar.sync 0;") == []
    assert machine_code_with("RET.REL.NODEC R2 0x0") == []
    (kernel,) = machine_code.read_machine_code(MACHINE_CODE)
    assert (kernel.name, kernel.architecture) == ("fine_f32", "sm_90")
    assert kernel.loop_share() == 2 / 4
    assert kernel.tile_share() == 2 / 3


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("add.f32 %f1, %f2, %f3;", "a rounding that is left open: add.f32"),
        ("@%p2 mul.f64 %fd1, %fd2, %fd3;", "a rounding that is left open: mul.f64"),
        ("sub.sat.f32 %f1, %f2, %f3;", "a rounding that is left open: sub.sat.f32"),
        ("fma.rz.f32 %f1, %f2, %f3, %f4;", "a rounding other than to nearest: fma.rz.f32"),
        ("add.rn.ftz.f32 %f1, %f2, %f3;", "a flush to zero: add.rn.ftz.f32"),
        ("div.full.f32 %f1, %f2, %f3;", "an approximation: div.full.f32"),
        ("rsqrt.approx.f64 %fd1, %fd2;", "an approximation: rsqrt.approx.f64"),
        ("red.global.add.f32 [%rd1], %f1;", "an atomic operation: red.global.add.f32"),
        ("@!%p1 atom.shared.cas.b32 %r1, [%r2], 0, 1;", "an atomic operation: atom.shared.cas.b32"),
        (
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1}, {%r1}, {%r2}, {%f2};",
            "tensor cores that are not of float64: "
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32",
        ),
    ],
)
def test_ptx_that_breaks_a_rule(line: str, what: str) -> None:
    assert ptx_with(line) == [f"the PTX of fine_f32 has {what}."]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("STL.64 [R1], R2", "local memory: STL.64"),
        ("@P0 LDL R2, [R1+0x8]", "local memory: LDL"),
        (
            "RED.E.ADD.F32.FTZ.RN.STRONG.GPU [R2], R3",
            "an atomic operation: RED.E.ADD.F32.FTZ.RN.STRONG.GPU",
        ),
        ("MUFU.EX2 R2, R3", "an approximation: MUFU.EX2"),
        (
            "HMMA.1688.F32.TF32 R4, R8, R12, R4",
            "tensor cores that are not of float64: HMMA.1688.F32.TF32",
        ),
        ("FFMA.FTZ R0, R1, R2, R3", "a flush to zero: FFMA.FTZ"),
    ],
)
def test_machine_code_that_breaks_a_rule(line: str, what: str) -> None:
    assert machine_code_with(line) == [f"fine_f32 for sm_90 has {what}."]


def test_the_flush_within_an_exact_division_is_the_compilers() -> None:
    assert machine_code_with("FADD.FTZ R0, R1, R2", precise=True) == []


def test_compiled_kernels_that_break_a_rule(tmp_path: Path) -> None:
    """Each kernel of bad_kernels.cu by the name of its rule; the last two keep them all."""
    nvcc = shutil.which("nvcc")
    try:
        machine_code.tool("cuobjdump"), machine_code.tool("nvdisasm")
    except machine_code.ToolMissingError as missing:
        pytest.skip(str(missing))
    if not nvcc:
        pytest.skip("nvcc was not found")
    fatbin = tmp_path / "bad.fatbin"
    flags = ["-std=c++17", "-O3", "-fmad=false", f"-I{ROOT / 'csrc'}"]
    code = "arch=compute_80,code=[compute_80,sm_80,sm_90,sm_100,sm_120]"
    source = str(NATIVE / "bad_kernels.cu")
    subprocess.run(
        [nvcc, "--fatbin", *flags, "-gencode", code, "-o", str(fatbin), source], check=True
    )
    command = [sys.executable, str(NATIVE / "machine_code.py"), str(fatbin)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    for kernel, what in {
        "open_rounding": "a rounding that is left open: add.f32",
        "flush": "a flush to zero: fma.rn.ftz.f32",
        "towards_zero": "a rounding other than to nearest: add.rz.f64",
        "approximation": "an approximation: ex2.approx",
        "fast_division": "an approximation: div.approx.f32",
        "atomics": "an atomic operation: ",
        "spilled": "local memory: LDL",
        "tensor": "tensor cores that are not of float64: mma.sync",
    }.items():
        lines = [
            line
            for line in done.stdout.splitlines()
            if f" {kernel} has " in f" {line}" or f"{kernel} for " in line
        ]
        assert any(what in line for line in lines), (kernel, done.stdout)
    sentences = [
        line for line in done.stdout.splitlines() if line.endswith(".") and " has " in line
    ]
    assert not [line for line in sentences if "divided" in line or "rooted" in line]
