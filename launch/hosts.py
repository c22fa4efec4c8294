"""Reads hosts and their slots from options and host files."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .errors import JobStartError

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


@dataclass(frozen=True)
class Host:
    """A machine, and the number of processes to start there; ``slots`` is 0 if not given."""

    name: str
    slots: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.slots}" if self.slots else self.name


def parse_hosts(text: str) -> tuple[Host, ...]:
    """Reads a list of hosts, such as ``a:4,b:4`` or ``a,b``.

    Raises:
        JobStartError: ``text`` is not such a list.
    """
    return merged(_host(*word.strip().partition(":")[::2], where=f"-H {text}") for word in text.split(","))


def parse_hostfile(text: str, where: str) -> tuple[Host, ...]:
    """Reads a host file: one host a line, as ``a``, ``a:4`` or ``a slots=4``; ``#`` begins a comment.

    Raises:
        JobStartError: a line is invalid, or there is no host.
    """
    hosts = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        name, _, slots = words[0].partition(":")
        for word in words[1:]:
            key, _, value = word.partition("=")
            if key == "slots" and not slots:
                slots = value
            elif key not in ("max_slots", "max-slots"):
                form = "Write: NAME, NAME:N or NAME slots=N"
                raise JobStartError(f"{where}, line {number}: {word!r} is not slots=N. {form}")
        hosts.append(_host(name, slots, where=f"{where}, line {number}"))
    if not hosts:
        raise JobStartError(f"{where} names no host. Write one host per line: NAME, NAME:N or NAME slots=N")
    return merged(hosts)


def merged(hosts: Iterable[Host]) -> tuple[Host, ...]:
    """Merges repeated hosts, at their first position, and adds up their slots.

    A host that is repeated without a number has one slot for each time.
    """
    slots: dict[str, int] = {}
    given = list(hosts)
    times = Counter(host.name for host in given)
    for host in given:
        size = host.slots or (1 if times[host.name] > 1 else 0)
        slots[host.name] = slots.get(host.name, 0) + size
    return tuple(Host(name, size) for name, size in slots.items())


def is_here(hosts: Sequence[Host]) -> bool:
    """Whether all hosts are this machine."""
    own = socket.gethostname()
    names = {"localhost", "127.0.0.1", own, own.partition(".")[0]}
    return all(host.name in names for host in hosts)


def is_name(text: str) -> bool:
    """Whether ``text`` is a valid host name, which ssh and MPI launchers cannot mistake for an option."""
    return bool(_NAME.fullmatch(text))


def _host(name: str, slots: str, where: str) -> Host:
    if not is_name(name):
        raise JobStartError(
            f"{where}: {name!r} is not a host name. Write NAME or NAME:N, separated by commas"
        )
    if not slots:
        return Host(name)
    if not (slots.isascii() and slots.isdigit() and len(slots) < 7 and int(slots) > 0):
        raise JobStartError(f"{where}: {slots!r} is not a number of processes for host {name}")
    return Host(name, int(slots))
