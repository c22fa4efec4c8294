"""Gradient transformers, called after aggregation: ``[(gradient, variable)] -> [(gradient, variable)]``."""

from distopt.transforms.clip_by_global_norm import ClipByGlobalNorm
from distopt.transforms.clip_by_norm import ClipByNorm
from distopt.transforms.clip_by_value import ClipByValue

__all__ = ["ClipByGlobalNorm", "ClipByNorm", "ClipByValue"]
