"""Records the values of all variables after each step, to compare two runs."""

from __future__ import annotations

from distopt.distribute import ReplicaContext
from distopt.trace import StepRecorder

__all__ = ["recorder"]


def recorder(job: ReplicaContext) -> StepRecorder | None:
    """The recorder of a job, on replica 0 and if the setting ``record`` names a folder; else None."""
    directory = job.strategy.options.record
    if directory and job.replica_id_in_sync_group == 0 and StepRecorder not in job.attached:
        job.attached[StepRecorder] = StepRecorder(directory)
    found: StepRecorder | None = job.attached.get(StepRecorder)
    return found
