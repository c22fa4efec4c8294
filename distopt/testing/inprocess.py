"""Runs a script as several replicas in this process: ``python -m distopt.testing.inprocess``.

This is what ``distoptrun --in-process N script.py`` starts. Replicas are threads that take turns and switch
only at collective calls, so a debugger has the program to itself. Under an MPI launcher, every process holds
that many replicas. Modules that the script imports run once and are shared.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import traceback
from bdb import BdbQuit
from collections.abc import Sequence
from types import TracebackType

from distopt_launch.interpreter import keeps_path
from distopt_launch.program import LoadedProgram, Program, load

from distopt.comm import TurnScheduler, World, flush
from distopt.distribute.frames import frame
from distopt.distribute.lifetime import give_way
from distopt.distribute.replica_strategy import ThreadStrategy
from distopt.distribute.virtual import run_threads
from distopt.errors import ReplicaFailed
from distopt.launched import launched
from distopt.settings import settings
from distopt.testing.debugger import debugger
from distopt.testing.program import keep_own, run_program
from distopt.testing.streams import PrefixedStream, replica
from distopt.tracebacks import format_error, is_internal, report_error

__all__ = ["main", "run_script"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m distopt.testing.inprocess",
        usage="%(prog)s --replicas N [options] [-m] script args ...",
        description=__doc__,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--replicas", type=_count, metavar="N", required=True, help="replicas in this process"
    )
    parser.add_argument(
        "--break", type=int, dest="stop", metavar="R", help="stop replica R at its first line"
    )
    parser.add_argument("--post-mortem", action="store_true", help="open pdb where a replica raised")
    parser.add_argument("-m", dest="module", action="store_true", help="the script is a module's name")
    parser.add_argument("script")
    own, args = _split(sys.argv[1:] if arguments is None else arguments)
    given = parser.parse_args(own)
    launch = launched()
    replicas = given.replicas * (launch.size if launch is not None else 1)
    if given.stop is not None and not 0 <= given.stop < replicas:
        parser.error(f"--break {given.stop}: the replicas are 0 to {replicas - 1}")
    sys.argv = ["-m" if given.module else given.script, *args]
    try:
        program = load(Program(given.script, module=given.module))
    except (OSError, ImportError) as error:
        parser.error(str(error))
    if given.module:
        sys.argv[0] = program.file
    code = run_script(program, given.replicas, given.stop, given.post_mortem)
    if code == 130:  # threads may still wait for input, and Python would wait for them at exit
        flush()
        os._exit(code)
    return code


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, up to the script, and the script's, unchanged."""
    end = 0
    while end < len(arguments) and arguments[end].startswith("-"):
        end += 2 if arguments[end] in ("--replicas", "--break") else 1
    return list(arguments[: end + 1]), list(arguments[end + 1 :])


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def run_script(
    program: LoadedProgram, replicas: int, stop: int | None = None, post_mortem: bool = False
) -> int:
    """Runs ``program`` once as each replica of this process.

    Args:
        program: the script.
        replicas: their number.
        stop: the replica that pdb stops at its first line; None for none.
        post_mortem: whether to open pdb where a replica raises.

    Returns:
        0; what a replica passed to ``sys.exit``; 1 if one raised, whose traceback is printed last;
        130 after Ctrl-C.
    """
    outer = _processes(replicas)
    group = _ReplicaGroup(program, replicas, outer, stop, post_mortem)
    plain = sys.stdout, sys.stderr
    if replicas * (outer.comm.size if outer is not None else 1) > 1:
        sys.stdout, sys.stderr = PrefixedStream(sys.stdout), PrefixedStream(sys.stderr)
    code = 0
    try:
        run_threads(group.scheduler, group.run)
    except BaseException as error:
        code = group.report(error)
    finally:
        flush()
        sys.stdout, sys.stderr = plain
    if code and outer is not None:
        outer.abort(code)
    return code


