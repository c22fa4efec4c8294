"""Adadelta."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distopt.engine.rule import Rule
from distopt.optimizers.rule_optimizer import RuleOptimizer, epsilon_or_default, with_step_count

__all__ = ["Adadelta"]


def _adadelta(w, g, accum_grad, accum_var, lr_t, rho, one_minus_rho, epsilon):  # type: ignore[no-untyped-def]
    accum_grad = rho * accum_grad + one_minus_rho * (g * g)
    update = np.sqrt(accum_var + epsilon) / np.sqrt(accum_grad + epsilon) * g
    accum_var = rho * accum_var + one_minus_rho * (update * update)
    return w - lr_t * update, accum_grad, accum_var


ADADELTA = Rule("adadelta", _adadelta, ("accum_grad", "accum_var"))


class Adadelta(RuleOptimizer):
    """Scales gradients by the ratio of the root mean squares of past steps and past gradients.

    ``a = rho * a + (1 - rho) * g**2``, ``u = sqrt(b + epsilon) / sqrt(a + epsilon) * g``,
    ``w -= lr * u``, ``b = rho * b + (1 - rho) * u**2``. A sparse gradient updates only its own rows.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule; the paper has 1.0.
        rho: decay of the running means.
        epsilon: keeps the divisor above zero and makes the first steps possible; None and 0 mean 1e-7.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Source: Zeiler 2012, arXiv:1212.5701.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: Any = 0.95,
        epsilon: float | None = 1e-7,
        name: str | None = "Adadelta",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("rho", rho)
        self.epsilon = epsilon_or_default(epsilon)

    def _rule(self, coefficients: Mapping[str, Any]) -> Rule:
        return ADADELTA

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        rho = self._scalar("rho", dtype)
        return {"rho": rho, "one_minus_rho": dtype.type(1) - rho, "epsilon": dtype.type(self._epsilon)}

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Like the base class. If the list lacks the step count, the count is set to 0."""
        super().set_weights(with_step_count(weights, len(self.weights)))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "decay": self._serialize_hyperparameter("decay"),
            "rho": self._serialize_hyperparameter("rho"),
            "epsilon": self.epsilon,
        }
