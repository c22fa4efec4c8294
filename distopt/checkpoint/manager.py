"""CheckpointManager: saves the state of a program and restores it."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from distopt.checkpoint import files, lock, preemption
from distopt.checkpoint.contents import Contents, collect
from distopt.checkpoint.manifest import Manifest
from distopt.checkpoint.matching import Pair, matched
from distopt.checkpoint.restoring import Loaded, assign, examine, load
from distopt.checkpoint.snapshot import Encoded, encode_states, fingerprint_of, make_save_plan
from distopt.checkpoint.writing import Saving
from distopt.collectives import digest
from distopt.distribute import ReplicaContext, collective_call, require_replica_context, saving, tell
from distopt.errors import ReplicaFailed
from distopt.tensor_files import safetensors

__all__ = ["CheckpointManager"]

_log = logging.getLogger("distopt")


class CheckpointManager:
    """Saves objects in numbered checkpoints and restores the newest complete one.

    Every replica creates a manager with its own objects. All replicas call :meth:`save` and :meth:`restore`
    together. The states of the global random generators of NumPy and Python are saved too, and that of
    PyTorch if the program has imported it.

    Args:
        directory: the directory of the checkpoints, which all replicas must see. Only one job at a time may
            write to it, from its first :meth:`save` until its managers are deleted. Any number of jobs may
            restore from it.
        keep: the number of complete checkpoints to keep. Older ones are removed when a new one is complete.
        **objects: the objects to save, by name: variables (or lists, tuples and dicts of them), optimizers,
            models and metrics (anything with ``weights``), random generators, objects with ``get_state()``
            and ``set_state()`` or with PyTorch's ``state_dict()`` and ``load_state_dict()``, and dicts or
            lists of numbers, strings, arrays and tensors, which are changed in place. The variables that an
            optimizer trains must be among them.

    Raises:
        ValueError: ``keep`` is below 1, or there are no objects.
        MissingExtra: safetensors is not installed.

    >>> w = Variable([1.0, 2.0])
    >>> mine = {"epoch": 0}
    >>> manager = CheckpointManager("out/run", variables=[w], mine=mine)  # doctest: +SKIP
    >>> manager.restore()  # doctest: +SKIP
    False
    """

    def __init__(self, directory: str | os.PathLike[str], *, keep: int = 3, **objects: Any) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1; got {keep}")
        if not objects:
            raise ValueError(
                "CheckpointManager(directory, ...) has nothing to save: pass at least one object by keyword"
            )
        safetensors("distopt.checkpoint")
        self.directory = os.path.abspath(os.fspath(directory))
        self.keep = keep
        self._objects = objects
        self._damaged: set[str] = set()
        # By replica: those of a VirtualStrategy may share one manager.
        self._savings: dict[int, Saving] = {}
        self._handlers: dict[int, Any] = {}

    @property
    def checkpoints(self) -> list[str]:
        """The paths of the checkpoints in the directory, oldest first."""
        return files.checkpoints(self.directory)

    @property
    def latest(self) -> str | None:
        """Returns the path of the newest checkpoint, or None."""
        return next(reversed(self.checkpoints), None)

    @collective_call
    @saving
    def save(self, background: bool = False) -> str:
        """Writes a checkpoint. Collective.

        Args:
            background: whether to return once the values are copied, and write them in a thread. The next
                ``save`` or ``wait`` raises its errors.

        Returns:
            The path of the checkpoint.

        Raises:
            OSError: the checkpoint cannot be written. Older checkpoints are unchanged, and the job can
                continue.
            TypeError: an object cannot be saved.
            ValueError: a variable of an optimizer is not among the objects.
            RuntimeError: another job writes to the directory. The message names it.
            ReplicaFailed: one of these errors happened on another replica.
            ReplicaMismatch: replicas have different objects.
        """
        self.wait()
        context = require_replica_context("CheckpointManager.save()")
        rank = context.comm.rank
        contents, states, number, fingerprint = Contents(), dict[str, Encoded](), 0, 0
        error: Exception | None = None
        try:
            contents = collect(self._objects)
            states = encode_states(contents)
            fingerprint = fingerprint_of(contents)
            if rank == 0:
                self._hold()
                number = files.begin(self.directory)
        except OSError as problem:
            error = self._described(problem)
        except Exception as problem:
            error = problem
        call = "CheckpointManager.save"
        describe = lambda: f"{call}({', '.join(self._objects)})"  # noqa: E731
        number = context.collective_check.check(call, fingerprint, describe, error, flags=number)[0]
        timeout = context.strategy.options.abort_seconds
        content = make_save_plan(context, contents, states, number)
        self._savings[rank] = Saving(self.directory, content, rank == 0, background, timeout, self._prune)
        self._savings[rank].step = context.collective_check.steps
        context.comm.barrier()  # the copies are made: values may change
        if not background:
            self.wait()
        return files.path_of(self.directory, number)

    @collective_call
    @saving
    def wait(self) -> None:
        """Waits until a save in the background is complete. Collective.

        Raises:
            OSError: the checkpoint cannot be written. Older checkpoints are unchanged.
            ReplicaFailed: this happened on another replica.
        """
        context = require_replica_context("CheckpointManager.wait()")
        saving = self._savings.pop(context.comm.rank, None)
        if saving is None:
            return
        call = "CheckpointManager.save"
        describe = lambda: f"{call}, checkpoint {saving.number}"  # noqa: E731
        try:
            for finished in (saving.written, saving.published):
                error = finished()
                shown = self._described(error) if isinstance(error, OSError) else error
                context.collective_check.check(call, saving.number, describe, shown)
            path = files.path_of(self.directory, saving.number)
            tell(context, "checkpoint", step=saving.step, seconds=saving.seconds, path=path)
        except Exception:
            saving.give_up()
            raise

    @collective_call
    @saving
    def restore(self) -> bool:
        """Restores the newest checkpoint that is complete on all replicas. Collective.

        Incomplete checkpoints are skipped with a warning. The number of replicas may have changed.

        Returns:
            Whether there was a checkpoint.

        Raises:
            ValueError: the checkpoint is of other objects. The message lists the differences, and nothing was
                changed.
            RuntimeError: there are checkpoints, but none is complete.
            OSError: the directory cannot be read.
            ReplicaFailed: one of these errors happened on another replica.
        """
        self.wait()
        context = require_replica_context("CheckpointManager.restore()")
        contents, found = Contents(), ""
        error: Exception | None = None
        try:
            contents = collect(self._objects)
            found = "\n".join(map(os.path.basename, self.checkpoints))
            if context.comm.rank == 0:
                files.warn_of_others(self.directory)
        except Exception as problem:
            error = problem
        self._agree(context, error)
        names = context.comm.gather_bytes(found.encode())[0].decode().split()
        for name in reversed(names):
            path = os.path.join(self.directory, name)
            manifest, wrong = examine(context, path)
            if manifest is not None:
                if context.comm.rank == 0:
                    files.warn_of_others(path)
                self._put_back(context, contents, path, manifest)
                return True
            self._damaged.add(path)
            if context.comm.rank == 0:
                _log.warning("checkpoint %s is skipped: %s", path, wrong)
        if names:
            raise RuntimeError(
                f"none of the checkpoints in {self.directory} is intact ({', '.join(names)}): move them "
                "away to start from the beginning"
            )
        return False

    def _put_back(self, context: ReplicaContext, contents: Contents, path: str, manifest: Manifest) -> None:
        """Checks on all replicas that everything fits, then assigns it on all."""
        pairs: list[Pair] = []
        loaded = Loaded(True, [], {})
        error: Exception | None = None
        try:
            pairs = matched(contents, manifest)
        except Exception as problem:
            error = problem
        self._agree(context, error)
        try:
            loaded = load(context, contents, pairs, path, manifest)
        except Exception as problem:
            error = problem
        self._agree(context, error)
        try:
            assign(context, contents, pairs, loaded)
        except Exception as problem:
            error = problem
        self._agree(context, error)

    @collective_call
    @saving
    def clear(self) -> None:
        """Removes all checkpoints, and the directory if it is then empty. Collective.

        Raises:
            OSError: a checkpoint cannot be removed.
            RuntimeError: another job writes to the directory. The message names it.
            ReplicaFailed: this happened on replica 0.
        """
        self.wait()
        context = require_replica_context("CheckpointManager.clear()")
        error: Exception | None = None
        try:
            if context.comm.rank == 0 and os.path.isdir(self.directory):
                self._hold()
                files.clear(self.directory)
                self.unlock()
                files.remove_if_empty(self.directory)
        except (OSError, RuntimeError) as problem:
            error = problem
        call = "CheckpointManager.clear"
        context.collective_check.check(call, digest(call), lambda: call, error)

    # -- one job at a time
    def lock(self) -> None:
        """Locks the directory for this job now instead of in the first :meth:`save`. Collective.

        It does not check whether the directory can be written.

        Raises:
            RuntimeError: another job writes to the directory. The message names it.
            ReplicaFailed: this happened on replica 0.
        """
        context = require_replica_context("CheckpointManager.lock()")
        error: Exception | None = None
        try:
            if context.comm.rank == 0:
                with suppress(OSError):
                    self._hold()
        except RuntimeError as problem:
            error = problem
        call = "CheckpointManager.lock"
        context.collective_check.check(call, digest(call), lambda: call, error)

    def unlock(self) -> None:
        """Releases the directory to other jobs, until the next :meth:`save`.

        Does nothing while a save in the background is running.
        """
        if not self._savings:
            lock.let_go(self.directory, self)

    def _hold(self) -> None:
        files.make_directory(self.directory)
        files.warn_of_others(self.directory)
        lock.hold(self.directory, self)

    # -- preemption
    def on_preemption(self, signals: Iterable[int] = (signal.SIGTERM,)) -> None:
        """Makes signals request a final checkpoint, which :meth:`step` writes.

        Raises:
            ValueError: not called in the main thread.
        """
        context = require_replica_context("CheckpointManager.on_preemption()")
        if context.world.local.rank == 0:  # the others of this process are its threads
            self._handlers.update(preemption.listen(signals))

    def release_preemption(self) -> None:
        """Restores the signal handlers from before :meth:`on_preemption`."""
        if require_replica_context("CheckpointManager.release_preemption()").world.local.rank == 0:
            preemption.release(self._handlers)
            self._handlers.clear()

    @collective_call
    def step(self) -> None:
        """Saves and ends the program after a signal. All replicas call it after each step.

        If any replica has received a signal, all replicas save and exit with code 143.

        Raises:
            SystemExit: to exit.
        """
        context = require_replica_context("CheckpointManager.step()")
        call = "CheckpointManager.step"
        flags = context.collective_check.check(
            call, digest(call), lambda: call, flags=int(preemption.asked())
        )
        if not any(flags):
            return
        preemption.forget()
        try:
            self.wait()
        except OSError as error:
            _log.warning("the checkpoint before the last one failed: %s", error)
        except ReplicaFailed:
            pass  # told there
        path = self.save()
        if context.comm.rank == 0:
            _log.warning("asked to end: saved %s, exit code %d", path, preemption.EXIT_CODE)
        sys.exit(preemption.EXIT_CODE)

    # -- helpers
    def _agree(self, context: ReplicaContext, error: Exception | None) -> None:
        call = "CheckpointManager.restore"
        context.collective_check.check(call, digest(call), lambda: call, error)

    def _described(self, error: OSError) -> OSError:
        """The error, with what it means here."""
        try:
            latest = self.latest
        except OSError:
            latest = None
        kept = f"the newest one is {latest}" if latest else "there is none yet"
        text = (
            f"the checkpoint could not be written: {error.strerror or error}. Nothing else is affected: "
            f"the program can continue, and earlier checkpoints are unchanged ({kept}). Check the free "
            "space, the quota and the permissions of the directory"
        )
        return OSError(error.errno, text, error.filename or self.directory)

    def _prune(self) -> None:
        try:
            files.prune(self.directory, self.keep, self._damaged)
        except OSError as error:
            _log.warning("old checkpoints could not be removed from %s: %s", self.directory, error)
