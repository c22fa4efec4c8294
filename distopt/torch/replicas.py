"""The replicas of the job, and their buffers."""

from __future__ import annotations

import torch

from distopt.distribute import get_replica_context, get_strategy, require_replica_context
from distopt.torch.tensors import as_array, as_tensor

__all__ = ["broadcast_buffers", "rank", "size"]


def rank() -> int:
    """The number of this replica, from 0."""
    return require_replica_context("distopt.torch.rank()").replica_id_in_sync_group


def size() -> int:
    """The number of replicas in the job."""
    return get_strategy().num_replicas_in_sync


def broadcast_buffers(module: torch.nn.Module) -> None:
    """Gives the buffers of a module replica 0's values; collective if it has any."""
    context = get_replica_context()
    buffers = [buffer for buffer in module.buffers() if buffer.numel()]
    if context is None or context.num_replicas_in_sync == 1 or not buffers:
        return
    values = context.broadcast([as_array(buffer.contiguous()) for buffer in buffers])
    with torch.no_grad():
        for buffer, value in zip(buffers, values, strict=True):
            buffer.copy_(as_tensor(value.numpy()).reshape(buffer.shape))
