"""``--live``: shows what a running job does, from its ledger, without slowing the job."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .errors import JobStartError
from .job_record import PHASES
from .ledger import LedgerRow, LedgerView
from .running_jobs import only_path, path_of

#: Seconds between two readings of the ledger.
_EVERY = 0.5
#: The number of readings over which the shares of time are computed.
_LOOKS = 10
#: Seconds without a call after which the state of a replica is shown.
_LONG = 1.0


def run_live(words: Sequence[str]) -> int:
    """Shows a job until it ends, or until Ctrl-C. If standard output is not a terminal, it shows it once.

    Args:
        words: the ID of a process of the job; empty for the only job of this user on this machine.

    Raises:
        JobStartError: there is no such job, or there are several.
    """
    pid = _number(words)
    path = path_of(pid) if pid else only_path()
    try:
        ledger = LedgerView(path)
    except (OSError, ValueError, KeyError) as error:
        raise JobStartError(f"the job's ledger cannot be read: {error}") from None
    with suppress(KeyboardInterrupt):
        if os.isatty(1):
            return _follow(ledger, int(path.split("/")[2]))
        first = look(ledger)
        time.sleep(_EVERY)
        print("\n".join(plain(ledger, first, look(ledger))))
    return 0


def _number(words: Sequence[str]) -> int:
    if not words:
        return 0
    plain_number = words[0].isascii() and words[0].isdigit() and 0 < len(words[0]) < 10
    if len(words) > 1 or not plain_number or not int(words[0]):
        raise JobStartError(
            f"--live takes the number of a process: distoptrun --live [PID]; got {shlex.join(words)}"
        )
    return int(words[0])


# -- looks
@dataclass(frozen=True)
class Look:
    """The contents of the ledger at one time.

    Attributes:
        at: the time, in seconds of the machine's monotonic clock.
        call: the latest call that all replicas have reached.
        rows: the rows of all replicas for it.
        newest: the latest row of each replica.
        last: how often each replica came last.
    """

    at: float
    call: int
    rows: list[LedgerRow]
    newest: list[LedgerRow | None]
    last: list[int]


def look(ledger: LedgerView) -> Look:
    """Reads the ledger."""
    call = ledger.latest_of_all()
    newest = [ledger.row(call + 1, r) or ledger.row(call, r) for r in range(ledger.replicas)]
    # Threads of one process, which take turns: their times are not clock times.
    if ledger.head.get("virtual"):
        newest = [None] * ledger.replicas
    totals = [ledger.total(r) for r in range(ledger.replicas)]
    last = [total["last_calls"] for total in totals]
    return Look(time.monotonic(), call, ledger.rows(call) or [], newest, last)


@dataclass(frozen=True)
class Line:
    """One replica between two readings of the ledger.

    Attributes:
        shares: the fraction of its time in each phase.
        last: the fraction of the calls in which it came last.
        late: seconds after the first replica, in the last call.
        state: what it is doing now.
    """

    shares: tuple[float, ...]
    last: float
    late: float
    state: str


def lines(before: Look, now: Look) -> list[Line]:
    """What each replica did between two readings."""
    found = []
    calls = max(1, now.call - before.call)
    first = min((row.arrival for row in now.rows), default=0.0)
    for replica, row in enumerate(now.rows):
        old = before.rows[replica].seconds if before.rows else (0.0,) * len(PHASES)
        spent = [max(0.0, b - a) for a, b in zip(old, row.seconds, strict=True)]
        whole = sum(spent) or 1.0
        last = min(1.0, (now.last[replica] - before.last[replica]) / calls)
        state = _state(now, replica)
        found.append(Line(tuple(s / whole for s in spent), last, row.arrival - first, state))
    return found


def _state(now: Look, replica: int) -> str:
    newest = now.newest[replica]
    if newest is None or newest.call == 0:
        return ""
    waits = newest.call > now.call
    since = now.at - newest.arrival
    if since < _LONG:
        return ""
    return f"waits for {since:.0f} s" if waits else f"has not returned for {since:.0f} s"


def title(ledger: LedgerView, before: Look, now: Look) -> str:
    """A line on the whole job."""
    step = max((row.step for row in now.rows), default=0)
    made = step - max((row.step for row in before.rows), default=step)
    rate = made / (now.at - before.at) if now.at > before.at else 0.0
    replicas = f"{ledger.replicas} replica{'s' * (ledger.replicas > 1)}"
    return f"{replicas}, step {step:,}, {rate:.3g} steps a second"


def plain(ledger: LedgerView, before: Look, now: Look) -> list[str]:
    """The display as text, for pipes and files."""
    heads = ("replica", *PHASES, "last", "late by", "now")
    rows = [
        (
            str(r),
            *(f"{100 * s:.0f} %" for s in line.shares),
            f"{100 * line.last:.0f} %",
            span(line.late),
            line.state,
        )
        for r, line in enumerate(lines(before, now))
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    shown = [
        "  ".join(text.rjust(w) for text, w in zip(row, widths, strict=True)).rstrip()
        for row in (heads, *rows)
    ]
    return [title(ledger, before, now), *shown]


def span(seconds: float) -> str:
    """Formats a short time."""
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1e6:.0f} µs"


# -- on a terminal
def _follow(ledger: LedgerView, pid: int) -> int:
    """Shows the job twice a second until one of its processes has ended."""
    try:
        from rich.live import Live
    except ImportError:
        raise JobStartError("--live on a terminal needs the package rich: pip install rich") from None
    looks = [look(ledger)]
    with Live(auto_refresh=False, transient=False) as live:
        while os.path.exists(f"/proc/{pid}"):
            time.sleep(_EVERY)
            looks = [*looks[1 - _LOOKS :], look(ledger)]
            live.update(_table(ledger, looks[0], looks[-1]), refresh=True)
    print("the job has ended", file=sys.stderr)
    return 0


def _table(ledger: LedgerView, before: Look, now: Look) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title(ledger, before, now), title_justify="left", box=None, pad_edge=False)
    table.add_column("replica", justify="right")
    for phase in PHASES:
        table.add_column(phase, justify="right", style="yellow" if phase == "waiting" else None)
    for name in ("came last", "late by"):
        table.add_column(name, justify="right")
    table.add_column("now")
    for replica, line in enumerate(lines(before, now)):
        shares = [
            Text(f"{100 * share:.0f} %", style="" if share >= 0.005 else "dim") for share in line.shares
        ]
        last = Text(f"{100 * line.last:.0f} %", style="bold red" if line.last >= 0.7 else "")
        table.add_row(str(replica), *shares, last, span(line.late), line.state)
    return table
