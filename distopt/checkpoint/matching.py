"""Which saved variable is which of the program's, or a list of what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distopt.checkpoint.contents import Contents, Entry, optimizer_entries
from distopt.checkpoint.encoding import dtype_of, text_of
from distopt.checkpoint.manifest import Manifest, Record
from distopt.core.variable import Variable
from distopt.optimizers import Optimizer
from distopt.optimizers.state import make_weights, sort_weights

__all__ = ["Pair", "matched"]

_SHOWN = 20


@dataclass(frozen=True)
class Pair:
    """A saved variable, the ``place``-th of its group, and the program's own."""

    group: str
    place: int
    record: Record
    variable: Variable


def matched(contents: Contents, manifest: Manifest) -> list[Pair]:
    """Finds every variable of the program in the checkpoint.

    In a group they are paired by their names where both name the same, else by their order, since
    layers that are named by themselves have other names in another program. Slots go with the variable
    that they stand beside; those that the optimizer has not made yet are made.

    Raises:
        ValueError: the program's objects are not those of the checkpoint; lists the differences.
    """
    matching = _Matching(manifest)
    for name in (*contents.groups, *contents.states):
        if name not in manifest.groups and name not in manifest.states:
            held = ", ".join([*manifest.groups, *manifest.states])
            matching.differences.append(f"{name}: not in the checkpoint, which holds {held}")
    there = {group: entries for group, entries in contents.groups.items() if group in manifest.groups}
    for group, entries in there.items():
        if group not in contents.optimizers:
            matching.pair(group, list(enumerate(manifest.groups[group])), entries)
    for group in there:
        if group in contents.optimizers:
            matching.pair_optimizer(group, contents.optimizers[group])
    if matching.differences:
        raise ValueError(_text(matching.differences))
    return matching.pairs


class _Matching:
    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self.pairs: list[Pair] = []
        self.differences: list[str] = []

    def pair(self, group: str, records: Sequence[tuple[int, Record]], entries: Sequence[Entry]) -> None:
        """Pairs lists of variables."""
        saved, here = [record.name for _, record in records], [entry.name for entry in entries]
        by_name = len({*saved} & {*here}) == len(saved) == len(here)
        for i, (place, record) in enumerate(records):
            at = here.index(record.name) if by_name else i
            if at < len(entries):
                self._add(group, place, record, entries[at])
            else:
                self.differences.append(f"{group}: {_saved(record)} is in the checkpoint only")
        self.differences += [f"{group}: {_own(e)} is here only" for e in entries[len(records) :]]

    def pair_optimizer(self, group: str, optimizer: Optimizer) -> None:
        """Pairs the weights of an optimizer, after those that it trains."""
        records, kind = self._manifest.groups[group], self._manifest.optimizers.get(group)
        if kind != type(optimizer).__name__:
            self.differences.append(
                f"{group}: {kind or 'no optimizer'} in the checkpoint, {type(optimizer).__name__} here"
            )
        known = {(p.group, p.place): p.variable for p in self.pairs}
        wanted = dict.fromkeys(r.of for r in records if r.of is not None)
        self.differences += [
            f"{group}: is in the checkpoint with state for variable {place} of {name!r}, which is not here"
            for name, place in wanted
            if (name, place) not in known
        ]
        if self.differences:  # whoever made slots now would change an optimizer of another kind
            return
        make_weights(optimizer, [known[of] for of in wanted])
        if self._lacks_state(records, optimizer):
            make_weights(optimizer, [p.variable for p in self.pairs if p.variable.trainable])
        entries = optimizer_entries(optimizer)
        keyed = {key: e for e in entries if (key := _key(e.owner, e.slot, e.name))}
        rest = []
        for place, record in enumerate(records):
            key = _key(None if record.of is None else known[record.of], record.slot, record.name)
            if key is None:
                rest.append((place, record))
            elif key in keyed:
                self._add(group, place, record, keyed.pop(key))
            else:
                self.differences.append(f"{group}: {_saved(record)} is in the checkpoint only")
        self.differences += [f"{group}: {_own(e)} is here only" for e in keyed.values()]
        self.pair(group, rest, [e for e in entries if _key(e.owner, e.slot, e.name) is None])
        # In the order of the checkpoint, that of the steps which made them; so is get_weights().
        order = {id(p.variable): p.place for p in self.pairs if p.group == group}
        sort_weights(optimizer, lambda weight: order.get(id(weight), len(order)))

    @staticmethod
    def _lacks_state(records: Sequence[Record], optimizer: Optimizer) -> bool:
        """Whether an optimizer without slots, which tell what it trained, lacks state of its aggregator."""
        saved = [r.name for r in records if r.of is None]
        slotless = len(saved) == len(records) and len({*saved}) == len(saved)  # else order alone would decide
        return slotless and not {*saved} <= {e.name for e in optimizer_entries(optimizer)}

    def _add(self, group: str, place: int, record: Record, entry: Entry) -> None:
        if record.shape != entry.variable.shape or record.dtype != text_of(entry.variable.dtype):
            self.differences.append(f"{group}: {_saved(record)} in the checkpoint, {_own(entry)} here")
        self.pairs.append(Pair(group, place, record, entry.variable))


def _key(owner: Variable | None, slot: str, name: str) -> Any:
    """What tells a slot or a hyperparameter from the others; None for other weights."""
    return (owner, slot) if owner is not None else name if name.startswith("hyper/") else None


def _saved(record: Record) -> str:
    return f"{record.name!r} {dtype_of(record.dtype).name}{list(record.shape)}"


def _own(entry: Entry) -> str:
    return f"{entry.name!r} {entry.variable.dtype.name}{list(entry.variable.shape)}"


def _text(differences: list[str]) -> str:
    shown = "\n".join(f"  {line}" for line in differences[:_SHOWN])
    more = len(differences) - _SHOWN
    rest = f"\n  ... and {more} more differences" if more > 0 else ""
    return (
        f"the checkpoint does not match the objects of this program; nothing was restored:\n{shown}{rest}\n"
        "Pass the objects that were saved (build a model first), or use another directory."
    )
