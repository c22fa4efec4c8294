"""SyncBatchNorm: batch norm over the batch on all replicas."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from distopt.distribute import ReplicaContext, get_replica_context
from distopt.torch.batch_statistics import ChannelStatistics, batch_statistics, normalized
from distopt.torch.eager import eager

__all__ = ["SyncBatchNorm", "convert_sync_batchnorm"]


class SyncBatchNorm(_BatchNorm):
    """Batch norm over the batch of all replicas.

    Forward and backward passes give the result of one replica on the whole batch. Shares may differ in size
    and may be empty. Arguments, parameters and buffers are those of ``torch.nn.BatchNorm2d``. Inputs have two
    or more axes. Running statistics have the same bits on all replicas.

    In training, forward and backward passes are collective. In ``eval()`` mode nothing is exchanged, and the
    module is PyTorch's own. Second derivatives are supported.

    Derivatives are those of the sum of all replicas' losses. If shares differ in size, compute each loss as
    the sum over the replica's examples, divided by the mean size of a share.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalizes a batch, as ``torch.nn.BatchNorm2d`` does. Collective in training.

        Args:
            x: ``[examples, num_features, ...]``. The number of examples may differ between replicas.

        Raises:
            ValueError: ``x`` has another shape, or all replicas together have only one value of a channel.
            ReplicaMismatch: replicas make different calls, or their modules differ in the number of channels.
        """
        context = get_replica_context()
        if not self.training or context is None or context.num_replicas_in_sync == 1:
            return super().forward(x)
        return self._over_replicas(context, x)

    @eager
    def _over_replicas(self, context: ReplicaContext, x: torch.Tensor) -> torch.Tensor:
        error: Exception | None = None
        try:
            self._check_input_dim(x)
        except ValueError as found:
            error = found
        call = f"SyncBatchNorm({self.num_features}) of {x.dtype}"
        statistics = batch_statistics(context, call, x, error)
        if self.track_running_stats and self.running_mean is not None:
            self._keep(statistics)
        return normalized(context, x, self.weight, self.bias, statistics, self.eps)

    @torch.no_grad()
    def _keep(self, statistics: ChannelStatistics) -> None:
        """Updates the running statistics with those of a batch."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        variance = statistics.squares / (statistics.count - 1)
        for buffer, value in ((self.running_mean, statistics.mean), (self.running_var, variance)):
            buffer.copy_((1 - momentum) * buffer.double() + momentum * value)

    def _check_input_dim(self, x: torch.Tensor) -> None:
        if x.ndim < 2 or x.shape[1] != self.num_features:
            raise ValueError(
                f"SyncBatchNorm({self.num_features}) takes inputs of shape [examples, {self.num_features}, "
                f"...]; got {list(x.shape)}"
            )


def convert_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Replaces each batch norm in a module with :class:`SyncBatchNorm`, as PyTorch's function does.

    Parameters, buffers and hooks stay the same objects, so you can call it before or after creating an
    optimizer.

    Args:
        module: the module. It is changed in place, unless it is a batch norm itself.

    Returns:
        The module, or its replacement if it is a batch norm.

    Raises:
        TypeError: a batch norm overrides ``forward`` or is parametrized. Nothing was changed.
        ValueError: a lazy batch norm does not have its shape yet. Nothing was changed.
    """
    new: dict[int, nn.Module] = {}
    for name, found in module.named_modules():
        if isinstance(found, _BatchNorm) and not isinstance(found, SyncBatchNorm):
            _check(name or "the module", found)
            made = new[id(found)] = SyncBatchNorm.__new__(SyncBatchNorm)
            vars(made).update(vars(found))
    for parent in list(module.modules()):
        # Not named_children(), which yields a module that has two names only once.
        for name, child in list(vars(parent).get("_modules", {}).items()):
            if id(child) in new:
                setattr(parent, name, new[id(child)])
    return new.get(id(module), module)


def _check(name: str, module: _BatchNorm) -> None:
    """Raises TypeError if the module changes batch norm, ValueError if it is lazy and has no shape."""
    kind = type(module)
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        raise ValueError(
            f"convert_sync_batchnorm: {name} ({kind.__name__}) does not have its shape yet: call the model "
            "on a batch first"
        )
    if kind.forward not in (_BatchNorm.forward, nn.SyncBatchNorm.forward) or parametrize.is_parametrized(
        module
    ):
        raise TypeError(
            f"convert_sync_batchnorm: {name} ({kind.__module__}.{kind.__qualname__}) does more than "
            "PyTorch's batch norm, which would be lost: replace it yourself with a SyncBatchNorm and your "
            "code"
        )
