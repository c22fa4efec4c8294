"""Optimizers of PyTorch whose step spans all replicas of an MPI job."""

from distopt.torch.adam import Adam, AdamW
from distopt.torch.optimizer import Optimizer
from distopt.torch.replicas import rank, size

__all__ = ["Adam", "AdamW", "Optimizer", "rank", "size"]
