"""Lion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from distopt.optimizers.limits import NOT_NEGATIVE, within
from distopt.torch.arguments import check_betas, check_rate
from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.lion import LionUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Lion"]


class Lion(Optimizer, torch.optim.Optimizer):
    """Lion over all replicas: steps in the direction of the sign of a running mean of the gradient.

    PyTorch does not have this optimizer. The arguments, and ``exp_avg`` in the state, are those of the
    authors' program.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the step size of each element.
        betas: the weight of the running mean in the step, and the decay rate of that mean.
        weight_decay: decoupled weight decay: the parameter is first multiplied by ``1 - lr * weight_decay``.
        maximize: whether to maximize the loss instead of minimizing it.
        **options: see StepOptions.

    Raises:
        ValueError: ``lr`` or ``weight_decay`` is negative, or a beta is outside [0, 1).

    Source: Chen et al. 2023, arXiv:2302.06675.
    """

    _update = LionUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-4,
        betas: Any = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        check_rate(lr, "Lion")
        check_betas(betas, "Lion")
        within(NOT_NEGATIVE, weight_decay, "weight_decay of Lion")
        numbers = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        with self._over_replicas(params, options) as given:
            super().__init__(given, numbers)
