"""Adam and AdamW."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.adam import AdamUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer, torch.optim.Adam):
    """``torch.optim.Adam`` over all replicas.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        betas: decay rates of the running means of the gradient and of its square.
        eps: added to the denominator for numerical stability.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the gradient.
        amsgrad: whether to divide by the largest mean of the squared gradient so far.
        foreach: accepted and ignored.
        maximize: whether to maximize the loss instead of minimizing it.
        capturable: must be False.
        differentiable: must be False.
        fused: accepted and ignored.
        decoupled_weight_decay: whether to use the decoupled weight decay of AdamW.
        **options: see StepOptions.

    Source: Kingma & Ba 2014, arXiv:1412.6980; ``torch.optim.Adam``.
    """

    _update = AdamUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        with self._over_replicas(params, options) as given:
            super().__init__(
                given,
                lr,
                betas,
                eps,
                weight_decay,
                amsgrad,
                foreach=foreach,
                maximize=maximize,
                capturable=capturable,
                differentiable=differentiable,
                fused=fused,
                decoupled_weight_decay=decoupled_weight_decay,
            )


class AdamW(Optimizer, torch.optim.AdamW):
    """``torch.optim.AdamW`` over all replicas.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        betas: decay rates of the running means of the gradient and of its square.
        eps: added to the denominator for numerical stability.
        weight_decay: decoupled weight decay: the parameter is first multiplied by ``1 - lr * weight_decay``.
        amsgrad: whether to divide by the largest mean of the squared gradient so far.
        maximize: whether to maximize the loss instead of minimizing it.
        foreach: accepted and ignored.
        capturable: must be False.
        differentiable: must be False.
        fused: accepted and ignored.
        **options: see StepOptions.

    Source: Loshchilov & Hutter 2017, arXiv:1711.05101; ``torch.optim.AdamW``.
    """

    _update = AdamUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        with self._over_replicas(params, options) as given:
            super().__init__(
                given,
                lr,
                betas,
                eps,
                weight_decay,
                amsgrad,
                maximize=maximize,
                foreach=foreach,
                capturable=capturable,
                differentiable=differentiable,
                fused=fused,
            )
