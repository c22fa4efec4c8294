"""AdaBelief."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distopt.engine.rule import Rule, Sparse
from distopt.optimizers.rule_optimizer import RuleOptimizer

__all__ = ["AdaBelief"]


def _adabelief(  # type: ignore[no-untyped-def]
    w, g, m, s, alpha, one_minus_beta_1, one_minus_beta_2, s_correction, epsilon
):
    m = m + (g - m) * one_minus_beta_1
    surprise = np.abs(g - m)  # also for complex numbers
    s = s + (surprise * surprise - s) * one_minus_beta_2 + epsilon
    return w - m * alpha / (np.sqrt(s * s_correction) + epsilon), m, s


ADABELIEF = Rule("adabelief", _adabelief, ("m", "s"), Sparse.ALL, in_float32=True)


class AdaBelief(RuleOptimizer):
    """Adam with the squared distance of the gradient from its mean, instead of the squared gradient.

    Steps are large where gradients are close to their mean.

    ``m += (g - m) * (1 - beta_1)``, ``s += ((g - m)**2 - s) * (1 - beta_2) + epsilon``,
    ``w -= lr * m / (1 - beta_1**t) / (sqrt(s / (1 - beta_2**t)) + epsilon)`` in step ``t = 1, 2, ...``. A
    sparse gradient is treated as a dense one with zeros, so every row moves.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule.
        beta_1: decay of the mean of the gradient.
        beta_2: decay of the mean of the squared distance.
        epsilon: keeps the divisor above zero. It is much smaller than that of Adam, because the squared
            distances are.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Raises:
        ValueError: ``epsilon`` is negative.

    Source: Zhuang et al. 2020, arXiv:2010.07468; ``optax.adabelief``.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: float = 1e-16,
        name: str | None = "AdaBelief",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("beta_1", beta_1)
        self._set_hyper("beta_2", beta_2)
        self.epsilon = epsilon

    def _rule(self, coefficients: Mapping[str, Any]) -> Rule:
        return ADABELIEF

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        one, step = dtype.type(1), dtype.type(self._steps_made() + 1)
        beta_1, beta_2 = self._scalar("beta_1", dtype), self._scalar("beta_2", dtype)
        return {
            "alpha": lr / (one - beta_1**step),
            "one_minus_beta_1": one - beta_1,
            "one_minus_beta_2": one - beta_2,
            "s_correction": one / (one - beta_2**step),
            "epsilon": dtype.type(self._epsilon),
        }

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "decay": self._serialize_hyperparameter("decay"),
            "beta_1": self._serialize_hyperparameter("beta_1"),
            "beta_2": self._serialize_hyperparameter("beta_2"),
            "epsilon": self.epsilon,
        }
