"""RMSprop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.rmsprop import RMSpropUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["RMSprop"]


class RMSprop(Optimizer, torch.optim.RMSprop):
    """``torch.optim.RMSprop`` over all replicas.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        alpha: the decay rate of the running mean of the squared gradient.
        eps: added to the denominator for numerical stability.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the gradient.
        momentum: the momentum factor.
        centered: whether to divide by the square root of the variance.
        capturable: must be False.
        foreach: accepted and ignored.
        maximize: whether to maximize the loss instead of minimizing it.
        differentiable: must be False.
        **options: see StepOptions.

    Source: Graves 2013, arXiv:1308.0850; ``torch.optim.RMSprop``.
    """

    _update = RMSpropUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        with self._over_replicas(params, options) as given:
            super().__init__(
                given,
                lr,
                alpha,
                eps,
                weight_decay,
                momentum,
                centered,
                capturable,
                foreach,
                maximize,
                differentiable,
            )
