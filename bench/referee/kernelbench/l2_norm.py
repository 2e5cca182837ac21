"""Division of rows by their length, after which all numbers are small."""

import torch
from torch import nn

ROWS, COLUMNS = 2, 32768


class Model(nn.Module):
    """The reference."""

    def forward(self, x):
        return x / torch.norm(x, p=2, dim=1, keepdim=True)


class ModelNew(nn.Module):
    """The same, as somebody might write it for speed."""

    def forward(self, x):
        return x * torch.rsqrt(x.square().sum(1, keepdim=True))


def get_inputs():
    return [torch.rand(ROWS, COLUMNS)]


def get_init_inputs():
    return []
