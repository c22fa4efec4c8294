"""Runs a script as several replicas in this process: ``python -m distopt.testing.inprocess``.

What ``distoptrun --in-process N script.py`` starts. Replicas are threads that take turns and change
only at collective calls, so a debugger has the program to itself. Started by an MPI launcher, every
process holds that many replicas. Modules that the script imports are run once and shared.
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

from distopt.comm import TurnScheduler, World, flush
from distopt.distribute.frames import frame
from distopt.distribute.replica_strategy import ThreadStrategy
from distopt.distribute.virtual import run_threads
from distopt.errors import ReplicaFailed
from distopt.launched import launched
from distopt.settings import settings
from distopt.testing.debugger import debugger
from distopt.testing.program import Program, keep_own, keeps_path
from distopt.testing.streams import Prefixed, replica

__all__ = ["main", "run_script"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


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
    job = launched()
    replicas = given.replicas * (job.size if job is not None else 1)
    if given.stop is not None and not 0 <= given.stop < replicas:
        parser.error(f"--break {given.stop}: the replicas are 0 to {replicas - 1}")
    sys.argv = ["-m" if given.module else given.script, *args]
    try:
        program = Program(given.script, given.module)
    except (OSError, ImportError) as error:
        parser.error(str(error))
    if given.module:
        sys.argv[0] = program.file
    code = run_script(program, given.replicas, given.stop, given.post_mortem)
    if code == 130:  # threads may still wait for input, for which Python's own ending would wait too
        flush()
        os._exit(code)
    return code


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our own words, up to the script, and the script's, which are left as they are."""
    end = 0
    while end < len(arguments) and arguments[end].startswith("-"):
        end += 2 if arguments[end] in ("--replicas", "--break") else 1
    return list(arguments[: end + 1]), list(arguments[end + 1 :])


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def run_script(program: Program, replicas: int, stop: int | None = None, post_mortem: bool = False) -> int:
    """Runs ``program`` once as each replica of this process.

    Args:
        program: the script.
        replicas: how many.
        stop: the replica to stop at its first line, under pdb.
        post_mortem: whether to open pdb where a replica raises.

    Returns:
        0; what a replica passed to ``sys.exit``; 1 when one raised, whose traceback is written last;
        130 after Ctrl-C.
    """
    outer = _processes(replicas)
    job = _Job(program, replicas, outer, stop, post_mortem)
    plain = sys.stdout, sys.stderr
    if replicas * (outer.comm.size if outer is not None else 1) > 1:
        sys.stdout, sys.stderr = Prefixed(sys.stdout), Prefixed(sys.stderr)
    code = 0
    try:
        run_threads(job.scheduler, job.replica)
    except BaseException as error:
        code = job.failed(error)
    finally:
        flush()
        sys.stdout, sys.stderr = plain
    if code and outer is not None:
        outer.abort(code)
    return code


def _processes(replicas: int) -> World | None:
    job = launched()
    if job is None or job.size == 1:
        return None
    from distopt.comm.mpi_world import mpi_world

    return mpi_world(settings(), replicas=replicas)


class _Job:
    """The replicas of this process, and what became of them."""

    def __init__(
        self, program: Program, replicas: int, outer: World | None, stop: int | None, post_mortem: bool
    ) -> None:
        self.first = outer.comm.rank * replicas if outer is not None else 0
        self.scheduler = TurnScheduler(replicas, self.first, keep_own)
        self._program = program
        self._outer = outer
        self._stop = stop
        self._post_mortem = post_mortem
        self._raised: dict[int, int] = {}
        self._examined = False

    def replica(self, index: int) -> None:
        """The life of one replica."""
        strategy = ThreadStrategy(self.scheduler, index, self._outer)
        number = self.first + index
        replica.set(number)
        stopping = debugger(_prompt(number)) if self._stop == number else None
        with frame(strategy, strategy.context, "base"):
            try:
                self._program.run(stopping)
                strategy.context.finish()
            except SystemExit as leaving:
                self._raised[id(leaving)] = number
                if leaving.code not in (0, None):
                    raise  # the others cannot go on, as when a process of its own ended so
                strategy.context.finish()
            except BaseException as error:
                self._raised[id(error)] = number
                if self._post_mortem and isinstance(error, Exception):
                    self._examine(error, number)
                raise

    def _examine(self, error: Exception, number: int) -> None:
        """Opens pdb where the first replica raised; the others only hear of it."""
        if self._examined or isinstance(error, (ReplicaFailed, BdbQuit)):
            return
        self._examined = True
        trace = _own_part(error)
        traceback.print_exception(type(error), error, trace)
        examining = debugger(_prompt(number))
        examining.reset()
        examining.interaction(None, trace)

    def failed(self, error: BaseException) -> int:
        """Says how the job ended, and returns its exit code."""
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
            _tell_places(error, self._program.file, self.first)
            return 130
        traceback.print_exception(type(error), error, _own_part(error))
        return 1


def _prompt(number: int) -> str:
    return f"(Pdb {number}) "


def _own_part(error: BaseException) -> TracebackType | None:
    """The traceback from the program's first line on, without the frames that led to it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    return trace or error.__traceback__


def _tell_places(error: BaseException, file: str, first: int) -> None:
    """After Ctrl-C: where the replicas' programs stand. Replica 0's is the thread that got it."""
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
        del sys.path[0]  # put there by -m; the script's own comes instead
    sys.exit(main())
