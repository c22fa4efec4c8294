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
    """Steps by the sign of a running mean of the gradient, over all replicas.

    PyTorch has none: the arguments, and ``exp_avg`` in the state, are those of the authors' program.

    Args:
        params: the model, or what PyTorch takes: parameters, named parameters or groups of them.
        lr: the size of each element's step.
        betas: the weight of the mean in the step, and the decay of the mean.
        weight_decay: the parameter is multiplied by 1 - lr * weight_decay first.
        maximize: whether to go up.
        **options: see StepOptions.

    Raises:
        ValueError: a negative ``lr`` or ``weight_decay``, or a beta outside [0, 1).

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
