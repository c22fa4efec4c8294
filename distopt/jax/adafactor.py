"""Adafactor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from distopt.jax.optimizer import ApplyOptions, Optimizer
from distopt.jax.rules.adafactor import AdafactorRule

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["adafactor"]


def adafactor(
    learning_rate: Any = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: float = 0.8,
    decay_offset: int = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: float | None = 1.0,
    momentum: float | None = None,
    dtype_momentum: Any = jnp.float32,
    weight_decay_rate: Any = None,
    eps: float = 1e-30,
    factored: bool = True,
    weight_decay_mask: Any = None,
    **options: Unpack[ApplyOptions],
) -> Optimizer:
    """``optax.adafactor`` over all replicas.

    Args:
        learning_rate: a number, or a function of the number of steps made. None means 1.
        min_dim_size_to_factor: if the two longest axes of a leaf have at least this length, means of squares
            are kept for rows and columns instead of elements.
        decay_rate: how fast the weight of a step in the running means falls.
        decay_offset: the number of the step at which the running means start.
        multiply_by_parameter_scale: whether steps are relative to the root mean square of the leaf.
        clipping_threshold: the largest root mean square of a scaled gradient. None for no limit.
        momentum: the decay rate of a running mean of the updates. None for no mean.
        dtype_momentum: must be float32. The running mean has the dtype of the leaf.
        weight_decay_rate: the coefficient of ``weight_decay_rate * leaf``, which is subtracted from the leaf
            independent of the learning rate. A number or a schedule.
        eps: added to the squared gradients.
        factored: whether to keep means of rows and columns at all.
        weight_decay_mask: which leaves decay: a pytree of Booleans like the parameters, or a function that
            returns one.
        **options: see ApplyOptions.

    Source: Shazeer & Stern 2018, arXiv:1804.04235; ``optax.adafactor``.
    """
    if np.dtype(dtype_momentum) != np.float32:
        raise ValueError(
            f"dtype_momentum must be float32: the state has the parameters' dtypes; got {dtype_momentum!r}"
        )
    rule = AdafactorRule(
        min_dim_size_to_factor,
        decay_rate,
        decay_offset,
        multiply_by_parameter_scale,
        clipping_threshold,
        momentum,
        eps,
        factored,
    )
    rate, decay = (1.0 if learning_rate is None else learning_rate), weight_decay_rate
    return Optimizer("adafactor", rule, rate, options, 0.0 if decay is None else decay, weight_decay_mask)
