"""From gradients to updated shards: in one pass, or in two when norms have to be known first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from distopt.comm import Communicator
from distopt.engine import clip as clipping
from distopt.engine import kernels, norms
from distopt.engine.clip import Clip
from distopt.engine.fold import Fold, fold
from distopt.engine.layout import Segment
from distopt.engine.plan import Group, Span
from distopt.engine.ring import Ring
from distopt.engine.update import Update
from distopt.typing import Array

__all__ = ["one_pass", "two_passes", "update_shard"]


def one_pass(ring: Ring, group: Group, update: Update, flats: Sequence[Array], then: Fold) -> None:
    """Sums and updates this replica's shard, block after block.

    Args:
        ring: brings the other replicas' gradients.
        group: the variables and who updates what.
        update: any of the group's, for its coefficients.
        flats: this replica's gradients, one flat array a variable.
        then: what happens to the sums before the update.
    """
    scratch = np.empty(0 if then.plain else group.largest, update.variable.dtype)
    for turn, spans in zip(ring.rounds(group.blocks, flats), group.spans, strict=True):
        if turn.second is None:
            update_shard(group, update, spans, then(turn.first, scratch[: turn.first.size]))
            np.copyto(turn.copy[1], turn.copy[0])
            continue
        copy = turn.copy
        for span in spans:
            part = slice(span.start, span.stop)
            rows = (turn.first[part], turn.second[part])
            fold(group.rule, span.parameters, rows, span.slots, update.coefficients, then, copy)
            copy = (copy[0][:0], copy[1][:0])
        np.copyto(copy[1], copy[0])


def two_passes(
    ring: Ring,
    node: Communicator,
    group: Group,
    update: Update,
    flats: Sequence[Array],
    then: Fold,
    clip: Clip,
) -> None:
    """Sums all shards first and keeps them, until the norms are known; arguments as in :func:`one_pass`."""
    own = [block.shards[node.rank] for block in group.blocks]
    kept = np.empty(sum(shard.size for shard in own), update.variable.dtype)
    parts = np.split(kept, np.cumsum([shard.size for shard in own])[:-1])
    sums = [np.zeros(-(-flat.size // norms.BLOCK)) for flat in flats]
    for turn, shard, part in zip(ring.rounds(group.blocks, flats), own, parts, strict=True):
        if turn.second is None:
            np.copyto(part, turn.first)
        else:
            np.add(turn.first, turn.second, out=part)
        then(part, part)
        np.copyto(turn.copy[1], turn.copy[0])
        for segment, values in _pieces(shard.segments, part):
            squares = norms.sums_of_squares(values)
            sums[segment.variable][segment.start // norms.BLOCK :][: squares.size] = squares
    squares_of = _everywhere(node, sums)
    totals = [norms.sum_of_blocks([squares]) for squares in squares_of]
    scale = None
    if clip.global_norm is not None:
        scale = clipping.global_scale(norms.sum_of_blocks(squares_of), clip.global_norm, kept.dtype)
    for shard, part, spans in zip(own, parts, group.spans, strict=True):
        if clip.norm is not None:
            for segment, values in _pieces(shard.segments, part):
                clipping.clip_norm(values, totals[segment.variable], clip.norm, out=values)
        if scale is not None:
            np.multiply(part, scale, out=part)
        update_shard(group, update, spans, part)


def update_shard(group: Group, update: Update, spans: Sequence[Span], gradient: Array) -> None:
    """Updates this replica's shard of a block with its reduced gradient."""
    for span in spans:
        part = gradient[span.start : span.stop]
        kernels.dense(group.rule, span.parameters, part, span.slots, update.coefficients)


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
