"""Tools for testing programs and plugins: replicas in one process, comparison of layouts, plugin checks.

``python -m distopt.testing.inprocess`` and ``python -m distopt.testing.layouts`` run whole scripts.
"""

from distopt.testing.conformance import AggregatorReport, Finding, check_aggregator

__all__ = ["AggregatorReport", "Finding", "check_aggregator"]
