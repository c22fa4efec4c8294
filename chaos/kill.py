"""``kill``: a replica is killed at a random moment; the job starts again, and ends with the right weights."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

from chaos.jobs import folder
from chaos.report import Report
from chaos.trainings import REPLICAS, Training

__all__ = ["report"]

_WANTED = ("start", "computing", "collective", "saving")


def report(short: bool, seed: int) -> Report:
    """Kills once in each of 50 trainings, or of a few."""
    rng = random.Random(seed)
    with folder() as place:
        training = Training(place, 3 if short else 12)
        found = Report(
            "kill", f"kill -9 of one of {REPLICAS} replicas, {training.steps} steps, --max-restarts 3"
        )
        for number in range(3 if short else 50):
            _one(found, training, _WANTED[(number + 1) % len(_WANTED)], rng)
        hits = {phase: sum(row["hit in"] == phase for row in found.rows) for phase in (*_WANTED, "end")}
        told = ", ".join(f"{count} in {phase}" for phase, count in hits.items() if count)
        right = sum(not row["wrong"] for row in found.rows)
        found.notes += [
            f"without any fault: {training.seconds:.1f} s, SHA-256 and accuracy {training.digest}",
            f"killed: {told}; {right} of {len(found.rows)} ended with these weights",
        ]
    return found


def _one(found: Report, training: Training, phase: str, rng: random.Random) -> None:
    replica = rng.randrange(REPLICAS)
    place = training.folder()
    board = training.board(place)
    job = training.start(place, "--max-restarts", "3")
    try:
        if phase == "start":
            job.until(lambda: board[replica].starts > 0)
            moment = time.monotonic() + rng.uniform(0, training.starting)
            job.until(lambda: time.monotonic() > moment or board[replica].phase != "start")
        else:
            after = rng.randrange(training.steps - 30)
            job.until(lambda: board[replica].steps >= after and board[replica].phase == phase)
        pid = board[replica].pid
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        job.until(lambda: not _lives(pid), limit=5)
        hit = board[replica]  # the dead write no more
        done = job.finish()
    finally:
        job.end()
    wrong = training.wrong(place, done)
    if done.restarts != 1 and hit.phase != "end":
        wrong.append(f"{done.restarts} restarts, not 1")
    found.add(
        wrong, replica=replica, hit_in=hit.phase, after_step=hit.steps, restarts=done.restarts, s=done.seconds
    )


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
