"""The manifest: what a checkpoint holds, in which files, with their checksums. Written last, read first."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from distopt.checkpoint.encoding import dtype_of, text_of

__all__ = ["FORMAT", "LONGEST", "MANIFEST", "Damaged", "FileRecord", "Manifest", "Record", "StateRecord"]

MANIFEST = "manifest.json"
#: Raised by every change after which an older distopt could not read new checkpoints.
FORMAT = 1
#: The longest manifest in bytes: a longer one is neither written nor read. In memory
#: JSON takes twenty times as much.
LONGEST = 64 << 20
#: More replicas than any machine has.
_MOST_REPLICAS = 10**8
_FILE = re.compile(r"(state|replica)-\d{5,}\.safetensors")


class Damaged(ValueError):
    """A checkpoint is not whole; the text tells what is wrong with which file."""


@dataclass(frozen=True)
class FileRecord:
    """A file of the checkpoint: its name, its length in bytes, its SHA-256 in hexadecimal."""

    name: str
    nbytes: int
    sha256: str


@dataclass(frozen=True)
class Record:
    """A variable.

    Attributes:
        name: as it was called, without ``:0``.
        shape: its shape.
        dtype: its text, see :func:`~distopt.checkpoint.encoding.text_of`.
        file: where it is; "" if each replica has a value of its own, in its own file.
        on_read: whether its synchronization is ON_READ: the values are parts of a sum, as a rule.
        aggregation: how such parts become one.
        of: for a slot, the group and place of the variable that it stands beside.
        slot: for a slot, its name.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: str
    on_read: bool
    aggregation: str
    of: tuple[str, int] | None
    slot: str


@dataclass(frozen=True)
class StateRecord:
    """A state: its tree as ``encoding`` makes it and the file of its arrays; "": each replica's own file."""

    tree: Any
    file: str


@dataclass(frozen=True)
class Manifest:
    """The whole of it.

    Attributes:
        number: the checkpoint's number.
        replicas: how many wrote it.
        optimizers: the classes of the optimizers, by group.
        groups: the variables of each group, in order.
        states: the states by name.
        files: all files beside the manifest.
    """

    number: int
    replicas: int
    optimizers: dict[str, str]
    groups: dict[str, list[Record]]
    states: dict[str, StateRecord]
    files: list[FileRecord]

    def check_files(self) -> None:
        """Makes sure that each replica has its file, if there is anything of its own.

        Raises:
            Damaged: one is not listed.
        """
        places = [r.file for group in self.groups.values() for r in group]
        if all((*places, *(state.file for state in self.states.values()))):
            return
        listed = {file.name for file in self.files}
        # The numbers are compared first: the one of the replicas may be anything.
        if self.replicas > len(listed) or not {own_file(r) for r in range(self.replicas)} <= listed:
            raise Damaged(f"{MANIFEST} lists no file for each of its {self.replicas} replicas")

    def dump(self) -> bytes:
        """The file's bytes; they begin with their own checksum.

        Raises:
            ValueError: they are too many.
        """
        body = _canonical({"format": FORMAT, **asdict(self)})
        if len(body) > LONGEST - 100:
            raise ValueError(
                f"the states of the objects make {len(body):,} bytes of text: keep long lists as NumPy arrays"
            )
        return b"sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """What :meth:`dump` gave.

        Raises:
            Damaged: anything else.
            ValueError: the format of a newer version.
        """
        head, _, body = data.partition(b"\n")
        if head != b"sha256 " + hashlib.sha256(body).hexdigest().encode():
            raise Damaged(f"{MANIFEST} is damaged (its checksum is wrong)")
        try:
            content = json.loads(body)
            version = content.pop("format")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Damaged(f"{MANIFEST} is not a manifest: {error}") from error
        if version != FORMAT:
            raise ValueError(
                f"format {version!r} of this checkpoint is not known; this version reads {FORMAT}"
            )
        try:
            return _manifest(content)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise Damaged(f"{MANIFEST} is not a manifest: {type(error).__name__}: {error}") from error


def tensor_name(group: str, place: int, name: str) -> str:
    """What a variable is called in its file."""
    return f"{group}/{place}/{name}"


def own_file(replica: int) -> str:
    """The file of what is a replica's own."""
    return f"replica-{replica:05d}.safetensors"


def array_name(state: str, number: int) -> str:
    """What an array of a state is called in its file."""
    return f"{state}#{number}"


def _canonical(content: Any) -> bytes:
    return json.dumps(content, indent=1, allow_nan=False).encode() + b"\n"


def _manifest(content: dict[str, Any]) -> Manifest:
    files = [
        FileRecord(_known_file(f["name"]), _count(f["nbytes"]), _text(f["sha256"])) for f in content["files"]
    ]
    there = {file.name for file in files} | {""}
    groups = {
        _text(group): [_record(record, there) for record in records]
        for group, records in content["groups"].items()
    }
    states = {
        _text(name): StateRecord(state["tree"], _one_of(state["file"], there))
        for name, state in content["states"].items()
    }
    optimizers = {_text(group): _text(kind) for group, kind in content["optimizers"].items()}
    number, replicas = _count(content["number"]), _count(content["replicas"])
    if not 1 <= replicas <= _MOST_REPLICAS:
        raise ValueError(f"{replicas} replicas")
    return Manifest(number, replicas, optimizers, groups, states, files)


def _record(record: dict[str, Any], there: set[str]) -> Record:
    of = record["of"]
    return Record(
        _text(record["name"]),
        tuple([_count(n) for n in record["shape"]]),
        text_of(dtype_of(record["dtype"])),
        _one_of(record["file"], there),
        bool(record["on_read"]),
        _text(record["aggregation"]),
        None if of is None else (_text(of[0]), _count(of[1])),
        _text(record["slot"]),
    )


def _known_file(name: Any) -> str:
    # A name is joined to the directory: nothing but our own may come through.
    if not isinstance(name, str) or not _FILE.fullmatch(name):
        raise ValueError(f"{name!r} is not a file of a checkpoint")
    return name


def _one_of(name: Any, there: set[str]) -> str:
    if not isinstance(name, str) or name not in there:
        raise ValueError(f"file {name!r} is not listed")
    return name


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a str was expected, got {value!r}")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"a count was expected, got {value!r}")
    return value
