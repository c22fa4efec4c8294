"""Container: a layer made of layers, with a summary, weight files and configs."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from distopt.core import Variable
from distopt.core.registry import serialize_object
from distopt.core.tensor import as_array
from distopt.distribute import get_replica_context
from distopt.keras.callbacks.callback import is_chief
from distopt.keras.layers.layer import Layer
from distopt.keras.layers.spec import map_shapes
from distopt.keras.per_replica import assign_alike, done_together, this_replica
from distopt.keras.training.summary import summary_text
from distopt.keras.training.weights_file import check_ending, read_weights, write_weights

__all__ = ["Container"]


class Container(Layer):
    """The part of a model that does not train: its layers and their weights.

    Args:
        name: a name.
        **kwargs: arguments of :class:`Layer`.
    """

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        #: The replicas that have taken the first weights.
        self._begun: set[int] = set()

    # -- building
    def ensure_built(self, input_shape: Any) -> None:
        """See Layer. If a model overrides ``call``, its layers are built there."""
        if not self.built and type(self).build is not Container.build:
            self.build(input_shape)
        self.built = True

    def build(self, input_shape: Any) -> None:
        """Creates all weights by calling the model once on an example of zeros.

        Args:
            input_shape: the shape of the input. The batch axis is None or a length.
        """
        zeros = map_shapes(lambda shape: np.zeros([n or 1 for n in shape], self._dtype), input_shape)
        self.call(zeros, **({"training": False} if self._takes_training else {}))
        self.built = True

    def take_first_weights(self) -> None:
        """Gives all replicas the weights of replica 0, once, before they are used."""
        context = get_replica_context()
        if context is None or not self.built or this_replica() in self._begun:
            return
        weights = list(dict.fromkeys(_made_so_far(self)))
        if context.num_replicas_in_sync > 1 and weights:
            values = context.broadcast([as_array(w) for w in weights])
            for weight, value in zip(weights, values, strict=True):
                if not np.array_equal(as_array(weight), as_array(value)):
                    assign_alike(weight, value)
        self._begun.add(this_replica())  # not if the call failed: then all replicas make it again

    # -- weights
    @property
    def weights(self) -> list[Variable]:
        """All weights, trainable or not, layer by layer.

        Raises:
            ValueError: the model is not built yet.
        """
        self._check_created()
        tracked = self.tracked_attributes()
        found = list(tracked.variables)
        for layer in tracked.layers:
            found += layer.weights
        return list(dict.fromkeys(found))

    variables = weights

    def _check_created(self) -> None:
        """See Module. The layers of a model that overrides ``call`` may be built one by one."""
        if not self.built and type(self).build is not Container.build:
            raise ValueError(
                f"Weights for model {self.name!r} have not yet been created. Weights are created when the "
                "model is first called on inputs or build() is called with an input_shape; or give the first "
                "layer of a Sequential an input_shape."
            )

    def save_weights(self, filepath: str | os.PathLike[str]) -> None:
        """Writes all weights to a ``.npz`` or ``.safetensors`` file, on replica 0.

        All replicas wait until the file is complete.

        Raises:
            ValueError: the file has another ending, or the model has no weights yet.
            OSError: the file cannot be written. The other replicas raise ReplicaFailed.
        """
        path = os.fspath(filepath)
        check_ending(path)
        weights = self.weights
        if not (weights or self.built):
            raise ValueError(
                f"model {self.name!r} has no weights to save, because it is not built: call it or build() "
                f"first"
            )
        named = [(w._name, np.array(w)) for w in weights] if is_chief() else []
        done_together("save_weights()", lambda: write_weights(path, named) if is_chief() else None)

    def load_weights(self, filepath: str | os.PathLike[str]) -> None:
        """Sets all weights, in order, from a file of :meth:`save_weights`.

        Raises:
            ValueError: the weights do not match those of the model, or the model has none yet.
        """
        path = os.fspath(filepath)

        def check(shapes: list[tuple[int, ...]]) -> None:
            try:
                self._check_shapes(shapes)
            except ValueError as error:
                raise ValueError(f"{path!r} does not match model {self.name!r}: {error}") from None

        self.set_weights([w for _, w in read_weights(path, check)])

    # -- as a config, looking
    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments. Override it in a subclass that has a config.

        Raises:
            NotImplementedError: the class does not override this method.
        """
        raise NotImplementedError(
            f"model {self.name!r} is of the class {type(self).__name__}, whose code defines its layers: "
            "override get_config to return the constructor's arguments, or build it as a Sequential"
        )

    def to_json(self, **kwargs: Any) -> str:
        """Returns the config as JSON, for :func:`distopt.keras.models.model_from_json`.

        Weights are not included.

        Args:
            **kwargs: arguments of :func:`json.dumps`.
        """
        return json.dumps(serialize_object(self), **{"default": plain, **kwargs})

    def summary(self) -> None:
        """Prints the layers, their output shapes and their weights, on replica 0."""
        self._check_created()
        if is_chief():
            print(summary_text(self, self.layers, self._output_shapes()))

    @property
    def layers(self) -> list[Layer]:
        """The layers, in order."""
        return self.sublayers()

    def _output_shapes(self) -> dict[Layer, Any]:
        return {}

    # -- pickling and copying
    def __getstate__(self) -> dict[str, Any]:
        """See Module. The replicas that use a copy agree on its first weights again."""
        return super().__getstate__() | {"_begun": set()}


def plain(value: Any) -> Any:
    """An array or number of NumPy as JSON can hold it."""
    return as_array(value).tolist()


def _made_so_far(layer: Layer) -> list[Variable]:
    """The weights that there are, of layers that are built by now."""
    tracked = layer.tracked_attributes()
    return [*tracked.variables, *(weight for below in tracked.layers for weight in _made_so_far(below))]
