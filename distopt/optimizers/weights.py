"""The state of an optimizer: its variables, in the order in which they were made."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from distopt.core import initializers
from distopt.core.checks import as_sequence, shown
from distopt.core.numbers import as_numbers
from distopt.core.variable import Variable, VariableAggregation, VariableSynchronization
from distopt.typing import Array, DTypeLike, Shape

__all__ = ["Weights", "initial_value"]


class Weights:
    """The part of an optimizer that makes, lists, reads and sets its variables."""

    _name: str

    def __init__(self) -> None:
        self._weights: list[Variable] = []
        self._iterations: Variable | None = None
        self._name_prefix = ""

    @property
    def iterations(self) -> Variable:
        """The number of steps made: an int64 variable of shape (), made at first use.

        May be replaced by a variable of one's own before that.

        Raises:
            TypeError: set to something else than an integer variable of shape ().
            RuntimeError: set when it exists.
        """
        if self._iterations is None:
            self._iterations = self.add_weight("iter", shape=[], dtype=np.int64, trainable=False)
            self._weights.append(self._iterations)
        return self._iterations

    @iterations.setter
    def iterations(self, variable: Variable) -> None:
        if self._iterations is not None:
            raise RuntimeError(
                "Cannot set `iterations` to a new Variable after the Optimizer weights have been created. "
                f"Use optimizer.iterations.assign(...) instead (optimizer {self._name!r})"
            )
        if not isinstance(variable, Variable) or variable.shape != () or variable.dtype.kind != "i":
            raise TypeError(
                f"`iterations` of optimizer {self._name!r} must be a distopt.Variable of shape () that holds "
                f"an integer; got {shown(variable)}"
            )
        self._iterations = variable
        self._weights.append(variable)

    @property
    def weights(self) -> list[Variable]:
        """The variables of this optimizer in the order in which they were made, then its aggregator's."""
        others = self._weights_of_others()
        return [*self._weights, *others] if others else self._weights

    def _weights_of_others(self) -> list[Variable]:
        """Variables that are saved with the optimizer's own."""
        return []

    def variables(self) -> list[Variable]:
        """The same as :attr:`weights`."""
        return self.weights

    def get_weights(self) -> list[Any]:
        """The values of the weights, copied: first the step count, then the slots as they were made."""
        return [weight.numpy() for weight in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets the values of the weights, all or none.

        Args:
            weights: as :meth:`get_weights` gives them, of an optimizer of the same kind.

        Raises:
            TypeError: no list, or an array that holds no numbers.
            ValueError: another number of arrays, an array of another shape, or a step count that is no count.
        """
        own = self.weights
        weights = as_sequence(weights, f"set_weights() of optimizer {self._name!r}: the weights")
        if len(weights) != len(own):
            raise ValueError(
                f"You called `set_weights(weights)` on optimizer {self._name} with a weight list of length "
                f"{len(weights)}, but the optimizer was expecting {len(own)} weights. The slots are made by "
                "the first step: apply gradients once, then set the weights"
            )
        values = [
            as_numbers(value, f"set_weights(): the value of {variable.name!r}")
            for variable, value in zip(own, weights, strict=True)
        ]
        for variable, value in zip(own, values, strict=True):
            if variable.shape != value.shape:
                raise ValueError(
                    f"Optimizer weight shape {variable.shape} not compatible with provided weight shape "
                    f"{value.shape} (weight {variable.name!r} of optimizer {self._name!r})"
                )
            if variable.dtype.kind in "iu" and not _whole(value):
                raise ValueError(
                    f"Optimizer weight {variable.name!r} of optimizer {self._name!r} holds whole numbers; "
                    f"got {shown(value)}"
                )
        for variable, value in zip(own, values, strict=True):
            variable.assign(value)

    def add_weight(
        self,
        name: str,
        shape: Shape,
        dtype: DTypeLike = None,
        initializer: Any = "zeros",
        trainable: bool | None = None,
        synchronization: VariableSynchronization = VariableSynchronization.AUTO,
        aggregation: VariableAggregation = VariableAggregation.NONE,
    ) -> Variable:
        """Makes a variable for the optimizer's own use; it is not put into :attr:`weights`.

        Args:
            name: its name.
            shape: its shape.
            dtype: its dtype, float32 by default.
            initializer: the name of an initializer, a callable ``(shape, dtype)``, or a value.
            trainable: True by default, but for ON_READ.
            synchronization: ON_READ keeps one value a replica.
            aggregation: how values that replicas assign become one.

        Raises:
            ValueError: the name of no initializer, or ``trainable=True`` with ON_READ.
        """
        kind = np.dtype(np.float32 if dtype is None else dtype)
        value = initial_value(initializer, tuple(shape), kind)
        weight = Variable(
            value,
            trainable=trainable,
            name=self._name_prefix + name,
            dtype=kind,
            synchronization=synchronization,
            aggregation=aggregation,
        )
        # Replicas that share an optimizer all set the same: there is nothing to aggregate.
        if aggregation is VariableAggregation.NONE:
            weight.storage.collective = False
        return weight

    def _naming_after_optimizer(self) -> AbstractContextManager[None]:
        """Variables made within are named ``<optimizer>/...``."""
        return _Naming(self, self._name + "/")


def _whole(value: Array) -> bool:
    if value.dtype.kind in "biu":
        return True
    return value.dtype.kind == "f" and bool((np.isfinite(value) & (value == np.trunc(value))).all())


class _Naming(AbstractContextManager[None]):
    """Written out, since every step enters it: a generator takes three times as long."""

    def __init__(self, weights: Weights, prefix: str) -> None:
        self._weights, self._prefix = weights, prefix

    def __enter__(self) -> None:
        self._weights._name_prefix = self._prefix

    def __exit__(self, *_: object) -> None:
        self._weights._name_prefix = ""


def initial_value(initializer: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """What ``initializer`` (a name, a callable, or a value) makes of a shape and a dtype.

    Raises:
        ValueError: the name of no initializer.
    """
    if isinstance(initializer, (str, dict)) or callable(initializer):
        return initializers.get(initializer)(shape, dtype)  # type: ignore[no-any-return]
    return np.asarray(initializer)
