"""SGD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.sgd import SGDUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["SGD"]


class SGD(Optimizer, torch.optim.SGD):
    """``torch.optim.SGD`` over all replicas.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        momentum: the momentum factor.
        dampening: the dampening of the momentum: the gradient enters it with the factor ``1 - dampening``.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the gradient.
        nesterov: whether to use Nesterov momentum.
        maximize: whether to maximize the loss instead of minimizing it.
        foreach: accepted and ignored.
        differentiable: must be False.
        fused: accepted and ignored.
        **options: see StepOptions.

    Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning";
    ``torch.optim.SGD``.
    """

    _update = SGDUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: Any = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        with self._over_replicas(params, options) as given:
            super().__init__(
                given,
                lr,
                momentum,
                dampening,
                weight_decay,
                nesterov,
                maximize=maximize,
                foreach=foreach,
                differentiable=differentiable,
                fused=fused,
            )
