"""Collective calls on pytrees, inside and outside of jit."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from distopt.distribute import ReduceOp, get_strategy
from distopt.jax.collective import Broadcast, Collective, Gather, Reduce
from distopt.jax.host_call import host_call

__all__ = ["all_gather", "all_reduce", "broadcast"]


def all_reduce(tree: Any, op: ReduceOp | str = "sum") -> Any:
    """Combines a pytree over all replicas; all get the same bits. Collective, in and out of jit.

    The derivative of a sum is the sum of what comes back on all replicas, and so for means: the mean of all
    replicas' gradients is the gradient of a loss that was reduced so.

    Args:
        tree: arrays and numbers, of the same shapes and dtypes on all replicas.
        op: ``"sum"``, ``"mean"``, ``"min"`` or ``"max"``.

    Returns:
        the same structure. Means of integers are floating-point numbers, sums of Booleans counts.

    Raises:
        ValueError: an unknown op.
        ReplicaMismatch: the replicas' trees differ. Inside of jit it is within JAX's own error.
        NotImplementedError: a derivative of a minimum or maximum is asked for.
    """
    return _on_leaves(Reduce(ReduceOp.from_any(op).value), tree)


def all_gather(tree: Any, axis: int = 0) -> Any:
    """Joins the replicas' arrays along an axis, in the order of the replicas. Collective, in and out of jit.

    Args:
        tree: arrays. Outside of jit they may differ in length along ``axis``, inside they must not.
        axis: which; all have it. Negative ones count from the end.

    Raises:
        ValueError: an array has no such axis.
        ReplicaMismatch: the replicas' trees differ otherwise.
    """
    leaves, structure = jax.tree_util.tree_flatten(tree)
    for leaf in leaves:
        if not -jnp.ndim(leaf) <= axis < jnp.ndim(leaf):
            raise ValueError(
                f"all_gather(axis={axis}) got an array of shape {jnp.shape(leaf)}, which has no such axis"
            )
    if axis >= 0 or len({jnp.ndim(leaf) for leaf in leaves}) == 1:
        places = [axis % jnp.ndim(leaf) for leaf in leaves]
        return _on_leaves(Gather(places[0]), tree) if leaves else tree
    parts = [_on_leaves(Gather(axis % jnp.ndim(leaf)), leaf) for leaf in leaves]
    return jax.tree_util.tree_unflatten(structure, parts)


def broadcast(tree: Any, root: int = 0) -> Any:
    """Replica ``root``'s values on all replicas. Collective, in and out of jit.

    Args:
        tree: arrays and numbers, of the same shapes and dtypes on all replicas.
        root: the number of a replica.

    Raises:
        ValueError: no such replica.
        ReplicaMismatch: the replicas' trees differ.
    """
    size = get_strategy().num_replicas_in_sync
    if not 0 <= root < size:
        raise ValueError(f"broadcast(root={root}): the replicas are 0 to {size - 1}")
    return _on_leaves(Broadcast(root), tree)


def _on_leaves(collective: Collective, tree: Any) -> Any:
    leaves, structure = jax.tree_util.tree_flatten(tree)
    if not leaves:
        return tree
    return jax.tree_util.tree_unflatten(
        structure, _linked(collective, [jnp.asarray(leaf) for leaf in leaves])
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _linked(collective: Collective, values: list[jax.Array]) -> list[jax.Array]:
    return host_call(collective, values)


def _forward(collective: Collective, values: list[jax.Array]) -> tuple[list[jax.Array], None]:
    return host_call(collective, values), None


def _backward(collective: Collective, _: None, back: list[Any]) -> tuple[list[Any]]:
    # What comes back to integers is nothing that could be summed; None says that it is zero.
    real = [i for i, one in enumerate(back) if one.dtype != jax.dtypes.float0]
    found: list[Any] = [None] * len(back)
    if real:
        for i, own in zip(real, _linked(collective.transposed(), [back[i] for i in real]), strict=True):
            found[i] = own
    return (found,)


_linked.defvjp(_forward, _backward)
