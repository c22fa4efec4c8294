"""Writing down the values of all steps, for those who compare two runs."""

from __future__ import annotations

from distopt.distribute import ReplicaContext
from distopt.trace import StepRecorder

__all__ = ["recorder"]


def recorder(job: ReplicaContext) -> StepRecorder | None:
    """What writes down the values of all steps of a replica, if it is to; always the same one."""
    directory = job.strategy.options.record
    if directory and job.replica_id_in_sync_group == 0 and StepRecorder not in job.attached:
        job.attached[StepRecorder] = StepRecorder(directory)
    found: StepRecorder | None = job.attached.get(StepRecorder)
    return found
