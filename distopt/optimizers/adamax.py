"""Adamax: Adam with the infinity norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distopt.engine.rule import Rule
from distopt.optimizers.rule_optimizer import RuleOptimizer, epsilon_or_default

__all__ = ["Adamax"]


def _adamax(w, g, m, v, alpha, one_minus_beta_1, beta_2, epsilon):  # type: ignore[no-untyped-def]
    m = m + (g - m) * one_minus_beta_1
    v = np.maximum(beta_2 * v, np.abs(g))
    return w - alpha * (m / (v + epsilon)), m, v


ADAMAX = Rule("adamax", _adamax, ("m", "v"))


class Adamax(RuleOptimizer):
    """Adam with a decaying maximum of ``|g|`` instead of the root of a mean square.

    ``m += (g - m) * (1 - beta_1)``, ``v = max(beta_2 * v, |g|)``,
    ``w -= lr / (1 - beta_1**s) * m / (v + epsilon)`` in step ``s = 1, 2, ...``. A sparse gradient
    updates only its own rows.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule.
        beta_1: decay of the mean of the gradient.
        beta_2: decay of the maximum.
        epsilon: keeps the divisor above zero; None and 0 mean 1e-7.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Source: Kingma & Ba 2014, arXiv:1412.6980, section 7.1.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: float | None = 1e-7,
        name: str | None = "Adamax",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("beta_1", beta_1)
        self._set_hyper("beta_2", beta_2)
        self.epsilon = epsilon_or_default(epsilon)

    def _rule(self, coefficients: Mapping[str, Any]) -> Rule:
        return ADAMAX

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        one, step = dtype.type(1), dtype.type(self._steps_made() + 1)
        beta_1 = self._scalar("beta_1", dtype)
        return {
            "alpha": lr / (one - beta_1**step),
            "one_minus_beta_1": one - beta_1,
            "beta_2": self._scalar("beta_2", dtype),
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
