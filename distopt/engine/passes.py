"""From gradients to updated shards: in one pass, or in two when norms have to be known first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from distopt.comm import Communicator
from distopt.engine import clip as clipping
from distopt.engine import kernels, norms
from distopt.engine.arrays import Flats
from distopt.engine.clip import Clip
from distopt.engine.fold import Fold, fold
from distopt.engine.layout import PIECE, Segment
from distopt.engine.plan import Group, Span
from distopt.engine.ring import Ring, gather, segment_of
from distopt.engine.rule import Rule
from distopt.engine.update import Update
from distopt.typing import Array

__all__ = ["one_pass", "two_passes", "update_own"]

#: Elements that are worked on while they are in the cache.
_CACHED = 1 << 16


def one_pass(ring: Ring, group: Group, update: Update, flats: Flats, then: Fold) -> None:
    """Sums and updates this replica's shard, block after block.

    Args:
        ring: brings the other replicas' gradients.
        group: the variables and who updates what.
        update: any of the group's, for its coefficients.
        flats: this replica's gradients, one flat array a variable.
        then: what happens to the sums before the update.
    """
    if group.program is not None:
        group.program.run(ring, flats, update.coefficients, then)
        return
    for turn, spans in zip(ring.rounds(group.blocks, flats), group.spans, strict=True):
        for span in spans:
            first = _own(ring, span, flats) if turn.first is None else turn.first[span.start : span.stop]
            if turn.second is None:
                total = first if then.plain else then(first, ring.room("then", first.size, first.dtype))
                kernels.dense(group.rule, span.parameters, total, span.slots, update.coefficients)
            else:
                rows = (first, turn.second[span.start : span.stop])
                fold(group.rule, span.parameters, rows, span.slots, update.coefficients, then)


def two_passes(
    ring: Ring,
    node: Communicator,
    group: Group,
    update: Update,
    flats: Flats,
    then: Fold,
    clip: Clip,
) -> None:
    """Sums all shards first and keeps them, until the norms are known; arguments as in :func:`one_pass`."""
    if group.program is not None and clip.divides:
        group.clipped(group.program).run(ring, flats, update.coefficients, then, clip)
        return
    own = [block.shards[node.rank] for block in group.blocks]
    kept = ring.room("kept", sum(shard.size for shard in own), update.variable.dtype)
    parts = np.split(kept, np.cumsum([shard.size for shard in own])[:-1])
    sums = [np.zeros(-(-flat.size // PIECE)) for flat in flats]
    rounds = zip(ring.rounds(group.blocks, flats), own, parts, group.spans, strict=True)
    for turn, shard, part, spans in rounds:
        for span in spans:
            here = part[span.start : span.stop]
            first = turn.first
            first = gather(flats, span.segments, here) if first is None else first[span.start : span.stop]
            if turn.second is not None:
                np.add(first, turn.second[span.start : span.stop], out=here)
            elif first is not here:
                np.copyto(here, first)
            then(here, here)
        for segment, values in _pieces(shard.segments, part):
            squares = norms.sums_of_squares(values)
            sums[segment.variable][segment.start // PIECE :][: squares.size] = squares
    squares_of = _everywhere(node, sums)
    totals = [norms.sum_of_pieces([squares]) for squares in squares_of]
    scale = None
    if clip.global_norm is not None:
        scale = clipping.global_scale(norms.sum_of_pieces(squares_of), clip.global_norm, kept.dtype)
    for shard, part, spans in zip(own, parts, group.spans, strict=True):
        if clip.norm is not None:
            for segment, values in _pieces(shard.segments, part):
                clipping.clip_norm(values, totals[segment.variable], clip.norm, out=values)
        for span in spans:
            _update_scaled(group.rule, update, span, part[span.start : span.stop], scale)


def update_own(group: Group, update: Update, flats: Flats, ring: Ring) -> None:
    """Updates this replica's shards with its own gradients, which are final; arguments as in one_pass."""
    for spans in group.spans:
        for span in spans:
            gradient = _own(ring, span, flats)
            kernels.dense(group.rule, span.parameters, gradient, span.slots, update.coefficients)


def _own(ring: Ring, span: Span, flats: Flats) -> Array:
    """This replica's own gradient of a span: where it lies, or brought together."""
    if len(span.segments) == 1:
        return segment_of(flats, span.segments[0])
    return gather(flats, span.segments, ring.room("own", span.stop - span.start, flats.dtype))


def _update_scaled(rule: Rule, update: Update, span: Span, gradient: Array, scale: Any) -> None:
    """Updates a span with its gradient, multiplied on the way while it is in the cache."""
    for start in range(0, gradient.size, _CACHED):
        part = slice(start, start + _CACHED)
        values = gradient[part]
        if scale is not None:
            np.multiply(values, scale, out=values)
        slots = tuple(slot[part] for slot in span.slots)
        kernels.dense(rule, span.parameters[part], values, slots, update.coefficients)


def _pieces(segments: Sequence[Segment], values: Array) -> Iterator[tuple[Segment, Array]]:
    at = 0
    for segment in segments:
        size = segment.stop - segment.start
        yield segment, values[at : at + size]
        at += size


def _everywhere(node: Communicator, sums: list[Array]) -> list[Array]:
    """The sums of squares of all pieces, from those that each replica of the node has."""
    if node.size == 1 or not sums:
        return sums
    # Each piece is summed by one replica and 0 elsewhere, so the order of this sum is of no account.
    total = np.sum(np.stack(node.all_gather(np.concatenate(sums))), axis=0)
    return list(np.split(total, np.cumsum([s.size for s in sums])[:-1]))
