"""The mean squared difference of two matrices."""

import torch
from torch import nn

ROWS, COLUMNS = 32, 1024


class Model(nn.Module):
    """The reference."""

    def forward(self, predictions, targets):
        return torch.mean((predictions - targets) ** 2)


class ModelNew(nn.Module):
    """The same, as somebody might write it for speed."""

    def forward(self, predictions, targets):
        d = (predictions - targets).reshape(-1)
        return torch.dot(d, d) / d.numel()


def get_inputs():
    return [torch.rand(ROWS, COLUMNS), torch.rand(ROWS, COLUMNS)]


def get_init_inputs():
    return []
