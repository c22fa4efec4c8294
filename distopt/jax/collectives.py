"""Collective calls on pytrees, inside and outside of jit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from distopt.distribute import ReduceOp, get_strategy, require_replica_context
from distopt.engine.error_barrier import broadcast_error
from distopt.jax.collective import Broadcast, Collective, Gather, Reduce
from distopt.jax.host_call import host_call

__all__ = ["all_gather", "all_reduce", "broadcast"]


def all_reduce(tree: Any, op: ReduceOp | str = "sum") -> Any:
    """Reduces a pytree over all replicas, which all get the same bits.

    Collective, inside and outside of jit.

    The gradient of a sum is the sum of all replicas' gradients of the result; for means it is their mean. So
    if a loss was reduced, the mean of all replicas' gradients is its gradient.

    Args:
        tree: arrays and numbers, of the same shapes and dtypes on all replicas.
        op: ``"sum"``, ``"mean"``, ``"min"`` or ``"max"``.

    Returns:
        The same structure. Means of integers are floating-point numbers. Sums of Booleans are counts.

    Raises:
        ValueError: an unknown op.
        ReplicaMismatch: the trees of replicas differ. Inside of jit, JAX wraps it in its own error.
        NotImplementedError: the derivative of a minimum or maximum is needed.
    """
    with _share_errors("all_reduce()"):
        collective = Reduce(ReduceOp.from_any(op).value)
    return _on_leaves(collective, tree)


def all_gather(tree: Any, axis: int = 0) -> Any:
    """Joins the arrays of all replicas along an axis, in the order of the replicas.

    Collective, inside and outside of jit.

    Args:
        tree: arrays. Their lengths along ``axis`` may differ outside of jit, but not inside.
        axis: the axis, which all arrays must have. A negative number counts from the end.

    Raises:
        ValueError: an array has no such axis.
        ReplicaMismatch: the trees of replicas differ in another way.
    """
    leaves, structure = jax.tree_util.tree_flatten(tree)
    with _share_errors("all_gather()"):
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
    """Returns the values of replica ``root`` on all replicas. Collective, inside and outside of jit.

    Args:
        tree: arrays and numbers, of the same shapes and dtypes on all replicas.
        root: the number of a replica.

    Raises:
        ValueError: ``root`` is not a replica.
        ReplicaMismatch: the trees of replicas differ.
    """
    size = get_strategy().num_replicas_in_sync
    with _share_errors("broadcast()"):
        if not 0 <= root < size:
            raise ValueError(f"broadcast(root={root}): the replicas are 0 to {size - 1}")
    return _on_leaves(Broadcast(root), tree)


def _on_leaves(collective: Collective, tree: Any) -> Any:
    leaves, structure = jax.tree_util.tree_flatten(tree)
    if not leaves:
        return tree
    with _share_errors(str(collective)):
        arrays = [jnp.asarray(leaf) for leaf in leaves]
    return jax.tree_util.tree_unflatten(structure, _differentiable(collective, arrays))


@contextmanager
def _share_errors(call: str) -> Iterator[None]:
    """A ``with`` block for checks of arguments: an error in it ends ``call`` on the other replicas too."""
    try:
        yield
    except Exception as error:
        jax.effects_barrier()  # waits for the calls of compiled functions, which JAX runs in other threads
        broadcast_error(require_replica_context(call), call, error)
        raise


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _differentiable(collective: Collective, values: list[jax.Array]) -> list[jax.Array]:
    """``host_call`` with a derivative: ``collective.transposed()`` on the gradients of the results."""
    return host_call(collective, values)


def _forward(collective: Collective, values: list[jax.Array]) -> tuple[list[jax.Array], None]:
    return host_call(collective, values), None


def _backward(collective: Collective, _: None, cotangents: list[Any]) -> tuple[list[Any]]:
    # Cotangents of integers have dtype float0 and no values. None stands for a gradient of zero.
    real = [i for i, cotangent in enumerate(cotangents) if cotangent.dtype != jax.dtypes.float0]
    gradients: list[Any] = [None] * len(cotangents)
    if real:
        results = _differentiable(collective.transposed(), [cotangents[i] for i in real])
        for i, gradient in zip(real, results, strict=True):
            gradients[i] = gradient
    return (gradients,)


_differentiable.defvjp(_forward, _backward)
