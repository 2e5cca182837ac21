"""Division by the Frobenius norm, after which all numbers are small."""

import torch
from torch import nn

SHAPE = (4, 8, 32, 32)


class Model(nn.Module):
    """The reference."""

    def forward(self, x):
        return x / torch.norm(x, p="fro")


class ModelNew(nn.Module):
    """The same, as somebody might write it for speed."""

    def forward(self, x):
        return x / x.square().sum().sqrt()


def get_inputs():
    return [torch.rand(SHAPE)]


def get_init_inputs():
    return []
