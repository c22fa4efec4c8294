"""``preempt``: a training that is preempted again and again, each time after a few steps."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress

from chaos.jobs import Done, folder
from chaos.report import Report
from chaos.trainings import Training

__all__ = ["report"]

_SAVED = "asked to end: saved"


def report(short: bool, seed: int) -> Report:
    """Preempts one training 100 times, or a few; then it may come to its end."""
    rng = random.Random(seed)
    count = 4 if short else 100
    with folder() as place:
        training = Training(place)
        found = Report("preempt", f"{count} preemptions in a training of {training.steps} steps")
        spot = training.folder()
        board = training.board(spot)
        for number in range(count):
            # By turns as from a person or a batch system that signals the launcher, and as from Slurm,
            # which signals every process of the job.
            everyone = number % 2 == 1
            before = board[0].steps
            job = training.start(spot)
            try:
                goal = before + rng.randint(1, 5)
                job.until(lambda goal=goal: board[0].steps >= goal)
                for pid in job.pids() if everyone else [job.process.pid]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
                done = job.finish()
            finally:
                job.end()
            wrong = [*training.wrong(spot, done, code=143), *_unsaved(done)]
            steps = board[0].steps
            if steps <= before:
                wrong.append(f"no step forward from {before}")
            to = "all processes" if everyone else "the launcher"
            found.add(wrong, sent_to=to, from_step=before, to_step=steps, code=done.code, s=done.seconds)
        done = training.start(spot).finish()
        found.add(
            training.wrong(spot, done),
            sent_to="nobody",
            from_step=steps,
            to_step=board[0].steps,
            code=done.code,
            s=done.seconds,
        )
    return found


def _unsaved(done: Done) -> list[str]:
    return [] if _SAVED in done.err else [f"nothing was saved: {done.err[-2000:]}"]
