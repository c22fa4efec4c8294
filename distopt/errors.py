"""The error tree.

    Exception
    |-- ImportError
    |   `-- MissingExtra          an optional dependency is not installed; says how to get it
    `-- RuntimeError
        |-- ReplicaMismatch       replicas called different things, or with different arguments
        |-- ReplicaFailed         another replica raised; carries its traceback
        |-- ReplicaStalled        a replica did not come in time
        `-- LaunchError           the launcher and the MPI library do not fit together

Everything else is Python's own: ValueError for shapes, values and indices, TypeError for kinds,
RuntimeError for calls in the wrong context.
"""

from __future__ import annotations

__all__ = ["LaunchError", "MissingExtra", "ReplicaFailed", "ReplicaMismatch", "ReplicaStalled"]


class MissingExtra(ImportError):
    """An optional dependency is missing; the text says what to install."""

    @classmethod
    def of(cls, feature: str, package: str, *more: str) -> MissingExtra:
        """The error to raise where ``feature`` cannot do without ``package``.

        Args:
            feature: what was called.
            package: what could not be imported; its distribution has the same name.
            more: distributions to be installed together with it.
        """
        # The packages by their own names: an index may give somebody else's for a name of ours.
        return cls(
            f"{feature} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install {' '.join([package, *more])}",
            name=package,
        )


class ReplicaMismatch(RuntimeError):
    """Replicas disagree about the call that they are in; raised on every replica alike."""


class ReplicaFailed(RuntimeError):
    """Another replica raised an exception; the text ends with that replica's traceback."""


class ReplicaStalled(RuntimeError):
    """A replica did not come to a collective call before the abort limit."""


class LaunchError(RuntimeError):
    """The launcher that started this process does not belong to the MPI that it loads."""
