"""Nadam: Adam with Nesterov momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.engine.rule import Rule, Sparse
from distopt.optimizers.optimizer import ApplyState
from distopt.optimizers.rule_optimizer import RuleOptimizer, epsilon_or_default
from distopt.optimizers.schedules import LearningRateSchedule

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Nadam"]


def _nadam(  # type: ignore[no-untyped-def]
    w,
    g,
    m,
    v,
    lr_t,
    beta_1,
    one_minus_beta_1,
    beta_2,
    one_minus_beta_2,
    v_correction,
    one_minus_mu,
    one_minus_product,
    mu_next,
    one_minus_product_next,
    epsilon,
):
    m = beta_1 * m + one_minus_beta_1 * g
    v = beta_2 * v + one_minus_beta_2 * (g * g)
    bar = one_minus_mu * (g / one_minus_product) + mu_next * (m / one_minus_product_next)
    return w - lr_t * bar / (np.sqrt(v / v_correction) + epsilon), m, v


NADAM = Rule("nadam", _nadam, ("m", "v"), Sparse.DECAY)


class Nadam(RuleOptimizer):
    """Adam with Nesterov momentum that grows with the number of steps.

    In step ``s = 1, 2, ...`` with ``mu_s = beta_1 * (1 - 0.5 * 0.96**(schedule_decay * s))`` and
    ``P_s = mu_1 * ... * mu_s``: ``m = beta_1 * m + (1 - beta_1) * g``,
    ``v = beta_2 * v + (1 - beta_2) * g**2``, ``bar = (1 - mu_s) * g / (1 - P_s) + mu_(s+1) * m /
    (1 - P_(s+1))``, ``w -= lr * bar / (sqrt(v / (1 - beta_2**s)) + epsilon)``. A sparse gradient updates
    only its own rows of ``w``, but ``m`` and ``v`` decay in all rows.

    Args:
        learning_rate: a number or a callable without arguments; it does not decay.
        beta_1: decay of the mean of the gradient.
        beta_2: decay of the mean of its square.
        epsilon: keeps the divisor above zero; None and 0 mean 1e-7.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`. ``schedule_decay`` (0.004), the decay of the
            momentum, replaces ``decay``.

    Raises:
        ValueError: the learning rate is a schedule.

    Source: Dozat 2015, "Incorporating Nesterov Momentum into Adam".
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: float | None = 1e-7,
        name: str | None = "Nadam",
        **kwargs: Any,
    ) -> None:
        schedule_decay = kwargs.pop("schedule_decay", 0.004)
        kwargs["decay"] = schedule_decay
        learning_rate = kwargs.get("lr", learning_rate)
        if isinstance(learning_rate, LearningRateSchedule):
            raise ValueError(
                "The Nadam optimizer does not support LearningRateSchedules as the learning rate: pass a "
                "number or a callable without arguments"
            )
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", learning_rate)
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("beta_1", beta_1)
        self._set_hyper("beta_2", beta_2)
        self.epsilon = epsilon_or_default(epsilon)
        self._momentum_cache: Variable | None = None

    def _create_slots(self, var_list: list[Variable]) -> None:
        if self._momentum_cache is None and var_list:
            self._momentum_cache = self.add_weight(
                "momentum_cache", shape=[], dtype=var_list[0].dtype, initializer="ones", trainable=False
            )
            self._slots.weights.append(self._momentum_cache)
        super()._create_slots(var_list)

    def _decayed_lr(self, var_dtype: Any) -> Any:
        return self._get_hyper("learning_rate", var_dtype)

    def _rule(self, coefficients: Mapping[str, Any]) -> Rule:
        return NADAM

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        one, half, base = dtype.type(1), dtype.type(0.5), dtype.type(np.float32(0.96))
        step, following = dtype.type(self._steps_made() + 1), dtype.type(self._steps_made() + 2)
        beta_1, beta_2 = self._scalar("beta_1", dtype), self._scalar("beta_2", dtype)
        decay = dtype.type(self._initial_decay)
        mu = beta_1 * (one - half * base ** (decay * step))
        mu_next = beta_1 * (one - half * base ** (decay * following))
        assert self._momentum_cache is not None
        product = dtype.type(self._momentum_cache.numpy()) * mu
        return {
            "beta_1": beta_1,
            "one_minus_beta_1": one - beta_1,
            "beta_2": beta_2,
            "one_minus_beta_2": one - beta_2,
            "v_correction": one - beta_2**step,
            "one_minus_mu": one - mu,
            "one_minus_product": one - product,
            "mu_next": mu_next,
            "one_minus_product_next": one - product * mu_next,
            "epsilon": dtype.type(self._epsilon),
            "product": product,
        }

    def _finish_step(self, apply_state: ApplyState) -> None:
        cache = self._momentum_cache
        for (_, dtype), values in apply_state.items():
            if cache is not None and dtype == cache.dtype:
                as_array(cache)[...] = values["product"]
                cache.storage.changed()

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """Like the base class; ``decay`` in a config of Nadam is its schedule decay."""
        arguments = dict(config)
        if "decay" in arguments:
            arguments["schedule_decay"] = arguments.pop("decay")
        return super().from_config(arguments, custom_objects)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "decay": self._initial_decay,  # this one is used; the hyperparameter has no effect
            "beta_1": self._serialize_hyperparameter("beta_1"),
            "beta_2": self._serialize_hyperparameter("beta_2"),
            "epsilon": self.epsilon,
        }
