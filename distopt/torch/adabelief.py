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
    """AdaBelief over all replicas: Adam with large steps where gradients are close to their running mean.

    PyTorch does not have this optimizer. Arguments, results and state names are those of the authors'
    package, adabelief_pytorch 0.2. There the arguments after ``amsgrad`` are the same for all groups; here
    each group may have its own.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        betas: decay rates of the running means of the gradient and of its squared distance from that mean.
        eps: added to the second mean in each step, and to its square root.
        weight_decay: see ``weight_decouple``.
        amsgrad: whether to divide by the largest second mean so far. Only without ``rectify``.
        weight_decouple: whether to use decoupled weight decay, which first multiplies the parameter by ``1 -
            lr * weight_decay``. Otherwise ``weight_decay * parameter`` is added to the gradient.
        fixed_decay: whether to multiply by ``1 - weight_decay`` instead, independent of the learning rate.
        rectify: whether to rectify steps as RAdam does.
        degenerated_to_sgd: whether to use the mean of the gradient alone in early steps that cannot be
            rectified. Otherwise these steps are skipped.
        print_change_log: accepted and ignored.
        **options: see StepOptions.

    Raises:
        ValueError: ``lr``, ``eps`` or ``weight_decay`` is negative, or a beta is outside [0, 1).

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
