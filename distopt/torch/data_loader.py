"""DataLoader: PyTorch's loader, whose time counts as input in reports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from distopt.distribute import timed

__all__ = ["DataLoader"]


class DataLoader(torch.utils.data.DataLoader[Any]):
    """``torch.utils.data.DataLoader`` whose time appears in ``distopt.report()``.

    It takes the same arguments.

    For any other loader, use ``distopt.timed(loader)``.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """A new pass over the data."""
        return iter(timed(_PlainPass(self)))


class _PlainPass:
    """An iterable over the loader that uses PyTorch's own ``__iter__``."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        return super(DataLoader, self._loader).__iter__()
