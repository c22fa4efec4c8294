"""Gradient aggregators: ``[(gradient, variable)] -> [(gradient, variable)]``, over all replicas.

Found by name through the entry-point group ``distopt.aggregators``, plugins and built-ins alike.
"""

from distopt.aggregators.adasum import Adasum
from distopt.aggregators.base import Aggregator
from distopt.aggregators.chaining import Chain, chain
from distopt.aggregators.identify import get, label, serialize
from distopt.aggregators.mean import Mean, WeightedMean
from distopt.aggregators.sum import Sum, sum_over_replicas
from distopt.aggregators.wire import WireAggregator

__all__ = [
    "Adasum",
    "Aggregator",
    "Chain",
    "Mean",
    "Sum",
    "WeightedMean",
    "WireAggregator",
    "chain",
    "get",
    "label",
    "serialize",
    "sum_over_replicas",
]
