"""AdaBelief."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from distopt.optimizers.limits import NOT_NEGATIVE, within
from distopt.torch.arguments import check_betas, check_rate
from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.adabelief import AdaBeliefUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AdaBelief"]


class AdaBelief(Optimizer, torch.optim.Optimizer):
    """Adam whose steps are large where gradients agree with their running mean, over all replicas.

    PyTorch has none: arguments, numbers, and the names in the state are those of the authors' program,
    adabelief_pytorch 0.2. There, what follows ``amsgrad`` is the same for all groups; here each group may
    have its own.

    Args:
        params: the model, or what PyTorch takes: parameters, named parameters or groups of them.
        lr: the learning rate.
        betas: decays of the means of the gradient and of the square of its distance from that mean.
        eps: is added to the second mean in each step, and to its root.
        weight_decay: see ``weight_decouple``.
        amsgrad: whether the largest second mean so far is the divisor; without ``rectify`` only.
        weight_decouple: whether the parameter is multiplied by 1 - lr * weight_decay first; else weight_decay
            times the parameter is added to the gradient.
        fixed_decay: whether it is multiplied by 1 - weight_decay instead, whatever the learning rate.
        rectify: whether steps are rectified as RAdam's.
        degenerated_to_sgd: whether the steps that cannot be rectified yet go by the mean of the gradient
            alone; else they are left out.
        print_change_log: accepted and ignored.
        **options: see StepOptions.

    Raises:
        ValueError: a negative ``lr``, ``eps`` or ``weight_decay``, or a beta outside [0, 1).

    Source: Zhuang et al. 2020, arXiv:2010.07468.
    """

    _update = AdaBeliefUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0,
        amsgrad: bool = False,
        weight_decouple: bool = True,
        fixed_decay: bool = False,
        rectify: bool = True,
        degenerated_to_sgd: bool = True,
        print_change_log: bool = True,
        **options: Unpack[StepOptions],
    ) -> None:
        check_rate(lr, "AdaBelief")
        check_betas(betas, "AdaBelief")
        for name, value in (("eps", eps), ("weight_decay", weight_decay)):
            within(NOT_NEGATIVE, value, f"{name} of AdaBelief")
        numbers = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "weight_decouple": weight_decouple,
            "fixed_decay": fixed_decay,
            "rectify": rectify,
            "degenerated_to_sgd": degenerated_to_sgd,
        }
        with self._over_replicas(params, options) as given:
            super().__init__(given, numbers)
