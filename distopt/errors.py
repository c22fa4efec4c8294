"""The error tree.

    Exception
    |-- ImportError
    |   `-- MissingExtra          an optional dependency is not installed; names the extra
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
    """An optional dependency is missing; the text names the extra that brings it."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'distopt[{extra}]'"
        )


class ReplicaMismatch(RuntimeError):
    """Replicas disagree about the call that they are in; raised on every replica alike."""


class ReplicaFailed(RuntimeError):
    """Another replica raised an exception; the text ends with that replica's traceback."""


class ReplicaStalled(RuntimeError):
    """A replica did not come to a collective call before the abort limit."""


class LaunchError(RuntimeError):
    """The launcher that started this process does not belong to the MPI that it loads."""
