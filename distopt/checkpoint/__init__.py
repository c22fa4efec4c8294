"""Checkpoints. A job that was interrupted continues from the last one with the same bits."""

from distopt.checkpoint.holders import Stateful
from distopt.checkpoint.manager import CheckpointManager

__all__ = ["CheckpointManager", "Stateful"]
