"""Division of a sequence into contiguous parts of nearly equal size."""

from __future__ import annotations

__all__ = ["share", "shares"]


def share(count: int, part: int, parts: int) -> tuple[int, int]:
    """The range ``[start, stop)`` of part number ``part`` of ``count`` items.

    If the items do not divide evenly, the first parts are longer by one, as in ``numpy.array_split``.

    >>> [share(7, r, 3) for r in range(3)]
    [(0, 3), (3, 5), (5, 7)]
    """
    each, rest = divmod(count, parts)
    start = part * each + min(part, rest)
    return start, start + each + (part < rest)


def shares(count: int, parts: int) -> list[int]:
    """The length of each part of ``count`` items.

    >>> shares(7, 3)
    [3, 2, 2]
    """
    each, rest = divmod(count, parts)
    return [each + 1] * rest + [each] * (parts - rest)