def _processes(replicas: int) -> World | None:
    launch = launched()
    if launch is None or launch.size == 1:
        return None
    from distopt.comm.mpi_world import mpi_world

    return mpi_world(settings(), replicas=replicas)


class _ReplicaGroup:
    """The replicas of this process, and how they ended."""

    def __init__(
        self,
        program: LoadedProgram,
        replicas: int,
        outer: World | None,
        stop: int | None,
        post_mortem: bool,
    ) -> None:
        self.first = outer.comm.rank * replicas if outer is not None else 0
        self.scheduler = TurnScheduler(replicas, self.first, keep_own)
        self._program = program
        self._outer = outer
        self._stop = stop
        self._post_mortem = post_mortem
        self._raised: dict[int, int] = {}
        self._examined = False

    def run(self, index: int) -> None:
        """Runs the program as one replica."""
        strategy = ThreadStrategy(self.scheduler, index, self._outer)
        number = self.first + index
        replica.set(number)
        stopping = debugger(_prompt(number)) if self._stop == number else None
        with frame(strategy, strategy.context, "base"):
            try:
                run_program(self._program, stopping)
                strategy.context.finish()
            except SystemExit as leaving:
                self._raised[id(leaving)] = number
                if leaving.code not in (0, None):
                    raise  # the others cannot continue, as if a process had ended
                strategy.context.finish()
            except BaseException as error:
                self._raised[id(error)] = number
                if self._post_mortem and isinstance(error, Exception):
                    self._examine(error, number)
                raise

    def _examine(self, error: Exception, number: int) -> None:
        """Opens pdb where the first replica raised; the others only fail because of it."""
        if self._examined or isinstance(error, (ReplicaFailed, BdbQuit)):
            return
        self._examined = True
        trace = _own_part(error)
        sys.stderr.write(format_error(error))
        examining = debugger(_prompt(number))
        examining.reset()
        examining.interaction(None, trace)

    def report(self, error: BaseException) -> int:
        """Prints how the job ended; returns its exit code."""
        replica.set(self._raised.get(id(error), self.first))
        flush()
        if isinstance(error, SystemExit):
            if isinstance(error.code, int):
                print(f"ended with exit code {error.code}", file=sys.stderr)
                return error.code
            print(error.code, file=sys.stderr)
            return 1
        if isinstance(error, BdbQuit):
            print("ended from pdb", file=sys.stderr)
            return 1
        if isinstance(error, KeyboardInterrupt):
            _print_locations(error, self._program.file, self.first)
            return 130
        if self._outer is not None:
            give_way(error, self._outer.comm.rank)
        report_error(error, _own_part(error))
        return 1


def _prompt(number: int) -> str:
    return f"(Pdb {number}) "


def _own_part(error: BaseException) -> TracebackType | None:
    """The traceback from the program's first line on, with all that comes below it."""
    trace = error.__traceback__
    while trace is not None and is_internal(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace or error.__traceback__


def _print_locations(error: BaseException, file: str, first: int) -> None:
    """After Ctrl-C: prints each replica's current line. Replica 0 runs in the thread that got the signal."""
    frames = sys._current_frames()
    stacks = {0: [(f.f_code.co_filename, line) for f, line in traceback.walk_tb(error.__traceback__)]}
    for thread in threading.enumerate():
        if thread.name.startswith("replica-") and thread.ident in frames:
            walk = traceback.walk_stack(frames[thread.ident])
            index = int(thread.name.removeprefix("replica-"))
            stacks[index] = [(f.f_code.co_filename, line) for f, line in walk][::-1]
    for index, stack in sorted(stacks.items()):
        own = [line for name, line in stack if name == file]
        replica.set(first + index)
        print(f"interrupted at {file}:{own[-1]}" if own else "interrupted", file=sys.stderr)


if __name__ == "__main__":
    if not keeps_path():
        del sys.path[0]  # the working directory, put there by -m; the script's folder takes its place
    sys.exit(main())
