"""What a layer's constructor says of one of its weights."""

from __future__ import annotations

from typing import Any, NamedTuple

from distopt.keras import constraints, initializers, regularizers

__all__ = ["WeightOptions"]


class WeightOptions(NamedTuple):
    """The arguments of ``add_weight`` that a layer's user chooses.

    Attributes:
        initializer: makes the first values.
        regularizer: the penalty, or None.
        constraint: applied after each update, or None.
    """

    initializer: Any
    regularizer: Any
    constraint: Any

    @classmethod
    def of(cls, initializer: Any, regularizer: Any = None, constraint: Any = None) -> WeightOptions:
        """The same from names, configs or objects.

        Raises:
            ValueError: a name is unknown.
        """
        return cls(initializers.get(initializer), regularizers.get(regularizer), constraints.get(constraint))

    def add_to(self, layer: Any, name: str, shape: tuple[int, ...], **others: Any) -> Any:
        """The new weight of a layer; ``others`` are further arguments of ``add_weight``."""
        return layer.add_weight(
            name,
            shape,
            initializer=self.initializer,
            regularizer=self.regularizer,
            constraint=self.constraint,
            **others,
        )

    def config(self, weight: str) -> dict[str, Any]:
        """As arguments of the layer's constructor: ``kernel_initializer``, ... for ``weight="kernel"``."""
        return {
            f"{weight}_initializer": initializers.serialize(self.initializer),
            f"{weight}_regularizer": regularizers.serialize(self.regularizer),
            f"{weight}_constraint": constraints.serialize(self.constraint),
        }
