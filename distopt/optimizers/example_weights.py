"""ExampleWeights: weights the gradients of each replica by its number of examples."""

from __future__ import annotations

from typing import Any

from distopt.aggregators import WeightedMean, label
from distopt.core.checks import shown

__all__ = ["ExampleWeights", "mean_by_default"]


class Average(WeightedMean):
    """The default aggregator: a mean, weighted if the program gives numbers of examples."""

    def __str__(self) -> str:
        return "mean"


def mean_by_default(aggregator: Any) -> Any:
    """The aggregator. None and ``"mean"`` give a mean over replicas that can be weighted."""
    return Average() if aggregator is None or aggregator == "mean" else aggregator


class ExampleWeights:
    """Sets the number of examples of this replica in a WeightedMean, for each step.

    Args:
        call: the method that takes ``examples=``, for messages.
        aggregator: the aggregator of the optimizer.

    Attributes:
        text: the part of a step's name that says that gradients are weighted, or "". Replicas compare it.
    """

    def __init__(self, call: str, aggregator: Any) -> None:
        self._call, self._aggregator = call, aggregator
        #: The aggregator's own number of examples, for steps without the argument.
        self._default = getattr(aggregator, "examples", 1)
        self.text = ""

    def weigh(self, examples: int | None) -> None:
        """Sets the weight of this replica before a step.

        Args:
            examples: the number of examples; None for equal weights, or those of the aggregator.

        Raises:
            ValueError: ``examples`` is not a count, or the aggregator is not a mean.
        """
        aggregator = self._aggregator
        if examples is not None and not _is_count(examples):
            raise ValueError(f"{self._call}(examples=...) takes a count, 0 or more; got {shown(examples)}")
        if isinstance(aggregator, WeightedMean):
            aggregator.examples = self._default if examples is None else examples
        elif examples is not None:
            raise ValueError(
                f"{self._call}(examples=...) weights a mean, but the aggregator of this optimizer is "
                f"{label(aggregator)}: use only one of the two"
            )
        self.text = "" if examples is None else ", weighted by examples"


def _is_count(examples: Any) -> bool:
    try:
        return bool(int(examples) == examples and examples >= 0)
    except (TypeError, ValueError, OverflowError):  # no number, NaN, infinity
        return False
