"""TrustRatioOptimizer: scales the learning rate by each variable's norm."""

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

    The rule has a coefficient ``adapts``: 0 for variables whose ratio is fixed at 1, and 1 for all others.
    """

    def exclude_from_layer_adaptation(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Fixes the ratio of variables, such as biases, at 1. Call it before the first step.

        A later call replaces an earlier one.

        Args:
            var_list: variables.
            var_names: regular expressions that are searched in the names of variables, without ``":0"``.

        Raises:
            TypeError: ``var_list`` has something that is not a variable, or ``var_names`` a non-string.
            ValueError: a step has been made, or a regular expression is invalid.
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
