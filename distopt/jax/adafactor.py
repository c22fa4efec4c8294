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
        learning_rate: a number, or a function of the number of steps made; None is 1.
        min_dim_size_to_factor: leaves whose two longest axes have so many elements have a mean of squares for
            each row and each column, instead of each element.
        decay_rate: how fast a step's share in the means falls.
        decay_offset: the number of the step at which the means begin.
        multiply_by_parameter_scale: whether steps are relative to the size of the leaf's elements.
        clipping_threshold: the largest root mean square of a scaled gradient; None for no limit.
        momentum: decay of a mean of the steps; None for no mean.
        dtype_momentum: must be float32; the mean has the dtype of the leaf.
        weight_decay_rate: times the leaf is subtracted, whatever the rate is; a number or a schedule.
        eps: is added to squares of gradients.
        factored: whether any leaf has means of rows and columns.
        weight_decay_mask: what decays: a pytree of Booleans like the parameters, or a function that
            makes it of them.
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
