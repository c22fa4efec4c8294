"""Checkpoints: a job resumes from the last one with the same bits, however it ended."""

from distopt.checkpoint.holders import Stateful
from distopt.checkpoint.manager import CheckpointManager

__all__ = ["CheckpointManager", "Stateful"]
