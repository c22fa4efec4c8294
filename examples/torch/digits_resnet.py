"""Handwritten digits by a small ResNet: 1,797 images of 8 x 8 pixels, a fifth of them held back.

mpirun -n 2 python examples/torch/digits_resnet.py
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

import distopt.torch as dt

BATCH = 64  # of all replicas together


def load() -> tuple[torch.Tensor, ...]:
    """Images ``[n, 1, 8, 8]`` from 0 to 1 and labels, mixed alike on all replicas: training, then test."""
    images, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    x, y = (images[order] / 16).float().reshape(-1, 1, 8, 8), labels[order]
    cut = len(x) * 4 // 5
    return x[:cut], y[:cut], x[cut:], y[cut:]


class Block(nn.Module):
    """Two convolutions around which the input goes as well."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        # BatchNorm would see this replica's share of the batch only; GroupNorm sees one image at a time.
        self.norm1, self.norm2 = nn.GroupNorm(4, channels), nn.GroupNorm(4, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.second(self.norm1(self.first(x)).relu())
        return (x + self.norm2(inner)).relu()


def make_model() -> nn.Module:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(stem, Block(16), nn.MaxPool2d(2), Block(16), head)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--save", help="the file for the trained parameters")
    options = parser.parse_args()

    x, y, x_test, y_test = load()
    model = make_model()
    optimizer = dt.SGD(model, lr=0.1, momentum=0.9, clip_grad_norm=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    for epoch in range(options.epochs):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch))  # the same everywhere
        for batch in order.split(BATCH):
            mine = batch.tensor_split(dt.size())[dt.rank()]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[mine]), y[mine]).backward()
            optimizer.step(examples=len(mine))
        schedule.step()

    if dt.rank() == 0:
        with torch.no_grad():
            accuracy = (model(x_test).argmax(dim=1) == y_test).float().mean().item()
        print(f"accuracy {accuracy:.4f} on {len(x_test)} images held back, {dt.size()} replica(s)")
        if options.save:
            torch.save(model.state_dict(), options.save)


if __name__ == "__main__":
    main()
