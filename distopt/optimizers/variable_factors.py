"""VariableFactors: what learning rate and weight decay are multiplied by, variable by variable."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from distopt.core.checks import as_sequence, shown
from distopt.core.custom_objects import find_object
from distopt.core.variable import Variable
from distopt.engine.plan import Kind
from distopt.optimizers.limits import NOT_NEGATIVE, within

__all__ = ["Factors", "Multiplier", "VariableFactors", "multiplier_named"]

#: From the name of a variable, without ``":0"``, to what a hyperparameter is multiplied by for it.
Multiplier: TypeAlias = Callable[[str], float]


class Factors(NamedTuple):
    """In place of the device in the kind of a variable (see ``Kind``) where not all have the same numbers.

    Attributes:
        device: the variable's.
        learning_rate: what the learning rate is multiplied by.
        weight_decay: what the weight decay is multiplied by; 0 for none.
    """

    device: Any
    learning_rate: float
    weight_decay: float


class VariableFactors:
    """The multipliers of one optimizer, and the variables that it excludes from weight decay.

    Copies know excluded variables by name, shape and dtype, since they train others.

    Args:
        optimizer: its name, for messages.
        learning_rate: gives each variable's multiplier of the learning rate; None for 1.
        weight_decay: the same for the weight decay.

    Raises:
        TypeError: something that cannot be called.
    """

    def __init__(
        self, optimizer: str, learning_rate: Multiplier | None, weight_decay: Multiplier | None
    ) -> None:
        self._optimizer = optimizer
        self.learning_rate = _checked(learning_rate, "learning_rate_multiplier")
        self.weight_decay = _checked(weight_decay, "weight_decay_multiplier")
        self._excluded: frozenset[Variable] = frozenset()
        self._excluded_kinds: frozenset[tuple[Any, ...]] = frozenset()
        self._pattern: re.Pattern[str] | None = None

    def exclude(self, variables: Iterable[Variable] | None, names: Iterable[str] | None) -> None:
        """See ``Optimizer.exclude_from_weight_decay``."""
        listed = [] if variables is None else list(as_sequence(variables, "var_list"))
        for variable in listed:
            if not isinstance(variable, Variable):
                raise TypeError(
                    f"exclude_from_weight_decay(): var_list holds distopt.Variable, got {shown(variable)}"
                )
        patterns = [] if names is None else list(as_sequence(names, "var_names"))
        for pattern in patterns:
            _check_pattern(pattern)
        self._excluded, self._excluded_kinds = frozenset(listed), frozenset()
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def kind(self, variable: Variable) -> Kind:
        """The kind of a variable, with its factors in it if any variable has its own."""
        if not (self.learning_rate or self.weight_decay or self.exclusions()):
            return variable.device, variable.dtype
        name = variable.name.removesuffix(":0")
        rate = self._factor(self.learning_rate, name, "learning_rate_multiplier")
        decay = self._factor(self.weight_decay, name, "weight_decay_multiplier")
        return Factors(
            variable.device, rate, 0.0 if self._excludes(variable, name) else decay
        ), variable.dtype

    def config(self) -> dict[str, str]:
        """The multipliers, as configs hold them: the names of the functions."""
        multipliers = {
            "learning_rate_multiplier": self.learning_rate,
            "weight_decay_multiplier": self.weight_decay,
        }
        return {
            argument: getattr(multiplier, "__name__", type(multiplier).__name__)
            for argument, multiplier in multipliers.items()
            if multiplier is not None
        }

    def exclusions(self) -> list[str]:
        """What is excluded from weight decay, for descriptions: names of variables, then patterns."""
        names = {v.name.removesuffix(":0") for v in self._excluded} | {k[0] for k in self._excluded_kinds}
        return [*sorted(names), *([self._pattern.pattern] if self._pattern else [])]

    def _excludes(self, variable: Variable, name: str) -> bool:
        if variable in self._excluded or _kind(variable) in self._excluded_kinds:
            return True
        return self._pattern is not None and self._pattern.search(name) is not None

    def _factor(self, multiplier: Multiplier | None, name: str, argument: str) -> float:
        if multiplier is None:
            return 1.0
        what = f"{argument} of optimizer {self._optimizer!r}: what it returns for {name!r}"
        return float(within(NOT_NEGATIVE, multiplier(name), what))

    def __getstate__(self) -> dict[str, Any]:
        kinds = self._excluded_kinds.union(map(_kind, self._excluded))
        return {**vars(self), "_excluded": frozenset(), "_excluded_kinds": kinds}


def multiplier_named(name: str, argument: str, custom_objects: dict[str, Any] | None) -> Multiplier:
    """The function of that name among the custom objects.

    Raises:
        ValueError: there is none.
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


def _check_pattern(pattern: Any) -> None:
    if not isinstance(pattern, str):
        raise TypeError(f"exclude_from_weight_decay(): var_names holds str, got {shown(pattern)}")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"exclude_from_weight_decay(): {pattern!r} in var_names is no regular expression: {error}"
        ) from error


def _kind(variable: Variable) -> tuple[Any, ...]:
    return variable.name.removesuffix(":0"), variable.shape, variable.dtype.str
