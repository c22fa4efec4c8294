"""Metric: sums gathered over batches and replicas, and a number made of them."""

from __future__ import annotations

import functools
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.checks import as_config, as_dtype, as_name
from distopt.core.initializers import get as get_initializer
from distopt.core.keywords import KnownArguments
from distopt.core.placement import placement
from distopt.core.tensor import Tensor, as_array
from distopt.core.variable import Variable, VariableAggregation, VariableSynchronization
from distopt.distribute import get_replica_context
from distopt.keras.metrics.counting import counted
from distopt.typing import DTypeLike

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Metric", "results", "summed_over_replicas"]


class Metric(KnownArguments):
    """Base class of metrics.

    A subclass creates its state with :meth:`add_weight`, adds to it in :meth:`update_state`, and computes a
    value from it in :meth:`result`. The state must consist of sums: each replica adds its own share of the
    data, and ``result`` sees the sum over all replicas. Call ``result`` on all replicas.

    Args:
        name: a name. By default the class name in snake case.
        dtype: the dtype of the result, by default float32. Sums are kept in float64.
    """

    def __init__(self, name: str | None = None, dtype: DTypeLike | None = None) -> None:
        #: Whether the class gave the name, so that a model may number it among others of the same.
        self.named_by_class = as_name(name) is None
        #: What a model has put in front of the name, to tell results of several outputs apart.
        self.name_prefix = ""
        self.name = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()
        self.dtype = as_dtype(dtype)
        self.stateful = True
        self._weights: list[Variable] = []
        self._summed = False
        self._owner = placement().owner()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "update_state" in cls.__dict__:
            cls.update_state = counted(cls.__dict__["update_state"])  # type: ignore[method-assign]
        # Whoever writes result() writes it for one replica; that it sees all of them is our part.
        if "result" in cls.__dict__:
            cls.result = _over_replicas(cls.__dict__["result"])  # type: ignore[method-assign]
        if "reset_states" in cls.__dict__ and "reset_state" not in cls.__dict__:
            cls.reset_state = cls.__dict__["reset_states"]  # type: ignore[method-assign]

    def add_weight(
        self, name: str, shape: Sequence[int] = (), initializer: Any = "zeros", dtype: DTypeLike | None = None
    ) -> Variable:
        """Creates a part of the state. It is not trained.

        Args:
            name: the name.
            shape: the shape.
            initializer: the initial value. A value other than zero counts once for each replica.
            dtype: the dtype. By default float64, so that sums of many values are accurate.
        """
        value = get_initializer(initializer)(tuple(shape), np.dtype(dtype or np.float64))
        # A metric that all replicas share may find its state's shape in one of them.
        with placement().made_for(self._owner):
            variable = Variable(
                value,
                trainable=False,
                name=name,
                synchronization=VariableSynchronization.ON_READ,
                aggregation=VariableAggregation.SUM,
            )
        self._weights.append(variable)
        return variable

    @property
    def weights(self) -> list[Variable]:
        """The state, in the order of its creation."""
        return self._weights

    variables = weights

    @abstractmethod
    def update_state(self, *args: Any, **kwargs: Any) -> Any:
        """Adds a batch to the state of this replica.

        The usual arguments are ``(y_true, y_pred, sample_weight=None)``.
        """

    @abstractmethod
    def result(self) -> Any:
        """Returns the value over all replicas. Collective."""

    def reset_state(self) -> None:
        """Resets the state."""
        for variable in self._weights:
            variable.assign(np.zeros(variable.shape, variable.dtype))

    def reset_states(self) -> None:
        """The older name of :meth:`reset_state`."""
        self.reset_state()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """:meth:`update_state`, then :meth:`result`."""
        self.update_state(*args, **kwargs)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"name": self.name, "dtype": self.dtype.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns a metric from a result of :meth:`get_config`."""
        return cls(**as_config(config, cls.__name__))

    def _tensor(self, value: Any) -> Tensor:
        return Tensor(np.asarray(value), self.dtype)


def _over_replicas(result: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(result)
    def wrapped(self: Metric) -> Any:
        with summed_over_replicas([self]):
            return result(self)

    return wrapped


@contextmanager
def summed_over_replicas(metrics: Sequence[Metric]) -> Iterator[None]:
    """Within it the metrics' states are the sums over all replicas; afterwards each replica's own again.

    One collective call for all of the metrics, none where there is one replica.
    """
    context = get_replica_context()
    mine = [m for m in metrics if not m._summed]
    if context is None or context.num_replicas_in_sync == 1:
        mine = []
    variables = [v for m in mine for v in m.weights]
    if not variables:
        yield
        return
    own = [v.numpy() for v in variables]
    assert context is not None
    for variable, total in zip(variables, context.all_reduce("sum", own), strict=True):
        variable.assign(as_array(total))
    for metric in mine:
        metric._summed = True
    try:
        yield
    finally:
        for metric in mine:
            metric._summed = False
        for variable, value in zip(variables, own, strict=True):
            variable.assign(value)


def results(metrics: Sequence[Metric]) -> list[Any]:
    """Returns the results of all metrics with one collective call."""
    with summed_over_replicas(metrics):
        return [metric.result() for metric in metrics]
