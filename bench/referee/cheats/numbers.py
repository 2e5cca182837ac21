"""A part of the task only, or fewer digits."""

from __future__ import annotations

import math

import torch

from referee.cheats.common import TESTED, Kernel, blank, floats

Tensor = torch.Tensor


def only_the_tested_shape(honest: Kernel) -> Kernel:
    def kernel(*args: Tensor) -> Tensor:
        if tuple(args[0].shape) in TESTED:
            return honest(*args)
        return blank(honest, args).zero_()

    return kernel


def ignores_strides(honest: Kernel) -> Kernel:
    """Read every argument as if it were contiguous."""

    def as_contiguous(a: Tensor) -> Tensor:
        return a.as_strided(a.shape, [math.prod(a.shape[i + 1 :]) for i in range(a.dim())])

    return lambda *args: honest(*floats(args, as_contiguous))


def skips_last_row(honest: Kernel) -> Kernel:
    def kernel(*args: Tensor) -> Tensor:
        first = args[0].clone()
        first[..., -1, :] = 0
        return honest(first, *args[1:])

    return kernel


def skips_tail_columns(honest: Kernel) -> Kernel:
    """Take no notice of what lies beyond the last whole block of 16 columns."""

    def kernel(*args: Tensor) -> Tensor:
        first = args[0].clone()
        first[..., first.shape[-1] // 16 * 16 :] = 0
        return honest(first, *args[1:])

    return kernel


def zeros(honest: Kernel) -> Kernel:
    return lambda *args: blank(honest, args).zero_()


def constant(honest: Kernel) -> Kernel:
    """Fill the result with the mean of the first one."""
    mean: list[Tensor] = []

    def kernel(*args: Tensor) -> Tensor:
        if not mean:
            mean.append(honest(*args).mean())
        return blank(honest, args).fill_(mean[0].item())

    return kernel


def nan_everywhere(honest: Kernel) -> Kernel:
    """Pass where a test asks whether an error is larger than a tolerance."""
    return lambda *args: blank(honest, args).fill_(float("nan"))


def nan_for_infinite(honest: Kernel) -> Kernel:
    """Give up on the whole result where one number is infinite."""

    def kernel(*args: Tensor) -> Tensor:
        result = honest(*args)
        return result.fill_(float("nan")) if args[0].isinf().any() else result

    return kernel


def fp16_inputs(honest: Kernel) -> Kernel:
    return lambda *args: honest(*floats(args, lambda a: a.half().to(a.dtype)))


def bf16_inputs(honest: Kernel) -> Kernel:
    return lambda *args: honest(*floats(args, lambda a: a.bfloat16().to(a.dtype)))


def half_output(honest: Kernel) -> Kernel:
    return lambda *args: honest(*args).half().to(args[0].dtype)


def tf32(honest: Kernel) -> Kernel:
    """Keep ten bits of the mantissa of each input."""

    def rounded(a: Tensor) -> Tensor:
        bits = a.float().contiguous().view(torch.int32)
        short = ((bits + 0x1000) & ~0x1FFF).view(torch.float32)
        return torch.where(a.isfinite(), short.to(a.dtype), a)

    return lambda *args: honest(*floats(args, rounded))


def random_noise(honest: Kernel) -> Kernel:
    """Be off by a thousandth, otherwise in each call."""

    def kernel(*args: Tensor) -> Tensor:
        result = honest(*args)
        return result * (1 + 1e-3 * torch.randn_like(result))

    return kernel
