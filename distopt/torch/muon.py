"""Muon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from distopt.optimizers.newton_schulz import COEFFICIENTS
from distopt.torch.optimizer import Optimizer, StepOptions
from distopt.torch.rules.muon import MuonUpdate

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Muon"]


class Muon(Optimizer, torch.optim.Muon):
    """``torch.optim.Muon`` over all replicas, in float32 where PyTorch uses bfloat16.

    One replica of each node orthogonalizes a matrix. All parameters must be matrices. Train the others,
    embeddings and the output layer with AdamW.

    Args:
        params: the model, or anything that PyTorch accepts: parameters, named parameters or groups of them.
        lr: the learning rate.
        weight_decay: decoupled weight decay: the parameter is first multiplied by ``1 - lr * weight_decay``.
        momentum: the decay rate of the running mean of the gradient.
        nesterov: whether to use Nesterov's momentum.
        ns_coefficients: the coefficients of the Newton-Schulz polynomial.
        eps: the smallest norm that a matrix is divided by.
        ns_steps: the number of Newton-Schulz steps.
        adjust_lr_fn: how to adjust the learning rate to the shape of a matrix: None, "original" or
            "match_rms_adamw".
        **options: see StepOptions.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks";
    ``torch.optim.Muon``.
    """

    _update = MuonUpdate()

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        **options: Unpack[StepOptions],
    ) -> None:
        with self._over_replicas(params, options) as given:
            super().__init__(
                given,
                lr,
                weight_decay,
                momentum,
                nesterov,
                ns_coefficients,
                eps,
                ns_steps,
                adjust_lr_fn,
            )
