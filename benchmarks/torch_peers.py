"""Ways to train a model of PyTorch on all replicas."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING

from benchmarks.models import TorchTraining

if TYPE_CHECKING:
    from benchmarks.torch_models import Case

__all__ = ["BARE", "DDP", "OURS", "PEERS", "Maker"]

#: Makes what one replica trains, from a case and the replica's rank.
Maker = Callable[["Case", int], TorchTraining]

BARE, DDP, OURS = "bare", "DDP", "distopt"


def bare(case: Case, rank: int) -> TorchTraining:
    """Forward and backward only: nothing is summed or updated."""
    return TorchTraining(case.model(), case.batches(rank))


def ddp(case: Case, rank: int) -> TorchTraining:
    """DDP at its leanest: gradients lie in the buckets, no buffers are sent, optimizers are fused.

    The process group must be there (:mod:`benchmarks.gloo`).
    """
    from torch import optim
    from torch.nn.parallel import DistributedDataParallel

    fused = {name: functools.partial(getattr(optim, name), fused=True) for name in ("Adam", "AdamW", "SGD")}
    namespace = SimpleNamespace(SparseAdam=optim.SparseAdam, **fused)
    model = case.model()
    wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True, forward_sync_buffers=False)
    return TorchTraining(wrapped, case.batches(rank), case.optimizers(namespace, model))


def ours(case: Case, rank: int) -> TorchTraining:
    """The same model with distopt's optimizers in the place of PyTorch's."""
    import distopt.torch as dt

    model = case.model()
    return TorchTraining(model, case.batches(rank), case.optimizers(dt, model))


PEERS: dict[str, Maker] = {BARE: bare, DDP: ddp, OURS: ours}
