"""DistributedSampler: PyTorch's, which knows the replicas."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import distributed

from distopt.torch.replicas import rank as own_rank
from distopt.torch.replicas import size

__all__ = ["DistributedSampler"]


class DistributedSampler(distributed.DistributedSampler[Any]):
    """``torch.utils.data.DistributedSampler`` for the replicas of this job, without a process group.

    Its meaning is PyTorch's: where the examples cannot be divided evenly, some come twice, so that all
    replicas have the same number. ``DistributedBatchSampler`` repeats none.

    Args:
        dataset: the data set; only its length counts.
        num_replicas: how many there are, if not as many as in this job.
        rank: the number of this one.
        shuffle: whether each epoch has an order of its own, after ``set_epoch``.
        seed: of these orders; the same on all replicas.
        drop_last: whether to leave examples out instead of repeating some.
    """

    def __init__(
        self,
        dataset: torch.utils.data.Dataset[Any],
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        replicas = size() if num_replicas is None else num_replicas
        super().__init__(dataset, replicas, own_rank() if rank is None else rank, shuffle, seed, drop_last)
