"""ScheduleFreeAdamW: AdamW without a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.checks import as_count
from distopt.engine.rule import Rule, Sparse
from distopt.optimizers.config import check_keywords
from distopt.optimizers.rule_optimizer import RuleOptimizer
from distopt.optimizers.schedule_free import ScheduleFree

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ScheduleFreeAdamW"]


def _normalized(w, g, v, rate, one_minus_beta_2, correction, epsilon):  # type: ignore[no-untyped-def]
    v = v + (g * g - v) * one_minus_beta_2
    return w - rate * g / (np.sqrt(v / correction) + epsilon), v


NORMALIZED = Rule("adam without a mean", _normalized, ("v",), Sparse.ALL)


class _Normalized(RuleOptimizer):
    """Divides gradients by the root of a running mean of their squares, corrected as in Adam."""

    def __init__(
        self, learning_rate: Any, beta_2: Any, epsilon: Any, warmup_steps: int, **kwargs: Any
    ) -> None:
        super().__init__("ScheduleFreeAdamW", **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self._set_hyper("beta_2", beta_2)
        self.epsilon = epsilon
        self.warmup_steps = as_count(warmup_steps, "warmup_steps", least=0)

    def _rule(self, coefficients: Mapping[str, Any]) -> Rule:
        return NORMALIZED

    def _coefficients(self, lr: Any, dtype: np.dtype[Any]) -> dict[str, Any]:
        one, step = dtype.type(1), dtype.type(self._steps_made() + 1)
        beta_2 = self._scalar("beta_2", dtype)
        rising = self.warmup_steps > 0
        return {
            "rate": lr * np.minimum(step / dtype.type(self.warmup_steps), one) if rising else lr,
            "one_minus_beta_2": one - beta_2,
            "correction": one - beta_2**step,
            "epsilon": dtype.type(self._epsilon),
        }

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "decay": self._serialize_hyperparameter("decay"),
            "beta_2": self._serialize_hyperparameter("beta_2"),
            "epsilon": self.epsilon,
            "warmup_steps": self.warmup_steps,
        }


class ScheduleFreeAdamW(ScheduleFree):
    """:class:`ScheduleFree` with Adam, without its mean of the gradients: ``beta_1`` replaces it.

    ``v += (g**2 - v) * (1 - beta_2)``, ``z -= lr * g / (sqrt(v / (1 - beta_2**s)) + epsilon)`` in step
    ``s = 1, 2, ...``, with the gradient at y.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule; usually constant.
        beta_1: the position of y between z (0) and x (1); above 0, at most 1.
        beta_2: decay of the mean of the gradient's square.
        epsilon: keeps the divisor above zero.
        warmup_steps: the number of steps in which the learning rate rises from 0; 0 for no warm-up.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Source: Defazio et al. 2024, arXiv:2405.15682, with the arguments and numerics of Keras 3.
    """

    def __init__(
        self,
        learning_rate: Any = 0.0025,
        beta_1: float = 0.9,
        beta_2: Any = 0.999,
        epsilon: float = 1e-8,
        warmup_steps: int = 0,
        name: str | None = "ScheduleFreeAdamW",
        **kwargs: Any,
    ) -> None:
        stages = ("gradient_aggregator", "gradient_transformers")
        check_keywords(type(self), {k: v for k, v in kwargs.items() if k not in stages})
        super().__init__(_Normalized(learning_rate, beta_2, epsilon, warmup_steps, **kwargs), beta_1, name)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        return {**self.inner_optimizer.get_config(), "name": self._name, "beta_1": self.beta_1}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """See Optimizer."""
        return super(ScheduleFree, cls).from_config(config, custom_objects)
