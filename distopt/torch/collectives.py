"""Collective calls on tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Number
from typing import Any

import torch

from distopt.core import nest
from distopt.distribute import ReduceOp, ReplicaContext, collective_call, require_replica_context
from distopt.engine.error_barrier import broadcast_error
from distopt.torch.derivatives import broadcast_from, gathered, reduced
from distopt.torch.eager import eager
from distopt.torch.tensors import as_array

__all__ = ["all_gather", "all_reduce", "broadcast"]


@eager
@collective_call
def all_reduce(value: Any, op: ReduceOp | str = "sum") -> Any:
    """Reduces a value over all replicas. All replicas get the same bits. Collective.

    Args:
        value: a dense CPU tensor or a number, or a structure of lists, tuples, named tuples and dicts of
            them. Shapes and dtypes must be the same on all replicas. It is not changed.
        op: ``"sum"``, ``"mean"``, ``"min"`` or ``"max"``.

    Returns:
        The same structure of new tensors, with Python numbers for Python numbers. The mean of integers or
        Booleans is float64. The sum of Booleans is a count, in int64. All other results have the dtype of the
        value, so sums of integers can overflow.

        Sums and means are differentiable, to any order: the gradient of a replica's value is the sum, or
        mean, of the gradients of all results. ``backward()`` through them is collective.

    Raises:
        TypeError: a value is of another type or has a dtype that NumPy lacks; or the minimum or maximum of
            complex numbers.
        ValueError: an unknown op, or a tensor that is sparse or not on the CPU.
        ReplicaMismatch: the values of replicas differ in number, shape or dtype.
    """
    context = require_replica_context("all_reduce()")
    call = f"all_reduce({getattr(op, 'value', op)!r})"
    with _share_errors(context, call):
        reduce_op = ReduceOp.from_any(op)
        tensors = _tensors(call, value)
        if reduce_op in (ReduceOp.MIN, ReduceOp.MAX) and any(map(torch.is_complex, tensors)):
            raise TypeError(f"{call} got complex numbers, which have no order")
    return _packed(value, reduced(context, reduce_op, *tensors))


@eager
@collective_call
def all_gather(value: Any, dim: int = 0) -> Any:
    """Joins the tensors of all replicas along ``dim``, in the order of the replicas. Collective.

    Args:
        value: a dense CPU tensor, or a structure of them as in :func:`all_reduce`. The lengths along ``dim``
            may differ between replicas, and may be 0.
        dim: the axis to join along. To stack tensors, or to gather scalars, call ``all_gather(x[None])``.

    Returns:
        The same structure of new tensors. They are differentiable: the gradient of a replica's tensor is its
        part of the sum of all replicas' gradients. ``backward()`` through them is collective.

    Raises:
        TypeError: a value is of another type, or has a dtype that NumPy lacks.
        ValueError: a tensor lacks the axis, is sparse or is not on the CPU.
        ReplicaMismatch: the values of replicas differ in number, dtype or another axis.
    """
    context = require_replica_context("all_gather()")
    call = f"all_gather(dim={dim!r})"
    with _share_errors(context, call):
        tensors = _tensors(call, value)
        for tensor in tensors:
            if not -tensor.ndim <= dim < tensor.ndim:
                raise ValueError(
                    f"{call} got a tensor of shape {tuple(tensor.shape)}, which has no such axis: "
                    f"all_gather(x[None]) stacks the replicas' tensors"
                )
    return _packed(value, gathered(context, dim, *tensors))


@eager
@collective_call
def broadcast(value: Any, src: int = 0) -> Any:
    """Returns the value of replica ``src`` on all replicas. Collective.

    Args:
        value: as in :func:`all_reduce`. On replicas other than ``src`` only its shapes and dtypes matter.
        src: the number of a replica.

    Returns:
        The same structure of new tensors. They are differentiable: the gradient is the sum of all replicas'
        gradients on replica ``src``, and zero elsewhere. ``backward()`` through them is collective.

    Raises:
        TypeError: a value is of another type, or has a dtype that NumPy lacks.
        ValueError: ``src`` is not a replica, or a tensor is sparse or not on the CPU.
        ReplicaMismatch: the values of replicas differ in number, shape or dtype.
    """
    context = require_replica_context("broadcast()")
    call = f"broadcast(src={src!r})"
    with _share_errors(context, call):
        tensors = _tensors(call, value)
        if not 0 <= src < context.num_replicas_in_sync:
            raise ValueError(f"{call}: the replicas are 0 to {context.num_replicas_in_sync - 1}")
    return _packed(value, broadcast_from(context, src, *tensors))


@contextmanager
def _share_errors(context: ReplicaContext, call: str) -> Iterator[None]:
    """A ``with`` block for checks of arguments: an error in it ends ``call`` on the other replicas too."""
    try:
        yield
    except Exception as error:
        broadcast_error(context, call, error)
        raise


def _tensors(call: str, value: Any) -> list[torch.Tensor]:
    return [_tensor(call, leaf) for leaf in nest.flatten(value)]


def _tensor(call: str, leaf: Any) -> torch.Tensor:
    """Converts a leaf of the value to a dense CPU tensor of a dtype that NumPy has, without lazy conjugation.

    Raises:
        TypeError: it is not a tensor or number, or NumPy lacks its dtype.
        ValueError: it is sparse, or not on the CPU.
    """
    if isinstance(leaf, Number):
        wide = {float: torch.float64, complex: torch.complex128}
        return torch.as_tensor(leaf, dtype=wide.get(type(leaf)))
    if not isinstance(leaf, torch.Tensor):
        raise TypeError(
            f"{call} takes tensors and numbers, and lists, tuples and dicts of them; got "
            f"{type(leaf).__module__}.{type(leaf).__qualname__}"
        )
    if leaf.layout is not torch.strided:
        raise ValueError(f"{call} got a sparse tensor ({leaf.layout}): .to_dense() makes it dense")
    if leaf.device.type != "cpu":
        raise ValueError(f"{call} got a tensor on {leaf.device}: replicas exchange those on the CPU")
    plain: torch.Tensor = leaf.resolve_conj().resolve_neg()
    try:
        as_array(plain)
    except TypeError:
        raise TypeError(
            f"{call} got a tensor of dtype {leaf.dtype}, which NumPy does not have: .float() makes it float32"
        ) from None
    return plain


def _packed(value: Any, results: tuple[torch.Tensor, ...]) -> Any:
    """A structure like ``value`` with the results as its leaves: tensors, or numbers where it has numbers."""
    leaves = zip(nest.flatten(value), results, strict=True)
    return nest.pack(value, [r if isinstance(leaf, torch.Tensor) else r.item() for leaf, r in leaves])
