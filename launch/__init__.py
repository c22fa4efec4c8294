"""Starts replicas: ``distoptrun -n 4 script.py``. It knows MPI launchers but not distopt."""

# This file imports nothing, because every replica imports the package, but none needs the launcher.
__all__: list[str] = []
