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
        params: the model, or what PyTorch takes: parameters, named parameters or groups of them.
        lr: the largest step, relative to the size of the parameter's elements.
        beta2_decay: the power of the step with which a step's share in the means falls.
        eps: the least root of a second moment (None for the dtype's resolution); the least size of elements.
        d: the largest root mean square of a scaled gradient.
        weight_decay: the parameter is multiplied by 1 - lr * weight_decay first.
        foreach: accepted and ignored.
        maximize: whether to go up.
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
