"""Stochastic gradient descent, optionally with momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distopt.core.checks import as_flag
from distopt.core.tensor import TensorLike
from distopt.engine.rule import Rule
from distopt.optimizers.rule_optimizer import RuleOptimizer

__all__ = ["SGD"]


def _plain(w, g, lr_t):  # type: ignore[no-untyped-def]
    return (w - lr_t * g,)


def _momentum(w, g, m, lr_t, momentum):  # type: ignore[no-untyped-def]
    m = momentum * m - lr_t * g
    return w + m, m


def _nesterov(w, g, m, lr_t, momentum):  # type: ignore[no-untyped-def]
    m = momentum * m - lr_t * g
    return w + (momentum * m - lr_t * g), m


PLAIN = Rule("sgd", _plain)
MOMENTUM = Rule("sgd_momentum", _momentum, ("momentum",))
NESTEROV = Rule("sgd_nesterov", _nesterov, ("momentum",))


class SGD(RuleOptimizer):
    """Gradient descent: ``w -= lr * g``.

    With momentum, ``m = momentum * m - lr * g; w += m``. With Nesterov momentum,
    ``w += momentum * m - lr * g`` for the new ``m``. The learning rate is applied before the accumulation.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule.
        momentum: in [0, 1]. If it is 0 here, you cannot turn momentum on later.
        nesterov: whether to use Nesterov momentum.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Raises:
        ValueError: ``momentum`` is outside [0, 1].

    Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning".
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: Any = 0.0,
        nesterov: bool = False,
        name: str | None = "SGD",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("momentum", momentum)
        self._has_momentum = isinstance(momentum, TensorLike) or callable(momentum) or momentum > 0
        self.nesterov = as_flag(nesterov, "nesterov")

    def _rule(self, coefficients: Mapping[str, Any]) -> Rule:
        if not self._has_momentum:
            return PLAIN
        return NESTEROV if self.nesterov else MOMENTUM

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        return {"momentum": self._scalar("momentum", dtype)}

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "decay": self._serialize_hyperparameter("decay"),
            "momentum": self._serialize_hyperparameter("momentum"),
            "nesterov": self.nesterov,
        }
