"""Runs a script as several replicas in this process: ``python -m distopt.testing.inprocess``.

What ``distoptrun --in-process N script.py`` starts. Replicas are threads that take turns and change
only at collective calls, so a debugger has the program to itself. Started by an MPI launcher, every
process holds that many replicas.
"""

from __future__ import annotations

import argparse
import io
import os
import pdb
import runpy
import sys
import threading
import traceback
from collections.abc import Sequence
from types import CodeType
from typing import Any, TextIO

from distopt.comm import Baton, Communicator, InProcessCommunicator
from distopt.distribute.frames import frame
from distopt.distribute.replica_strategy import ThreadStrategy
from distopt.distribute.virtual import run_threads
from distopt.errors import ReplicaFailed
from distopt.settings import launched, settings

__all__ = ["main", "run_script"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m distopt.testing.inprocess", description=__doc__)
    parser.add_argument("--replicas", type=int, required=True, help="replicas in this process")
    parser.add_argument(
        "--break", type=int, dest="stop", metavar="R", help="stop replica R at its first line"
    )
    parser.add_argument("--post-mortem", action="store_true", help="open pdb where a replica raised")
    parser.add_argument("-m", dest="module", action="store_true", help="the script is a module's name")
    parser.add_argument("script")
    parser.add_argument("args", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    sys.argv = [given.script, *given.args]
    if not given.module:
        sys.path.insert(0, os.path.dirname(os.path.abspath(given.script)))
    return run_script(given.script, given.replicas, given.module, given.stop, given.post_mortem)


def run_script(
    script: str, replicas: int, module: bool = False, stop: int | None = None, post_mortem: bool = False
) -> int:
    """Runs ``script`` once as each replica of this process.

    Args:
        script: a file, or a module's name.
        replicas: how many.
        module: whether it is a module's name.
        stop: the replica to stop at its first line, under pdb.
        post_mortem: whether to open pdb where a replica raises.

    Returns:
        0, what the script passed to ``sys.exit``, or 1 when a replica raised.
    """
    outer = _processes()
    first = outer.rank * replicas if outer is not None else 0
    baton = Baton(replicas, first)
    if replicas * (outer.size if outer is not None else 1) > 1:
        sys.stdout = _Prefixed(sys.stdout)

    def program(index: int) -> None:
        strategy = ThreadStrategy(InProcessCommunicator(baton, index, outer))
        _replica.number = first + index
        with frame(strategy, strategy.context, "base"):
            try:
                _execute(script, module, under_pdb=stop == first + index)
                strategy.context.agreement.finish()
            except SystemExit as leaving:
                strategy.context.agreement.finish()
                codes[index] = leaving.code
            except ReplicaFailed:
                raise
            except BaseException:
                if post_mortem:
                    traceback.print_exc()
                    pdb.Pdb(stdout=_plain(sys.stdout)).interaction(None, sys.exc_info()[2])  # type: ignore[arg-type]
                raise

    codes: list[Any] = [0] * replicas
    try:
        run_threads(baton, program)
    except BaseException:
        sys.stdout.flush()
        traceback.print_exc()
        if outer is not None:
            outer.abort(1)
        return 1
    finally:
        sys.stdout = _plain(sys.stdout)
    failed = [code for code in codes if code not in (0, None)]
    if failed and isinstance(failed[0], str):
        print(failed[0], file=sys.stderr)
    return 0 if not failed else failed[0] if isinstance(failed[0], int) else 1


def _processes() -> Communicator | None:
    job = launched()
    if job is None or job.size == 1:
        return None
    from distopt.comm.mpi import world

    return world(settings())


def _execute(script: str, module: bool, under_pdb: bool) -> None:
    if under_pdb:
        with open(script, "rb") as source:
            code: CodeType = compile(source.read(), script, "exec")
        names = {"__name__": "__main__", "__file__": script, "__builtins__": __builtins__}
        pdb.Pdb(stdout=_plain(sys.stdout)).runctx(code, names, names)
    elif module:
        runpy.run_module(script, run_name="__main__")
    else:
        runpy.run_path(script, run_name="__main__")


class _Number(threading.local):
    number = 0


_replica = _Number()


class _Prefixed(io.TextIOBase):
    """Standard output with the replica's number before each line."""

    def __init__(self, plain: TextIO) -> None:
        self.plain = plain
        self._at_start = True

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            if self._at_start:
                self.plain.write(f"[{_replica.number}] ")
            self.plain.write(line)
            self._at_start = line.endswith(("\n", "\r"))
        return len(text)

    def flush(self) -> None:
        self.plain.flush()

    def isatty(self) -> bool:
        return self.plain.isatty()


def _plain(stream: Any) -> Any:
    return stream.plain if isinstance(stream, _Prefixed) else stream


if __name__ == "__main__":
    sys.exit(main())
