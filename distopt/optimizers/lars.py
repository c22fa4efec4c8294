"""LARS: gradient descent with momentum, with a learning rate for each variable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from distopt.core.checks import as_flag
from distopt.engine.rule import Rule, where
from distopt.engine.trust_ratio import TrustRatioRule
from distopt.optimizers.limits import NOT_NEGATIVE, Limit
from distopt.optimizers.optimizer import ApplyState
from distopt.optimizers.rule_optimizer import not_negative
from distopt.optimizers.trust_ratio_optimizer import TrustRatioOptimizer
from distopt.optimizers.variable_factors import Factors

__all__ = ["LARS"]


def _direction(w, g, u, zero, coupled_decay):  # type: ignore[no-untyped-def]  # noqa: ARG001
    return w, where(coupled_decay != zero, g + coupled_decay * w, g)


def _ratio(of_w, of_u, adapts, trust_coefficient, epsilon):  # type: ignore[no-untyped-def]
    ratios = trust_coefficient * of_w / (of_u + epsilon)
    return np.where((adapts != 0) & (of_w > 0) & (of_u > 0), ratios, np.ones_like(ratios))


def _momentum(w, u, m, lr_t, momentum, ratio):  # type: ignore[no-untyped-def]
    m = momentum * m - lr_t * (ratio * u)
    return w + m, m


def _nesterov(w, u, m, lr_t, momentum, ratio):  # type: ignore[no-untyped-def]
    change = lr_t * (ratio * u)
    m = momentum * m - change
    return w + (momentum * m - change), m


DIRECTION = Rule("lars_direction", _direction, ("u",), in_float32=True)
MOMENTUM, NESTEROV = [
    TrustRatioRule(name, DIRECTION, _ratio, Rule(f"{name}_step", step, ("momentum",), in_float32=True))
    for name, step in (("lars", _momentum), ("lars_nesterov", _nesterov))
]


class LARS(TrustRatioOptimizer):
    """Momentum with a learning rate that follows the norm of each variable. It is meant for large batches.

    ``u = g + weight_decay * w``, ``r = trust_coefficient * norm(w) / (norm(u) + epsilon)``. The norms are
    those of the whole variable. If one of them is 0, the ratio is 1. Then
    ``m = momentum * m - lr * r * u; w += m``, and with Nesterov momentum
    ``w += momentum * m - lr * r * u`` for the new ``m``.
    A sparse gradient is treated as a dense one with zeros, so every row moves.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule.
        momentum: in [0, 1].
        weight_decay: is multiplied by the variable and added to its gradient, before norms are computed.
        trust_coefficient: the ratio if variable and direction have the same norm.
        epsilon: is added to the norm of the direction; may be 0.
        nesterov: whether to use Nesterov momentum.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Raises:
        ValueError: ``momentum`` is outside [0, 1], or another number is negative.

    Source: You et al. 2017, "Large Batch Training of Convolutional Networks", arXiv:1708.03888;
    ``optax.lars``.
    """

    _limits: ClassVar[Mapping[str, Limit]] = {
        **TrustRatioOptimizer._limits,
        "trust_coefficient": NOT_NEGATIVE,
    }
    #: None for the base class: LARS has no decoupled weight decay.
    _weight_decay = None

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: Any = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: Any = 0.001,
        epsilon: float = 0.0,
        nesterov: bool = False,
        name: str | None = "LARS",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("momentum", momentum)
        self.weight_decay = weight_decay
        self._set_hyper("trust_coefficient", trust_coefficient)
        self.epsilon = not_negative(epsilon, "epsilon")
        self.nesterov = as_flag(nesterov, "nesterov")

    @property
    def weight_decay(self) -> float:
        """The weight decay, which is included in the norms and in the momentum; at least 0."""
        return self._coupled_decay

    @weight_decay.setter
    def weight_decay(self, value: float | None) -> None:
        argument = f"weight_decay of optimizer {self._name!r}"
        self._coupled_decay = 0.0 if value is None else float(not_negative(value, argument))

    def _rule(self, coefficients: Mapping[str, Any]) -> TrustRatioRule:
        return NESTEROV if self.nesterov else MOMENTUM

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        own = {name: self._scalar(name, dtype) for name in ("momentum", "trust_coefficient")}
        return {**own, "zero": dtype.type(0), "epsilon": dtype.type(self._epsilon)}

    def _prepare_local(self, var_device: Any, var_dtype: Any, apply_state: ApplyState) -> None:
        super()._prepare_local(var_device, var_dtype, apply_state)
        factor = var_device.weight_decay if isinstance(var_device, Factors) else 1.0
        apply_state[var_device, var_dtype]["coupled_decay"] = np.float64(self._coupled_decay * factor)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "decay": self._serialize_hyperparameter("decay"),
            "momentum": self._serialize_hyperparameter("momentum"),
            "weight_decay": self.weight_decay,
            "trust_coefficient": self._serialize_hyperparameter("trust_coefficient"),
            "epsilon": self.epsilon,
            "nesterov": self.nesterov,
        }
