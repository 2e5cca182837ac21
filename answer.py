# answer.py
import torch


class ModelNew(torch.nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        linear = self.linear
        return torch.addmm(linear.bias, x, linear.weight.T).clamp_min_(0)
