"""Several aggregators one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from distopt.aggregators.base import Aggregator
from distopt.core.variable import Variable

__all__ = ["Chain"]


class Chain(Aggregator):
    """Hands the pairs through several aggregators (or functions on pairs), in order.

    Args:
        *parts: aggregators, callables, names or configs.
    """

    def __init__(self, *parts: Any, aggregators: Iterable[Any] = ()) -> None:
        from distopt.aggregators.identify import get

        self.parts: list[Callable[[Any], Any]] = [get(part) for part in (*parts, *aggregators)]

    def __call__(self, grads_and_vars: Iterable[tuple[Any, Variable]]) -> list[tuple[Any, Variable]]:
        """See Aggregator."""
        pairs = list(grads_and_vars)
        for part in self.parts:
            pairs = list(part(pairs))
        return pairs

    @property
    def weights(self) -> list[Variable]:
        """Those of all parts."""
        return [v for part in self.parts for v in getattr(part, "weights", ())]

    def get_config(self) -> dict[str, Any]:
        """The parts' own configs."""
        from distopt.aggregators.identify import serialize

        return {"aggregators": [serialize(part) for part in self.parts]}

    def __str__(self) -> str:
        return " -> ".join(str(part) for part in self.parts)
