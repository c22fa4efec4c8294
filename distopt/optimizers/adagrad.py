"""Adagrad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distopt.core.initializer import Constant
from distopt.core.variable import Variable
from distopt.engine.rule import Rule
from distopt.optimizers.rule_optimizer import (
    RuleOptimizer,
    epsilon_or_default,
    not_negative,
    with_step_count,
)

__all__ = ["Adagrad"]


def _adagrad(w, g, accumulator, lr_t, epsilon):  # type: ignore[no-untyped-def]
    accumulator = accumulator + g * g
    return w - lr_t * g / (np.sqrt(accumulator) + epsilon), accumulator


ADAGRAD = Rule("adagrad", _adagrad, ("accumulator",))


class Adagrad(RuleOptimizer):
    """Divides steps by the square root of the sum of all squared gradients so far.

    ``accumulator += g**2``, ``w -= lr * g / (sqrt(accumulator) + epsilon)``. A sparse gradient updates
    only its own rows.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule.
        initial_accumulator_value: the initial value of the sums, at least 0.
        epsilon: keeps the divisor above zero; None and 0 mean 1e-7.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Raises:
        ValueError: ``initial_accumulator_value`` is negative.

    Source: Duchi et al. 2011, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization".
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float | None = 1e-7,
        name: str | None = "Adagrad",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self._initial_accumulator_value = not_negative(initial_accumulator_value, "initial_accumulator_value")
        self.epsilon = epsilon_or_default(epsilon)

    def _create_slots(self, var_list: list[Variable]) -> None:
        for variable in var_list:
            self.add_slot(variable, "accumulator", Constant(self._initial_accumulator_value))

    def _rule(self, coefficients: Mapping[str, Any]) -> Rule:
        return ADAGRAD

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        return {"epsilon": dtype.type(self._epsilon)}

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Like the base class. If the list lacks the step count, the count is set to 0."""
        super().set_weights(with_step_count(weights, len(self.weights)))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "decay": self._serialize_hyperparameter("decay"),
            "initial_accumulator_value": self._initial_accumulator_value,
            "epsilon": self.epsilon,
        }
