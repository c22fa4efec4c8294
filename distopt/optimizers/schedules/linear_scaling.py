"""LinearScaling: a learning rate that grows with the number of replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from distopt.core.checks import as_config, as_count
from distopt.core.tensor import Tensor, as_array
from distopt.distribute import get_strategy
from distopt.optimizers.schedules.schedule import LearningRateSchedule, rate_array, step_array, tensor_of
from distopt.optimizers.schedules.serialization import deserialize, serialize

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LinearScaling"]


class LinearScaling(LearningRateSchedule):
    """``learning_rate`` times the number of replicas, reached from ``learning_rate`` in a linear rise.

    For a global batch that grows with the replicas, and gradients that are means over it, as those of ``fit``
    and of the aggregator "mean" are. Where each replica's gradient is a mean and they are summed, the step
    grows with the replicas already.

    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", arXiv:1706.02677, sections 2.1 and 2.2.

    Args:
        learning_rate: the rate for one replica: a number or a schedule.
        warmup_steps: the length of the rise; the paper takes 5 epochs. 0 for none.
        replicas: their number; None for that of the job that asks, which may change with a restart.
        name: a label.

    Raises:
        ValueError: ``replicas`` is below 1.
        TypeError: it is no whole number.

    >>> schedule = LinearScaling(0.5, warmup_steps=10, replicas=8)
    >>> [float(schedule(step)) for step in (0, 5, 10, 99)]
    [0.5, 2.25, 4.0, 4.0]
    """

    def __init__(
        self,
        learning_rate: Any,
        warmup_steps: Any = 0,
        replicas: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.replicas = None if replicas is None else as_count(replicas, "replicas")
        self.name = name

    def __call__(self, step: Any) -> Tensor:
        """The learning rate at ``step``, of its shape."""
        base = self.learning_rate
        rate = as_array(base(step)) if isinstance(base, LearningRateSchedule) else rate_array(base)
        dtype = rate.dtype
        now, length = step_array(step, dtype), step_array(self.warmup_steps, dtype)
        number = get_strategy().num_replicas_in_sync if self.replicas is None else self.replicas
        more = dtype.type(number - 1)
        with np.errstate(all="ignore"):
            done = np.where(now < length, now / length, dtype.type(1))
        return tensor_of(rate * (1 + more * done), dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        base = self.learning_rate
        return {
            "learning_rate": serialize(base) if isinstance(base, LearningRateSchedule) else base,
            "warmup_steps": self.warmup_steps,
            "replicas": self.replicas,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A schedule from what :meth:`get_config` returned."""
        arguments = as_config(config, cls.__name__)
        if isinstance(arguments.get("learning_rate"), dict):
            arguments["learning_rate"] = deserialize(arguments["learning_rate"])
        return cls(**arguments)
