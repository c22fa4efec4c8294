"""Gradient aggregators combine the gradients of all replicas.

An aggregator takes ``(gradient, variable)`` pairs and returns such pairs. Built-in aggregators and
plugins are registered under the entry-point group ``distopt.aggregators``.
"""

from distopt.aggregators.adasum import Adasum
from distopt.aggregators.base import Aggregator
from distopt.aggregators.chaining import Chain, chain
from distopt.aggregators.identify import get, label, serialize
from distopt.aggregators.mean import Mean, WeightedMean
from distopt.aggregators.power_sgd import PowerSGD
from distopt.aggregators.sign_sgd import SignSGD
from distopt.aggregators.sum import Sum, sum_over_replicas
from distopt.aggregators.top_k import TopK
from distopt.aggregators.wire import WireAggregator

__all__ = [
    "Adasum",
    "Aggregator",
    "Chain",
    "Mean",
    "PowerSGD",
    "SignSGD",
    "Sum",
    "TopK",
    "WeightedMean",
    "WireAggregator",
    "chain",
    "get",
    "label",
    "serialize",
    "sum_over_replicas",
]
