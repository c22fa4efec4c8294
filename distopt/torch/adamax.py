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
        params: the model, or what PyTorch takes: parameters, named parameters or groups of them.
        lr: the learning rate.
        betas: decays of the mean of the gradient and of its largest absolute value.
        eps: keeps the divisor above zero.
        weight_decay: times the parameter is added to the gradient.
        foreach: accepted and ignored.
        maximize: whether to go up.
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
