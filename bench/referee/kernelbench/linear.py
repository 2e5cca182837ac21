"""A linear layer, whose weights are drawn by its own constructor."""

import torch
from torch import nn

ROWS, FEATURES, OUTPUTS = 64, 256, 96


class Model(nn.Module):
    """The reference."""

    def __init__(self, features, outputs):
        super().__init__()
        self.layer = nn.Linear(features, outputs)

    def forward(self, x):
        return self.layer(x)


class ModelNew(nn.Module):
    """The same, as somebody might write it for speed."""

    def __init__(self, features, outputs):
        super().__init__()
        self.layer = nn.Linear(features, outputs)

    def forward(self, x):
        return torch.addmm(self.layer.bias, x, self.layer.weight.t())


def get_inputs():
    return [torch.randn(ROWS, FEATURES)]


def get_init_inputs():
    return [FEATURES, OUTPUTS]
