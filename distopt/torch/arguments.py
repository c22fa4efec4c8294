"""Checks arguments of the optimizers that PyTorch does not have, and so does not check."""

from __future__ import annotations

from typing import Any

import torch

from distopt.core.checks import shown
from distopt.optimizers.limits import BELOW_ONE, NOT_NEGATIVE, within

__all__ = ["check_betas", "check_rate"]


def check_rate(lr: Any, name: str) -> None:
    """Checks the learning rate of optimizer ``name``: a number, or a tensor with one element.

    Raises:
        TypeError: it is not a number.
        ValueError: it is negative or not finite.
    """
    number = lr.item() if isinstance(lr, torch.Tensor) and lr.numel() == 1 else lr
    within(NOT_NEGATIVE, number, f"lr of {name}")


def check_betas(betas: Any, name: str) -> None:
    """Checks the two decays of optimizer ``name``.

    Raises:
        TypeError: one is not a number.
        ValueError: there are not two of them, or one is outside [0, 1).
    """
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise ValueError(f"betas of {name} must be two numbers; got {shown(betas)}")
    for place, beta in enumerate(betas):
        within(BELOW_ONE, beta, f"betas[{place}] of {name}")
