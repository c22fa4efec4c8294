"""``network``: two hosts whose network loses packets, is far, slow or down, and a host that dies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

from benchmarks.namespaces import Relayed, relayed
from benchmarks.relay import address
from chaos.board import Board
from chaos.jobs import Job, folder
from chaos.report import Report
from chaos.trainings import REPLICAS, Training

__all__ = ["report"]

_STALL, _ABORT = 2.0, 12.0
_LIMITS = {"DISTOPT_STALL_SECONDS": f"{_STALL:g}", "DISTOPT_ABORT_SECONDS": f"{_ABORT:g}"}
#: Bytes a second of a host, in both networks: at a tenth, and else.
_TENTH, _RATE = 12.5e6, 125e6
_DOWN = 5.0
#: Open MPI's daemons keep a session folder on their host, which nobody removes if they are killed.
_SESSION = re.compile(r"left behind: file (ompi|prted)\.\d+")

Fault = Callable[[Relayed, Job, Board], None]


def report(short: bool, seed: int) -> Report:  # noqa: ARG001 (nothing here is random)
    """Each fault once, in a training over two hosts of one replica."""
    found = Report("network", f"two hosts; watchdog after {_STALL:g} s, abort after {_ABORT:g} s")
    with folder() as place, relayed(REPLICAS) as network:
        hosts = ["-H", ",".join(f"{address(host)}:1" for host in range(REPLICAS))]
        options = ["--mpi-args", " ".join(network.options)]
        environ = {**network.env, **_LIMITS}
        training = Training(place, 2 if short else 4, network.on_first, [*hosts, *options], environ)
        faults = _FAULTS if not short else {name: _FAULTS[name] for name in _SHORT}
        for name, (commands, fault, restarts) in faults.items():
            _one(found, training, network, name, commands, fault, restarts)
        found.notes.append(f"without any fault: {training.seconds:.1f} s")
    return found


def _one(
    found: Report,
    training: Training,
    network: Relayed,
    name: str,
    commands: list[str],
    fault: Fault | None,
    restarts: int,
) -> None:
    place = training.folder()
    board = training.board(place)
    for command in commands:
        network.say(command)
    job = training.start(place, "--max-restarts", "2")
    try:
        if fault is not None:
            job.until(lambda: min(board[r].steps for r in range(REPLICAS)) > 30)
            fault(network, job, board)
        done = job.finish(120)
    finally:
        job.end()
        for command in ("up", "delay 0", "loss 0", "rate 0"):
            network.say(f"all {command}")
    wrong = training.wrong(place, done)
    folders = [what for what in wrong if _SESSION.fullmatch(what)]
    if folders:
        found.notes.append(
            f"{name}: {'; '.join(folders)}: of a daemon of Open MPI that was cut off or killed"
        )
        wrong = [what for what in wrong if what not in folders]
    if done.restarts != restarts:
        wrong.append(f"{done.restarts} restarts, not {restarts}: {done.err[-1500:]}")
    if fault is _down_for_good and "the network between host-1 and host-2 is down" not in done.err:
        wrong.append(f"the hosts were not named: {done.err[-1500:]}")
    found.add(wrong, what=name, restarts=done.restarts, s=done.seconds)


def _down_for_a_while(network: Relayed, job: Job, board: Board) -> None:  # noqa: ARG001
    network.say("1 down")
    end = time.monotonic() + _DOWN
    job.until(lambda: time.monotonic() > end)
    network.say("1 up")


def _down_for_good(network: Relayed, job: Job, board: Board) -> None:  # noqa: ARG001
    """Until the job has ended; another network is there for the next one."""
    network.say("1 down")
    job.until(lambda: "starting again" in job.stderr())
    network.say("1 up")


def _host_dies(network: Relayed, job: Job, board: Board) -> None:  # noqa: ARG001
    pids = subprocess.run(
        ["ip", "netns", "pids", network.names[1]], capture_output=True, text=True, check=True, timeout=30
    )
    for pid in pids.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


#: Name: what the network is like from the start, what happens in the middle, and how many restarts follow.
_FAULTS: dict[str, tuple[list[str], Fault | None, int]] = {
    "1 % of the packets are lost": (["all loss 0.01"], None, 0),
    "20 ms from host to host": (["all delay 0.02"], None, 0),
    "one host at a tenth of the rate": ([f"all rate {_RATE}", f"1 rate {_TENTH}"], None, 0),
    f"the link is down for {_DOWN:g} s": ([], _down_for_a_while, 0),
    "the link is down for good": ([], _down_for_good, 1),
    "all processes of a host are killed": ([], _host_dies, 1),
}
_SHORT = ("1 % of the packets are lost", "all processes of a host are killed")
