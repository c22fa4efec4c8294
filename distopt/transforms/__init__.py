"""Gradient transformers change the aggregated gradients.

A transformer takes ``(gradient, variable)`` pairs and returns such pairs.
"""

from distopt.transforms.clip_by_global_norm import ClipByGlobalNorm
from distopt.transforms.clip_by_norm import ClipByNorm
from distopt.transforms.clip_by_value import ClipByValue
from distopt.transforms.clip_mixed_norm import ClipMixedNorm

__all__ = ["ClipByGlobalNorm", "ClipByNorm", "ClipByValue", "ClipMixedNorm"]
