"""The error tree.

::

    Exception
    |-- ImportError
    |   `-- MissingExtra          an optional dependency is not installed; says how to install it
    `-- RuntimeError
        |-- ReplicaMismatch       replicas made different calls, or with different arguments
        |-- ReplicaFailed         another replica raised; carries its traceback
        |-- ReplicaStalled        a replica did not arrive in time
        `-- LaunchError           the launcher and the MPI library do not match, or MPI does not run

Everything else is Python's own: ValueError for shapes, values and indices, TypeError for types,
RuntimeError for calls in the wrong context.
"""

from __future__ import annotations

__all__ = ["LaunchError", "MissingExtra", "ReplicaFailed", "ReplicaMismatch", "ReplicaStalled"]


class MissingExtra(ImportError):
    """An optional dependency is missing. The message says what to install."""

    @classmethod
    def of(cls, feature: str, package: str, *more: str) -> MissingExtra:
        """Returns the error to raise if ``feature`` needs ``package``.

        Args:
            feature: the feature that was used.
            package: the package that could not be imported; its distribution has the same name.
            more: distributions to install with it.
        """
        # Not as an extra of ours: an index may have another project under our name.
        return cls(
            f"{feature} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install {' '.join([package, *more])}",
            name=package,
        )


class ReplicaMismatch(RuntimeError):
    """The replicas disagree about the current call. Every replica raises it."""


class ReplicaFailed(RuntimeError):
    """Another replica raised an exception. The message ends with the traceback of that replica."""


class ReplicaStalled(RuntimeError):
    """A replica did not reach a collective call before the abort limit."""


class LaunchError(RuntimeError):
    """The launcher does not match the MPI library that this process loads, or MPI is not running."""
