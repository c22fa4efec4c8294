"""Module: what has weights, its own and those of the layers in its attributes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core import Variable
from distopt.core.keywords import KnownArguments
from distopt.core.placement import placement
from distopt.core.tensor import as_array
from distopt.keras.layers.tracking import UNTRACKED, Tracked, is_trackable, mark_changed, track, version
from distopt.keras.layers.trainable import flags_in_force
from distopt.keras.per_replica import PerReplicaState, assign_alike
from distopt.typing import Array

if TYPE_CHECKING:
    from distopt.keras.layers.layer import Layer

__all__ = ["Module"]


class Module(KnownArguments):
    """The part of a layer that knows its weights: finds them, trains them or not, gets and sets them.

    Variables and layers in attributes, also in lists, tuples and dicts there, are found by
    themselves. Pickles and deep copies hold the weights, and belong to where they are made.
    """

    name: str
    built: bool
    _trainable: bool
    _own_weights: list[Variable]
    _added_losses: PerReplicaState[list[Any]] | None

    #: What was found in the attributes, None until it is looked for.
    _tracked: Tracked | None = None
    #: The trainable weights, and the version of all layers and the flags with which they were found.
    _trainable_found: tuple[object, dict[Any, bool] | None, tuple[Variable, ...]] | None = None

    def sublayers(self) -> list[Layer]:
        """The layers in its attributes, in the order of assignment."""
        return list(self.tracked_attributes().layers)

    def tracked_attributes(self) -> Tracked:
        """Its own weights, its sublayers and its metrics."""
        tracked = self._tracked
        if tracked is None:
            values = (v for name, v in vars(self).items() if is_trackable(v) and name not in UNTRACKED)
            tracked = self.__dict__["_tracked"] = track(self._own_weights, values)
        elif not tracked.static:
            tracked = self.__dict__["_tracked"] = track(self._own_weights, tracked.values)
        return tracked

    def __setattr__(self, name: str, value: Any) -> None:
        if is_trackable(value) or is_trackable(self.__dict__.get(name)):
            self._forget()
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        self._forget()
        super().__delattr__(name)

    def _forget(self) -> None:
        self.__dict__["_tracked"] = None
        mark_changed()

    def _is_static(self) -> bool:
        """Whether it, and all layers below it, track the same until :func:`mark_changed` is called."""
        tracked = self.tracked_attributes()
        return tracked.static and all(layer._is_static() for layer in tracked.layers)

    # -- weights
    def _check_created(self) -> None:
        """Raises ValueError if its weights, or some of them, are made later. A layer may have none so far."""

    def _weights(self, wanted: bool, trainable: bool = True) -> list[Variable]:
        """Own weights, then those of sublayers; ``wanted`` picks the trainable or the other ones."""
        self._check_created()
        trainable = trainable and self.trainable
        tracked = self.tracked_attributes()
        found = [weight for weight in tracked.variables if (weight.trainable and trainable) is wanted]
        for layer in tracked.layers:
            found += layer._weights(wanted, trainable)
        return found

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights that training changes."""
        now, flags = version(), flags_in_force()
        kept = self._trainable_found
        if kept is None or kept[0] is not now or kept[1] is not flags:
            kept = now, flags, tuple(dict.fromkeys(self._weights(True)))
            self.__dict__["_trainable_found"] = kept if self._is_static() else None
        return list(kept[2])

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights that training does not change."""
        return list(dict.fromkeys(self._weights(False)))

    @property
    def weights(self) -> list[Variable]:
        """All weights, first the trainable ones, then the others."""
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
        mark_changed()
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
            ValueError: the number of weights, or a shape, differs.
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
        caches = ("_tracked", "_trainable_found")
        kept = {name: value for name, value in vars(self).items() if name not in caches}
        kept["_owner"] = None
        kept["_added_losses"] = None if self._added_losses is None else PerReplicaState(list)
        # Optimizers come after the variables: the slots of a deep copy are those of variables copied before.
        return dict(sorted(kept.items(), key=lambda item: not is_trackable(item[1])))

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.__dict__.update(kept, _owner=placement().owner())
