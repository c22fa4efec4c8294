"""``preempt``: a training that is preempted again and again, each time after a few steps."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress
from pathlib import Path

from chaos.jobs import folder
from chaos.report import Report
from chaos.trainings import Training

__all__ = ["report"]

_SAVED = "asked to end: saved"


def report(short: bool, seed: int) -> Report:
    """Preempts one training 100 times, or a few, and then lets it finish."""
    rng = random.Random(seed)
    count = 2 if short else 100
    with folder() as place:
        training = Training(place, 3 if short else 12)
        found = Report("preempt", f"{count} preemptions in a training of {training.steps} steps")
        spot = training.folder()
        for number in range(count):
            # In turn: a signal to the launcher, as from a user or a batch system, and to every process of the
            # job, as from Slurm.
            _preempt(found, training, spot, rng.randint(1, 5), everyone=number % 2 == 1)
        steps = training.board(spot)[0].steps
        done = training.start(spot).finish()
        wrong = training.wrong(spot, done)
        found.add(
            wrong, sent_to="nobody", from_step=steps, to_step=training.steps, code=done.code, s=done.seconds
        )
        right = "right" if not wrong else "wrong"
        found.notes.append(f"the weights at the end are {right}: {training.digest}")
    return found


def _preempt(found: Report, training: Training, spot: Path, after: int, everyone: bool) -> None:
    board = training.board(spot)
    before = board[0].steps
    job = training.start(spot)
    try:
        job.until(lambda: board[0].steps >= before + after)
        for pid in job.pids() if everyone else [job.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        done = job.finish()
    finally:
        job.end()
    wrong = training.wrong(spot, done, code=143)
    steps = board[0].steps
    if _SAVED not in done.err:
        wrong.append(f"nothing was saved: {done.err[-2000:]}")
    if steps <= before:
        wrong.append(f"no step forward from {before}")
    to = "all processes" if everyone else "the launcher"
    found.add(wrong, sent_to=to, from_step=before, to_step=steps, code=done.code, s=done.seconds)
