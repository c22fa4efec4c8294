"""Collective calls as differentiable PyTorch functions, to any order.

A loss is a sum over replicas: what comes back to a replica's value is the derivative of the sum of all
replicas' losses. So derivatives are collective calls of the same kinds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from distopt.core.tensor import as_array as distopt_array
from distopt.distribute import ReduceOp, ReplicaContext
from distopt.torch.tensors import as_array, as_tensor

__all__ = ["broadcast_from", "gathered", "reduced"]

_Tensors = tuple[torch.Tensor, ...]


def reduced(context: ReplicaContext, op: ReduceOp, *tensors: torch.Tensor) -> _Tensors:
    """Reduces tensors over replicas; collective. The gradient of a sum is a sum, that of a mean a mean."""
    apply: Any = _AllReduce.apply
    return apply(context, op, *tensors)  # type: ignore[no-any-return]


def gathered(context: ReplicaContext, dim: int, *tensors: torch.Tensor) -> _Tensors:
    """Joins the tensors of all replicas along ``dim``; collective. The gradient of each is its part."""
    apply: Any = _AllGather.apply
    return apply(context, dim, *tensors)  # type: ignore[no-any-return]


def broadcast_from(context: ReplicaContext, src: int, *tensors: torch.Tensor) -> _Tensors:
    """Returns the tensors of replica ``src``; collective. Their gradient is the sum of all gradients."""
    apply: Any = _Broadcast.apply
    return apply(context, src, *tensors)  # type: ignore[no-any-return]


class _AllReduce(torch.autograd.Function):
    """Sums, means, minima and maxima over replicas."""

    @staticmethod
    def forward(ctx: Any, context: ReplicaContext, op: ReduceOp, *tensors: torch.Tensor) -> _Tensors:
        """The totals of dense CPU tensors; collective."""
        ctx.context, ctx.op = context, op
        return _results(ctx, tensors, context.all_reduce(op, _arrays(tensors)))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        """The same sum or mean of the gradients; collective."""
        if ctx.op not in (ReduceOp.SUM, ReduceOp.MEAN):
            raise NotImplementedError(
                f"all_reduce({ctx.op.value!r}) has no derivative: only 'sum' and 'mean' have one; use "
                "value.detach() if you need none"
            )
        return None, None, *_reduced_gradients(ctx, ctx.op, gradients)


class _AllGather(torch.autograd.Function):
    """Tensors of all replicas, joined along an axis."""

    @staticmethod
    def forward(ctx: Any, context: ReplicaContext, dim: int, *tensors: torch.Tensor) -> _Tensors:
        """The joined tensors; collective."""
        ctx.context, ctx.dim = context, dim
        ctx.lengths = [tensor.shape[dim] for tensor in tensors]
        return _results(ctx, tensors, context.all_gather(_arrays(tensors), dim))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        """This replica's part of the gradients' sum; collective."""
        context: ReplicaContext = ctx.context
        lengths: Any = context.all_gather(np.array([ctx.lengths]), axis=0)
        before = distopt_array(lengths)[: context.replica_id_in_sync_group].sum(axis=0)
        totals = _reduced_gradients(ctx, ReduceOp.SUM, gradients)
        parts = [
            None if total is None else total.narrow(ctx.dim, begin, length)
            for total, begin, length in zip(totals, before.tolist(), ctx.lengths, strict=True)
        ]
        return None, None, *parts


class _Broadcast(torch.autograd.Function):
    """One replica's tensors on all."""

    @staticmethod
    def forward(ctx: Any, context: ReplicaContext, src: int, *tensors: torch.Tensor) -> _Tensors:
        """The tensors of replica ``src``; collective."""
        ctx.context, ctx.src = context, src
        return _results(ctx, tensors, context.broadcast(_arrays(tensors), src))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        """The sum of the gradients to ``src``, zeros to the others; collective."""
        # Masked and not new zeros, so that second derivatives are collective on all replicas alike.
        elsewhere = torch.tensor(ctx.context.replica_id_in_sync_group != ctx.src)
        totals = _reduced_gradients(ctx, ReduceOp.SUM, gradients)
        return None, None, *(None if total is None else total.masked_fill(elsewhere, 0) for total in totals)


def _arrays(tensors: _Tensors) -> list[Any]:
    return [as_array(tensor) for tensor in tensors]


def _results(ctx: Any, tensors: _Tensors, values: Any) -> _Tensors:
    """What a call returned, as tensors; those that are no real or complex numbers have no derivative."""
    results = tuple(as_tensor(distopt_array(value)) for value in values)
    followed = [t.is_floating_point() or t.is_complex() for t in tensors]
    ctx.followed = followed
    ctx.mark_non_differentiable(*(r for r, follows in zip(results, followed, strict=True) if not follows))
    return results


def _reduced_gradients(ctx: Any, op: ReduceOp, gradients: _Tensors) -> list[torch.Tensor | None]:
    """The gradients, summed or averaged over replicas; None for values that have no derivative."""
    totals = iter(reduced(ctx.context, op, *_where(ctx.followed, gradients)))
    return [next(totals) if follows else None for follows in ctx.followed]


def _where(followed: list[bool], gradients: _Tensors) -> list[torch.Tensor]:
    found = [gradient for gradient, follows in zip(gradients, followed, strict=True) if follows]
    return [gradient.resolve_conj().resolve_neg() for gradient in found]
