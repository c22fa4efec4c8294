"""Job: runs one job from its start to its exit code."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable

from . import environment, leftovers, signals
from . import segments as shared
from .commands import command, variables
from .demultiplexer import Demultiplexer
from .display import Display
from .errors import JobStartError
from .input_forwarder import InputForwarder
from .job_result import JobReporter, JobResult
from .job_state import JobState
from .launch_plan import LaunchPlan
from .pipes import Pipes
from .protocol import Event
from .shutdown import Shutdown, ShutdownReason
from .standard_streams import OUT

_CHUNK = 1 << 16
_INTERRUPT_GRACE = 2.5  # seconds; with the later stages, Ctrl-C ends everything within 5 s
_FAILURE_GRACE = 3.0  # seconds for the others to end by themselves and say why, once one has failed
_OVER_GRACE = 1.0  # seconds for the MPI launcher to end once all replicas have
_LAST_OUTPUT = 1.0  # seconds for output that is still in the pipes when mpiexec has ended
#: Bytes of pending output above which replicas are no longer read, and below which they are again.
_HIGH_WATER, _LOW_WATER = 1 << 20, 1 << 18


class Job:
    """Starts a plan, forwards output and input of the replicas, and ends the job.

    Args:
        plan: what to start.
        display: where output goes.
        environ: the environment of the MPI launcher, without the variables of the plan.
        deadline: when to end the job (`time.monotonic`); None for never.
        grace: seconds from SIGTERM to SIGKILL.
        take: called with each telemetry event.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        display: Display,
        environ: dict[str, str],
        deadline: float | None,
        grace: float,
        take: Callable[[Event], None] = lambda _event: None,
    ) -> None:
        self._plan, self._display, self._environ = plan, display, environ
        self._deadline = float("inf") if deadline is None else deadline
        self._grace = grace
        self._state = JobState(plan.processes)
        self._incoming = Demultiplexer(plan.processes, display, self._state, take)
        self._input = InputForwarder(display.input_entered)
        self._selector = selectors.PollSelector()
        #: The pipes of the replicas' output, while reading is paused.
        self._paused: list[selectors.SelectorKey] = []
        #: The descriptors of our own output and input in the selector, with their events.
        self._watched: dict[int, int] = {}

    def run(self, attempt: int) -> JobResult:
        """Runs the job to its end.

        Raises:
            JobStartError: the MPI launcher cannot be started.
        """
        leftovers.remove()
        shared.remove_unused()
        try:
            pipes = Pipes(self._plan.processes)
        except OSError as error:
            raise JobStartError(f"cannot make pipes for {self._plan.processes} processes: {error}") from None
        segments = shared.present()
        try:
            with signals.caught() as pending:
                process = self._start(pipes, attempt)
                shutdown = Shutdown(process, self._state)
                self._selector.register(pending.reader, selectors.EVENT_READ, (-1, "signal"))
                try:
                    self._watch(process, pipes, shutdown, pending)
                finally:
                    self._clean_up(process, shutdown, pending)
                code = process.returncode if process.returncode >= 0 else 128 - process.returncode
                reporter = JobReporter(self._plan.launcher, self._display, self._state, self._incoming)
                result = reporter.report(
                    code, shutdown.reason.name if shutdown.reason else "", shutdown.forced
                )
                self._flush_output(shutdown, pending)
            return result
        finally:
            self._input.close()
            pipes.close()
            self._selector.close()
            shared.remove_after(segments, [pid for pids in self._state.pids.values() for pid in pids])

    def _start(self, pipes: Pipes, attempt: int) -> subprocess.Popen[bytes]:
        environ = {
            **self._environ,
            **variables(self._plan),
            environment.CHANNEL: str(pipes.folder),
            environment.RESTART: str(attempt),
            environment.IGNORED: ",".join(str(int(number)) for number in signals.ignored()),
        }
        if os.isatty(OUT):
            environ[environment.TTY] = "1"
        argv = command(self._plan)
        try:
            process = subprocess.Popen(
                argv,
                env=environ,
                stdin=subprocess.PIPE,  # for a replica 0 on another machine
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C reaches only this process, which forwards it in order
            )
        except OSError as error:
            raise JobStartError(f"cannot start {argv[0]}: {error.strerror}") from None
        assert process.stdout is not None
        assert process.stderr is not None
        for pipe, kind in ((process.stdout, "out"), (process.stderr, "err")):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe.fileno(), selectors.EVENT_READ, (-1, kind))
        for reader, label in pipes.readers.items():
            self._selector.register(reader, selectors.EVENT_READ, label)
        return process

    def _watch(
        self,
        process: subprocess.Popen[bytes],
        pipes: Pipes,
        shutdown: Shutdown,
        pending: signals.PendingSignals,
    ) -> None:
        """Runs the event loop until the MPI launcher has ended."""
        forwarding = False
        while process.poll() is None:
            self._turn(min(shutdown.wait, self._left()))
            self._take_signals(shutdown, pending)
            if 0 in self._state.started and not forwarding:
                forwarding = True
                self._forward_input(process, pipes)
            if self._left() <= 0 and (shutdown.reason is None or shutdown.reason.name in ("failure", "over")):
                self._deadline = float("inf")
                self._display.message("time limit reached (--timeout): ending the job")
                shutdown.request(ShutdownReason("timeout", signal.SIGTERM, self._grace))
            if shutdown.reason is None:
                self._check_for_end(shutdown)
            shutdown.proceed()

    def _check_for_end(self, shutdown: Shutdown) -> None:
        """Ends the job after a failure, after its last replica, or if the reader of its output has exited."""
        if self._state.failures:
            shutdown.request(ShutdownReason("failure", 0, _FAILURE_GRACE))
        elif len(self._state.ended) == self._plan.processes:
            # The MPI launcher may wait forever for a process that a replica has left behind.
            shutdown.request(ShutdownReason("over", 0, _OVER_GRACE))
        elif self._display.output.gone and self._display.needed:
            self._display.message("the reader of standard output has exited: ending the job")
            shutdown.request(ShutdownReason("unread", signal.SIGTERM, self._grace))

    def _take_signals(self, shutdown: Shutdown, pending: signals.PendingSignals) -> None:
        for number in pending.take():
            if number == signal.SIGINT:
                shutdown.request(ShutdownReason("interrupt", signal.SIGINT, _INTERRUPT_GRACE))
            elif number in signals.ENDING:
                shutdown.request(ShutdownReason("terminate", signal.SIGTERM, self._grace))
            elif number in signals.FORWARDED:
                self._forward_signal(number, shutdown)
            elif number == signal.SIGTSTP:
                shutdown.suspend()
            else:
                shutdown.resume()

    def _forward_signal(self, number: int, shutdown: Shutdown) -> None:
        # SIGUSR2 kills MPICH's process manager; those of Open MPI and Slurm forward it.
        hydra = self._plan.family in ("mpich", "intel")
        if hydra and number == signal.SIGUSR2 and self._plan.hosts:
            self._display.message(
                "this MPI does not forward SIGUSR2 to other hosts, so no replica gets it; use SIGUSR1"
            )
            return
        shutdown.forward(number)

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _forward_input(self, process: subprocess.Popen[bytes], pipes: Pipes) -> None:
        """Starts forwarding standard input to replica 0, through its pipe or the MPI launcher."""
        assert process.stdin is not None
        here = 0 in self._state.pids
        self._input.begin(pipes.input() if here else os.dup(process.stdin.fileno()))
        process.stdin.close()

    def _clean_up(
        self, process: subprocess.Popen[bytes], shutdown: Shutdown, pending: signals.PendingSignals
    ) -> None:
        """After the MPI launcher's end: reads the rest of the output, and kills remaining replicas."""
        self._input.close()
        self._drain(shutdown, pending)
        shutdown.kill_replicas()
        if process.poll() is None:
            process.kill()
            process.wait()
        self._drain(shutdown, pending)
        self._incoming.end()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def _drain(self, shutdown: Shutdown, pending: signals.PendingSignals) -> None:
        """Reads until the replicas have ended and the pipes are empty, or for `_LAST_OUTPUT` seconds."""
        end = time.monotonic() + _LAST_OUTPUT
        while (left := end - time.monotonic()) > 0:
            if self._paused:
                self._flush_output(shutdown, pending)  # may take long, and is not counted
                end = time.monotonic() + _LAST_OUTPUT
            # A pipe that no process has opened yet reports nothing: an empty turn then means the end.
            wait = min(left, 0.1) if self._state.running else 0.0
            if not self._turn(wait) and not self._state.running:
                return

    def _flush_output(self, shutdown: Shutdown, pending: signals.PendingSignals) -> None:
        """Waits until all output is written; for at most a second if the job is being ended."""
        patient = time.monotonic() + _LAST_OUTPUT
        while self._display.output.pending:
            ending = shutdown.reason is not None and shutdown.reason.name not in ("failure", "over")
            limit = patient if ending else max(patient, self._deadline)
            if (left := limit - time.monotonic()) <= 0:
                self._display.output.drop()
                break
            self._pause_reading()
            self._turn(left)
            self._take_signals(shutdown, pending)
        self._resume_reading()

    def _turn(self, wait: float) -> bool:
        """Runs one turn of the event loop. Returns whether anything came from the replicas."""
        if self._display.output.pending > _HIGH_WATER:
            self._pause_reading()
        elif self._display.output.pending < _LOW_WATER:
            self._resume_reading()
        self._update_selector()
        self._incoming.set_interactive(self._input.open)
        wait = min(wait, self._incoming.due - time.monotonic(), self._input.wait)
        events = self._selector.select(None if wait == float("inf") else max(0.0, wait))
        with self._display.output.gathering():  # writes at its end, without blocking
            came = [self._handle(key) for key, _mask in events]
            self._incoming.proceed(time.monotonic())
        return any(came)

    def _handle(self, key: selectors.SelectorKey) -> bool:
        """Handles an event of the selector. Returns whether it came from the replicas."""
        rank, kind = key.data
        if kind == "input":
            self._input.proceed()
        elif kind not in ("signal", "output"):
            self._read(key.fd, rank, kind)
            return True
        return False

    def _read(self, descriptor: int, rank: int, kind: str) -> None:
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        if data:
            self._incoming.add(rank, kind, data)
        else:
            self._selector.unregister(descriptor)

    def _update_selector(self) -> None:
        """Registers the descriptors that our own output and input now wait for."""
        wanted = dict.fromkeys(self._display.output.blocked, selectors.EVENT_WRITE)
        forwarding = self._input.waits_for
        if forwarding is not None:
            wanted[forwarding[0]] = forwarding[1]
        if wanted == self._watched:
            return
        for descriptor in self._watched:
            self._selector.unregister(descriptor)
        for descriptor, event in wanted.items():
            is_input = forwarding is not None and descriptor == forwarding[0]
            self._selector.register(descriptor, event, (-1, "input" if is_input else "output"))
        self._watched = wanted

    def _pause_reading(self) -> None:
        """Stops reading the replicas' output until the pending output is written; events are still read."""
        if not self._paused:
            streams = [key for key in self._selector.get_map().values() if key.data[1] in ("out", "err")]
            for key in streams:
                self._selector.unregister(key.fd)
            self._paused = streams

    def _resume_reading(self) -> None:
        for key in self._paused:
            self._selector.register(key.fd, key.events, key.data)
        self._paused = []
