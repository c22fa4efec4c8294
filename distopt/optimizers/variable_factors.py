"""VariableFactors: factors of the learning rate and the weight decay of individual variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from distopt.core.checks import shown
from distopt.core.custom_objects import find_object
from distopt.core.variable import Variable
from distopt.engine.plan import Kind
from distopt.optimizers.exclusions import Exclusions
from distopt.optimizers.limits import NOT_NEGATIVE, within

__all__ = ["Factors", "Multiplier", "VariableFactors", "multiplier_named"]

#: A function from the name of a variable, without ``":0"``, to the factor of a hyperparameter for it.
Multiplier: TypeAlias = Callable[[str], float]


class Factors(NamedTuple):
    """The factors of a variable, which replace the device in its kind (see ``Kind``).

    Attributes:
        device: the device of the variable.
        learning_rate: the factor of the learning rate.
        weight_decay: the factor of the weight decay; 0 for none.
        adapts: whether the variable has a trust ratio, if the rule uses them.
    """

    device: Any
    learning_rate: float
    weight_decay: float
    adapts: bool


class VariableFactors:
    """The multipliers of one optimizer, and the variables without weight decay or trust ratio.

    Args:
        optimizer: its name, for messages.
        learning_rate: returns the multiplier of a variable's learning rate; None for 1.
        weight_decay: likewise for the weight decay.

    Attributes:
        undecayed: the variables without weight decay.
        unadapted: the variables without a trust ratio.

    Raises:
        TypeError: a multiplier is not callable.
    """

    def __init__(
        self, optimizer: str, learning_rate: Multiplier | None, weight_decay: Multiplier | None
    ) -> None:
        self._optimizer = optimizer
        self.learning_rate = _checked(learning_rate, "learning_rate_multiplier")
        self.weight_decay = _checked(weight_decay, "weight_decay_multiplier")
        self.undecayed = Exclusions("exclude_from_weight_decay")
        self.unadapted = Exclusions("exclude_from_layer_adaptation")

    def kind(self, variable: Variable) -> Kind:
        """The kind of a variable; with its Factors if the optimizer has multipliers or exclusions."""
        if not (self.learning_rate or self.weight_decay or self.undecayed or self.unadapted):
            return variable.device, variable.dtype
        name = variable.name.removesuffix(":0")
        rate = self._factor(self.learning_rate, name, "learning_rate_multiplier")
        decay = self._factor(self.weight_decay, name, "weight_decay_multiplier")
        own = 0.0 if variable in self.undecayed else decay
        return Factors(variable.device, rate, own, variable not in self.unadapted), variable.dtype

    def config(self) -> dict[str, str]:
        """The multipliers for a config: the names of the functions, by argument."""
        multipliers = {
            "learning_rate_multiplier": self.learning_rate,
            "weight_decay_multiplier": self.weight_decay,
        }
        return {
            argument: getattr(multiplier, "__name__", type(multiplier).__name__)
            for argument, multiplier in multipliers.items()
            if multiplier is not None
        }

    def _factor(self, multiplier: Multiplier | None, name: str, argument: str) -> float:
        if multiplier is None:
            return 1.0
        what = f"{argument} of optimizer {self._optimizer!r}: what it returns for {name!r}"
        return float(within(NOT_NEGATIVE, multiplier(name), what))


def multiplier_named(name: str, argument: str, custom_objects: dict[str, Any] | None) -> Multiplier:
    """Returns the multiplier of that name from the custom objects.

    Raises:
        ValueError: the name is unknown.
    """
    found: Multiplier | None = find_object(name, custom_objects)
    if found is None:
        raise ValueError(
            f"Unknown {argument}: {name[:200]}. A config holds only its name: pass the function by "
            "custom_objects or custom_object_scope"
        )
    return found


def _checked(multiplier: Any, argument: str) -> Any:
    if multiplier is not None and not callable(multiplier):
        raise TypeError(f"{argument} must be a function of a variable's name, got {shown(multiplier)}")
    return multiplier
