"""Adagrad."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.adagrad import AdagradUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Adagrad"]


class Adagrad(Optimizer, torch.optim.Adagrad):
    """``torch.optim.Adagrad`` over all replicas.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        lr_decay: the decay of the learning rate, which is divided by ``1 + steps * lr_decay``.
        weight_decay: the coefficient of ``weight_decay * parameter``, which is added to the gradient.
        initial_accumulator_value: the initial value of the sums of squares.
        eps: added to the denominator for numerical stability.
        foreach: accepted and ignored.
        maximize: whether to maximize the loss instead of minimizing it.
        differentiable: must be False.
        fused: accepted and ignored.
        **options: see StepOptions.

    Source: Duchi et al. 2011, "Adaptive Subgradient Methods"; ``torch.optim.Adagrad``.
    """

    _update = AdagradUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        with self._over_replicas(params, options) as given:
            super().__init__(
                given,
                lr,
                lr_decay,
                weight_decay,
                initial_accumulator_value,
                eps,
                foreach,
                maximize=maximize,
                differentiable=differentiable,
                fused=fused,
            )
