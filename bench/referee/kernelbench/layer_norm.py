"""Layer norm with weights."""

import torch
from torch import nn

ROWS, COLUMNS = 32, 512


class Model(nn.Module):
    """The reference."""

    def __init__(self, features):
        super().__init__()
        self.norm = nn.LayerNorm(features)

    def forward(self, x):
        return self.norm(x)


class ModelNew(nn.Module):
    """The same, as somebody might write it for speed."""

    def __init__(self, features):
        super().__init__()
        self.norm = nn.LayerNorm(features)

    def forward(self, x):
        d = x - x.mean(-1, keepdim=True)
        scale = torch.rsqrt((d * d).mean(-1, keepdim=True) + self.norm.eps)
        return d * scale * self.norm.weight + self.norm.bias


def get_inputs():
    return [torch.rand(ROWS, COLUMNS)]


def get_init_inputs():
    return [COLUMNS]
