"""``python -m benchmarks.relay NAMESPACE...``: a network of namespaces, whose packets are late, lost or few.

Each namespace gets a device ``wire0`` with the address of its number; what is sent into it goes through this
process. Delays need no ``tc netem`` then, which not every kernel has. Commands on standard input change it:
``HOST delay SECONDS``, ``HOST loss PART``, ``HOST rate BYTES``, ``HOST down``, ``HOST up``, for a number
of a host from 0, or ``all``. It ends with the standard input.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import time
from dataclasses import dataclass

__all__ = ["DEVICE", "address"]

DEVICE = "wire0"
#: Large frames: fewer of them pass through Python.
_MTU = 9000
_TUNSETIFF, _TUN, _BARE = 0x400454CA, 0x0001, 0x1000
#: Seconds that packets wait for their turn at most, else they are lost, as in a switch that is full.
_QUEUE = 1.0


def address(host: int) -> str:
    """The address of a host by its number."""
    return f"10.93.71.{host + 1}"


@dataclass
class Port:
    """One host's end of the network; what is said is of what it sends, ``down`` of both ways."""

    device: int
    delay: float = 0.0
    loss: float = 0.0
    rate: float = 0.0
    down: bool = False
    free: float = 0.0

    def set(self, what: str, value: str = "0") -> None:
        """Takes a command."""
        if what in ("down", "up"):
            self.down = what == "down"
        else:
            setattr(self, what, float(value))

    def due(self, nbytes: int, now: float) -> float | None:
        """When a packet that is sent now arrives; None if it is lost."""
        start = max(now, self.free)
        if self.down or random.random() < self.loss or start - now > _QUEUE:
            return None
        self.free = start + (nbytes / self.rate if self.rate else 0.0)
        return self.free + self.delay


def main() -> None:
    """Relays until the standard input ends."""
    ports = [Port(_device(host, name)) for host, name in enumerate(sys.argv[1:])]
    print("ready", flush=True)
    by_device = {port.device: port for port in ports}
    waiting: list[tuple[float, int, Port, bytes]] = []
    count = 0
    commands = b""
    while True:
        patience = max(waiting[0][0] - time.monotonic(), 0) if waiting else None
        readable, _, _ = select.select([0, *by_device], [], [], patience)
        if 0 in readable:
            said = os.read(0, 4096)
            if not said:
                return
            *lines, commands = (commands + said).split(b"\n")
            for line in lines:
                who, *what = line.decode().split()
                for port in ports if who == "all" else [ports[int(who)]]:
                    port.set(*what)
        now = time.monotonic()
        for device in readable:
            if device and len(packet := os.read(device, 1 << 16)) >= 20 and packet[0] >> 4 == 4:
                target, due = packet[19] - 1, by_device[device].due(len(packet), now)
                if due is not None and target < len(ports) and not ports[target].down:
                    count += 1
                    heapq.heappush(waiting, (due, count, ports[target], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, port, packet = heapq.heappop(waiting)
            if not port.down:
                os.write(port.device, packet)


def _device(host: int, namespace: str) -> int:
    """Makes a host's device; what is written to the descriptor arrives there."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    name = f"db{os.getpid() % 100_000}x{host}"
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", name.encode(), _TUN | _BARE))
    for words in (
        ["link", "set", name, "netns", namespace, "name", DEVICE],
        ["-n", namespace, "address", "add", f"{address(host)}/24", "dev", DEVICE],
        ["-n", namespace, "link", "set", DEVICE, "mtu", str(_MTU), "up"],
    ):
        subprocess.run(["ip", *words], check=True, timeout=30)
    return descriptor


if __name__ == "__main__":
    main()
