"""DistributedSampler: PyTorch's sampler for the replicas of this job."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import distributed

from distopt.torch.replicas import rank as own_rank
from distopt.torch.replicas import size

__all__ = ["DistributedSampler"]


class DistributedSampler(distributed.DistributedSampler[Any]):
    """``torch.utils.data.DistributedSampler`` for the replicas of this job, without a process group.

    As in PyTorch, some examples are repeated if they do not divide evenly, so that all replicas have the same
    number. ``DistributedBatchSampler`` repeats none.

    Args:
        dataset: the data set. Only its length is used.
        num_replicas: the number of replicas, by default that of this job.
        rank: the number of this replica, by default its number in this job.
        shuffle: whether to shuffle. Call ``set_epoch`` to get another order in each epoch.
        seed: the seed of the shuffling. It must be the same on all replicas.
        drop_last: whether to drop examples instead of repeating some.
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
