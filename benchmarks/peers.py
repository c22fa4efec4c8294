"""Ways to make a step: gradients ready in private arrays, parameters updated on all replicas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.clock import World
from benchmarks.floor import Floor

__all__ = ["Distopt", "GlooAdam", "MPINumPyAdam", "floor_of", "gradients_for"]

Array = npt.NDArray[np.float32]
Shapes = Sequence[Sequence[int]]

_LEARNING_RATE = 1e-3
#: DDP's default size of a bucket.
_BUCKET_BYTES = 25 * 2**20


def gradients_for(shapes: Shapes, rank: int) -> list[Array]:
    """Private gradients, other ones on each replica."""
    return [np.full(shape, 1e-3 * (rank + 1), np.float32) for shape in shapes]


def floor_of(everyone: World, parameters: int, slots: int = 2, kept: bool = False) -> Floor:
    """The floor of a sharded step on these replicas."""
    return Floor(max(parameters // everyone.size, 1), everyone.size, slots, kept)


class Distopt:
    """``optimizer.apply_gradients``, as users call it.

    Args:
        shapes: of the variables.
        rank: this replica's number.
        make: makes the optimizer; Adam by default.
    """

    def __init__(self, shapes: Shapes, rank: int, make: Callable[[], Any] | None = None) -> None:
        import distopt as tf

        self.variables = [tf.Variable(np.full(shape, 0.1, np.float32)) for shape in shapes]
        self.gradients = gradients_for(shapes, rank)
        self.optimizer = tf.optimizers.Adam(_LEARNING_RATE) if make is None else make()

    def prepare(self) -> None:
        """Nothing: gradients are never overwritten."""

    def step(self) -> None:
        """One step."""
        self.optimizer.apply_gradients(zip(self.gradients, self.variables, strict=True))


class GlooAdam:
    """A lean data-parallel step of PyTorch: Gloo all-reduce in 25 MiB buckets, then fused Adam.

    The gradients lie in the buckets already, as with DDP's ``gradient_as_bucket_view``; nothing is
    copied or divided. The process group must be there (:mod:`benchmarks.gloo`).
    """

    def __init__(self, shapes: Shapes, rank: int) -> None:
        import torch

        parameters = [torch.nn.Parameter(torch.full(tuple(shape), 0.1)) for shape in shapes]
        self._value = 1e-3 * (rank + 1)
        self._buckets = []
        members: list[Any] = []
        for parameter in reversed(parameters):  # in the order in which backward is done with them
            members.append(parameter)
            if sum(p.numel() for p in members) * 4 >= _BUCKET_BYTES or parameter is parameters[0]:
                self._buckets.append(_bucket(members))
                members = []
        self._optimizer = torch.optim.Adam(parameters, _LEARNING_RATE, fused=True)

    def prepare(self) -> None:
        """New gradients: the last sum lies where they were."""
        for bucket in self._buckets:
            bucket.fill_(self._value)

    def step(self) -> None:
        """One step."""
        import torch.distributed as dist

        works = [dist.all_reduce(bucket, async_op=True) for bucket in self._buckets]
        for work in works:
            work.wait()
        self._optimizer.step()


def _bucket(parameters: Sequence[Any]) -> Any:
    """A flat tensor whose parts are the parameters' gradients."""
    import torch

    bucket = torch.ones(sum(p.numel() for p in parameters))
    start = 0
    for parameter in parameters:
        parameter.grad = bucket[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    return bucket


class MPINumPyAdam:
    """What a program does by hand with mpi4py: one Allreduce a variable, Adam in NumPy."""

    def __init__(self, shapes: Shapes, everyone: World) -> None:
        self._comm = everyone.comm
        self._gradients = gradients_for(shapes, everyone.rank)
        self._parameters = [np.full(shape, 0.1, np.float32) for shape in shapes]
        self._m = [np.full(shape, 0.0, np.float32) for shape in shapes]
        self._v = [np.full(shape, 0.0, np.float32) for shape in shapes]
        self._sums = [np.full(shape, 0.0, np.float32) for shape in shapes]
        self._count = 0

    def prepare(self) -> None:
        """Nothing."""

    def step(self) -> None:
        """One step."""
        self._count += 1
        t = self._count
        rate = np.float32(_LEARNING_RATE * math.sqrt(1 - 0.999**t) / (1 - 0.9**t))
        for g, total, p, m, v in zip(
            self._gradients, self._sums, self._parameters, self._m, self._v, strict=True
        ):
            if self._comm is None:
                np.copyto(total, g)
            else:
                self._comm.Allreduce(g, total)
            m += np.float32(0.1) * (total - m)
            v += np.float32(0.001) * (total * total - v)
            p -= rate * m / (np.sqrt(v) + np.float32(1e-7))
