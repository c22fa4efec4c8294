"""A network that solves a differential equation, found by its second derivatives at points inside.

-u_xx - u_yy = f on the unit square, u = 0 on its edge; f is such that u = sin(pi x) sin(2 pi y).

mpirun -n 2 python examples/torch/physics.py
"""

import argparse

import torch
from torch import nn

import distopt.torch as dt

POINTS = 512  # of all replicas together


class Solution(nn.Module):
    """u(x, y), which is 0 on the edge whatever the network says."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        layers = nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        self.inner = nn.Sequential(*layers).double()

    def forward(self, at: torch.Tensor) -> torch.Tensor:
        return self.inner(at).squeeze(1) * (at * (1 - at)).prod(dim=1)


def exact(at: torch.Tensor) -> torch.Tensor:
    x, y = at.unbind(dim=1)
    return (torch.pi * x).sin() * (2 * torch.pi * y).sin()


def residual(model: nn.Module, at: torch.Tensor) -> torch.Tensor:
    """What is left of the equation at these points ``[n, 2]``: -u_xx - u_yy - f, to be 0."""
    at = at.requires_grad_()
    (slope,) = torch.autograd.grad(model(at).sum(), at, create_graph=True)
    curvature = [
        torch.autograd.grad(slope[:, axis].sum(), at, create_graph=True)[0][:, axis] for axis in (0, 1)
    ]
    return -sum(curvature) - 5 * torch.pi**2 * exact(at.detach())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()

    torch.manual_seed(0)
    model = Solution()
    points = torch.rand(POINTS, 2, dtype=torch.float64)  # the same on all replicas, as is the seed
    mine = points[dt.rank() :: dt.size()]
    inner = torch.optim.LBFGS(model.parameters(), max_iter=20, history_size=50, line_search_fn="strong_wolfe")
    optimizer = dt.DistributedOptimizer(inner, model)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = residual(model, mine).square().mean()
        loss.backward()
        return loss

    for _ in range(options.steps):
        loss = optimizer.step(closure)  # the mean over replicas

    if dt.rank() == 0:
        axis = torch.linspace(0, 1, 65, dtype=torch.float64)
        with torch.no_grad():
            error = (model(grid := torch.cartesian_prod(axis, axis)) - exact(grid)).abs().max()
        print(f"error {error:.5f} of 1 at most, loss at last {loss:.5f}, {dt.size()} replica(s)")


if __name__ == "__main__":
    main()
