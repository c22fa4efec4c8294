"""Norms: what a step needs where norms have to be known before any update.

A first pass sums all shards and keeps them, with the sums of squares of all pieces on a board that the
node shares. From these every replica works out the norms, and a second pass updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distopt.collectives import PIECE, address_of
from distopt.comm import Communicator
from distopt.engine import norms
from distopt.engine.clip import Clip, global_scale
from distopt.typing import Array

__all__ = ["NormBoard", "Scales", "pieces_of"]

#: For each variable what its gradient is multiplied by, and then divided by.
Scales = tuple[Array, Array]


def pieces_of(sizes: Sequence[int]) -> int:
    """How many sums of squares variables of so many elements have."""
    return sum(-(-size // PIECE) for size in sizes)


class NormBoard:
    """The board of a plan.

    Args:
        sizes: the elements of all variables.
        node: the replicas that share memory.
        memory: bytes that all of them see, enough for all sums of squares.
    """

    def __init__(self, sizes: Sequence[int], node: Communicator, memory: Array) -> None:
        self._node = node
        #: Where each variable's pieces begin on the board, and where the last one's end.
        self._pieces = np.cumsum([0, *(-(-size // PIECE) for size in sizes)])
        self._squares = memory[: 8 * int(self._pieces[-1])].view(np.float64)

    def places(self, owns: Array, itemsize: int) -> Array:
        """Where the squares of segments are written.

        Args:
            owns: the segments, see ``Partition``.
            itemsize: bytes of an element.
        """
        first = self._pieces[owns[:, 0]] + owns[:, 1] // (PIECE * itemsize)
        found: Array = address_of(self._squares) + 8 * first
        return found

    def part(self, variable: int, elements: slice) -> Array:
        """Where the squares of a part of a variable are written, which begins with a piece."""
        first = self._pieces[variable] + elements.start // PIECE
        return self._squares[first : first + -(-(elements.stop - elements.start) // PIECE)]

    def norms(self) -> Array:
        """The norms of all variables, ``[n]`` float64, when all replicas have met with their squares."""
        return norms.norms_of_pieces(self._squares, self._pieces)

    def scales(self, clip: Clip, dtype: np.dtype[Any]) -> Scales:
        """What the gradients are scaled by, when all replicas have come here with their squares.

        Args:
            clip: one of the kinds that need norms.
            dtype: that of the gradients.
        """
        self._node.barrier()
        factors, divisors = np.ones((2, len(self._pieces) - 1), dtype)
        if clip.global_norm is not None:
            total = norms.sum_of_pieces([self._squares])
            factors[:] = global_scale(total, clip.global_norm, dtype, clip.margin)
        elif clip.norm:
            bound = factors[:] = dtype.type(clip.norm)
            with np.errstate(over="ignore"):
                found = self.norms().astype(dtype)
            np.maximum(found, bound, out=divisors)
        return factors, divisors
