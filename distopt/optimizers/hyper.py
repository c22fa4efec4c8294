"""Hyperparameters: numbers, callables or schedules that may be overwritten between steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from distopt.core.numbers import as_clip, as_number
from distopt.core.tensor import Tensor, TensorLike, as_array
from distopt.core.variable import Variable
from distopt.optimizers import schedules
from distopt.optimizers.config import CLIPS
from distopt.optimizers.limits import FINITE, NOT_NEGATIVE, Limit, within
from distopt.optimizers.weights import Weights
from distopt.typing import DTypeLike

__all__ = ["Hyperparameters"]


class Hyperparameters(Weights):
    """The part of an optimizer that keeps its hyperparameters.

    ``_set_hyper("rate", 0.1)`` makes ``optimizer.rate`` an attribute that can be read and
    overwritten. A number becomes a float32 variable at the first step or first reading; a tensor,
    a variable, a callable without arguments or a schedule stays what it is.
    """

    #: What hyperparameters may be; others may be any number.
    _limits: ClassVar[Mapping[str, Limit]] = {"learning_rate": FINITE, "decay": NOT_NEGATIVE}

    def __init__(self, initial_decay: float) -> None:
        super().__init__()
        self._hyper: dict[str, Any] = {}
        self._hypers_created = False
        self._initial_decay = initial_decay

    # -- setting
    def _set_hyper(self, name: str, value: Any) -> None:
        """Sets the hyperparameter ``name``, or overwrites it.

        Raises:
            TypeError: neither a number nor callable; or a callable in place of a number that is a variable
                by now.
            ValueError: an array of another shape than (), or a number that cannot be meant.
        """
        previous = self._hyper.get(name)
        if isinstance(previous, Variable) and not isinstance(value, schedules.LearningRateSchedule):
            if callable(value):
                raise TypeError(
                    f"hyperparameter {name!r} of optimizer {self._name!r} is a variable by now and takes "
                    f"a number, not {value!r}: pass callables to the constructor"
                )
            previous.assign(self._allowed(name, value, previous.dtype))
            return
        if not callable(value):
            self._allowed(name, value, getattr(value, "dtype", np.float32))
        self._hyper[name] = float(value) if isinstance(value, (bool, int, np.integer)) else value

    def _create_hypers(self) -> None:
        """Makes variables of the numbers."""
        if self._hypers_created:
            return
        for name, value in sorted(self._hyper.items()):
            if isinstance(value, TensorLike) or callable(value):
                continue
            dtype = value.dtype if isinstance(value, (np.ndarray, np.generic)) else np.float32
            self._hyper[name] = self.add_weight(
                name, shape=[], dtype=dtype, trainable=False, initializer=value
            )
        self._hypers_created = True

    def _allowed(self, name: str, value: Any, dtype: Any) -> Any:
        """``value``, if the hyperparameter may be this number, kept in ``dtype``."""
        argument, limit = f"hyperparameter {name!r} of optimizer {self._name!r}", self._limits.get(name)
        return as_number(value, argument) if limit is None else within(limit, value, argument, dtype)

    def _check_hypers(self) -> None:
        """ValueError if some variable holds what it cannot be: anyone may have assigned to it."""
        limits = self._limits
        for name, value in self._hyper.items():
            if type(value) is Variable and name in limits:
                limit, number = limits[name], value.scalar().item()
                if not limit[0] <= number <= limit[1]:
                    self._allowed(name, number, np.float64)

    # -- reading
    def _get_hyper(self, name: str, dtype: DTypeLike = None) -> Any:
        """The hyperparameter ``name``: a schedule itself, what a callable returns, or the variable.

        Args:
            name: as in ``_set_hyper``.
            dtype: cast to it, if given. Python floats pass through float32 on the way.

        Raises:
            KeyError: there is no such hyperparameter.
        """
        self._create_hypers()
        value = self._hyper[name]
        if type(value) is not Variable:  # a variable is neither, which is the common case
            if isinstance(value, schedules.LearningRateSchedule):
                return value
            if callable(value):
                value = as_number(value(), f"what {name!r} of optimizer {self._name!r} returned")
                self._allowed(name, value, np.float64)
        return value if dtype is None else _cast(value, dtype)

    def _serialize_hyperparameter(self, name: str) -> Any:
        """The hyperparameter as a config holds it: a number, or a schedule's dict.

        Raises:
            KeyError: there is no such hyperparameter.
        """
        value = self._hyper[name]
        if isinstance(value, schedules.LearningRateSchedule):
            return schedules.serialize(value)
        if callable(value):
            value = value()
        return value.numpy() if isinstance(value, TensorLike) else value

    def _decayed_lr(self, var_dtype: DTypeLike) -> Any:
        """The learning rate in force: the hyperparameter or schedule, divided by ``1 + decay * t``.

        Args:
            var_dtype: the dtype to compute in, that of the variables.

        Returns:
            A tensor of shape () and that dtype.
        """
        rate = self._get_hyper("learning_rate", var_dtype)
        if isinstance(rate, schedules.LearningRateSchedule):
            found = rate(_cast(self.iterations, var_dtype))
            told = f"the learning_rate by the schedule of optimizer {self._name!r}"
            rate = _cast(within(FINITE, found, told), var_dtype)
        if self._initial_decay > 0.0:
            one, step = np.dtype(var_dtype).type(1), _cast(self.iterations, var_dtype)
            rate = rate / (one + self._get_hyper("decay", var_dtype) * step)
        return rate

    # -- hyperparameters are attributes
    def __getattr__(self, name: str) -> Any:
        if name == "lr":
            name = "learning_rate"
        if name in self.__dict__.get("_hyper", ()):
            return self._get_hyper(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "lr" and "learning_rate" in self.__dict__.get("_hyper", ()):
            name = "learning_rate"
        if name in self.__dict__.get("_hyper", ()):
            self._set_hyper(name, value)
            return
        if name in CLIPS and value is not None:
            as_clip(value, name)
        super().__setattr__(name, value)

    def __dir__(self) -> Iterable[str]:
        alias = ["lr"] if "learning_rate" in self._hyper else []
        return sorted({*super().__dir__(), *self._hyper, *alias})


def _cast(value: Any, dtype: DTypeLike) -> Tensor:
    # TensorFlow makes a float32 of a Python number, whatever it is needed as (np.float64 is a float, too).
    python = isinstance(value, (float, int)) and not isinstance(value, np.generic)
    array = np.asarray(value, np.float32) if python else as_array(value)
    return Tensor.from_numpy(array.astype(dtype))
