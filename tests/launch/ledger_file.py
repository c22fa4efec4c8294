"""A ledger as jobs make it, for tests of those who read it."""

import json
import os
import struct
import time

RING, AT = 16, 4096
PHASES = ("own_code", "input", "saving", "wire", "in_call")
ROW = ["call", "step", "arrival", "begun", *PHASES, "waiting", "met", *(f"reserved{k}" for k in range(5))]
TOTAL = ["last_calls", "last_steps", *(f"{what}_{p}" for what in ("last", "cost") for p in PHASES)]
TOTAL += [f"reserved{k}" for k in range(4)]


class LedgerFile:
    """One of ``replicas``, in memory without a name, as in a job; the newest, unless ``started`` is said."""

    def __init__(self, replicas, name="distopt-ledger", started=None):
        self.replicas = replicas
        self.totals_at = AT + RING * replicas * 128
        self.fd = os.memfd_create(name)
        os.ftruncate(self.fd, self.totals_at + replicas * 8 * len(TOTAL))
        head = {
            "version": 1,
            "replicas": replicas,
            "ring": RING,
            "row": ROW,
            "row_bytes": 128,
            "ring_at": AT,
            "total": TOTAL,
            "totals_at": self.totals_at,
            "total_bytes": 8 * len(TOTAL),
            "pid": os.getpid(),
            "started_monotonic_ns": time.monotonic_ns() if started is None else started,
            "here": list(range(replicas))[:64],
        }
        os.pwrite(self.fd, b"distopt-ledger\0\0" + json.dumps(head).encode(), 0)

    @property
    def path(self):
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def write(self, call, replica, **values):
        """A row; times in seconds."""
        row = {name: int(value * 1e9) for name, value in values.items() if name != "step"}
        row |= {"call": call, "step": values["step"]}
        data = struct.pack("<16q", *(row.get(name, 0) for name in ROW))
        os.pwrite(self.fd, data, AT + ((call % RING) * self.replicas + replica) * 128)

    def total(self, replica, **values):
        data = struct.pack(f"<{len(TOTAL)}q", *(values.get(name, 0) for name in TOTAL))
        os.pwrite(self.fd, data, self.totals_at + replica * len(data))

    def close(self):
        os.close(self.fd)
