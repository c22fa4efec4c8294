"""The state that calls share without handing it on: of this thread, and of the whole process."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

__all__ = ["session", "thread_state"]


class ThreadState(threading.local):
    """The state of the calls in progress in this thread.

    Attributes:
        training: whether the outermost call of a layer is one of training, None outside of calls.
        trainable: layer -> whether it is trained, in place of the layer's flag; None: the flags are in force.
        no_examples: whether this replica has no examples of the batch, so that metrics do not count it.
    """

    training: bool | None = None
    trainable: dict[Any, bool] | None = None
    no_examples: bool = False


class Session:
    """What :func:`distopt.keras.backend.clear_session` resets.

    Attributes:
        layer_names: uses of each layer name in cross-replica context, where layers belong to all replicas.
        random_calls: calls of the backend's random functions by seed and replica.
    """

    def __init__(self) -> None:
        self.layer_names: Counter[str] = Counter()
        self.random_calls: Counter[tuple[int, int]] = Counter()


# Thread-local: replicas of one process are threads, which may share layers and metrics.
thread_state = ThreadState()
# Process-wide, as in Keras: names and random numbers count on whichever function makes them.
session = Session()
