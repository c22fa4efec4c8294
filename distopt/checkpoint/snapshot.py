"""Plans a checkpoint: divides the state of all replicas into files, and the files among replicas.

State that is the same on all replicas is written once, by the replicas of the first node, each a part. State
that differs goes into a file of each replica.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distopt.checkpoint.contents import Contents, Entry
from distopt.checkpoint.encoding import encode, text_of
from distopt.checkpoint.manifest import Manifest, Record, StateRecord, array_name, own_file, tensor_name
from distopt.collectives import digest
from distopt.core.tensor import as_array
from distopt.core.variable import Variable, VariableSynchronization
from distopt.distribute import ReplicaContext
from distopt.engine.owners import owners
from distopt.engine.shared_parameters import SharedParameters
from distopt.engine.step import StepEngine
from distopt.typing import Array

__all__ = ["Encoded", "File", "SavePlan", "encode_states", "fingerprint_of", "make_save_plan"]


@dataclass(frozen=True)
class Encoded:
    """A state as JSON and arrays."""

    tree: Any
    arrays: list[Array]

    def mark(self) -> int:
        """A hash of the contents."""
        return _hash(json.dumps(self.tree).encode(), *(array.tobytes() for array in self.arrays))


@dataclass
class File:
    """A file to be written: arrays and strings, by name."""

    tensors: dict[str, Array] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SavePlan:
    """What this replica writes of a checkpoint.

    Attributes:
        manifest: of the checkpoint, still without its files.
        expected: the names of all files, of all replicas.
        files: what this replica writes, by file name.
    """

    manifest: Manifest
    expected: list[str]
    files: dict[str, File]


def encode_states(contents: Contents) -> dict[str, Encoded]:
    """Encodes the current states.

    Raises:
        TypeError: a state contains something that a checkpoint cannot hold.
    """
    encoded = {}
    for name, holder in contents.states.items():
        arrays: list[Array] = []
        encoded[name] = Encoded(encode(holder.get_state(), arrays, name), arrays)
    return encoded


def fingerprint_of(contents: Contents) -> int:
    """A hash of what must be the same on all replicas: names, shapes and dtypes."""
    entries = [
        (group, e.name, e.variable.shape, text_of(e.variable.dtype), e.slot)
        for group, members in contents.groups.items()
        for e in members
    ]
    return digest(repr((entries, list(contents.states))))


def make_save_plan(
    context: ReplicaContext, contents: Contents, states: dict[str, Encoded], number: int
) -> SavePlan:
    """Decides what each replica writes; collective."""
    places = {
        id(e.variable): (group, place)
        for group, members in contents.groups.items()
        for place, e in enumerate(members)
    }
    keyed = [(group, place, e) for group, es in contents.groups.items() for place, e in enumerate(es)]
    common = _same_everywhere(context, [e.variable for _, _, e in keyed], list(states.values()))
    shared = [i for i in range(len(keyed)) if common[i]]
    dealt = owners([as_array(keyed[i][2].variable).nbytes for i in shared], context.world.node.size)
    file_of = {i: f"state-{writer:05d}.safetensors" for i, writer in zip(shared, dealt, strict=True)}

    groups: dict[str, list[Record]] = {group: [] for group in contents.groups}
    for i, (group, _, entry) in enumerate(keyed):
        groups[group].append(_record(entry, file_of.get(i, ""), places))
    records = {
        name: StateRecord(state.tree, "state-00000.safetensors") if same else StateRecord(None, "")
        for (name, state), same in zip(states.items(), common[len(keyed) :], strict=True)
    }
    kinds = {group: type(optimizer).__name__ for group, optimizer in contents.optimizers.items()}
    manifest = Manifest(number, context.num_replicas_in_sync, kinds, groups, records, [])
    expected = {"state-00000.safetensors", *file_of.values()}
    if not all(common):
        expected |= {own_file(r) for r in range(context.num_replicas_in_sync)}
    files = {name: File() for name in _names_of(context, expected)}
    for i, (group, place, entry) in enumerate(keyed):
        name = file_of.get(i, _own_name(context))
        if name in files:
            files[name].tensors[tensor_name(group, place, entry.name)] = as_array(entry.variable)
    _add_states(files, states, records, _own_name(context))
    return SavePlan(manifest, sorted(expected), files)


def _record(entry: Entry, file: str, places: dict[int, tuple[str, int]]) -> Record:
    v = entry.variable
    of = None if entry.owner is None else places[id(entry.owner)]
    on_read = v.synchronization is VariableSynchronization.ON_READ
    return Record(entry.name, v.shape, text_of(v.dtype), file, on_read, v.aggregation.name, of, entry.slot)


def _same_everywhere(
    context: ReplicaContext, variables: Sequence[Variable], states: Sequence[Encoded]
) -> list[bool]:
    """Which variables, then which states, have the same value on all replicas.

    Those that the step engine keeps are the same by construction; the contents of the others are compared.
    ON_READ variables hold parts of a value, so they count as different even if the parts are equal.
    """
    parts = [v.synchronization is VariableSynchronization.ON_READ for v in variables]
    if context.num_replicas_in_sync == 1:
        return [not part for part in parts] + [True] * len(states)
    parameters = StepEngine.of(context).parameters
    shared = np.array([_is_shared(parameters, v) for v in variables], np.uint64)
    kept: Array = np.all(_rows(context, shared), axis=0)
    marks = [0 if k else _hash(as_array(v).tobytes()) for v, k in zip(variables, kept, strict=True)]
    rows = _rows(context, np.array([*marks, *(state.mark() for state in states)], np.uint64))
    same: list[bool] = (rows == rows[0]).all(axis=0).tolist()
    return [s and not part for s, part in zip(same, [*parts, *[False] * len(states)], strict=True)]


def _is_shared(parameters: SharedParameters, variable: Variable) -> bool:
    found = parameters.of(variable)
    # Not "is": replicas of one process may have different views of the same memory.
    return found is not None and as_array(variable).ctypes.data == found.view.ctypes.data


def _rows(context: ReplicaContext, own: Array) -> Array:
    return np.stack(context.comm.all_gather(own))


def _hash(*parts: bytes) -> int:
    hashed = hashlib.blake2b(digest_size=8)
    for part in parts:
        hashed.update(part)
    return int.from_bytes(hashed.digest(), "little")


def _own_name(context: ReplicaContext) -> str:
    return own_file(context.replica_id_in_sync_group)


def _names_of(context: ReplicaContext, expected: set[str]) -> set[str]:
    """The files that this replica writes."""
    node = context.world.node
    ranks = np.concatenate(node.all_gather(np.array([context.comm.rank])))
    names = {_own_name(context)}
    if 0 in ranks:
        names.add(f"state-{node.rank:05d}.safetensors")
    return names & expected


def _add_states(
    files: dict[str, File], states: dict[str, Encoded], records: dict[str, StateRecord], own: str
) -> None:
    for name, state in states.items():
        file = files.get(records[name].file or own)
        if file is None:
            continue
        for i, array in enumerate(state.arrays):
            file.tensors[array_name(name, i)] = array
    if own in files:
        trees = {name: state.tree for name, state in states.items() if not records[name].file}
        files[own].texts["states"] = json.dumps(trees)
