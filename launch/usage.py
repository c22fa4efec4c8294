"""What a process uses, from ``/proc``: two short reads."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


def usage(pid: int) -> tuple[int, float] | None:
    """Resident bytes and seconds of CPU of all threads; None if the process is gone, or cannot be seen.

    Memory that replicas share counts for each of them.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        if not resident:
            return None  # it has ended, and its parent has not been told yet
        return resident * _PAGE, (int(fields[11]) + int(fields[12])) / _TICK
    except (OSError, ValueError, IndexError):
        return None
