"""Batch normalization over the batches of all replicas, and its derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from distopt.collectives import digest
from distopt.distribute import ReduceOp, ReplicaContext, collective_call
from distopt.torch.derivatives import reduced
from distopt.torch.tensors import as_array

__all__ = ["ChannelStatistics", "batch_statistics", "normalized"]


@dataclass(frozen=True)
class ChannelStatistics:
    """The statistics of a batch that is divided over all replicas: the same bits on each.

    Attributes:
        count: the number of values of each channel, on all replicas together.
        mean: float64 ``[channels]``.
        squares: the sums of the squared differences from the mean, float64 ``[channels]``.
    """

    count: int
    mean: torch.Tensor
    squares: torch.Tensor


@collective_call
def batch_statistics(
    context: ReplicaContext, call: str, x: torch.Tensor, error: Exception | None
) -> ChannelStatistics:
    """Computes the statistics of a batch that is divided over all replicas. Collective.

    Each replica computes those of its own part, with squared differences from its own mean. Then they are
    merged, which loses no precision even if the mean is large compared with the standard deviation.

    Args:
        context: the context of this replica.
        call: the name of the call, which replicas compare.
        x: this replica's part, ``[examples, channels, ...]``. There may be no examples.
        error: an error in this replica's argument, which makes all replicas raise; None if there is none.

    Raises:
        ValueError: fewer than two values per channel on all replicas together.
        ReplicaMismatch: replicas make different calls.

    Source: T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing
    sample variances" (1979).
    """
    context.collective_check.check(call, digest(call), lambda: call, error)
    parts = np.stack(context.comm.all_gather(as_array(_own_statistics(x))))  # [replicas, 1 + 2 * channels]
    channels = x.shape[1]
    counts, means, squares = parts[:, :1], parts[:, 1 : 1 + channels], parts[:, 1 + channels :]
    count = int(counts.sum())
    if count < 2:
        raise ValueError(
            f"{call}: expected more than 1 value per channel when training, got {count} on all replicas "
            f"together"
        )
    mean = (counts * means).sum(axis=0) / count
    total = squares.sum(axis=0) + (counts * (means - mean) ** 2).sum(axis=0)
    return ChannelStatistics(count, torch.from_numpy(mean), torch.from_numpy(total))


def _own_statistics(x: torch.Tensor) -> torch.Tensor:
    """Count, means and sums of squared differences of this replica's part: float64 ``[1 + 2 * channels]``."""
    x = _widened(x.detach())
    count, channels, dims = x.numel() // x.shape[1], x.shape[1], _dims(x)
    if count == 0:
        return torch.zeros(1 + 2 * channels, dtype=torch.float64)
    mean = x.mean(dims)
    centered = x - _spread(mean, x)
    # The mean is rounded. The mean of the differences from it, which would else be 0, corrects both results.
    correction = centered.sum(dims).double() / count
    squares = centered.mul_(centered).sum(dims).double() - count * correction**2
    return torch.cat([torch.tensor([count], dtype=torch.float64), mean.double() + correction, squares])


def normalized(
    context: ReplicaContext,
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    statistics: ChannelStatistics,
    eps: float,
) -> torch.Tensor:
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` for this replica's part of a batch.

    Derivatives are those of the sum of all replicas' losses, and include the dependence of the statistics on
    ``x``. The backward pass is collective. The gradients of ``weight`` and ``bias`` are this replica's part
    of the sum, like those of any parameter.

    Args:
        context: the context of this replica.
        x: ``[examples, channels, ...]``.
        weight: ``[channels]``, or None for ones.
        bias: ``[channels]``, or None for zeros.
        statistics: the statistics of the whole batch.
        eps: added to the variance.
    """
    apply: Any = _Normalize.apply
    return apply(context, x, weight, bias, statistics, eps)  # type: ignore[no-any-return]


class _Normalize(torch.autograd.Function):
    """Batch norm of this replica's part of a batch."""

    @staticmethod
    def forward(
        ctx: Any,
        context: ReplicaContext,
        x: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        statistics: ChannelStatistics,
        eps: float,
    ) -> torch.Tensor:
        """This replica's part of the batch, normalized."""
        wide = _widened(x[:0]).dtype
        mean = statistics.mean.to(wide)
        variance = (statistics.squares / statistics.count).to(wide)
        ctx.context, ctx.count, ctx.eps = context, statistics.count, eps
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        scale, shift = (None if t is None else t.to(wide) for t in (weight, bias))
        return torch.nn.functional.batch_norm(x, mean, variance, scale, shift, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        """The gradients of ``x``, ``weight`` and ``bias``; collective, and differentiable themselves."""
        x, weight, mean, inverse = ctx.saved_tensors
        gradient, dims, wide = _widened(gradients[0]), _dims(x), _widened(x)
        if torch.is_grad_enabled():  # for second derivatives: the saved statistics are constants to autograd
            mean, inverse = _differentiable_statistics(ctx.context, wide, ctx.count, ctx.eps)
        normal = (wide - _spread(mean, x)) * _spread(inverse, x)
        to_bias, to_weight = gradient.sum(dims), (gradient * normal).sum(dims)
        to_x = None
        if ctx.needs_input_grad[1]:
            first, second = reduced(ctx.context, ReduceOp.SUM, to_bias, to_weight)
            rest = gradient - _spread(first / ctx.count, x) - normal * _spread(second / ctx.count, x)
            to_x = rest * _spread(inverse if weight is None else inverse * weight.to(inverse.dtype), x)
        wanted = zip((to_weight, to_bias), ctx.needs_input_grad[2:4], strict=True)
        return None, to_x, *(value if is_wanted else None for value, is_wanted in wanted), None, None


def _differentiable_statistics(
    context: ReplicaContext, x: torch.Tensor, count: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The means and inverse standard deviations as differentiable functions of ``x``; collective."""
    (total,) = reduced(context, ReduceOp.SUM, x.sum(_dims(x)))
    mean = total / count
    (squares,) = reduced(context, ReduceOp.SUM, ((x - _spread(mean, x)) ** 2).sum(_dims(x)))
    return mean, (squares / count + eps).rsqrt()


def _widened(x: torch.Tensor) -> torch.Tensor:
    """``x`` in the dtype of the arithmetic: float32 for float16 and bfloat16."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _dims(x: torch.Tensor) -> list[int]:
    """All axes except 1, that of the channels."""
    return [0, *range(2, x.ndim)]


def _spread(channels: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Reshapes ``[channels]`` so that it broadcasts against ``x``."""
    return channels.reshape(1, -1, *[1] * (x.ndim - 2))
