"""Two hosts on one machine: network namespaces joined by a wire of a given rate."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.jobs import environment

__all__ = ["Unavailable", "Wire", "wire"]

_PREFIX = "distoptbench"
_ADDRESSES = ("10.93.71.1", "10.93.71.2")
_DEVICE = "wire0"

# What mpiexec calls in place of ssh: [options] HOST COMMAND...
_REMOTE_SHELL = """#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift; done
host=$1
shift
case "$host" in
{cases}
*) echo "no such host: $host" >&2; exit 255 ;;
esac
exec ip netns exec "$namespace" sh -c "$*"
"""


class Unavailable(RuntimeError):
    """The benchmark cannot run on this machine; the text says what is missing."""


@dataclass(frozen=True)
class Wire:
    """Two namespaces that are joined.

    Attributes:
        bits_per_second: what the wire carries in each direction, headers included.
        folder: where its script lies.
    """

    names: tuple[str, str]
    bits_per_second: float
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        """What makes MPI send its bytes over the wire and nowhere else."""
        return {
            "UCX_TLS": "tcp,self",
            "UCX_NET_DEVICES": _DEVICE,
            "MPIR_CVAR_CH4_NETMOD": "ucx",
        }

    def prefix(self, hosts: int, replicas: int) -> list[str]:
        """The words that start ``replicas`` processes on each of the first ``hosts`` hosts.

        Raises:
            Unavailable: no mpiexec of MPICH.
        """
        mpiexec = shutil.which("mpiexec", path=environment()["PATH"])
        version = _said([mpiexec, "--version"]) if mpiexec else ""
        if mpiexec is None or "HYDRA" not in version:
            raise Unavailable("it needs the mpiexec of MPICH: pip install mpich")
        addresses = _ADDRESSES[:hosts]
        return [
            *("ip", "netns", "exec", self.names[0], mpiexec),
            *("-launcher", "ssh", "-launcher-exec", str(self.folder / "remote-shell")),
            *("-hosts", ",".join(f"{address}:{replicas}" for address in addresses)),
            *("-localhost", addresses[0], "-n", str(hosts * replicas)),
        ]


@contextmanager
def wire(rate: str = "1gbit", bits_per_second: float = 1e9) -> Iterator[Wire]:
    """Sets two hosts up, and takes them down again whatever happens.

    Args:
        rate: as ``tc`` takes it.
        bits_per_second: the same as a number.

    Raises:
        Unavailable: not Linux, not the superuser, ``ip`` or ``tc`` missing, or the kernel refuses.
    """
    _check()
    _remove_stale()
    names = (f"{_PREFIX}-{os.getpid()}-a", f"{_PREFIX}-{os.getpid()}-b")
    with tempfile.TemporaryDirectory(prefix="distopt-bench-") as folder:
        script = Path(folder, "remote-shell")
        cases = "\n".join(
            f"{address}) namespace={name} ;;" for address, name in zip(_ADDRESSES, names, strict=True)
        )
        script.write_text(_REMOTE_SHELL.format(cases=cases))
        script.chmod(0o755)
        try:
            _join(names, rate)
            yield Wire(names, bits_per_second, Path(folder))
        finally:
            for name in names:
                subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=30, check=False)


def _check() -> None:
    if not sys.platform.startswith("linux"):
        raise Unavailable("network namespaces are Linux's")
    if os.geteuid() != 0:
        raise Unavailable("setting up network namespaces needs the superuser (sudo)")
    if shutil.which("ip") is None or shutil.which("tc") is None:
        raise Unavailable(
            "the commands ip and tc are missing: install iproute2, e.g. "
            "`apt-get update && apt-get install -y iproute2`"
        )


def _join(names: tuple[str, str], rate: str) -> None:
    for name in names:
        _do("ip", "netns", "add", name)
    _do(
        *("ip", "link", "add", _DEVICE, "netns", names[0], "type", "veth"),
        *("peer", "name", _DEVICE, "netns", names[1]),
    )
    for name, address in zip(names, _ADDRESSES, strict=True):
        _do("ip", "-n", name, "address", "add", f"{address}/24", "dev", _DEVICE)
        _do("ip", "-n", name, "link", "set", "lo", "up")
        _do("ip", "-n", name, "link", "set", _DEVICE, "up")
        _do(
            *("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", _DEVICE, "root"),
            *("tbf", "rate", rate, "burst", "256kb", "latency", "50ms"),
        )
    for name in names:
        _wait_until_up(name)


def _wait_until_up(name: str) -> None:
    """The kernel tells of a link that is up only after a while, and MPI believes what it tells."""
    give_up = time.monotonic() + 10
    while _said(["ip", "netns", "exec", name, "cat", f"/sys/class/net/{_DEVICE}/operstate"]).strip() != "up":
        if time.monotonic() > give_up:
            raise Unavailable(f"the link {_DEVICE} of {name} does not come up")
        time.sleep(0.05)


def _remove_stale() -> None:
    """Removes what a killed benchmark has left."""
    for line in _said(["ip", "netns", "list"]).splitlines():
        name = line.split()[0] if line.split() else ""
        prefix, _, rest = name.partition("-")
        pid = rest.partition("-")[0]
        if prefix == _PREFIX and pid.isdigit() and not Path("/proc", pid).exists():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, timeout=30, check=False)


def _said(words: list[str]) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False).stdout


def _do(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise Unavailable(f"`{' '.join(words)}` failed: {done.stderr.strip() or done.stdout.strip()}")
