"""Finding the newest checkpoint that is whole on all replicas, and putting it into the objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distopt.checkpoint import files
from distopt.checkpoint.contents import Contents
from distopt.checkpoint.holders import Checked, StateDict, Stateful
from distopt.checkpoint.manifest import Damaged, Manifest
from distopt.checkpoint.matching import Pair
from distopt.checkpoint.reading import Reader
from distopt.core.dtypes import is_narrow, kind_of
from distopt.distribute import ReplicaContext
from distopt.distribute.frames import frame
from distopt.engine.owners import owners
from distopt.engine.step import StepEngine
from distopt.typing import Array

__all__ = ["Loaded", "assign", "examine", "load"]


def examine(context: ReplicaContext, path: str) -> tuple[Manifest | None, str]:
    """Reads a checkpoint's manifest and verifies its files, of which each replica takes a part; collective.

    Returns:
        the manifest, or None if any replica found something wrong; and what that was, else "".

    Raises:
        ValueError: its format is that of a newer version.
    """
    manifest, problem, mark = None, "", ""
    newer: ValueError | None = None
    try:
        manifest, mark = files.read_manifest(path)
        dealt = owners([record.nbytes for record in manifest.files], context.comm.size)
        for record, replica in zip(manifest.files, dealt, strict=True):
            files.verify(path, record, contents=replica == context.comm.rank)
    except Damaged as error:
        problem = str(error)
    except ValueError as error:
        newer = error
    found = context.comm.gather_bytes(f"{mark}\n{newer or problem}".encode())
    marks, problems = zip(*(text.decode().split("\n", 1) for text in found), strict=True)
    if newer is not None:
        raise newer
    problem = next(
        (p for p in problems if p), "" if len(set(marks)) == 1 else "the replicas see different ones"
    )
    return (None if problem else manifest), problem


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint holds for this replica: read and checked, not assigned yet."""

    same: bool
    values: list[Array]
    states: dict[str, Any]


def load(
    context: ReplicaContext, contents: Contents, pairs: Sequence[Pair], path: str, manifest: Manifest
) -> Loaded:
    """Reads the saved values, and makes sure that all of them can be taken back.

    Where each replica has a value of its own, it gets it back. At another number of replicas a sum that
    they share goes to replica 0, other floats are averaged, and states stay as they are on replicas that
    the checkpoint does not know; but a state dict is replica 0's there, since models must be the same.

    Raises:
        Damaged: a file does not hold what the manifest says, or a state is none.
    """
    replica = context.replica_id_in_sync_group
    same = context.num_replicas_in_sync == manifest.replicas
    with Reader(path, manifest) as reader:
        values = [_value(reader, pair, replica, manifest.replicas, same) for pair in pairs]
        states = {
            name: reader.state(name, record, replica if replica < manifest.replicas else 0)
            for name, holder in contents.states.items()
            if (record := manifest.states[name]).file
            or replica < manifest.replicas
            or isinstance(holder, StateDict)
        }
    for name, state in states.items():
        _check(name, contents.states[name], state)
    return Loaded(same, values, states)


def assign(context: ReplicaContext, contents: Contents, pairs: Sequence[Pair], loaded: Loaded) -> None:
    """Gives the program's objects their saved values, when all replicas have read theirs."""
    for pair, value in zip(pairs, loaded.values, strict=True):
        if pair.record.on_read:
            pair.variable.assign(value)
        else:
            # Not as one replica among others, whose values would be combined: all assign the same.
            with frame(context.strategy, None, "merge"):
                pair.variable.assign(value)
    if loaded.same and context.num_replicas_in_sync > 1:
        # The replicas had come to differ, each with updates of its own: so it stays.
        own = [p.variable for p in pairs if not p.record.file and not p.record.on_read]
        StepEngine.of(context).parameters.release(own)
    for name, state in loaded.states.items():
        contents.states[name].set_state(state)


def _check(name: str, holder: Stateful, state: Any) -> None:
    """Before anything is assigned: a wrong state is found while all is as it was."""
    if isinstance(holder, Checked):
        try:
            holder.check_state(state)
        except Exception as error:
            raise Damaged(f"{name!r} cannot restore its state: {error}") from error


def _value(reader: Reader, pair: Pair, replica: int, saved: int, same: bool) -> Array:
    record = pair.record
    if record.file or same:
        return reader.variable(pair.group, pair.place, record, replica)
    rows = [reader.variable(pair.group, pair.place, record, r) for r in range(saved)]
    if record.on_read and record.aggregation in ("NONE", "SUM"):
        total: Array = np.sum(rows, axis=0, dtype=rows[0].dtype)
        return total if replica == 0 else np.zeros_like(total)
    if kind_of(rows[0].dtype) in "fc" and record.aggregation != "ONLY_FIRST_REPLICA":
        wide = np.float32 if is_narrow(rows[0].dtype) else rows[0].dtype
        return np.asarray(np.mean(rows, axis=0, dtype=wide), rows[0].dtype)
    return rows[0]
