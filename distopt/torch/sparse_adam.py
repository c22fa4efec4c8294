"""SparseAdam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.sparse_adam import SparseAdamUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SparseAdam"]


class SparseAdam(Optimizer, torch.optim.SparseAdam):
    """``torch.optim.SparseAdam`` over all replicas: Adam on only the rows that a sparse gradient has.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        betas: decay rates of the running means of the gradient and of its square.
        eps: added to the denominator for numerical stability.
        maximize: whether to maximize the loss instead of minimizing it.
        **options: see StepOptions.

    Source: Kingma & Ba 2014, arXiv:1412.6980; ``torch.optim.SparseAdam``.
    """

    _update = SparseAdamUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        with self._over_replicas(params, options) as given:
            super().__init__(
                given,
                lr,
                betas,
                eps,
                maximize,
            )
