"""ExampleWeights: how a step of another framework's model weighs each replica's gradients."""

from __future__ import annotations

from typing import Any

from distopt.aggregators import WeightedMean, label
from distopt.core.checks import shown

__all__ = ["ExampleWeights", "mean_by_default"]


class Average(WeightedMean):
    """The default: a mean to all who do not give a number of examples, and so it is called."""

    def __str__(self) -> str:
        return "mean"


def mean_by_default(aggregator: Any) -> Any:
    """The aggregator, or the mean over replicas, which can be weighed, for None and ``"mean"``."""
    return Average() if aggregator is None or aggregator == "mean" else aggregator


class ExampleWeights:
    """Tells an aggregator how many examples this replica's gradients are the mean of.

    Args:
        call: what takes ``examples=``, for messages.
        aggregator: that of the optimizer.

    Attributes:
        text: says that gradients are weighed; replicas must agree on it.
    """

    def __init__(self, call: str, aggregator: Any) -> None:
        self._call, self._aggregator = call, aggregator
        #: The examples of a weighted mean in steps that say nothing of them.
        self._usual = getattr(aggregator, "examples", 1)
        self.text = ""

    def weigh(self, examples: int | None) -> None:
        """Before a step.

        Args:
            examples: how many they are; None if all replicas weigh alike, or as the aggregator says.

        Raises:
            ValueError: it is no count, or the aggregator is no mean.
        """
        aggregator = self._aggregator
        if examples is not None and not _is_count(examples):
            raise ValueError(f"{self._call}(examples=...) takes a count, 0 or more; got {shown(examples)}")
        if isinstance(aggregator, WeightedMean):
            aggregator.examples = self._usual if examples is None else examples
        elif examples is not None:
            raise ValueError(
                f"{self._call}(examples=...) weighs a mean, but this optimizer's aggregator is "
                f"{label(aggregator)}: leave one of the two out"
            )
        self.text = "" if examples is None else ", weighed by examples"


def _is_count(examples: Any) -> bool:
    try:
        return bool(int(examples) == examples and examples >= 0)
    except (TypeError, ValueError, OverflowError):  # no number, NaN, infinity
        return False
