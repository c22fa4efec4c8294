"""HyperSet: the hyperparameters of an optimizer, which may be set between steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.numbers import as_number
from distopt.core.tensor import Tensor, TensorLike, as_array
from distopt.core.variable import Variable
from distopt.optimizers import schedules
from distopt.optimizers.limits import FINITE, Limit, within
from distopt.typing import DTypeLike

if TYPE_CHECKING:
    from distopt.optimizers.base_optimizer import BaseOptimizer

__all__ = ["HyperSet", "decayed_rate"]


class HyperSet:
    """The hyperparameters of one optimizer.

    A number becomes a float32 variable at the first step or the first reading. Tensors, variables, callables
    without arguments and schedules stay as they are.

    Args:
        optimizer: its name, for messages.
        limits: the allowed interval, by name; a hyperparameter without one may be any number.

    Attributes:
        values: the hyperparameters by name.
    """

    def __init__(self, optimizer: str, limits: Mapping[str, Limit]) -> None:
        self.values: dict[str, Any] = {}
        self._optimizer, self._limits = optimizer, limits
        self._created = False

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def set(self, name: str, value: Any) -> None:
        """Sets the hyperparameter ``name``.

        Raises:
            TypeError: the value is neither a number nor callable, or is a callable for a number that is
                already a variable.
            ValueError: an array whose shape is not (), or a number outside the limits.
        """
        previous = self.values.get(name)
        if isinstance(previous, Variable) and not isinstance(value, schedules.LearningRateSchedule):
            if callable(value):
                raise TypeError(
                    f"hyperparameter {name!r} of optimizer {self._optimizer!r} is already a variable and "
                    f"takes a number, not {value!r}: pass callables to the constructor"
                )
            previous.assign(self.allowed(name, value, previous.dtype))
            return
        if not callable(value):
            self.allowed(name, value, getattr(value, "dtype", np.float32))
        self.values[name] = float(value) if isinstance(value, (bool, int, np.integer)) else value

    def create(self, add_weight: Callable[..., Variable]) -> None:
        """Creates variables for the numbers, by calls of ``add_weight``; only the first time."""
        if self._created:
            return
        for name, value in sorted(self.values.items()):
            if isinstance(value, TensorLike) or callable(value):
                continue
            dtype = value.dtype if isinstance(value, (np.ndarray, np.generic)) else np.float32
            self.values[name] = add_weight(name, shape=[], dtype=dtype, trainable=False, initializer=value)
        self._created = True

    def get(self, name: str, dtype: DTypeLike = None) -> Any:
        """Returns the hyperparameter ``name``: a schedule itself, the result of a callable, or the variable.

        Args:
            name: as in :meth:`set`.
            dtype: the dtype to cast to, if given. Python floats pass through float32 on the way.

        Raises:
            KeyError: there is no such hyperparameter.
        """
        value = self.values[name]
        if type(value) is not Variable:  # a variable, the common case, needs no check
            if isinstance(value, schedules.LearningRateSchedule):
                return value
            if callable(value):
                value = as_number(value(), f"what {name!r} of optimizer {self._optimizer!r} returned")
                self.allowed(name, value, np.float64)
        return value if dtype is None else _cast(value, dtype)

    def config(self, name: str) -> Any:
        """Returns the hyperparameter for a config: a number, or the dict of a schedule.

        Raises:
            KeyError: there is no such hyperparameter.
        """
        value = self.values[name]
        if isinstance(value, schedules.LearningRateSchedule):
            return schedules.serialize(value)
        if callable(value):
            value = value()
        return value.numpy() if isinstance(value, TensorLike) else value

    def variables(self) -> dict[str, Variable]:
        """Returns the hyperparameters that are variables, sorted by name."""
        return {name: value for name, value in sorted(self.values.items()) if isinstance(value, Variable)}

    def allowed(self, name: str, value: Any, dtype: Any) -> Any:
        """Returns ``value`` if the hyperparameter may have it in ``dtype``; see :func:`within`."""
        argument, limit = f"hyperparameter {name!r} of optimizer {self._optimizer!r}", self._limits.get(name)
        return as_number(value, argument) if limit is None else within(limit, value, argument, dtype)

    def check(self) -> None:
        """Raises ValueError if a variable holds a number outside its limits, as after an assignment."""
        for name, value in self.values.items():
            if type(value) is Variable and name in self._limits:
                limit, number = self._limits[name], value.scalar().item()
                if not limit.lowest <= number <= limit.highest:
                    self.allowed(name, number, np.float64)


def decayed_rate(optimizer: BaseOptimizer, dtype: DTypeLike) -> Any:
    """The learning rate of this step: the hyperparameter or schedule, divided by ``1 + decay * t``.

    Args:
        optimizer: the optimizer, whose hooks are called for the hyperparameters.
        dtype: the dtype to compute in, that of the variables.

    Returns:
        A tensor of shape () and that dtype.
    """
    rate = optimizer._get_hyper("learning_rate", dtype)
    if isinstance(rate, schedules.LearningRateSchedule):
        scheduled = rate(_cast(optimizer.iterations, dtype))
        argument = f"the learning_rate by the schedule of optimizer {optimizer._name!r}"
        rate = _cast(within(FINITE, scheduled, argument), dtype)
    if optimizer._initial_decay > 0.0:
        one, step = np.dtype(dtype).type(1), _cast(optimizer.iterations, dtype)
        rate = rate / (one + optimizer._get_hyper("decay", dtype) * step)
    return rate


def _cast(value: Any, dtype: DTypeLike) -> Tensor:
    # TensorFlow converts Python numbers to float32 first, whatever the final dtype. (np.float64 is a float,
    # too.)
    python = isinstance(value, (float, int)) and not isinstance(value, np.generic)
    array = np.asarray(value, np.float32) if python else as_array(value)
    return Tensor.from_numpy(array.astype(dtype))
