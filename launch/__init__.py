"""Starts replicas: ``distoptrun -n 4 script.py``. It knows MPI launchers but not distopt."""

# Every replica imports this package, and needs none of the launcher.
__all__: list[str] = []
