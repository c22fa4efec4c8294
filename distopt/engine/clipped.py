"""ClippedProgram: a group's step in compiled code, where norms have to be known before any update.

The first pass sums all shards and keeps them, with the sums of squares of all pieces on a board that the
node shares. From these every replica works out the norms, and the second pass updates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from distopt.engine import norms
from distopt.engine.arrays import Flats, address_of
from distopt.engine.clip import Clip, global_scale
from distopt.engine.compiled import compiled
from distopt.engine.fold import Fold
from distopt.engine.layout import PIECE
from distopt.engine.program import Program, arguments
from distopt.engine.ring import Ring
from distopt.engine.rule import Rule
from distopt.engine.shared import shared_memory
from distopt.typing import Array

__all__ = ["ClippedProgram"]


def _sum_alone(w: Any, g: Any, unused: Any) -> tuple[Any]:  # noqa: ARG001
    return (g,)


#: What is compiled for the first pass, in place of a rule.
_SUM = Rule("sum", _sum_alone)


class ClippedProgram:
    """The blocks of a group, for one replica of a node.

    Args:
        program: the group's step without norms.
    """

    def __init__(self, program: Program) -> None:
        self._program, self._node = program, program.node
        self._rule, self._dtype = program.rule, program.dtype
        #: Where each variable's pieces begin on the board, and where the last one's end.
        self._pieces = np.cumsum([0, *(-(-size // PIECE) for size in program.sizes)])
        self._squares = shared_memory(self._node, 8 * int(self._pieces[-1])).view(np.float64)
        own = program.owns
        piece_bytes = PIECE * self._dtype.itemsize
        squares = address_of(self._squares) + 8 * (self._pieces[own[:, 0]] + own[:, 1] // piece_bytes)
        ends = np.cumsum(own[:, 2])
        self._elements = int(ends[-1]) // self._dtype.itemsize if len(own) else 0
        self._owns = np.column_stack([own[:, :4], ends - own[:, 2], squares, own[:, 4:]])

    def run(self, ring: Ring, flats: Flats, coefficients: tuple[Any, ...], then: Fold, clip: Clip) -> None:
        """Sums, clips and updates this replica's shard.

        Args:
            ring: brings the other replicas' gradients.
            flats: this replica's gradients, one for each variable.
            coefficients: the rule's.
            then: what happens to the sums before their norms are taken.
            clip: one of the kinds that need norms.
        """
        kept = ring.room("kept", self._elements, self._dtype)
        owns = self._owns.copy()
        owns[:, 4] += address_of(kept)
        self._program.go(ring, flats, _keeper(self._dtype, then.plain), owns, (self._dtype.type(0),), then)
        self._node.barrier()
        factors, divisors = self._scales(clip)
        _updater(self._rule, self._dtype)(owns, factors, divisors, coefficients)

    def _scales(self, clip: Clip) -> tuple[Array, Array]:
        """For each variable what its gradient is multiplied by, and then divided by."""
        variables = len(self._pieces) - 1
        factors, divisors = np.ones((2, variables), self._dtype)
        if clip.global_norm is not None:
            total = norms.sum_of_pieces([self._squares])
            factors[:] = global_scale(total, clip.global_norm, self._dtype)
        else:
            assert clip.norm is not None
            each = np.split(self._squares, self._pieces[1:-1])
            bound = factors[:] = self._dtype.type(clip.norm)
            with np.errstate(over="ignore"):
                found = np.array([math.sqrt(norms.sum_of_pieces([squares])) for squares in each], self._dtype)
            np.maximum(found, bound, out=divisors)
        return factors, divisors


@cache
def _keeper(dtype: np.dtype[Any], plain: bool) -> Callable[..., int]:
    from distopt.engine import loops

    return compiled(_SUM, loops.keep_template(plain), dtype, arguments(dtype))


@cache
def _updater(rule: Rule, dtype: np.dtype[Any]) -> Callable[..., None]:
    import numba

    from distopt.engine import loops

    table, numbers = numba.int64[:, ::1], numba.from_dtype(dtype)[::1]
    return compiled(rule, loops.scaled_template(len(rule.slots)), dtype, (table, numbers, numbers))
