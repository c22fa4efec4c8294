"""A ledger as jobs make it, for tests of those who read it."""

import json
import os
import struct

RING, AT = 16, 4096
ROW = ["call", "step", "arrival", "begun", "own_code", "input", "saving", "wire", "in_call", "waiting", "met"]
ROW += ["kind", "r1", "r2", "r3", "r4"]
PHASES = ("own code", "input", "saving", "wire", "call")
TOTAL = ["last_calls", *(f"{what}_{p}".replace(" ", "_") for p in PHASES for what in ("last", "cost"))]


class LedgerFile:
    """One of ``replicas``, in memory without a name, as in a job."""

    def __init__(self, replicas, name="distopt-ledger"):
        self.replicas = replicas
        self.totals_at = AT + RING * replicas * 128
        self.fd = os.memfd_create(name)
        os.ftruncate(self.fd, self.totals_at + replicas * 8 * len(TOTAL))
        head = {
            "version": 1,
            "replicas": replicas,
            "ring": RING,
            "row": [[name, "q"] for name in ROW],
            "row_bytes": 128,
            "ring_at": AT,
            "total": [[name, "q"] for name in TOTAL],
            "totals_at": self.totals_at,
            "total_bytes": 8 * len(TOTAL),
            "hosts": ["host-\x1b[31m"] * min(replicas, 4),
            "pids": [os.getpid()] * min(replicas, 4),
            "here": list(range(min(replicas, 4))),
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
