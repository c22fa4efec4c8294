"""TrustRatioOptimizer: an optimizer whose learning rate is adapted to each variable's norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from distopt.core.variable import Variable
from distopt.optimizers.optimizer import ApplyState
from distopt.optimizers.rule_optimizer import RuleOptimizer
from distopt.optimizers.variable_factors import Factors

__all__ = ["TrustRatioOptimizer"]


class TrustRatioOptimizer(RuleOptimizer):
    """The base of optimizers whose rule is a :class:`~distopt.engine.trust_ratio.TrustRatioRule`.

    The rule has a coefficient ``adapts``: 0 for variables whose ratio is 1, 1 for others.
    """

    def exclude_from_layer_adaptation(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Gives variables, such as biases, the ratio 1; to be called before the first step.

        A later call takes the place of an earlier one.

        Args:
            var_list: variables.
            var_names: regular expressions; variables in whose names (without ``":0"``) one is found.

        Raises:
            TypeError: something that is no variable, or no str.
            ValueError: a step has been made, or no regular expression.
        """
        if self._iterations is not None and self._iterations.scalar() > 0:
            raise ValueError(
                f"exclude_from_layer_adaptation() of optimizer {self._name!r} has to come before the first "
                "step"
            )
        self._factors.unadapted.set(var_list, var_names)
        self._plans.clear()

    def _prepare_local(self, var_device: Any, var_dtype: Any, apply_state: ApplyState) -> None:
        super()._prepare_local(var_device, var_dtype, apply_state)
        adapts = not isinstance(var_device, Factors) or var_device.adapts
        apply_state[var_device, var_dtype]["adapts"] = np.float32(adapts)
