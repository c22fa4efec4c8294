"""Starts replicas: ``distoptrun -n 4 script.py``. Knows MPI launchers, and nothing of distopt."""

from .errors import LaunchError
from .plan import Plan

# Not the command line: every replica imports this package, and needs none of it.
__all__ = ["LaunchError", "Plan"]
