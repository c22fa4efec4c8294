"""Where compiled kernels are kept from one run to the next, by Numba's own word."""

from __future__ import annotations

__all__ = ["folder", "main"]


def folder() -> str:
    """The folder for the kernels of this package; it is made if need be.

    Raises:
        RuntimeError: Numba finds no folder that it may write to.
    """
    import numba

    return str(numba.njit(cache=True)(folder).stats.cache_path)


def main() -> int:
    """Prints it, for ``distoptrun --check``; nothing where there is none."""
    try:
        print(folder())
    except RuntimeError:
        print()
    return 0
