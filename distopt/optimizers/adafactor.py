"""Adafactor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from distopt.core.checks import as_flag
from distopt.core.variable import Variable
from distopt.optimizers.factored import (
    as_matrices,
    mean_squares,
    move_mean,
    root_mean_square,
    scaled,
    scaled_rms,
)
from distopt.optimizers.limits import NOT_NEGATIVE, NOT_POSITIVE, POSITIVE, within
from distopt.optimizers.whole_variable import WholeVariableOptimizer
from distopt.typing import Array, Shape

__all__ = ["Adafactor"]


class Adafactor(WholeVariableOptimizer):
    """RMSprop with a mean square for each row and each column, instead of one for each element.

    In step ``s = 1, 2, ...`` with ``beta = 1 - s**beta_2_decay``, for a variable with two or more axes:

    - ``r = beta * r + (1 - beta) * mean(g**2 + epsilon_1, axis=-1)``, and ``c`` likewise over axis -2,
    - ``u = g / sqrt(r * c / mean(r))``, divided by ``max(1, rms(u) / clip_threshold)``,
    - ``w -= max(epsilon_2, rms(w)) * rho * u`` with ``rho = min(learning_rate, 1 / sqrt(s))``.

    Other variables keep the mean square ``v`` of each element. float16 and bfloat16 are computed in float32.
    A sparse gradient is treated as a dense one with zeros.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule; relative to the size of the
            variable's elements.
        beta_2_decay: the exponent of the step with which ``1 - beta`` decays; at most 0.
        epsilon_1: is added to the squares of gradients.
        epsilon_2: the lower limit of ``rms(w)``.
        clip_threshold: the largest root mean square of ``u``.
        relative_step: as in Keras, where it has no effect beyond that of ``rho``.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Source: Shazeer & Stern 2018, arXiv:1804.04235; ``keras.optimizers.Adafactor`` of Keras 3.15, without its
    slot ``v`` of variables with rows and columns, which Keras never reads.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
        name: str | None = "Adafactor",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self.beta_2_decay = float(within(NOT_POSITIVE, beta_2_decay, "beta_2_decay"))
        self.epsilon_1 = float(within(NOT_NEGATIVE, epsilon_1, "epsilon_1"))
        self.epsilon_2 = float(within(NOT_NEGATIVE, epsilon_2, "epsilon_2"))
        self.clip_threshold = float(within(POSITIVE, clip_threshold, "clip_threshold"))
        self.relative_step = as_flag(relative_step, "relative_step")

    def _slot_shapes(self, variable: Variable) -> Mapping[str, Shape]:
        shape = variable.shape
        if len(shape) < 2:
            return {"velocity": shape}
        return {"row": shape[:-1], "column": (*shape[:-2], shape[-1])}

    def _coefficients(self, rate: float) -> dict[str, float]:
        step = float(self._steps_made() + 1)
        return {
            "one_minus_beta_2": step**self.beta_2_decay,
            "rho": min(rate, step**-0.5),
            "epsilon_1": self.epsilon_1,
            "epsilon_2": self.epsilon_2,
            "clip_threshold": self.clip_threshold,
        }

    def _update_array(
        self, variable: Variable, w: Array, g: Array, slots: dict[str, Array], numbers: Mapping[str, float]
    ) -> None:
        if w.size == 0:
            return
        if w.ndim < 2:
            self._update_by_element(w, g, slots["velocity"], numbers)
            return
        gradient, values = as_matrices(g), as_matrices(w)
        row, column = slots["row"].reshape(values.shape[:2]), slots["column"].reshape(len(values), -1)
        for mean, now in zip((row, column), mean_squares(gradient, numbers["epsilon_1"]), strict=True):
            move_mean(mean, now, numbers["one_minus_beta_2"])
        least = numbers["epsilon_1"]
        relative = row / np.maximum(row.mean(axis=-1, keepdims=True), least)
        size = scaled_rms(gradient, relative, column, least)
        step = _step(w, size, numbers)
        for part, u in scaled(gradient, relative, column, least):
            values[part] -= step * u

    def _update_by_element(self, w: Array, g: Array, v: Array, numbers: Mapping[str, float]) -> None:
        move_mean(v, np.square(g) + numbers["epsilon_1"], numbers["one_minus_beta_2"])
        u = g / np.sqrt(np.maximum(v, numbers["epsilon_1"]))
        u *= _step(w, root_mean_square(u), numbers)
        w -= u

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "decay": self._serialize_hyperparameter("decay"),
            "beta_2_decay": self.beta_2_decay,
            "epsilon_1": self.epsilon_1,
            "epsilon_2": self.epsilon_2,
            "clip_threshold": self.clip_threshold,
            "relative_step": self.relative_step,
        }


def _step(w: Array, size: float, numbers: Mapping[str, float]) -> float:
    """The factor of the scaled gradient, whose root mean square is ``size``."""
    alpha = float(np.maximum(numbers["epsilon_2"], root_mean_square(w))) * numbers["rho"]
    return alpha / float(np.maximum(1.0, size / numbers["clip_threshold"]))
