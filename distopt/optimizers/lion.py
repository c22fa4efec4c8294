"""Lion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distopt.engine.rule import Rule, Sparse
from distopt.optimizers.rule_optimizer import RuleOptimizer

__all__ = ["Lion"]


def _lion(w, g, m, lr_t, beta_1, one_minus_beta_1, beta_2, one_minus_beta_2):  # type: ignore[no-untyped-def]
    return w - lr_t * np.sign(beta_1 * m + one_minus_beta_1 * g), beta_2 * m + one_minus_beta_2 * g


LION = Rule("lion", _lion, ("momentum",), Sparse.ALL, in_float32=True)


class Lion(RuleOptimizer):
    """Moves all elements by the same amount: the sign of a running mean of the gradient.

    ``w -= lr * sign(beta_1 * m + (1 - beta_1) * g)``, then ``m = beta_2 * m + (1 - beta_2) * g``. A sparse
    gradient is treated as a dense one with zeros, so every row moves.

    The learning rate should be 3 to 10 times smaller than that of Adam, and the weight decay larger by the
    same factor. Lion has half the state of Adam and is meant for large batches.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule.
        beta_1: weight of the mean in the step.
        beta_2: decay of the mean of the gradient.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Source: Chen et al. 2023, arXiv:2302.06675; ``keras.optimizers.Lion`` of Keras 3.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: Any = 0.9,
        beta_2: Any = 0.99,
        name: str | None = "Lion",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("beta_1", beta_1)
        self._set_hyper("beta_2", beta_2)

    def _rule(self, coefficients: Mapping[str, Any]) -> Rule:
        return LION

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        one, beta_1, beta_2 = dtype.type(1), self._scalar("beta_1", dtype), self._scalar("beta_2", dtype)
        return {
            "beta_1": beta_1,
            "one_minus_beta_1": one - beta_1,
            "beta_2": beta_2,
            "one_minus_beta_2": one - beta_2,
        }

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "decay": self._serialize_hyperparameter("decay"),
            "beta_1": self._serialize_hyperparameter("beta_1"),
            "beta_2": self._serialize_hyperparameter("beta_2"),
        }
