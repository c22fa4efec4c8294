"""How many things are split into contiguous parts of nearly equal size, one after the other."""

from __future__ import annotations

__all__ = ["share", "shares"]


def share(count: int, part: int, parts: int) -> tuple[int, int]:
    """The part ``[start, stop)`` of ``count`` things that belongs to one of ``parts``, e.g. to a replica.

    The first parts are longer by one if the number does not divide, as in ``numpy.array_split``.

    >>> [share(7, r, 3) for r in range(3)]
    [(0, 3), (3, 5), (5, 7)]
    """
    each, rest = divmod(count, parts)
    start = part * each + min(part, rest)
    return start, start + each + (part < rest)


def shares(count: int, parts: int) -> list[int]:
    """How many of ``count`` things each part gets.

    >>> shares(7, 3)
    [3, 2, 2]
    """
    each, rest = divmod(count, parts)
    return [each + 1] * rest + [each] * (parts - rest)
