"""The folder in which Numba caches compiled kernels."""

from __future__ import annotations

__all__ = ["folder", "main"]


def folder() -> str:
    """The cache folder for the kernels of this package; Numba creates it if necessary.

    Raises:
        RuntimeError: Numba finds no writable folder.
    """
    import numba

    return str(numba.njit(cache=True)(folder).stats.cache_path)


def main() -> int:
    """Prints the folder for ``distoptrun --check``, or an empty line if there is none."""
    try:
        print(folder())
    except RuntimeError:
        print()
    return 0
