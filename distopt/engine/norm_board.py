"""NormBoard: shared memory for sums of squares, for steps that must know norms before any update.

The first pass of such a step sums the gradients and stores them. Each replica writes the sums of squares of
its shards, one number per piece, to a board that the node shares. From the board, every replica computes all
norms. The second pass scales and updates.
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

#: Factors and divisors, ``[variables]`` each: a gradient is multiplied by the factor, then divided.
Scales = tuple[Array, Array]


def pieces_of(sizes: Sequence[int]) -> int:
    """The number of pieces, and so of sums of squares, of variables with these numbers of elements."""
    return sum(-(-size // PIECE) for size in sizes)


class NormBoard:
    """The sums of squares of all variables of a plan, one float64 per piece.

    Args:
        sizes: the number of elements of each variable.
        node: the replicas that share memory.
        memory: shared memory, uint8, of at least ``8 * pieces_of(sizes)`` bytes.
    """

    def __init__(self, sizes: Sequence[int], node: Communicator, memory: Array) -> None:
        self._node = node
        #: The index of each variable's first piece on the board, and the number of pieces.
        self._pieces = np.cumsum([0, *(-(-size // PIECE) for size in sizes)])
        self._squares = memory[: 8 * int(self._pieces[-1])].view(np.float64)

    def places(self, owns: Array, itemsize: int) -> Array:
        """The addresses to which the sums of squares of segments are written, ``[segments]`` int64.

        Args:
            owns: the segments, see ``Partition``.
            itemsize: bytes of an element.
        """
        first = self._pieces[owns[:, 0]] + owns[:, 1] // (PIECE * itemsize)
        found: Array = address_of(self._squares) + 8 * first
        return found

    def part(self, variable: int, elements: slice) -> Array:
        """The sums of squares of some elements of a variable, as a view; they begin with a whole piece."""
        first = self._pieces[variable] + elements.start // PIECE
        return self._squares[first : first + -(-(elements.stop - elements.start) // PIECE)]

    def norms(self) -> Array:
        """The norms of all variables, ``[n]`` float64. Call it after a barrier, when all sums are written."""
        return norms.norms_of_pieces(self._squares, self._pieces)

    def scales(self, clip: Clip, dtype: np.dtype[Any]) -> Scales:
        """The scales that clip the gradients; collective, after the replicas have written their sums.

        Args:
            clip: a clip by norm or by global norm.
            dtype: the dtype of the gradients.
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
