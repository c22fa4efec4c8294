"""RunningStatistics: averages the running statistics of batch norms over replicas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.modules.batchnorm import _NormBase

from distopt.core.tensor import as_array as distopt_array
from distopt.distribute import get_replica_context
from distopt.torch.names import modules_of
from distopt.torch.replicas import broadcast_buffers
from distopt.torch.sync_batch_norm import SyncBatchNorm
from distopt.torch.tensors import as_array
from distopt.typing import Array

__all__ = ["RunningStatistics"]


class RunningStatistics:
    """The running statistics of the batch norms in the modules that an optimizer trains.

    Each replica computes them from its share of the batches. Each step averages them over replicas, so that
    any replica can evaluate and save. ``SyncBatchNorm`` and modules in ``eval()`` are skipped, because their
    statistics are already the same.
    """

    def __init__(self) -> None:
        self._modules: list[torch.nn.Module] = []
        self._norms: list[_NormBase] = []

    def take_in(self, tensors: Sequence[torch.Tensor], module: torch.nn.Module | None) -> None:
        """Finds the modules of the parameters, and gives buffers of new ones replica 0's values. Collective.

        Args:
            tensors: all parameters of the optimizer.
            module: the model, if it is known.
        """
        context = get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return
        known = self._modules or ([] if module is None else [module])
        found = [*known, *modules_of(tensors, known)]
        for new in found[len(self._modules) :]:
            broadcast_buffers(new)
        self._modules = found
        norms = (part for module in found for part in module.modules())
        self._norms = list(
            {
                id(n): n for n in norms if isinstance(n, _NormBase) and not isinstance(n, SyncBatchNorm)
            }.values()
        )

    def description(self) -> str:
        """Text for the name of a step, which replicas compare: how many numbers are averaged. "" if none."""
        count = 2 * sum(norm.num_features for norm in self._training())
        return f", averaging {count} running statistics" if count else ""

    def average(self) -> None:
        """Replaces the statistics on all replicas with their mean; collective if there are any."""
        context, buffers = get_replica_context(), self._buffers()
        if context is None or not buffers:
            return
        # In float64, so that the mean of equal float32 values is exactly that value.
        flat = np.concatenate([buffer.astype(np.float64) for buffer in buffers])
        means = distopt_array(context.all_reduce("mean", flat))
        ends = np.cumsum([buffer.size for buffer in buffers])[:-1]
        for buffer, mean in zip(buffers, np.split(means, ends), strict=True):
            # Not with PyTorch, which would count it as a modification, and then refuse a backward pass for
            # which the buffer was saved, although the pass does not use it.
            np.copyto(buffer, mean, casting="unsafe")

    def _buffers(self) -> list[Array]:
        """Views of the running means and variances of the batch norms that are in training mode."""
        pairs = ((norm.running_mean, norm.running_var) for norm in self._training())
        return [as_array(buffer) for pair in pairs for buffer in pair if buffer is not None]

    def _training(self) -> list[_NormBase]:
        return [norm for norm in self._norms if norm.training and norm.running_mean is not None]
