"""Gradient aggregators: ``[(gradient, variable)] -> [(gradient, variable)]``, over all replicas.

Found by name through the entry-point group ``distopt.aggregators``, plugins and built-ins alike.
"""

from distopt.aggregators.adasum import Adasum
from distopt.aggregators.base import Aggregator
from distopt.aggregators.chain import Chain
from distopt.aggregators.identify import get, serialize
from distopt.aggregators.mean import Mean, WeightedMean
from distopt.aggregators.sum import Sum, sum_over_replicas

__all__ = [
    "Adasum",
    "Aggregator",
    "Chain",
    "Mean",
    "Sum",
    "WeightedMean",
    "get",
    "serialize",
    "sum_over_replicas",
]
