"""The engine's part of the text of ``optimizer.describe()``."""

from __future__ import annotations

from distopt.collectives import EXACT, ShardReduce, sums_by
from distopt.engine.overlap import Overlap
from distopt.engine.shared_parameters import SharedParameters
from distopt.settings import Settings

__all__ = ["between_nodes", "watch_text"]


def between_nodes(
    reduce: ShardReduce, parameters: SharedParameters, overlap: Overlap | None, wire: str
) -> str:
    """Lines about the memory of variables, and about the sums between nodes.

    Args:
        reduce: sums shards.
        parameters: the memory of the variables.
        overlap: the optimizer's overlap, or None.
        wire: the wire format of its float32 gradients between nodes.
    """
    lines = [f"variables: {parameters}", sums_by(reduce, wire, 0).describe()]
    if wire != EXACT and reduce.cross.size == 1:
        lines[1] = f"one node: no gradient travels as {wire}"
    if overlap is not None:
        lines.append(str(overlap))
    return "\n".join(line for line in lines if line)


def watch_text(options: Settings) -> str:
    """A line about headers, audit and watchdog."""
    audit = f"every {options.audit_every} steps" if options.audit_every else "off"
    abort = f"{options.abort_seconds:g} s" if options.abort_seconds else "never"
    return (
        f"watch: headers at every call; audit {audit}; warning after {options.stall_seconds:g} s of waiting, "
        f"end of the job after {abort}"
    )
