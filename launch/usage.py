"""Memory and CPU time of a process, from ``/proc``."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


def usage(pid: int) -> tuple[int, float] | None:
    """Resident bytes, and CPU seconds of all threads; None if the process has ended or is not visible.

    Memory that replicas share is included for each of them.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        if not resident:
            return None  # a zombie: it has ended, but its parent has not waited for it yet
        return resident * _PAGE, (int(fields[11]) + int(fields[12])) / _TICK
    except (OSError, ValueError, IndexError):
        return None
