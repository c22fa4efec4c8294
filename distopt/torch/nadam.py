"""NAdam."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.nadam import NAdamUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["NAdam"]


class NAdam(Optimizer, torch.optim.NAdam):
    """``torch.optim.NAdam`` over all replicas.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        betas: decay rates of the running means of the gradient and of its square.
        eps: added to the denominator for numerical stability.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the gradient.
        momentum_decay: how fast the momentum approaches its limit.
        decoupled_weight_decay: whether to use the decoupled weight decay of AdamW.
        foreach: accepted and ignored.
        maximize: whether to maximize the loss instead of minimizing it.
        capturable: must be False.
        differentiable: must be False.
        **options: see StepOptions.

    Source: Dozat 2016, "Incorporating Nesterov Momentum into Adam"; ``torch.optim.NAdam``.
    """

    _update = NAdamUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
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
                momentum_decay,
                decoupled_weight_decay,
                foreach=foreach,
                maximize=maximize,
                capturable=capturable,
                differentiable=differentiable,
            )
