"""Where code runs among replicas, as far as variables have to know it.

``distopt.distribute`` installs the real answers; until then there is one replica.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distopt.typing import Array

if TYPE_CHECKING:
    from distopt.core.variable import Variable

__all__ = ["Placement", "install", "placement"]


class Placement:
    """The answers for one replica, alone."""

    def made_for_all(self) -> bool:
        """Whether a variable made here is one object for several replicas of this process."""
        return False

    def replica(self) -> int | None:
        """The number, in this process, of the replica that runs this code; None between replicas."""
        return 0

    def combine(self, variable: Variable, value: Array) -> Array:
        """What replicas assign to a variable, made one value as its aggregation says; collective."""
        return value

    def together(self, variable: Variable, values: list[Array]) -> Array:
        """The values of an ON_READ variable on all replicas, as one; ``values`` are this process's."""
        return values[0]

    def dealt(self, variable: Variable, value: Array) -> Array:
        """Each replica's part of a value assigned to an ON_READ variable between replicas."""
        return value


_installed = [Placement()]


def install(answers: Placement) -> None:
    """Puts ``answers`` in force."""
    _installed[:] = [answers]


def placement() -> Placement:
    """The answers in force."""
    return _installed[0]
