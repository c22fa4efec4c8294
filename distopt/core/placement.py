"""Where code runs among replicas, as far as variables have to know it.

``distopt.distribute`` installs the real answers; until then there is one replica.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from distopt.typing import Array

if TYPE_CHECKING:
    from distopt.core.variable import Variable

__all__ = ["Placement", "install", "placement"]


class Placement:
    """The answers for one replica, alone.

    Attributes:
        moves: how many times variables of this process have moved to other memory. Plans of steps compare it
            to know whether the addresses that they hold are still good. One count serves all strategies: a
            step of one may move a variable that a plan of another one knows.
    """

    def __init__(self) -> None:
        self.moves = 0

    def owner(self) -> object | None:
        """The strategy whose replicas in this process share a variable made here, if there are several."""
        return None

    def replica(self, owner: object | None = None) -> int | None:
        """The number, in this process, of the replica that runs this code; None between replicas.

        Args:
            owner: if given, only replicas of this strategy count.
        """
        return 0

    def chief(self) -> bool:
        """Whether what all replicas would say is said here: by the job's first one, or between replicas."""
        return True

    def made_for(self, owner: object | None) -> AbstractContextManager[None]:
        """Variables made within belong to ``owner``, if given, as where it answered :meth:`owner`."""
        return nullcontext()

    def combine(self, variable: Variable, value: Array) -> Array:
        """What replicas assign to a variable, made one value as its aggregation says; collective."""
        return value

    def aggregated(self, variable: Variable, values: list[Array]) -> Array:
        """The values of an ON_READ variable on all replicas, as one; ``values`` are this process's."""
        return values[0]

    def dealt(self, variable: Variable, value: Array) -> Array:
        """Each replica's part of a value assigned to an ON_READ variable between replicas."""
        return value


# Process-wide, because a variable must find the answers without knowing who gives them.
_installed = [Placement()]


def install(answers: Placement) -> None:
    """Puts ``answers`` in force."""
    _installed[:] = [answers]


def placement() -> Placement:
    """The answers in force."""
    return _installed[0]
