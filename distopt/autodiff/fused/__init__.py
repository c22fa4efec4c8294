"""Layers' arithmetic as single operations, each with one derivative written by hand."""

from distopt.autodiff.fused.activations import FUSED_ACTIVATIONS, softmax
from distopt.autodiff.fused.dense import dense
from distopt.autodiff.fused.normalization import BatchStatistics, batch_norm, batch_statistics, layer_norm
from distopt.autodiff.fused.windows import Window, average_pool, columns, max_pool, pad_images

__all__ = [
    "FUSED_ACTIVATIONS",
    "BatchStatistics",
    "Window",
    "average_pool",
    "batch_norm",
    "batch_statistics",
    "columns",
    "dense",
    "layer_norm",
    "max_pool",
    "pad_images",
    "softmax",
]
