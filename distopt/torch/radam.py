"""RAdam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.radam import RAdamUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["RAdam"]


class RAdam(Optimizer, torch.optim.RAdam):
    """``torch.optim.RAdam`` over all replicas.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        betas: decay rates of the running means of the gradient and of its square.
        eps: added to the denominator for numerical stability.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the gradient.
        decoupled_weight_decay: whether to use the decoupled weight decay of AdamW.
        foreach: accepted and ignored.
        maximize: whether to maximize the loss instead of minimizing it.
        capturable: must be False.
        differentiable: must be False.
        **options: see StepOptions.

    Source: Liu et al. 2019, arXiv:1908.03265; ``torch.optim.RAdam``.
    """

    _update = RAdamUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        with self._over_replicas(params, options) as given:
            super().__init__(
                given,
                lr,
                betas,
                eps,
                weight_decay,
                decoupled_weight_decay,
                foreach=foreach,
                maximize=maximize,
                capturable=capturable,
                differentiable=differentiable,
            )
