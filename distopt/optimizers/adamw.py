"""AdamW: Adam with decoupled weight decay."""

from __future__ import annotations

from typing import Any

from distopt.optimizers.adam import Adam

__all__ = ["AdamW"]


class AdamW(Adam):
    """Adam with decoupled weight decay: ``w -= lr * weight_decay * w``, then a step of Adam.

    A penalty on ``w**2`` in the loss would be divided by the same root as the gradient, so it would have the
    least effect where gradients are large.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule.
        weight_decay: at least 0.
        beta_1: decay of the mean of the gradient.
        beta_2: decay of the mean of its square.
        epsilon: keeps the divisor above zero; None and 0 mean 1e-7.
        amsgrad: whether to use AMSGrad.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Raises:
        ValueError: ``weight_decay`` is None or negative.

    Source: Loshchilov & Hutter 2017, arXiv:1711.05101; ``keras.optimizers.AdamW`` of Keras 3.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: float | None = 1e-7,
        amsgrad: bool = False,
        name: str | None = "AdamW",
        **kwargs: Any,
    ) -> None:
        if weight_decay is None:
            raise ValueError("Argument `weight_decay` of AdamW must be a number, received: None")
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, name, weight_decay=weight_decay, **kwargs
        )
