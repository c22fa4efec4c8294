"""From gradients to updated shards: in one pass, or in two when norms have to be known first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from distopt.comm import Communicator
from distopt.engine import clip as clipping
from distopt.engine import kernels, norms
from distopt.engine.clip import Clip
from distopt.engine.layout import Segment
from distopt.engine.plan import Group, Span
from distopt.engine.ring import Ring
from distopt.engine.update import Update
from distopt.typing import Array

__all__ = ["one_pass", "two_passes", "update_shard"]


def one_pass(
    ring: Ring,
    group: Group,
    update: Update,
    flats: Sequence[Array],
    divisor: int | None,
    clip: Clip | None,
    scratch: Array,
) -> None:
    """Sums and updates this replica's shard, block after block.

    Args:
        ring: brings the other replicas' gradients.
        group: the variables and who updates what.
        update: any of the group's, for its coefficients.
        flats: this replica's gradients, one flat array a variable.
        divisor: what the sums are divided by, or None.
        clip: of it the clip of values, if any.
        scratch: as long as the largest shard.
    """
    for block, spans in zip(group.blocks, group.spans, strict=True):
        total = ring.sum_shard(block, flats, scratch)
        total = _scaled(total, divisor, clip, scratch[: total.size])
        update_shard(group, update, spans, total)


def two_passes(
    ring: Ring,
    node: Communicator,
    group: Group,
    update: Update,
    flats: Sequence[Array],
    divisor: int | None,
    clip: Clip,
) -> None:
    """Sums all shards first and keeps them, until the norms are known; arguments as in :func:`one_pass`."""
    if not group.blocks:  # nothing but variables without elements
        return
    own = [block.shards[node.rank] for block in group.blocks]
    kept = np.empty(sum(shard.size for shard in own), update.variable.dtype)
    parts = np.split(kept, np.cumsum([shard.size for shard in own])[:-1])
    sums = [np.zeros(-(-flat.size // norms.BLOCK)) for flat in flats]
    for block, shard, part in zip(group.blocks, own, parts, strict=True):
        total = ring.sum_shard(block, flats, part)
        _scaled(total, divisor, clip, part)
        if total is not part and divisor is None and clip.value is None:
            np.copyto(part, total)
        for segment, values in _pieces(shard.segments, part):
            squares = norms.sums_of_squares(values)
            sums[segment.variable][segment.start // norms.BLOCK :][: squares.size] = squares
    squares_of = _everywhere(node, sums)
    for shard, part, spans in zip(own, parts, group.spans, strict=True):
        if clip.norm is not None:
            for segment, values in _pieces(shard.segments, part):
                total_squares = norms.sum_of_blocks([squares_of[segment.variable]])
                clipping.clip_norm(values, total_squares, clip.norm, out=values)
        if clip.global_norm is not None:
            scale = clipping.global_scale(norms.sum_of_blocks(squares_of), clip.global_norm, part.dtype)
            np.multiply(part, scale, out=part)
        update_shard(group, update, spans, part)


def update_shard(group: Group, update: Update, spans: Sequence[Span], gradient: Array) -> None:
    """Updates this replica's shard of a block with its reduced gradient."""
    for span in spans:
        part = gradient[span.start : span.stop]
        kernels.dense(group.rule, span.parameters, part, span.slots, update.coefficients)


def _scaled(total: Array, divisor: int | None, clip: Clip | None, out: Array) -> Array:
    if divisor is not None:
        total = np.divide(total, total.dtype.type(divisor), out=out)
    if clip is not None and clip.value is not None:
        total = clipping.clip_value(total, clip.value, out=out)
    return total


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
