"""VirtualStrategy: several replicas in this process, for tests and debugging."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from distopt.comm import SIGNAL_WAIT, TurnScheduler, flush, in_process_world
from distopt.core.checks import as_count
from distopt.core.dtypes import kind_of
from distopt.core.tensor import Tensor, TensorLike, as_array
from distopt.distribute.context import ReplicaContext
from distopt.distribute.frames import current_frame, frame, require_cross_replica, thread_replicas
from distopt.distribute.means import divided
from distopt.distribute.reduce_op import ReduceOp
from distopt.distribute.strategy import Strategy
from distopt.distribute.values import regroup, select
from distopt.errors import ReplicaFailed
from distopt.settings import settings
from distopt.tracebacks import format_error
from distopt.typing import Nested

__all__ = ["VirtualStrategy", "run_threads"]


#: The largest number of replicas. No system starts more threads.
_MOST = 1 << 14


class VirtualStrategy(Strategy):
    """Runs ``num_replicas`` replicas as threads of this process, which take turns.

    Exactly one replica runs at a time, and replicas switch only at collective calls. Output is therefore in
    order, and pdb works. Replica 0 runs in the thread of the caller.

    Args:
        num_replicas: the number of replicas, at least 1.

    >>> strategy = VirtualStrategy(2)
    >>> strategy.run(lambda: get_id()).values  # doctest: +SKIP
    (0, 1)
    """

    def __init__(self, num_replicas: int) -> None:
        self.options = settings()
        self._size = as_count(num_replicas, "num_replicas", most=_MOST)
        self._contexts = self._fresh_contexts()

    def _fresh_contexts(self) -> list[ReplicaContext]:
        self._scheduler = TurnScheduler(self._size)
        nodes = self.options.nodes
        worlds = [in_process_world(self._scheduler, i, nodes=nodes) for i in range(self._size)]
        return [ReplicaContext(self, world) for world in worlds]

    @property
    def num_replicas_in_sync(self) -> int:
        """The number of replicas."""
        return self._size

    @property
    def local_replicas(self) -> int:
        """The number of replicas."""
        return self._size

    def run(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        options: Any = None,
    ) -> Any:
        """Runs ``fn`` on every replica.

        Args:
            fn: called as ``fn(*args, **kwargs)`` in replica context.
            args: the arguments, the same for all. Of a PerReplica in them, each replica gets its own value.
            kwargs: keyword arguments, treated in the same way.
            options: accepted and ignored.

        Returns:
            The results as PerReplica, nested in their structures. If all replicas return the same object,
            that object.

        Raises:
            RuntimeError: called inside ``run()``.
            Exception: the exception that a replica raised.
        """
        require_cross_replica("run()")
        return self._on_replicas((args, kwargs or {}), lambda _, own: fn(*own[0], **own[1]))

    def reduce(self, reduce_op: ReduceOp | str, value: Nested, axis: int | None) -> Nested:
        """See Strategy. A value that is the same everywhere has a mean, but no sum."""
        require_cross_replica("reduce()")
        op = ReduceOp.from_any(reduce_op)
        if isinstance(value, TensorLike) and self._size > 1:
            if op is ReduceOp.SUM:
                raise ValueError("reduce('sum') of one value that is not per replica: did run() return it?")
            if axis is None:
                real = kind_of(value.dtype) in "fc"
                return value if real else Tensor.from_numpy(divided(as_array(value), 1))
        return select(super().reduce(op, value, axis), 0)

    def gather(self, value: Nested, axis: int) -> Nested:
        """See Strategy."""
        return select(super().gather(value, axis), 0)

    def _on_replicas(self, value: Nested, call: Callable[[ReplicaContext, Any], Any]) -> Any:
        def program(index: int) -> Any:
            context = self._contexts[index]
            with frame(self, context, "run"):
                return call(context, select(value, index))

        waiting = self._scheduler, self._contexts
        nested = current_frame().kind == "merge"
        if nested:  # the replicas wait in merge_call, so temporary ones make the collective call
            self._contexts = self._fresh_contexts()
        self._scheduler.reset()
        try:
            return regroup(run_threads(self._scheduler, program))
        except BaseException:
            # Replicas may have stopped at different calls, so the next run starts with new ones.
            self._contexts = self._fresh_contexts()
            raise
        finally:
            if nested:
                self._scheduler, self._contexts = waiting


class _ReplicaThread(threading.Thread):
    """The thread of a replica: a daemon thread whose child threads are not daemons.

    A new thread inherits ``daemon`` from the thread that creates it. The program's threads must not inherit
    it, because Python does not wait for daemon threads at exit.
    """

    _running = False

    @property
    def daemon(self) -> bool:  # type: ignore[override]
        """True when Python registers the thread; False once it runs, since it may then create threads."""
        return not self._running

    def run(self) -> None:
        """See Thread."""
        self._running = True
        super().run()


def run_threads(scheduler: TurnScheduler, program: Callable[[int], Any]) -> list[Any]:
    """Runs ``program(i)`` in a thread for each number ``i`` of the scheduler; 0 is the calling thread.

    Returns:
        The results by number.

    Raises:
        BaseException: the error of the first thread that failed.
    """
    results: list[Any] = [None] * scheduler.size
    errors: list[BaseException] = []  # in the order in which they were raised: one thread runs at a time
    pid = os.getpid()

    def life(index: int) -> None:
        failure = None
        try:
            scheduler.enter(index)
            results[index] = program(index)
        except BaseException as error:
            if os.getpid() != pid:
                _end_child(error)
            errors.append(error)
            failure = format_error(error)
        else:
            if os.getpid() != pid and index > 0:
                # In a forked child, the end of its only thread would skip Python's exit.
                _end_child(SystemExit(0))
        finally:
            scheduler.leave(index, failure)

    threads = [_ReplicaThread(target=life, args=(i,), name=f"replica-{i}") for i in range(1, scheduler.size)]
    with thread_replicas(scheduler.size):
        for thread in threads:
            thread.start()
        scheduler.start()
        life(0)
        if not any(isinstance(error, KeyboardInterrupt) for error in errors):
            for thread in threads:
                while thread.is_alive():
                    thread.join(SIGNAL_WAIT)  # with a timeout: a signal just before join() would not end it
    raise_first(errors)
    return results


def _end_child(error: BaseException) -> NoReturn:
    """Ends a process that a replica forked, in the way that Python ends a program with this error.

    The child has only the thread that forked it, so it cannot return to the other replicas.
    """
    code = 1
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
    elif error.code is None or isinstance(error.code, int):
        code = (error.code or 0) & 0xFF
    else:
        print(error.code, file=sys.stderr)
    flush()
    os._exit(code)


def raise_first(errors: list[BaseException]) -> None:
    """Raises the first error, but one that reports the failure of another replica only if all do."""
    if errors:
        raise next((error for error in errors if not _is_echo(error)), errors[0])


def _is_echo(error: BaseException | None) -> bool:
    """Whether the error, or one that it was raised from, is a ReplicaFailed."""
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, ReplicaFailed):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
