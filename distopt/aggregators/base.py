"""The interface of aggregators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from distopt.core.keywords import KnownArguments
from distopt.core.variable import Variable
from distopt.engine.reduction import FusedReduction

__all__ = ["Aggregator"]


class Aggregator(KnownArguments, ABC):
    """The base class of aggregators, which combine the gradients of all replicas.

    A plain function with the signature of ``__call__`` works too. Derive a class to take arguments that
    are saved in a config, or to keep state that is saved with the optimizer.

    State consists of Variables. Create them in :meth:`build`, list them in :attr:`weights`, read them in
    ``__call__`` and change them in :meth:`finish_step`. State is either the same on all replicas, or each
    replica has its own, such as the error of a compression. In the latter case the Variable must be
    ``ON_READ``. See docs/howto/aggregators-state.md.
    """

    @abstractmethod
    def __call__(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
        """Aggregates the gradients of all replicas.

        It runs in replica context and can use every method of ReplicaContext. It must change neither the
        gradients nor any state, because several replicas of a process may call the same object, and a step
        that fails must not leave anything behind.

        Optimizers remove pairs whose gradient is None. Other callers may pass them; such pairs are returned
        unchanged.

        Args:
            grads_and_vars: the pairs of this replica.

        Returns:
            A pair for every variable, exactly once. Shapes and dtypes do not change.
        """

    def build(self, variables: Sequence[Variable]) -> None:
        """Creates the state for new variables. It is called before each aggregation."""

    @property
    def weights(self) -> list[Variable]:
        """The Variables of the state, in a fixed order. They follow the optimizer's own weights."""
        return []

    def finish_step(self) -> None:
        """Updates the state after the update of the variables.

        It runs in replica context, once a step. If replicas of one process share this object and some of
        :attr:`weights` are ON_READ, it runs once on each of these replicas. What ``__call__`` stores for
        it must then belong to the replica, too.
        """

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor as a dict that JSON can represent."""
        return {}

    def reduction(self) -> FusedReduction | None:
        """Returns how the step engine can aggregate in its own pass, or None if it cannot."""
        return None

    def __str__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.get_config().items())
        return f"{type(self).__name__.lower()}({arguments})" if arguments else type(self).__name__.lower()
