"""Adamax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.adamax import AdamaxUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Adamax"]


class Adamax(Optimizer, torch.optim.Adamax):
    """``torch.optim.Adamax`` over all replicas.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        betas: decay rates of the running mean of the gradient and of its largest absolute value.
        eps: added to the denominator for numerical stability.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the gradient.
        foreach: accepted and ignored.
        maximize: whether to maximize the loss instead of minimizing it.
        differentiable: must be False.
        capturable: must be False.
        **options: see StepOptions.

    Source: Kingma & Ba 2014, arXiv:1412.6980; ``torch.optim.Adamax``.
    """

    _update = AdamaxUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 2e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        with self._over_replicas(params, options) as given:
            super().__init__(
                given,
                lr,
                betas,
                eps,
                weight_decay,
                foreach,
                maximize=maximize,
                differentiable=differentiable,
                capturable=capturable,
            )
