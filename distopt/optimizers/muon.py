"""Muon."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distopt.core.checks import as_flag, as_sequence, shown
from distopt.core.numbers import as_number
from distopt.core.tensor import as_array
from distopt.core.variable import Variable
from distopt.engine.update import update_variable
from distopt.optimizers.adam import ADAM
from distopt.optimizers.limits import FINITE, FRACTION, NOT_NEGATIVE, within
from distopt.optimizers.newton_schulz import COEFFICIENTS, cost, frobenius_norm, newton_schulz
from distopt.optimizers.optimizer import ApplyState
from distopt.optimizers.rule_optimizer import epsilon_or_default
from distopt.optimizers.variable_factors import Factors
from distopt.optimizers.whole_variable import WholeVariableOptimizer
from distopt.typing import Array, Shape

__all__ = ["Muon"]

#: Is added to the norm of a matrix, by which it is divided.
_LEAST_NORM = 1e-7


class Muon(WholeVariableOptimizer):
    """Orthogonalizes the momentum of matrices, so that the singular values of a step are all about 1.

    For a matrix ``[m, n]``: ``v = momentum * v + g``, ``u = g + momentum * v`` (Nesterov) or ``v``,
    ``w -= learning_rate * rms_rate * sqrt(max(m, n)) * orthogonal(u)``, after
    ``w -= learning_rate * weight_decay * w``. Adam with a decay of ``adam_weight_decay`` updates all other
    variables: those that are not matrices, embeddings, and those in ``exclude_layers``. Put the output layer
    there, too.

    One replica of a node orthogonalizes a matrix, in its dtype, or in float32 for float16 and bfloat16. The
    bits do not depend on a BLAS or its threads. A sparse gradient is treated as a dense one with zeros.

    Args:
        learning_rate: a number, a callable without arguments, or a schedule.
        adam_beta_1: Adam's decay of the mean of the gradient.
        adam_beta_2: Adam's decay of the mean of its square.
        adam_weight_decay: the decay of the variables that Adam updates; None for none.
        epsilon: that of Adam; None and 0 mean 1e-7.
        weight_decay: the decay of the matrices; None for none.
        exclude_layers: regular expressions; Adam updates a variable if one is found in its name, without
            ``":0"``.
        exclude_embeddings: whether Adam updates variables with "embedding" in their name, in any case.
        muon_a, muon_b, muon_c: coefficients of the polynomial, see
            ``newton_schulz``.
        adam_lr_ratio: Adam's learning rate relative to ``learning_rate``.
        momentum: decay of the sum of gradients.
        ns_steps: the number of iterations that orthogonalize.
        nesterov: whether to use Nesterov momentum.
        rms_rate: the root mean square of the step of ``w`` in units of the learning rate. With None the step
            is ``learning_rate * orthogonal(u)``.
        name: prefix of the names of its variables.
        **kwargs: see :class:`~distopt.optimizers.Optimizer`.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et al. 2025,
    arXiv:2502.16982; ``keras.optimizers.Muon`` of Keras 3.15.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004,
        epsilon: float | None = 1e-7,
        weight_decay: float | None = 0.004,
        exclude_layers: Sequence[str] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = COEFFICIENTS[0],
        muon_b: float = COEFFICIENTS[1],
        muon_c: float = COEFFICIENTS[2],
        adam_lr_ratio: float = 1,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        name: str | None = "Muon",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self._set_hyper("learning_rate", kwargs.get("lr", learning_rate))
        self._set_hyper("decay", self._initial_decay)
        self.adam_beta_1 = float(within(FRACTION, adam_beta_1, "adam_beta_1"))
        self.adam_beta_2 = float(within(FRACTION, adam_beta_2, "adam_beta_2"))
        self.adam_weight_decay = _optional(adam_weight_decay, "adam_weight_decay")
        self.epsilon = float(within(NOT_NEGATIVE, epsilon_or_default(epsilon), "epsilon"))
        self.weight_decay = weight_decay
        self.exclude_layers = _patterns(exclude_layers)
        self.exclude_embeddings = as_flag(exclude_embeddings, "exclude_embeddings")
        self.muon_a = float(within(FINITE, muon_a, "muon_a"))
        self.muon_b = float(within(FINITE, muon_b, "muon_b"))
        self.muon_c = float(within(FINITE, muon_c, "muon_c"))
        self.adam_lr_ratio = float(within(NOT_NEGATIVE, adam_lr_ratio, "adam_lr_ratio"))
        self.momentum = float(within(FRACTION, momentum, "momentum"))
        self.ns_steps = _count(ns_steps, "ns_steps")
        self.nesterov = as_flag(nesterov, "nesterov")
        self.rms_rate = _optional(rms_rate, "rms_rate")

    #: None for the base class, because the updates here apply the weight decays of Muon and Adam themselves.
    _weight_decay: float | None = None

    @property
    def weight_decay(self) -> float | None:
        """The decay of the matrices; None or 0 for none."""
        return self._matrix_decay

    @weight_decay.setter
    def weight_decay(self, value: float | None) -> None:
        self._matrix_decay = _optional(value, "weight_decay")

    def _by_adam(self, variable: Variable) -> bool:
        """Whether Adam updates the variable."""
        name = variable.name.removesuffix(":0")
        if len(variable.shape) != 2 or (self.exclude_embeddings and "embedding" in name.lower()):
            return True
        return any(re.search(pattern, name) for pattern in self.exclude_layers)

    def _decay_factor(self, variable: Variable) -> float:
        """The factor of the variable's weight decay; 0 if it is excluded."""
        place, _ = self._factors.kind(variable)
        return place.weight_decay if isinstance(place, Factors) else 1.0

    def _slot_shapes(self, variable: Variable) -> Mapping[str, Shape]:
        names = ("momentum", "velocity") if self._by_adam(variable) else ("momentum",)
        return dict.fromkeys(names, variable.shape)

    def _update_cost(self, variable: Variable) -> float:
        return variable.size if self._by_adam(variable) else cost(variable.shape, self.ns_steps)

    def _coefficients(self, rate: float) -> dict[str, float]:
        step = self._steps_made() + 1
        corrected = np.sqrt(1 - np.float64(self.adam_beta_2) ** step)
        with np.errstate(all="ignore"):
            alpha = rate * self.adam_lr_ratio * corrected / (1 - np.float64(self.adam_beta_1) ** step)
        return {
            "alpha": float(alpha),
            "one_minus_beta_1": 1 - self.adam_beta_1,
            "one_minus_beta_2": 1 - self.adam_beta_2,
            "epsilon": self.epsilon,
            "adam_decay": rate * (self.adam_weight_decay or 0.0),
            "decay": rate * (self._matrix_decay or 0.0),
            "momentum": self.momentum,
            "nesterov": float(self.nesterov),
            "muon_a": self.muon_a,
            "muon_b": self.muon_b,
            "muon_c": self.muon_c,
            "ns_steps": float(self.ns_steps),
            "rms_rate": -1.0 if self.rms_rate is None else self.rms_rate,
        }

    def _resource_apply_dense(
        self, grad: Any, handle: Variable, apply_state: ApplyState | None = None
    ) -> None:
        if not self._by_adam(handle):
            super()._resource_apply_dense(grad, handle, apply_state)
            return
        kind = handle.device, handle.dtype
        numbers = (apply_state or {}).get(kind) or self._fallback_apply_state(*kind)
        decay = numbers["adam_decay"] * self._decay_factor(handle)
        if decay:
            value = as_array(handle)
            value *= value.dtype.type(1 - decay)
        scalar = ADAM.arithmetic_dtype(handle.dtype).type
        state = (handle, self.get_slot(handle, "momentum"), self.get_slot(handle, "velocity"))
        coefficients = tuple([scalar(numbers[name]) for name in ADAM.coefficients])
        update_variable(ADAM, state, np.asarray(as_array(grad), order="C"), coefficients)

    def _update_array(
        self, variable: Variable, w: Array, g: Array, slots: dict[str, Array], numbers: Mapping[str, float]
    ) -> None:
        if w.size == 0:
            return
        mean = slots["momentum"]
        mean *= self.momentum
        mean += g
        u = g + self.momentum * mean if self.nesterov else mean
        unit = u / (frobenius_norm(u) + _LEAST_NORM)
        direction = newton_schulz(unit, self.ns_steps, (self.muon_a, self.muon_b, self.muon_c))
        longer = 1.0 if self.rms_rate is None else self.rms_rate * max(w.shape) ** 0.5
        decay = numbers["decay"] * self._decay_factor(variable)
        if decay:
            w *= 1 - decay
        w -= numbers["lr_t"] * longer * direction

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor with their current values."""
        names = (
            *("adam_beta_1", "adam_beta_2", "adam_weight_decay", "epsilon", "weight_decay"),
            *("exclude_layers", "exclude_embeddings", "muon_a", "muon_b", "muon_c", "adam_lr_ratio"),
            *("momentum", "ns_steps", "nesterov", "rms_rate"),
        )
        return {
            **super().get_config(),
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "decay": self._serialize_hyperparameter("decay"),
            **{name: getattr(self, name) for name in names},
        }


def _optional(value: Any, argument: str) -> float | None:
    return None if value is None else float(within(NOT_NEGATIVE, value, argument))


def _count(value: Any, argument: str) -> int:
    count = int(as_number(value, argument))
    if count != value or count < 0:
        raise ValueError(f"{argument} must be a count, 0 or more; got {value!r}")
    return count


def _patterns(given: Any) -> list[str]:
    """Returns the regular expressions as a list; ValueError if one is invalid."""
    found = [] if given is None else list(as_sequence(given, "exclude_layers"))
    for pattern in found:
        try:
            re.compile(pattern)
        except (TypeError, re.error) as error:
            raise ValueError(
                f"exclude_layers holds regular expressions; got {shown(pattern)}: {error}"
            ) from None
    return found
