"""What an aggregator is: pairs of this replica in, pairs of all replicas together out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from distopt.core.keywords import KnownArguments
from distopt.core.variable import Variable
from distopt.engine.reduction import FusedReduction

__all__ = ["Aggregator"]


class Aggregator(KnownArguments, ABC):
    """Combines the replicas' gradients. A plain function of the same signature does as well.

    A class is needed for arguments that belong into a config, and for state that is saved with the
    optimizer's. State is Variables: made in :meth:`build`, listed in :attr:`weights`, read in ``__call__``,
    and changed in :meth:`finish_step`. It is the same on all replicas, or each replica's own, such as
    the error of a compression; then the Variable is ``ON_READ``. See docs/howto/aggregators-state.md.
    """

    @abstractmethod
    def __call__(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
        """The pairs of all replicas together, every variable's once, shapes and dtypes kept.

        Called in replica context, with all of ReplicaContext at its service. It changes neither the
        gradients that it gets nor state: of several replicas in one process, each may call it on this
        one object, and a step that fails must leave nothing behind.

        An optimizer passes no gradient that is None. Whoever else calls it may; those come back as they are.
        """

    def build(self, variables: Sequence[Variable]) -> None:
        """A hook: makes the state for new variables; called before each aggregation."""

    @property
    def weights(self) -> list[Variable]:
        """The state: variables, which follow the optimizer's own weights, in a fixed order."""
        return []

    def finish_step(self) -> None:
        """A hook: updates the state with the results of ``__call__``; called after the update.

        Called in replica context, once a step; if replicas of one process share this object and some of
        :attr:`weights` are ON_READ, once by each of them. What ``__call__`` leaves is then a replica's own
        too.
        """

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON can hold them."""
        return {}

    def reduction(self) -> FusedReduction | None:
        """How the step engine can aggregate in its own pass; None if it cannot."""
        return None

    def __str__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.get_config().items())
        return f"{type(self).__name__.lower()}({arguments})" if arguments else type(self).__name__.lower()
