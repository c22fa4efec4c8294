"""Adafactor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.adafactor import AdafactorUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Adafactor"]


class Adafactor(Optimizer, torch.optim.Adafactor):
    """``torch.optim.Adafactor`` over all replicas.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the largest step, relative to the root mean square of the parameter.
        beta2_decay: the exponent of the step number in the weight of a step in the running means.
        eps: the smallest square root of a second moment (None for the resolution of the dtype), and the
            smallest root mean square of a parameter.
        d: the threshold for the root mean square of a scaled gradient, which is clipped to it.
        weight_decay: decoupled weight decay: the parameter is first multiplied by ``1 - lr * weight_decay``.
        foreach: accepted and ignored.
        maximize: whether to maximize the loss instead of minimizing it.
        **options: see StepOptions.

    Source: Shazeer & Stern 2018, arXiv:1804.04235; ``torch.optim.Adafactor``.
    """

    _update = AdafactorUpdate()

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        with self._over_replicas(params, options) as given:
            super().__init__(
                given,
                lr,
                beta2_decay,
                eps,
                d,
                weight_decay,
                foreach=foreach,
                maximize=maximize,
            )
