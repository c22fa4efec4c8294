"""Adam, and its variant AMSGrad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distopt.core.checks import as_flag, as_sequence
from distopt.engine.rule import Rule, Sparse
from distopt.optimizers.rule_optimizer import RuleOptimizer, epsilon_or_default

__all__ = ["Adam"]


def _adam(w, g, m, v, alpha, one_minus_beta_1, one_minus_beta_2, epsilon):  # type: ignore[no-untyped-def]
    m = m + (g - m) * one_minus_beta_1
    v = v + (g * g - v) * one_minus_beta_2
    return w - (m * alpha) / (np.sqrt(v) + epsilon), m, v


def _amsgrad(w, g, m, v, vhat, alpha, one_minus_beta_1, one_minus_beta_2, epsilon):  # type: ignore[no-untyped-def]
    m = m + (g - m) * one_minus_beta_1
    v = v + (g * g - v) * one_minus_beta_2
    vhat = np.maximum(vhat, v)
    return w - (m * alpha) / (np.sqrt(vhat) + epsilon), m, v, vhat


ADAM = Rule("adam", _adam, ("m", "v"), Sparse.ALL)
AMSGRAD = Rule("amsgrad", _amsgrad, ("m", "v", "vhat"), Sparse.ALL)


class Adam(RuleOptimizer):
    """Divides a running mean of the gradient by the square root of a running mean of its square.

    ``m += (g - m) * (1 - beta_1)``, ``v += (g**2 - v) * (1 - beta_2)``,
    ``w -= lr * sqrt(1 - beta_2**s) / (1 - beta_1**s) * m / (sqrt(v) + epsilon)`` in step ``s = 1, 2, ...``.
    This is the form before section 2.1 of the paper: epsilon is added to the uncorrected root. AMSGrad uses
    the largest ``v`` so far. A sparse gradient is treated as a dense one with zeros, so every row moves.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule.
        beta_1: decay of the mean of the gradient.
        beta_2: decay of the mean of its square.
        epsilon: keeps the divisor above zero; None and 0 mean 1e-7.
        amsgrad: whether to use AMSGrad.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Source: Kingma & Ba 2014, arXiv:1412.6980; Reddi et al. 2018, "On the Convergence of Adam and Beyond".
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: float | None = 1e-7,
        amsgrad: bool = False,
        name: str | None = "Adam",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("beta_1", beta_1)
        self._set_hyper("beta_2", beta_2)
        self.epsilon = epsilon_or_default(epsilon)
        self.amsgrad = as_flag(amsgrad, "amsgrad")

    def _rule(self, coefficients: Mapping[str, Any]) -> Rule:
        return AMSGRAD if self.amsgrad else ADAM

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        one, step = dtype.type(1), dtype.type(self._steps_made() + 1)
        beta_1, beta_2 = self._scalar("beta_1", dtype), self._scalar("beta_2", dtype)
        return {
            "alpha": lr * np.sqrt(one - beta_2**step) / (one - beta_1**step),
            "one_minus_beta_1": one - beta_1,
            "one_minus_beta_2": one - beta_2,
            "epsilon": dtype.type(self._epsilon),
        }

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Like the base class. Without ``amsgrad``, the maxima of an AMSGrad state are ignored."""
        expected = len(self.weights)
        weights = as_sequence(weights, "set_weights(): the weights")
        if not self.amsgrad and len(weights) == 3 * ((expected - 1) // 2) + 1:
            weights = weights[:expected]
        super().set_weights(weights)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "decay": self._serialize_hyperparameter("decay"),
            "beta_1": self._serialize_hyperparameter("beta_1"),
            "beta_2": self._serialize_hyperparameter("beta_2"),
            "epsilon": self.epsilon,
            "amsgrad": self.amsgrad,
        }
