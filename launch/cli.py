"""The command ``distoptrun``."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import environment
from .cache import warning
from .commands import line, shown
from .cores import cores, threads, usable
from .display import Display
from .errors import JobStartError
from .interpreter import running
from .job import Job
from .job_result import JobResult
from .launch_plan import LaunchPlan
from .limits import open_files_for
from .options import Options, parse
from .prepare import check_in_process, in_process_argv, make_plan, program_of, variables_of
from .program_check import check
from .standard_streams import OUT, open_standard_streams

if TYPE_CHECKING:
    from .observer import Observer


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``distoptrun``.

    Args:
        argv: the arguments; ``sys.argv[1:]`` by default.

    Returns:
        The exit code: 0, or that of the replica that failed first (128 + n if signal n killed it), 124 after
        ``--timeout``, 130 after Ctrl-C, 2 if the job cannot be started.
    """
    open_standard_streams()
    try:
        given = sys.argv[1:] if argv is None else argv
        options = parse(given)
        code = _dispatch(options, given)
        sys.stdout.flush()
        return code
    except JobStartError as error:
        print(f"distoptrun: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader is gone; otherwise Python would raise again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), OUT)
        return 128 + signal.SIGPIPE


def _dispatch(options: Options, argv: Sequence[str]) -> int:
    environ = environment.cleaned(environment.inherited())
    if options.version:
        from .installed import version

        print(f"distoptrun {version()}")
        return 0
    if options.check:
        from .check import run_check

        return run_check(options, environ)
    if options.live:
        from .live import run_live

        return run_live(options.program)
    program = program_of(options)
    if not options.dry_run:
        check(program)
    own, _ = variables_of(options, environ)
    if text := warning({**environ, **dict(own)}, Path()):
        print(f"distoptrun: warning: {text}", file=sys.stderr)
    if options.in_process:
        check_in_process(options)
        return _in_process(options, environ, argv)
    plan = make_plan(options, program, environ)
    for note in plan.notes:
        print(f"distoptrun: {note}", file=sys.stderr)
    if options.dry_run:
        print(shown(plan))
        return 0
    return run_plan(plan, options, environ, argv)


def run_plan(plan: LaunchPlan, options: Options, environ: dict[str, str], argv: Sequence[str] = ()) -> int:
    """Runs a plan, restarts it after failures if the options allow it, and returns the exit code."""
    open_files_for(plan.processes)
    logs = Path(options.log_dir) if options.log_dir else None
    named = options.replicas_per_process is not None
    display = Display(options.ranks_filter, logs is None or options.tee, options.timestamps, logs, named)
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    environ = {**environ, environment.JOB: secrets.token_hex(8)}
    result = JobResult(1, restart=True)
    observer = _observer(plan, options, argv, display)
    if observer is not None:
        environ[environment.WISHES] = str(observer.wishes)
    take = (lambda _event: None) if observer is None else observer.take
    try:
        for attempt in range(options.max_restarts + 1):
            if attempt:
                display.message(
                    f"exit code {result.code}; starting again ({attempt} of {options.max_restarts})"
                )
            display.open_logs(plan.processes, attempt)
            if observer is not None:
                observer.begin()
            result = Job(plan, display, environ, deadline, options.grace, take).run(attempt)
            if observer is not None:
                observer.end(result.code, result.how)
            if result.code == 0 or not result.restart:
                break
    finally:
        if observer is not None:
            observer.close()
        display.close()
    return result.code


def _observer(plan: LaunchPlan, options: Options, argv: Sequence[str], display: Display) -> Observer | None:
    """Creates the observer if an option names a file that it writes; else returns None."""
    if not (options.report or options.timeline or options.metrics):
        return None
    from .observer import Observer  # imported only if needed, because it takes time to load

    observer = Observer(options, argv, plan.processes, display.message)
    for note in plan.notes:
        observer.record.warn(-1, note)
    display.listener = observer.record.line
    return observer


def _in_process(options: Options, environ: dict[str, str], words: Sequence[str]) -> int:
    """Runs several replicas in one process.

    The process replaces this one, so that pdb has the terminal. For a report, timeline or metrics file, this
    process stays to collect telemetry.
    """
    argv = running(*in_process_argv(options, program_of(options)))
    given, passed = variables_of(options, environ)
    own = {**threads(options.threads_per_replica, usable(len(cores())), 1, environ), **dict(given)}
    if options.dry_run:
        print(line(own, passed, argv))
        return 0
    sys.stdout.flush()
    if options.report or options.timeline or options.metrics:
        from .observed_process import run_observed  # imported only if needed, because it takes time to load

        return run_observed(options, words, argv, {**environ, **own})
    os.execve(argv[0], argv, {**environ, **own})
