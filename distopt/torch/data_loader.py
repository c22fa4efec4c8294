"""DataLoader: PyTorch's, whose time is accounted to input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from distopt.distribute import timed

__all__ = ["DataLoader"]


class DataLoader(torch.utils.data.DataLoader[Any]):
    """``torch.utils.data.DataLoader``, with all its arguments; ``distopt.report()`` knows how long it takes.

    Any other loader does so as ``distopt.timed(loader)``.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """A new pass over the data."""
        return iter(timed(_PlainPass(self)))


class _PlainPass:
    """What begins a pass of PyTorch's own when it is iterated over."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        return super(DataLoader, self._loader).__iter__()
