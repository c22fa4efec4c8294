"""Several aggregators one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from distopt.aggregators.base import Aggregator
from distopt.aggregators.identify import get, label, serialize
from distopt.core.checks import as_sequence
from distopt.core.variable import Variable

__all__ = ["Chain", "chain"]


class Chain(Aggregator):
    """Runs several aggregators in order; each one gets the result of the one before.

    Args:
        aggregators: aggregators, callables, names or configs.
    """

    def __init__(self, aggregators: Iterable[Any] = ()) -> None:
        self.parts: list[Callable[[Any], Any]] = [
            get(part) for part in as_sequence(aggregators, "the aggregators of a chain")
        ]

    def __call__(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
        """See Aggregator.

        Raises:
            TypeError: a part returned something other than pairs.
        """
        pairs = list(grads_and_vars)
        for part in self.parts:
            result = part(pairs)
            if not isinstance(result, Iterable):
                raise TypeError(
                    f"aggregator {label(part)}, part of a chain, returned {type(result).__name__}: it must "
                    "return (gradient, variable) pairs"
                )
            pairs = list(result)
        return pairs

    def build(self, variables: Sequence[Variable]) -> None:
        """Builds all parts."""
        for part in self._parts_with_state():
            part.build(variables)

    @property
    def weights(self) -> list[Variable]:
        """The weights of all parts."""
        return [v for part in self._parts_with_state() for v in part.weights]

    def finish_step(self) -> None:
        """Finishes the step of all parts."""
        for part in self._parts_with_state():
            part.finish_step()

    def _parts_with_state(self) -> list[Aggregator]:
        return [part for part in self.parts if isinstance(part, Aggregator)]

    def get_config(self) -> dict[str, Any]:
        """Returns the configs of the parts."""
        return {"aggregators": [serialize(part) for part in self.parts]}

    def __str__(self) -> str:
        return " -> ".join(str(p) if isinstance(p, Aggregator) else label(p) for p in self.parts)


def chain(*aggregators: Any) -> Chain:
    """Returns an aggregator that runs the given aggregators in order.

    Each of them is an aggregator, a callable, a name or a config.

    >>> str(chain("mean", "adasum"))
    'mean -> adasum'
    """
    return Chain(aggregators)
