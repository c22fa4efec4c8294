"""Two interleaved spirals told apart by a network of three layers; needs PyTorch alone.

mpirun -n 2 python examples/torch/mlp.py
"""

import argparse
from collections.abc import Iterator

import torch
from torch import nn

import distopt.torch as dt

BATCH = 64  # of all replicas together


def spirals(examples: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points ``[examples, 2]`` with some noise, and the number of the spiral that each is on."""
    random = torch.Generator().manual_seed(seed)
    label = torch.arange(examples) % 2
    turn = torch.rand(examples, generator=random).sqrt()
    angle = 7 * turn + torch.pi * label
    points = torch.stack([turn * angle.cos(), turn * angle.sin()], dim=1)
    return points + 0.02 * torch.randn(points.shape, generator=random), label


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))


def batches(examples: int, epoch: int) -> Iterator[torch.Tensor]:
    """The examples of each batch of an epoch, in an order that is the same on all replicas."""
    return iter(torch.randperm(examples, generator=torch.Generator().manual_seed(epoch)).split(BATCH))


def share(batch: torch.Tensor) -> torch.Tensor:
    """This replica's contiguous part of a batch."""
    return batch.tensor_split(dt.size())[dt.rank()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--save", help="the file for the trained parameters")
    options = parser.parse_args()

    x, y = spirals(2000, seed=1)
    model = make_model()
    optimizer = dt.AdamW(model, lr=0.01)
    for epoch in range(options.epochs):
        for batch in batches(len(x), epoch):
            mine = share(batch)
            loss = nn.functional.cross_entropy(model(x[mine]), y[mine])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step(examples=len(mine))

    if dt.rank() == 0:
        x_test, y_test = spirals(1000, seed=2)
        with torch.no_grad():
            accuracy = (model(x_test).argmax(dim=1) == y_test).float().mean().item()
        print(f"accuracy {accuracy:.4f} on {len(x_test)} other points, {dt.size()} replica(s)")
        if options.save:
            torch.save(model.state_dict(), options.save)


if __name__ == "__main__":
    main()
