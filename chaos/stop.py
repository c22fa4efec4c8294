"""``stop``: a replica is stopped, as on a machine that swaps or sleeps; for good, or for a while."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from pathlib import Path

from chaos.jobs import folder, launch_command, start
from chaos.report import Report
from chaos.trainings import REPLICAS, Training

__all__ = ["report"]

_STALL, _ABORT = 1.0, 3.0
_LIMITS = {"DISTOPT_STALL_SECONDS": f"{_STALL:g}", "DISTOPT_ABORT_SECONDS": f"{_ABORT:g}"}


def report(short: bool, seed: int) -> Report:
    """Stops replicas in trainings, for good and for a while, and in jobs that are then ended."""
    rng = random.Random(seed)
    with folder() as place:
        training = Training(place, 3 if short else 12)
        found = Report("stop", f"SIGSTOP of a replica; watchdog after {_STALL:g} s, abort after {_ABORT:g} s")
        for _ in range(1 if short else 5):
            for wake in (None, _STALL + 1):
                _in_training(
                    found, training, wake, rng.randrange(REPLICAS), rng.randrange(training.steps - 30)
                )
        for how, end in list(_ENDS.items())[: 1 if short else None]:
            _in_ended_job(found, place, how, end)
        found.notes.append(f"without any fault: {training.seconds:.1f} s")
    return found


def _in_training(found: Report, training: Training, wake: float | None, replica: int, after: int) -> None:
    place = training.folder()
    board = training.board(place)
    job = training.start(place, "--max-restarts", "2", environ=_LIMITS)
    try:
        job.until(lambda: board[replica].steps > after)
        pid, begin = board[replica].pid, time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        job.until(lambda: "waiting for" in job.stderr())
        named = time.monotonic() - begin
        if wake is not None:
            job.until(lambda: time.monotonic() > begin + wake)
            os.kill(pid, signal.SIGCONT)
        done = job.finish()
    finally:
        job.end()
    wrong = training.wrong(place, done)
    if not re.search(rf"replica {replica}: is stopped \(by SIGSTOP, or a debugger\)", done.err):
        wrong.append(f"replica {replica} was not named: {done.err[-1000:]}")
    restarts = 1 if wake is None else 0
    if done.restarts != restarts:
        wrong.append(f"{done.restarts} restarts, not {restarts}")
    what = "for good: restarted" if wake is None else f"SIGCONT after {wake:g} s: goes on"
    found.add(wrong, what=what, replica=replica, named_after=named, restarts=done.restarts, s=done.seconds)


#: How a job with a stopped replica is ended: options, signal to the launcher, exit code, limit in seconds.
_ENDS: dict[str, tuple[list[str], int, int, float]] = {
    "stopped, then Ctrl-C": ([], signal.SIGINT, 130, 6.0),
    "stopped, then SIGTERM, --grace 2": (["--grace", "2"], signal.SIGTERM, 143, 6.0),
    "stopped, then the launcher is killed": ([], signal.SIGKILL, -signal.SIGKILL, 6.0),
    "stopped, then --timeout 4, --grace 1": (["--timeout", "4", "--grace", "1"], 0, 124, 10.0),
}


def _in_ended_job(found: Report, place: Path, how: str, end: tuple[list[str], int, int, float]) -> None:
    options, number, code, limit = end
    spot = place / f"ended-{len(found.rows)}"
    spot.mkdir()
    program = spot / "program.py"
    program.write_text(_WAITS)
    job = start(launch_command("-n", 2, *options, program), spot)
    begin = time.monotonic()
    try:
        stopped = job.until((spot / "stopped").exists)
        begin = time.monotonic()
        if number:
            time.sleep(0.2)
            job.process.send_signal(number)
        done = job.finish()
    finally:
        job.end()
    seconds = time.monotonic() - begin
    left = [what for what in done.left if number != signal.SIGKILL or what.startswith("process")]
    wrong = [f"left behind: {what}" for what in left]
    if not stopped or done.code != code or seconds > limit:
        wrong.append(
            f"exit code {done.code} after {seconds:.1f} s, not {code} within {limit:g} s: {done.err}"
        )
    found.add(wrong, what=how, replica=1, named_after="", restarts=done.restarts, s=seconds)


_WAITS = """
import os, pathlib, signal
from distopt.distribute import get_replica_context
context = get_replica_context()
context.all_reduce("sum", 1.0)
if context.replica_id_in_sync_group == 1:
    pathlib.Path(__file__).with_name("stopped").touch()
    os.kill(os.getpid(), signal.SIGSTOP)
context.all_reduce("sum", 1.0)
"""
