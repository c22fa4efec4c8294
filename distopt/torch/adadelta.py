"""Adadelta."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.adadelta import AdadeltaUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Adadelta"]


class Adadelta(Optimizer, torch.optim.Adadelta):
    """``torch.optim.Adadelta`` over all replicas.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        rho: the decay rate of the running means of squares.
        eps: added for numerical stability, under the roots and to the divisor.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the gradient.
        foreach: accepted and ignored.
        capturable: must be False.
        maximize: whether to maximize the loss instead of minimizing it.
        differentiable: must be False.
        **options: see StepOptions.

    Source: Zeiler 2012, arXiv:1212.5701; ``torch.optim.Adadelta``.
    """

    _update = AdadeltaUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        with self._over_replicas(params, options) as given:
            super().__init__(
                given,
                lr,
                rho,
                eps,
                weight_decay,
                foreach,
                capturable=capturable,
                maximize=maximize,
                differentiable=differentiable,
            )
