"""TrustRatioExecutor: an executor whose steps have two passes, see :mod:`distopt.engine.trust_ratio`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from distopt.collectives import ShardReduce
from distopt.core.tensor import as_array
from distopt.engine import fused, kernels
from distopt.engine.batch import GradientBatch
from distopt.engine.compiled import COMPILED
from distopt.engine.executor import Executor, Place, per_element_memory
from distopt.engine.norm_board import NormBoard
from distopt.engine.trust_ratio import TrustRatioRule, squares_of
from distopt.typing import Array

__all__ = ["TrustRatioExecutor"]


class Directions(NamedTuple):
    """The directions of this replica's shards, stored until the norms are known.

    Attributes:
        boards: the boards of variables and of directions.
        values: 1-D, the directions of all segments, one after the other.
        owns: as in ``KernelCall``, for the second pass: the addresses of each segment's directions, its
            parameters, and the slots of the second pass.
    """

    boards: tuple[NormBoard, NormBoard]
    values: Array
    owns: Array


class TrustRatioExecutor(Executor):
    """Executes the first pass as an :class:`Executor` whose ``rule`` is ``rule.direction``, then the second.

    A step calls :meth:`prepare`, runs the first pass, which updates slots and stores directions, and calls
    :meth:`adapt`. Arguments as for Executor.
    """

    def __init__(
        self,
        rule: TrustRatioRule,
        dtype: np.dtype[Any],
        sizes: tuple[int, ...],
        places: Sequence[Sequence[Place]],
        reduce: ShardReduce,
    ) -> None:
        super().__init__(rule.direction, dtype, sizes, places, reduce)
        self.trust_rule = rule
        self.kernel = partial(fused.direction_kernel, rule.direction, dtype)
        self.scaled_kernel = partial(fused.scaled_direction_kernel, rule.direction, dtype)
        #: ``owns`` of Executor: prepare() replaces that by the table of the first pass.
        self._segments_at = self.owns
        self._directions: Directions | None = None

    def prepare(self, boards: tuple[NormBoard, NormBoard]) -> None:
        """Prepares a step that writes sums of squares to these boards, of variables and of directions."""
        if self._directions is not None and self._directions.boards[0] is boards[0]:
            return
        segments = self._segments_at
        stored = self.rule.arithmetic_dtype(self.dtype)
        values, places = per_element_memory(segments, self.dtype, stored)
        squares = [board.places(segments, self.dtype.itemsize) for board in boards]
        own, addresses = segments[:, :4], segments[:, 4:]
        # Columns of parameters and of the first pass's slots. Its first slot is the direction, which is not
        # among ``addresses``, so this is also the number of its slots.
        first = len(self.rule.slots)
        self.owns = np.column_stack([own, addresses[:, :1], places, addresses[:, 1:first], *squares])
        second = np.column_stack([own, places, addresses[:, :1], addresses[:, first:]])
        self._directions = Directions(boards, values, second)
        self._stored = None

    def adapt(self, coefficients: tuple[Any, ...]) -> None:
        """Runs the second pass, after the first pass of all replicas of the node.

        Args:
            coefficients: the coefficients of the rule.
        """
        assert self._directions is not None
        boards, _, owns = self._directions
        rule, dtype = self.trust_rule, self.dtype
        ratios = rule.ratios(boards[0].norms(), boards[1].norms(), coefficients, dtype)
        if dtype in COMPILED:
            numbers = (*rule.of_step(coefficients), dtype.type(1))  # the kernel replaces the 1 by the ratio
            fused.adapted_kernel(rule.step, dtype)(owns, ratios, numbers)
            return
        first = len(rule.direction.slots)
        for (number, _, (w, *slots)), u in self._with_directions():
            numbers = (*rule.of_step(coefficients), ratios[number])
            kernels.dense(rule.step, w, u, tuple(slots[first - 1 :]), numbers)

    def _evaluate(self, batch: GradientBatch, coefficients: tuple[Any, ...]) -> None:
        assert self._directions is not None
        direction, boards = self.rule, self._directions.boards
        for (number, part, (w, *slots)), u in self._with_directions():
            gradient = as_array(batch.gradients[number]).reshape(-1)[part]
            kernels.dense(direction, w, gradient, (u, *slots[: len(direction.slots) - 1]), coefficients)
            for board, values in zip(boards, (w, u), strict=True):
                board.part(number, part)[:] = squares_of(values)

    def _with_directions(self) -> list[tuple[tuple[int, slice, list[Array]], Array]]:
        """This replica's segments, as from ``_segments``, each with a view of its directions."""
        assert self._directions is not None
        found, at = [], 0
        for segment in self._segments():
            size = segment[1].stop - segment[1].start
            found.append((segment, self._directions.values[at : at + size]))
            at += size
        return found
