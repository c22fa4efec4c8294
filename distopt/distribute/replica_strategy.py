"""Strategies in which the program itself is one replica: alone, an MPI process, or a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from distopt.comm import TurnScheduler, World, in_process_world, solo_world
from distopt.distribute import lifetime
from distopt.distribute.context import ReplicaContext
from distopt.distribute.frames import Frame, current_frame, frame, require_cross_replica, require_unmixed
from distopt.distribute.reduce_op import ReduceOp
from distopt.distribute.strategy import Strategy
from distopt.distribute.values import regroup, select
from distopt.distribute.virtual import run_threads
from distopt.settings import Settings, settings
from distopt.typing import Nested

__all__ = ["DefaultStrategy", "MPIStrategy", "ReplicaStrategy", "ThreadStrategy"]

MEMORY = ("auto", "shared", "private")


class ReplicaStrategy(Strategy):
    """A strategy in which the program is one replica.

    Args:
        world: the communicators of the replica.
        options: the settings.
    """

    def __init__(self, world: World, options: Settings) -> None:
        self.options = options
        self._context = ReplicaContext(self, world)

    @property
    def num_replicas_in_sync(self) -> int:
        """The number of replicas in the job."""
        return self._context.num_replicas_in_sync

    @property
    def context(self) -> ReplicaContext:
        """The context of the replica that this program is."""
        return self._context

    def base_frame(self) -> Frame:
        """The frame for the top level of the program."""
        return Frame(self, self._context, "base")

    def run(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        options: Any = None,
    ) -> Any:
        """Runs ``fn(*args, **kwargs)`` in replica context, once in each process, and returns its result.

        Raises:
            RuntimeError: called inside ``run()``.
        """
        require_cross_replica("run()")
        return self._on_replicas((args, kwargs or {}), lambda _, own: fn(*own[0], **own[1]))

    def _on_replicas(self, value: Nested, call: Callable[[ReplicaContext, Any], Any]) -> Any:
        own = select(value, self._context.world.local.rank)
        with frame(self, self._context, "run"):
            return call(self._context, own)


class DefaultStrategy(ReplicaStrategy):
    """One replica without MPI: the strategy of a program that no launcher started."""

    def __init__(self) -> None:
        super().__init__(solo_world(), settings())

    @contextmanager
    def scope(self) -> Iterator[Strategy]:
        """Does nothing: the default strategy stays in replica context.

        Raises:
            RuntimeError: called inside the scope of another strategy.
        """
        require_unmixed(self)
        with frame(self, self._context, "base"):
            yield self

    def run(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        options: Any = None,
    ) -> Any:
        """Calls ``fn(*args, **kwargs)``."""
        with frame(self, self._context, "base"):
            return fn(*args, **(kwargs or {}))


class MPIStrategy(ReplicaStrategy):
    """A strategy in which every process of an MPI job is one replica.

    A program that an MPI launcher started uses this strategy automatically. Create one only to set options,
    before any other use of the job.

    Args:
        memory: ``"shared"`` keeps one copy of parameters and slots on each node, and each replica updates its
            shard. ``"private"`` keeps one copy in each process, which updates all of it. ``"auto"`` shares
            memory if the node allows it. By default the setting ``DISTOPT_MEMORY``.
        comm: an mpi4py communicator to use instead of COMM_WORLD. It is duplicated.

    Raises:
        MissingExtra: mpi4py or its MPI library is not installed.
        LaunchError: the launcher belongs to another MPI library.
        ValueError: ``memory`` is unknown.
    """

    def __init__(self, memory: str | None = None, comm: Any = None) -> None:
        from distopt.comm.mpi_world import mpi_world

        base = settings()
        options = replace(base, memory=memory or base.memory)
        if options.memory not in MEMORY:
            known = ", ".join(map(repr, MEMORY))
            raise ValueError(f"MPIStrategy(memory={options.memory!r}): use one of {known}")
        super().__init__(mpi_world(options, comm), options)
        lifetime.adopt(self)


class ThreadStrategy(ReplicaStrategy):
    """The strategy of a thread that runs the program as one of several replicas of its process.

    Args:
        scheduler: the scheduler of the threads of this process.
        index: the number of this thread.
        outer: the communicators between processes; None for a job of one process.
    """

    def __init__(self, scheduler: TurnScheduler, index: int, outer: World | None = None) -> None:
        options = settings()
        super().__init__(in_process_world(scheduler, index, outer, options.nodes), options)
        self._scheduler, self._outer = scheduler, outer

    def reduce(self, reduce_op: ReduceOp | str, value: Nested, axis: int | None) -> Nested:
        """See Strategy."""
        return select(super().reduce(reduce_op, value, axis), 0)

    def gather(self, value: Nested, axis: int) -> Nested:
        """See Strategy."""
        return select(super().gather(value, axis), 0)

    def _on_replicas(self, value: Nested, call: Callable[[ReplicaContext, Any], Any]) -> Any:
        if current_frame().kind != "merge":
            return super()._on_replicas(value, call)
        # The replicas of this process wait in merge_call, so temporary ones make the collective call.
        scheduler = TurnScheduler(self._scheduler.size, self._scheduler.first)

        def program(index: int) -> Any:
            world = in_process_world(scheduler, index, self._outer, self.options.nodes)
            context = ReplicaContext(self, world)
            with frame(self, context, "run"):
                return call(context, select(value, index))

        return regroup(run_threads(scheduler, program))
