"""Starts replicas: ``distoptrun -n 4 script.py``. Knows MPI launchers, and nothing of distopt."""

# Every replica imports this package, and needs none of the launcher.
__all__: list[str] = []
