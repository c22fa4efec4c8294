"""Data sets, and how their examples are distributed over the replicas."""

from distopt.core.split import share
from distopt.keras.data.batch import Batch
from distopt.keras.data.dataset import Dataset
from distopt.keras.data.dealing import example_order
from distopt.keras.data.sources import ArraySource, IterableSource, Source

__all__ = ["ArraySource", "Batch", "Dataset", "IterableSource", "Source", "example_order", "share"]
