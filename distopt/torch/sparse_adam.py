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
    """``torch.optim.SparseAdam`` over all replicas: Adam on the rows that a gradient names, and no others.

    Args:
        params: the model, or what PyTorch takes: parameters, named parameters or groups of them.
        lr: the learning rate.
        betas: decays of the means of the gradient and of its square.
        eps: keeps the divisor above zero.
        maximize: whether to go up.
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
