"""A transformer that predicts the next character of Python's own documentation; needs PyTorch alone.

mpirun -n 2 python examples/torch/characters.py
"""

import argparse
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import distopt.torch as dt

LENGTH = 48  # characters that the model sees at once
BATCH = 32  # of all replicas together


class Windows(Dataset):
    """All pieces of a text of so many characters, none of which overlap, and the characters one further."""

    def __init__(self, text: torch.Tensor) -> None:
        self.text = text

    def __len__(self) -> int:
        return (len(self.text) - 1) // LENGTH

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        piece = self.text[i * LENGTH : (i + 1) * LENGTH + 1]
        return piece[:-1], piece[1:]


class Characters(nn.Module):
    """Two transformer layers, in which each character sees those before it."""

    def __init__(self, kinds: int, width: int = 64) -> None:
        super().__init__()
        self.characters, self.places = nn.Embedding(kinds, width), nn.Embedding(LENGTH, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, kinds)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.characters(x) + self.places.weight[: x.shape[1]]
        return self.head(self.layers(inner, self.mask, is_causal=True))


def load() -> tuple[torch.Tensor, torch.Tensor, int]:
    """Text as numbers of characters: to train on, to test on; and how many kinds there are."""
    text = "\n".join(topics[name] for name in sorted(topics))[:200_000]
    kinds = {character: i for i, character in enumerate(sorted(set(text)))}
    numbers = torch.tensor([kinds[character] for character in text])
    cut = len(numbers) * 9 // 10
    return numbers[:cut], numbers[cut:], len(kinds)


def loss_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()

    train, test, kinds = load()
    torch.manual_seed(0)
    model = Characters(kinds)
    optimizer = dt.AdamW(model, lr=3e-3, clip_grad_norm=1.0)
    data = Windows(train)
    sampler = dt.DistributedBatchSampler(data, global_batch_size=BATCH)
    loader = DataLoader(data, batch_sampler=sampler)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=options.epochs * len(loader))
    for epoch in range(options.epochs):
        sampler.set_epoch(epoch)
        for x, y in loader:
            optimizer.zero_grad()
            loss_of(model, x, y).backward()
            optimizer.step(examples=len(x))
            schedule.step()

    if dt.rank() == 0:
        # What one knows who only counts which character follows which.
        pairs = torch.ones(kinds, kinds).index_put_((train[:-1], train[1:]), torch.ones(()), accumulate=True)
        counted = nn.functional.nll_loss((pairs / pairs.sum(1, keepdim=True)).log()[test[:-1]], test[1:])
        with torch.no_grad():
            x, y = next(iter(DataLoader(Windows(test), len(Windows(test)))))
            loss = loss_of(model, x, y)
        print(f"loss {loss:.4f}, by pairs of characters {counted:.4f}, {dt.size()} replica(s)")


if __name__ == "__main__":
    main()
