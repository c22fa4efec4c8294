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
    """``torch.optim.Muon`` over all replicas, in float32 where PyTorch has bfloat16.

    Each matrix is orthogonalized by one replica of a node. All parameters must be matrices: give the others,
    embeddings and the output layer to AdamW.

    Args:
        params: the model, or what PyTorch takes: parameters, named parameters or groups of them.
        lr: the learning rate.
        weight_decay: the parameter is multiplied by 1 - lr * weight_decay first.
        momentum: decay of the mean of the gradient.
        nesterov: whether to use Nesterov's momentum.
        ns_coefficients: the coefficients of the polynomial that orthogonalizes.
        eps: the least norm by which a matrix is divided.
        ns_steps: how many steps orthogonalize.
        adjust_lr_fn: how lr is adjusted to a matrix's shape: None, "original" or "match_rms_adamw".
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
