"""FTRL-Proximal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distopt.core.initializer import Constant
from distopt.core.variable import Variable
from distopt.engine.rule import Rule, where
from distopt.optimizers.rule_optimizer import RuleOptimizer, not_negative

__all__ = ["Ftrl"]


def _root(w, g, n, z, lr_t, l1, two_l2, two_shrinkage, zero):  # type: ignore[no-untyped-def]
    n_new = n + g * g
    root = np.sqrt(n_new)
    z = z + (g + two_shrinkage * w) - (root - np.sqrt(n)) / lr_t * w
    # z moved to the nearest of -l1 and l1, minus z: sign(z) * l1 - z where |z| > l1.
    excess = np.minimum(np.maximum(z, -l1), l1) - z
    return where(np.abs(z) > l1, excess / (root / lr_t + two_l2), zero), n_new, z


def _power(w, g, n, z, lr_t, power, l1, two_l2, two_shrinkage, zero):  # type: ignore[no-untyped-def]
    n_new = n + g * g
    root = n_new**power
    z = z + (g + two_shrinkage * w) - (root - n**power) / lr_t * w
    excess = np.minimum(np.maximum(z, -l1), l1) - z
    return where(np.abs(z) > l1, excess / (root / lr_t + two_l2), zero), n_new, z


_SLOTS = ("accumulator", "linear")
#: The rule for a learning_rate_power of -0.5, because a square root is about ten times faster than a power.
ROOT = Rule("ftrl", _root, _SLOTS)
POWER = Rule("ftrl_power", _power, _SLOTS)


class Ftrl(RuleOptimizer):
    """Follow the regularized leader, with l1 and l2 regularization. Many weights become exactly zero.

    With ``p = -learning_rate_power``, ``L2 = l2 + beta / (2 * lr)`` and
    ``gs = g + 2 * l2_shrinkage * w``: ``n_new = n + g**2``, ``z += gs - (n_new**p - n**p) / lr * w``,
    ``w = (sign(z) * l1 - z) / (n_new**p / lr + 2 * L2)`` where ``|z| > l1``, else 0. A sparse gradient
    updates only its own rows.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule.
        learning_rate_power: at most 0; 0 for a fixed learning rate.
        initial_accumulator_value: the initial value of ``n``, at least 0.
        l1_regularization_strength: at least 0.
        l2_regularization_strength: at least 0; a stabilizing penalty.
        name: prefix of the names of its variables.
        l2_shrinkage_regularization_strength: at least 0; a penalty on the magnitude of ``w``.
        beta: the beta of the paper.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`; ``lr`` is accepted and ignored.

    Raises:
        ValueError: an argument is out of range.

    Source: McMahan et al. 2013, "Ad Click Prediction: a View from the Trenches", algorithm 1.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: Any = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: Any = 0.0,
        l2_regularization_strength: Any = 0.0,
        name: str | None = "Ftrl",
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: Any = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", learning_rate)
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("learning_rate_power", learning_rate_power)
        self._set_hyper("l1_regularization_strength", l1_regularization_strength)
        self._set_hyper("l2_regularization_strength", l2_regularization_strength)
        self._set_hyper("beta", beta)
        self._initial_accumulator_value = not_negative(initial_accumulator_value, "initial_accumulator_value")
        self._l2_shrinkage_regularization_strength = not_negative(
            l2_shrinkage_regularization_strength, "l2_shrinkage_regularization_strength"
        )

    def _create_slots(self, var_list: list[Variable]) -> None:
        for variable in var_list:
            self.add_slot(variable, "accumulator", Constant(self._initial_accumulator_value))
            self.add_slot(variable, "linear")

    def _rule(self, coefficients: Mapping[str, Any]) -> Rule:
        return ROOT if coefficients.get("power") == 0.5 else POWER

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        two = dtype.type(2)
        l2 = self._scalar("l2_regularization_strength", dtype) + self._scalar("beta", dtype) / (two * lr)
        return {
            "power": -self._scalar("learning_rate_power", dtype),
            "l1": self._scalar("l1_regularization_strength", dtype),
            "two_l2": two * l2,
            "two_shrinkage": two * dtype.type(np.float32(self._l2_shrinkage_regularization_strength)),
            "zero": dtype.type(0),
        }

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "decay": self._serialize_hyperparameter("decay"),
            "initial_accumulator_value": self._initial_accumulator_value,
            "learning_rate_power": self._serialize_hyperparameter("learning_rate_power"),
            "l1_regularization_strength": self._serialize_hyperparameter("l1_regularization_strength"),
            "l2_regularization_strength": self._serialize_hyperparameter("l2_regularization_strength"),
            "beta": self._serialize_hyperparameter("beta"),
            "l2_shrinkage_regularization_strength": self._l2_shrinkage_regularization_strength,
        }
