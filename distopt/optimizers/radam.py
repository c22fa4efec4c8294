"""RAdam: Adam with a corrected variance in its first steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from distopt.engine.rule import Rule, Sparse, where
from distopt.optimizers.limits import BELOW_ONE, Limit
from distopt.optimizers.rectification import check_threshold, rectification
from distopt.optimizers.rule_optimizer import RuleOptimizer

__all__ = ["RAdam"]


def _radam(  # type: ignore[no-untyped-def]
    w, g, m, v, alpha, one_minus_beta_1, one_minus_beta_2, v_correction, epsilon, rectified, zero, one
):
    m = m + (g - m) * one_minus_beta_1
    size = np.abs(g)  # also for complex numbers
    v = v + (size * size - v) * one_minus_beta_2
    divisor = where(rectified > zero, np.sqrt(v * v_correction) + epsilon, one)
    return w - m * alpha / divisor, m, v


RADAM = Rule("radam", _radam, ("m", "v"), Sparse.ALL, in_float32=True)


class RAdam(RuleOptimizer):
    """Adam with a rectified step: first without the root, then with a growing factor. It needs no warm-up.

    ``m`` and ``v`` are Adam's running means, ``m_hat = m / (1 - beta_1**s)``, ``v_hat = v / (1 - beta_2**s)``
    in step ``s = 1, 2, ...``. ``rho = rho_inf - 2 * s * beta_2**s / (1 - beta_2**s)`` with ``rho_inf =
    2 / (1 - beta_2) - 1`` estimates how many squares ``v`` averages. Once ``rho`` reaches ``threshold``,
    ``w -= lr * r * m_hat / (sqrt(v_hat) + epsilon)`` with ``r**2 = (rho - 4) * (rho - 2) * rho_inf /
    ((rho_inf - 4) * (rho_inf - 2) * rho)``; before that, ``w -= lr * m_hat``. A sparse gradient is treated
    as a dense one with zeros, so every row moves.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule.
        beta_1: decay of the mean of the gradient.
        beta_2: decay of the mean of its square.
        epsilon: keeps the divisor above zero.
        threshold: the smallest ``rho`` for which ``v`` is used; above 4.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Raises:
        ValueError: a beta is outside [0, 1), ``epsilon`` is negative, or ``threshold`` is at most 4.

    Source: Liu et al. 2019, arXiv:1908.03265, algorithm 2; ``optax.radam``.
    """

    _limits: ClassVar[Mapping[str, Limit]] = {
        **RuleOptimizer._limits,
        "beta_1": BELOW_ONE,
        "beta_2": BELOW_ONE,
    }

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: float = 1e-8,
        threshold: float = 5.0,
        name: str | None = "RAdam",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("beta_1", beta_1)
        self._set_hyper("beta_2", beta_2)
        self.epsilon = epsilon
        self._threshold = check_threshold(threshold, f"threshold of optimizer {self._name!r}")

    def _rule(self, coefficients: Mapping[str, Any]) -> Rule:
        return RADAM

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        one, step = dtype.type(1), self._steps_made() + 1
        beta_1, beta_2 = self._scalar("beta_1", dtype), self._scalar("beta_2", dtype)
        factor = rectification(float(beta_2.real), step, self._threshold)
        return {
            "alpha": lr * dtype.type(factor or 1.0) / (one - beta_1**step),
            "one_minus_beta_1": one - beta_1,
            "one_minus_beta_2": one - beta_2,
            "v_correction": one / (one - beta_2**step),
            "epsilon": dtype.type(self._epsilon),
            "rectified": dtype.type(factor is not None),
            "zero": dtype.type(0),
            "one": one,
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
            "threshold": self._threshold,
        }
