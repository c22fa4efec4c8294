"""LAMB: the direction of Adam, with a step length for each variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distopt.engine.rule import Rule
from distopt.engine.trust_ratio import TrustRatioRule
from distopt.optimizers.rule_optimizer import epsilon_or_default
from distopt.optimizers.trust_ratio_optimizer import TrustRatioOptimizer

__all__ = ["LAMB"]


def _direction(w, g, u, m, v, one_minus_beta_1, one_minus_beta_2, mean, square, epsilon):  # type: ignore[no-untyped-def]  # noqa: ARG001
    m = m + (g - m) * one_minus_beta_1
    v = v + (g * g - v) * one_minus_beta_2
    return w, m * mean / (np.sqrt(v * square) + epsilon), m, v


def _ratio(of_w, of_u, adapts):  # type: ignore[no-untyped-def]
    return np.where((adapts != 0) & (of_w > 0) & (of_u > 0), of_w / of_u, np.ones_like(of_w))


def _step(w, u, lr_t, ratio):  # type: ignore[no-untyped-def]
    return (w - lr_t * ratio * u,)


DIRECTION = Rule("lamb_direction", _direction, ("u", "m", "v"), in_float32=True)
RULE = TrustRatioRule("lamb", DIRECTION, _ratio, Rule("lamb_step", _step, in_float32=True))


class LAMB(TrustRatioOptimizer):
    """The direction of Adam, scaled to the norm of each variable. It is meant for large batches.

    ``m += (g - m) * (1 - beta_1)``, ``v += (g**2 - v) * (1 - beta_2)``,
    ``u = m / (1 - beta_1**s) / (sqrt(v / (1 - beta_2**s)) + epsilon)`` in step ``s = 1, 2, ...``, then
    ``w -= lr * norm(w) / norm(u) * u``. The norms are those of the whole variable. If one of them is 0, the
    ratio is 1. A sparse gradient is treated as a dense one with zeros, so every row moves.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule.
        beta_1: decay of the mean of the gradient.
        beta_2: decay of the mean of its square.
        epsilon: keeps the divisor above zero; None and 0 mean 1e-7.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Source: You et al. 2019, "Large Batch Optimization for Deep Learning", arXiv:1904.00962;
    ``keras.optimizers.Lamb`` of Keras 3.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: float | None = 1e-7,
        name: str | None = "LAMB",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("beta_1", beta_1)
        self._set_hyper("beta_2", beta_2)
        self.epsilon = epsilon_or_default(epsilon)

    def _rule(self, coefficients: Mapping[str, Any]) -> TrustRatioRule:
        return RULE

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        one, step = dtype.type(1), dtype.type(self._steps_made() + 1)
        beta_1, beta_2 = self._scalar("beta_1", dtype), self._scalar("beta_2", dtype)
        return {
            "one_minus_beta_1": one - beta_1,
            "one_minus_beta_2": one - beta_2,
            "mean": one / (one - beta_1**step),
            "square": one / (one - beta_2**step),
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
