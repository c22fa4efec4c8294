"""Collective calls as differentiable PyTorch functions.

Gradients are those of the sum of all replicas' losses. So the backward pass of a collective call is a
collective call too, and can itself be differentiated, to any order.
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
    """Joins the tensors of all replicas along ``dim``; collective.

    The gradient of a replica's tensor is its part of the sum of all replicas' gradients.
    """
    apply: Any = _AllGather.apply
    return apply(context, dim, *tensors)  # type: ignore[no-any-return]


def broadcast_from(context: ReplicaContext, src: int, *tensors: torch.Tensor) -> _Tensors:
    """Returns the tensors of replica ``src``; collective.

    Their gradient on ``src`` is the sum of all replicas' gradients; on the others it is 0.
    """
    apply: Any = _Broadcast.apply
    return apply(context, src, *tensors)  # type: ignore[no-any-return]


class _AllReduce(torch.autograd.Function):
    """Sums, means, minima and maxima over replicas."""

    @staticmethod
    def forward(ctx: Any, context: ReplicaContext, op: ReduceOp, *tensors: torch.Tensor) -> _Tensors:
        """The reduced tensors; collective. The arguments are dense CPU tensors."""
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
        # Masked totals rather than new zeros: they depend on the totals on all replicas, so that all replicas
        # make the collective calls of second derivatives.
        elsewhere = torch.tensor(ctx.context.replica_id_in_sync_group != ctx.src)
        totals = _reduced_gradients(ctx, ReduceOp.SUM, gradients)
        return None, None, *(None if total is None else total.masked_fill(elsewhere, 0) for total in totals)


def _arrays(tensors: _Tensors) -> list[Any]:
    return [as_array(tensor) for tensor in tensors]


def _results(ctx: Any, tensors: _Tensors, values: Any) -> _Tensors:
    """Converts the results of a call to tensors. Those of integers and Booleans are not differentiable."""
    results = tuple(as_tensor(distopt_array(value)) for value in values)
    ctx.differentiable = [t.is_floating_point() or t.is_complex() for t in tensors]
    pairs = zip(results, ctx.differentiable, strict=True)
    ctx.mark_non_differentiable(*(result for result, differentiable in pairs if not differentiable))
    return results


def _reduced_gradients(ctx: Any, op: ReduceOp, gradients: _Tensors) -> list[torch.Tensor | None]:
    """The gradients, summed or averaged over replicas; None for values that are not differentiable."""
    pairs = zip(gradients, ctx.differentiable, strict=True)
    plain = [gradient.resolve_conj().resolve_neg() for gradient, differentiable in pairs if differentiable]
    totals = iter(reduced(ctx.context, op, *plain))
    return [next(totals) if differentiable else None for differentiable in ctx.differentiable]
