"""RMSprop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distopt.core.checks import as_flag
from distopt.core.tensor import TensorLike
from distopt.engine.rule import Rule, Sparse
from distopt.optimizers.rule_optimizer import (
    RuleOptimizer,
    epsilon_or_default,
    with_step_count,
)

__all__ = ["RMSprop"]


def _plain(w, g, rms, lr_t, rho, one_minus_rho, epsilon):  # type: ignore[no-untyped-def]
    rms = rho * rms + one_minus_rho * (g * g)
    return w - lr_t * g / (np.sqrt(rms) + epsilon), rms


def _centered(w, g, rms, mg, lr_t, rho, one_minus_rho, epsilon):  # type: ignore[no-untyped-def]
    rms = rho * rms + one_minus_rho * (g * g)
    mg = rho * mg + one_minus_rho * g
    return w - lr_t * g / (np.sqrt(rms - mg * mg) + epsilon), rms, mg


# With momentum, epsilon is under the root.


def _momentum(w, g, rms, m, lr_t, momentum, one_minus_rho, epsilon):  # type: ignore[no-untyped-def]
    rms = rms + (g * g - rms) * one_minus_rho
    m = momentum * m + lr_t * g / np.sqrt(rms + epsilon)
    return w - m, rms, m


def _centered_momentum(w, g, rms, m, mg, lr_t, momentum, one_minus_rho, epsilon):  # type: ignore[no-untyped-def]
    rms = rms + (g * g - rms) * one_minus_rho
    mg = mg + (g - mg) * one_minus_rho
    m = momentum * m + lr_t * g / np.sqrt(rms - mg * mg + epsilon)
    return w - m, rms, m, mg


PLAIN = Rule("rmsprop", _plain, ("rms",), Sparse.DECAY)
CENTERED = Rule("rmsprop_centered", _centered, ("rms", "mg"), Sparse.DECAY)
MOMENTUM = Rule("rmsprop_momentum", _momentum, ("rms", "momentum"))
CENTERED_MOMENTUM = Rule("rmsprop_centered_momentum", _centered_momentum, ("rms", "momentum", "mg"))


class RMSprop(RuleOptimizer):
    """Divides steps by the square root of a running mean of the squared gradient.

    ``rms = rho * rms + (1 - rho) * g**2``, ``w -= lr * g / (sqrt(rms) + epsilon)``. With momentum,
    ``m = momentum * m + lr * g / sqrt(rms + epsilon)``, ``w -= m``. If centered, the square of a running
    mean ``mg`` of the gradient is subtracted from ``rms`` in the divisor. A sparse gradient updates only its
    own rows of ``w``; without momentum, ``rms`` and ``mg`` decay in all rows.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule.
        rho: decay of the running means.
        momentum: in [0, 1]. If it is 0 here, you cannot turn momentum on later.
        epsilon: keeps the divisor above zero; None and 0 mean 1e-7.
        centered: whether to divide by the root of an estimate of the variance.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Raises:
        ValueError: ``momentum`` is outside [0, 1].

    Source: Tieleman & Hinton 2012, lecture 6.5; centered: Graves 2013, arXiv:1308.0850, equation 40.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: Any = 0.9,
        momentum: Any = 0.0,
        epsilon: float | None = 1e-7,
        centered: bool = False,
        name: str | None = "RMSprop",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("rho", rho)
        self._set_hyper("momentum", momentum)
        self._has_momentum = isinstance(momentum, TensorLike) or callable(momentum) or momentum > 0
        self.epsilon = epsilon_or_default(epsilon)
        self.centered = as_flag(centered, "centered")

    def _rule(self, coefficients: Mapping[str, Any]) -> Rule:
        if self._has_momentum:
            return CENTERED_MOMENTUM if self.centered else MOMENTUM
        return CENTERED if self.centered else PLAIN

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        rho = self._scalar("rho", dtype)
        return {
            "rho": rho,
            "one_minus_rho": dtype.type(1) - rho,
            "momentum": self._scalar("momentum", dtype),
            "epsilon": dtype.type(self._epsilon),
        }

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
            "momentum": self._serialize_hyperparameter("momentum"),
            "epsilon": self.epsilon,
            "centered": self.centered,
        }
