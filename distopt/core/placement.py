"""Placement: what variables need to know about the replicas.

``distopt.distribute`` installs an implementation. The one here is that of a single replica.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from distopt.typing import Array

if TYPE_CHECKING:
    from distopt.core.variable import Variable

__all__ = ["Placement", "install", "placement"]


class Placement:
    """The placement of a single replica, and the interface of others.

    Attributes:
        moves: how many times variables of this process have moved to other memory. A StepPlan caches
            addresses, and compares this count to find out whether they are still valid. All strategies share
            the count, because a step of one strategy may move a variable in a plan of another.
    """

    def __init__(self) -> None:
        self.moves = 0

    def owner(self) -> object | None:
        """The owner of variables that are created here: the active strategy, if this is cross-replica context
        and several replicas of this process will share the variable; else None.
        """
        return None

    def replica(self, owner: object | None = None) -> int | None:
        """The number, within this process, of the replica that runs this code; None in cross-replica context.

        Args:
            owner: a strategy: the result is also None in replicas of another strategy. None for any strategy.
        """
        return 0

    def chief(self) -> bool:
        """Whether this replica prints what concerns all: replica 0 of the job, or cross-replica context."""
        return True

    def made_for(self, owner: object | None) -> AbstractContextManager[None]:
        """A ``with`` block in the cross-replica context of ``owner``; it does nothing for None."""
        return nullcontext()

    def combine(self, variable: Variable, value: Array) -> Array:
        """Combines the values that the replicas assign to a variable, by its aggregation. Collective."""
        return value

    def aggregated(self, variable: Variable, values: list[Array]) -> Array:
        """Combines the values of an ON_READ variable on all replicas, in cross-replica context. Collective.

        Args:
            variable: the variable.
            values: its values on the replicas of this process.
        """
        return values[0]

    def divided(self, variable: Variable, value: Array) -> Array:
        """The value for each replica if an ON_READ variable is assigned ``value`` in cross-replica context.

        With the aggregation SUM it is ``value`` divided by the number of replicas, so that the sum is
        ``value``.
        """
        return value


# Process-wide, because a variable has no reference to a strategy or a context.
_installed = [Placement()]


def install(implementation: Placement) -> None:
    """Makes ``implementation`` the placement of this process."""
    _installed[:] = [implementation]


def placement() -> Placement:
    """The placement of this process."""
    return _installed[0]
