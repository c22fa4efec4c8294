"""NormClip: a group's step where norms have to be known before any update.

A first pass sums all shards and keeps them, with the sums of squares of all pieces on a board that the
node shares. From these every replica works out the norms, and a second pass updates.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from distopt.collectives import PIECE, address_of, shared_memory
from distopt.comm import Communicator
from distopt.engine import fused, norms
from distopt.engine.clip import Clip, global_scale
from distopt.engine.epilogue import Epilogue
from distopt.engine.rule import Rule
from distopt.typing import Array

__all__ = ["NormClip"]


class NormClip:
    """What stays from step to step, for one replica of a node.

    Args:
        rule: the arithmetic.
        dtype: of all arrays.
        sizes: the variables' elements.
        owns: the replica's own segments, with the addresses of parameters and slots.
        node: the replicas that share memory.
    """

    def __init__(
        self, rule: Rule, dtype: np.dtype[Any], sizes: tuple[int, ...], owns: Array, node: Communicator
    ) -> None:
        self._rule, self._dtype, self._node = rule, dtype, node
        #: Where each variable's pieces begin on the board, and where the last one's end.
        self._pieces = np.cumsum([0, *(-(-size // PIECE) for size in sizes)])
        self._squares = shared_memory(node, 8 * int(self._pieces[-1])).view(np.float64)
        first = self._pieces[owns[:, 0]] + owns[:, 1] // (PIECE * dtype.itemsize)
        ends = np.cumsum(owns[:, 2])
        #: The shards of the last step, one after the other.
        self._kept = np.empty(int(ends[-1]) // dtype.itemsize if len(owns) else 0, dtype)
        places = address_of(self._kept) + ends - owns[:, 2]
        self._owns = np.column_stack(
            [owns[:, :4], places, address_of(self._squares) + 8 * first, owns[:, 4:]]
        )

    def keep(self) -> Array:
        """The own segments, each with where its sum is kept and its squares are written."""
        return self._owns

    def update(self, owns: Array, epilogue: Epilogue, coefficients: tuple[Any, ...]) -> None:
        """Clips and updates this replica's shards, when all replicas have kept theirs.

        Args:
            owns: what :meth:`keep` gave.
            epilogue: the clips.
            coefficients: the rule's.
        """
        assert epilogue.clip is not None
        self._node.barrier()
        if epilogue.clip.norm == 0:
            self._kept[:] = 0  # zeros without a sign, whatever the gradients were
        factors, divisors = self._scales(epilogue.clip)
        fused.scaled_kernel(self._rule, self._dtype)(owns, factors, divisors, coefficients)

    def _scales(self, clip: Clip) -> tuple[Array, Array]:
        """For each variable what its gradient is multiplied by, and then divided by."""
        variables = len(self._pieces) - 1
        factors, divisors = np.ones((2, variables), self._dtype)
        if clip.global_norm is not None:
            total = norms.sum_of_pieces([self._squares])
            factors[:] = global_scale(total, clip.global_norm, self._dtype)
        elif clip.norm:
            each = np.split(self._squares, self._pieces[1:-1])
            bound = factors[:] = self._dtype.type(clip.norm)
            with np.errstate(over="ignore"):
                found = np.array([math.sqrt(norms.sum_of_pieces([squares])) for squares in each], self._dtype)
            np.maximum(found, bound, out=divisors)
        return factors, divisors
