"""Ratings of films by embeddings with sparse gradients: a step moves the rows of its users and films alone.

mpirun -n 2 python examples/torch/recommender.py
"""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import distopt.torch as dt

USERS, FILMS, TASTES = 400, 300, 3
NOISE = 0.2  # the standard deviation of what nobody can predict
BATCH = 256  # of all replicas together


def ratings(count: int) -> TensorDataset:
    """Ratings of users and films that have so many tastes: pairs of numbers, and values around 0."""
    random = torch.Generator().manual_seed(0)
    users, films = (torch.randn(n, TASTES, generator=random) / TASTES**0.25 for n in (USERS, FILMS))
    liked = torch.randn(FILMS, generator=random)
    who = torch.randint(USERS, (count,), generator=random)
    what = torch.randint(FILMS, (count,), generator=random)
    noise = NOISE * torch.randn(count, generator=random)
    values = (users[who] * films[what]).sum(1) + liked[what] + noise
    return TensorDataset(torch.stack([who, what], dim=1), values)


class Factors(nn.Module):
    """A user's and a film's vectors are multiplied, and the film's own number is added."""

    def __init__(self) -> None:
        super().__init__()
        self.users = nn.Embedding(USERS, TASTES, sparse=True)
        self.films = nn.Embedding(FILMS, TASTES, sparse=True)
        self.liked = nn.Embedding(FILMS, 1, sparse=True)
        for table in (self.users, self.films, self.liked):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        user, film = pairs.unbind(1)
        return (self.users(user) * self.films(film)).sum(1) + self.liked(film).squeeze(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()

    data = ratings(22_000)
    train, test = TensorDataset(*data[:20_000]), TensorDataset(*data[20_000:])
    torch.manual_seed(0)
    model = Factors()
    optimizer = dt.SparseAdam(model, lr=0.03)
    sampler = dt.DistributedBatchSampler(train, global_batch_size=BATCH)
    loader = DataLoader(train, batch_sampler=sampler)
    for epoch in range(options.epochs):
        sampler.set_epoch(epoch)
        for pairs, values in loader:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(pairs), values).backward()
            optimizer.step(examples=len(values))

    if dt.rank() == 0:
        pairs, values = test.tensors
        with torch.no_grad():
            error = nn.functional.mse_loss(model(pairs), values).sqrt()
        print(f"error {error:.4f}, without a model {values.std():.4f}, {dt.size()} replica(s)")


if __name__ == "__main__":
    main()
