"""The replicas of the job; the share of the data and the random key of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from distopt.core.split import share
from distopt.distribute import get_strategy, require_replica_context

__all__ = ["key", "rank", "shard", "size"]


def rank() -> int:
    """The number of this replica, from 0."""
    return require_replica_context("distopt.jax.rank()").replica_id_in_sync_group


def size() -> int:
    """The number of replicas in the job."""
    return get_strategy().num_replicas_in_sync


def key(seed: int) -> jax.Array:
    """A random key that differs between replicas. It does not depend on the layout of replicas on nodes."""
    return jax.random.fold_in(jax.random.key(seed), rank())


def shard(batches: Iterable[Any]) -> Iterator[Any]:
    """Yields this replica's contiguous share of each batch.

    Args:
        batches: pytrees of arrays with the examples along the first axis, the same on all replicas. Scalars
            and leaves that are not arrays stay whole.

    Yields:
        Pytrees of the same structure. Shares differ by one example if the batch does not divide evenly. In
        that case pass their size to ``apply`` as ``examples=``.

    Raises:
        ValueError: the arrays of a batch differ in length, or there are fewer examples than replicas.
    """
    number, count = rank(), size()
    for i, batch in enumerate(batches):
        lengths = {np.shape(leaf)[0] for leaf in jax.tree_util.tree_leaves(batch) if np.ndim(leaf)}
        if len(lengths) > 1:
            raise ValueError(f"shard(): the arrays of batch {i} differ in length: {sorted(lengths)}")
        if lengths and max(lengths) < count:
            raise ValueError(f"shard(): batch {i} has {max(lengths)} examples for {count} replicas")
        begin, end = share(max(lengths, default=0), number, count)
        yield jax.tree_util.tree_map(
            lambda leaf, part=slice(begin, end): leaf[part] if np.ndim(leaf) else leaf, batch
        )
