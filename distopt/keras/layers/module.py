"""Module: what has weights, its own and those of the layers in its attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core import Variable
from distopt.core.placement import placement
from distopt.core.tensor import as_array
from distopt.keras.each_replica import OfEachReplica, assign_alike
from distopt.keras.layers.members import BOOKKEEPING, Held, changed, hold, holds, state
from distopt.keras.layers.trainable import flags_in_force
from distopt.typing import Array

if TYPE_CHECKING:
    from distopt.keras.layers.layer import Layer

__all__ = ["Module"]


class Module:
    """The part of a layer that knows its weights: finds them, trains them or not, gets and sets them.

    Variables and layers that stand in attributes, also in lists, tuples and dicts there, are found by
    themselves. Pickles and deep copies hold the weights, and belong to where they are made.
    """

    name: str
    built: bool
    _trainable: bool
    _own_weights: list[Variable]
    _added_losses: OfEachReplica[list[Any]] | None

    #: Attributes in which no variables and layers are looked for.
    _bookkeeping = BOOKKEEPING
    #: What was found in the others, None until it is looked for.
    _held: Held | None = None
    #: The trainable weights, and the state of all layers and the flags with which they were found.
    _trained: tuple[object, dict[Any, bool] | None, tuple[Variable, ...]] | None = None

    def sublayers(self) -> list[Layer]:
        """The layers in its attributes, in the order in which they were set."""
        return list(self._members().layers)

    def _members(self) -> Held:
        """Its weights, but for those of sublayers, and its sublayers; every step asks for them."""
        held = self._held
        if held is None:
            others = self._bookkeeping
            places = (v for name, v in vars(self).items() if holds(v) and name not in others)
            held = self.__dict__["_held"] = hold(self._own_weights, places)
        elif not held.lasting:
            held = self.__dict__["_held"] = hold(self._own_weights, held.places)
        return held

    def __setattr__(self, name: str, value: Any) -> None:
        if holds(value) or holds(self.__dict__.get(name)):
            self._forget()
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        self._forget()
        super().__delattr__(name)

    def _forget(self) -> None:
        self.__dict__["_held"] = None
        changed()

    def _lasts(self) -> bool:
        """Whether it, and all below it, hold the same until :func:`changed` is called."""
        held = self._members()
        return held.lasting and all(layer._lasts() for layer in held.layers)

    # -- weights
    def _check_created(self) -> None:
        """Raises ValueError if its weights, or some of them, are made later. A layer may have none so far."""

    def _weights(self, wanted: bool, trainable: bool = True) -> list[Variable]:
        """Own weights, then those of sublayers; ``wanted`` picks the trainable or the other ones."""
        self._check_created()
        trainable = trainable and self.trainable
        held = self._members()
        found = [weight for weight in held.variables if (weight.trainable and trainable) is wanted]
        for layer in held.layers:
            found += layer._weights(wanted, trainable)
        return found

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights that training changes."""
        now, flags = state(), flags_in_force()
        kept = self._trained
        if kept is None or kept[0] is not now or kept[1] is not flags:
            kept = now, flags, tuple(dict.fromkeys(self._weights(True)))
            self.__dict__["_trained"] = kept if self._lasts() else None
        return list(kept[2])

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights that training leaves alone."""
        return list(dict.fromkeys(self._weights(False)))

    @property
    def weights(self) -> list[Variable]:
        """All weights: the trainable ones, then the others."""
        return self.trainable_weights + self.non_trainable_weights

    trainable_variables = trainable_weights
    non_trainable_variables = non_trainable_weights
    variables = weights

    @property
    def trainable(self) -> bool:
        """Whether its weights, and those of its sublayers, are trained."""
        flags = flags_in_force()
        return self._trainable if flags is None else flags.get(self, self._trainable)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        flags = flags_in_force()
        if flags is not None and self in flags:
            flags[self] = self._trainable
        changed()
        for layer in self.sublayers():
            layer.trainable = value

    def count_params(self) -> int:
        """The number of elements of all weights."""
        return sum(weight.size for weight in self.weights)

    def get_weights(self) -> list[Array]:
        """Copies of all weights."""
        return [np.array(weight) for weight in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Sets all weights, in the order of :attr:`weights`.

        Raises:
            ValueError: another number of weights, or another shape.
        """
        self._check_shapes([as_array(value).shape for value in weights])
        for weight, value in zip(self.weights, weights, strict=True):
            assign_alike(weight, value)

    def _check_shapes(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Raises if arrays of these shapes cannot be the weights."""
        mine = self.weights
        if len(shapes) != len(mine):
            raise ValueError(
                f"set_weights() on {self.name!r} takes {len(mine)} weights; got {len(shapes)}"
                + ("" if self.built else ": the layer is not built yet, call it or give input_shape")
            )
        for weight, shape in zip(mine, shapes, strict=True):
            if weight.shape != shape:
                raise ValueError(f"weight {weight.name!r} has shape {weight.shape}; got {shape}")

    # -- pickling and copying
    def __getstate__(self) -> dict[str, Any]:
        """What stays: neither what belongs to the strategy, nor to the call that was last, nor caches."""
        kept = {name: value for name, value in vars(self).items() if name not in ("_held", "_trained")}
        kept["_owner"] = None
        kept["_added_losses"] = None if self._added_losses is None else OfEachReplica(list)
        # Optimizers come after the variables: the slots of a deep copy are those of variables copied before.
        return dict(sorted(kept.items(), key=lambda item: not holds(item[1])))

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.__dict__.update(kept, _owner=placement().owner())
