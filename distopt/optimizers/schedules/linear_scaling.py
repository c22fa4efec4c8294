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
    """Scales the learning rate linearly with the number of replicas, after a warm-up.

    The rate rises linearly from ``learning_rate`` to ``learning_rate`` times the number of replicas.

    Use it if the global batch grows with the number of replicas and gradients are means over the global
    batch, as in ``fit`` and with the aggregator "mean". If each replica's gradient is a mean and the
    gradients are summed, the step already grows with the number of replicas.

    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", arXiv:1706.02677, sections 2.1 and 2.2.

    Args:
        learning_rate: the rate for one replica: a number or a schedule.
        warmup_steps: the length of the warm-up, 5 epochs in the paper; 0 for none.
        replicas: the number of replicas; None for that of the current job, which a restart may change.
        name: a label.

    Raises:
        ValueError: ``replicas`` is below 1.
        TypeError: ``replicas`` is not a whole number.

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
        """Returns the learning rate at ``step``, with the shape of ``step``."""
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
        """Returns the arguments of the constructor."""
        base = self.learning_rate
        return {
            "learning_rate": serialize(base) if isinstance(base, LearningRateSchedule) else base,
            "warmup_steps": self.warmup_steps,
            "replicas": self.replicas,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Creates a schedule from the result of :meth:`get_config`."""
        arguments = as_config(config, cls.__name__)
        if isinstance(arguments.get("learning_rate"), dict):
            arguments["learning_rate"] = deserialize(arguments["learning_rate"])
        return cls(**arguments)
