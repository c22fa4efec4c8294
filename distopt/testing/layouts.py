"""Compares runs of a script under several layouts of its replicas: ``python -m distopt.testing.layouts``.

``python -m distopt.testing.layouts script.py --replicas 8`` runs it as 1 process of 8 replicas, 2 of 4,
4 of 2 and 8 of 1, one after the other, and reports whether all variables are bitwise equal after every step,
or where two layouts diverge: step, variable and first index. All values of all steps are kept in a temporary
folder, so the script should make few steps.

Exit code 0: all agree; 1: some diverge; 2: a run failed, or there is nothing to compare.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from distopt_launch.interpreter import START

from distopt.testing.compare import Divergence, final_state, first_divergence
from distopt.trace import FILE, read

__all__ = ["Layout", "layouts_of", "main"]

_OPTIONS = ("--replicas", "--layouts", "--timeout")
_STANDARD = (1, 2, 4, 8)
_HEADS = ("layout", "exit code", "steps", "SHA-256 of last values", "result")


@dataclass(frozen=True)
class Layout:
    """How replicas are divided among processes.

    Attributes:
        processes: the number of processes.
        replicas: the number of replicas in each.
    """

    processes: int
    replicas: int

    def __str__(self) -> str:
        return f"{self.processes}x{self.replicas}"

    def options(self) -> list[str]:
        """The launcher's options."""
        if self.processes == 1:
            return ["--in-process", str(self.replicas)]
        many = ["--replicas-per-process", str(self.replicas)] if self.replicas > 1 else []
        return ["-n", str(self.processes), *many]


@dataclass
class Run:
    """The run of one layout.

    Attributes:
        layout: the layout.
        code: the exit code; 124 after the timeout.
        output: what it wrote.
        steps: the number of recorded steps.
        state: the SHA-256 of the last values.
        divergence: where it diverges from the first layout; None if it does not.
    """

    layout: Layout
    code: int
    output: str
    steps: int = 0
    state: str = ""
    divergence: Divergence | None = None


def layouts_of(replicas: int) -> list[Layout]:
    """The layouts of 1, 2, 4, 8 and ``replicas`` processes, if these divide the number of replicas.

    >>> [str(layout) for layout in layouts_of(6)]
    ['1x6', '2x3', '6x1']
    """
    counts = sorted({n for n in (*_STANDARD, replicas) if n <= replicas and replicas % n == 0})
    return [Layout(n, replicas // n) for n in counts]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = _parser()
    own, script = _split(sys.argv[1:] if arguments is None else arguments)
    given = parser.parse_args(own)
    if not script or not Path(script[0]).is_file():
        parser.error(f"there is no script {script[0]!r}" if script else "which script?")
    if given.layouts is not None:
        layouts = given.layouts
        wrong = [str(n) for n in layouts if n.processes * n.replicas != given.replicas]
        if wrong:
            parser.error(f"--layouts: {', '.join(wrong)} are not {given.replicas} replicas")
    else:
        layouts = layouts_of(given.replicas)
    with tempfile.TemporaryDirectory(prefix="distopt-layouts-") as folder:
        runs = [_run(layout, script, Path(folder), given.timeout) for layout in layouts]
        for run in runs:
            _compare(run, runs, Path(folder))
    for run in runs:
        if run.code:
            print(f"--- {run.layout} ended with exit code {run.code}:\n{_tail(run.output)}", file=sys.stderr)
    _show(runs)
    for run in runs:
        if run.divergence is not None:
            print(f"{run.layout} diverges from {_first(runs).layout} at {run.divergence}")
    if any(run.code or not run.steps for run in runs):
        return 2
    return 1 if any(run.divergence for run in runs) else 0


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our own options, and the script with its arguments, in order; what follows ``--`` is the script's."""
    own: list[str] = []
    script: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word == "--":
            script += rest
        elif word.partition("=")[0] in _OPTIONS:
            own += [word] if "=" in word else [word, *islice(rest, 1)]
        elif word in ("-h", "--help") and not script:
            own.append(word)
        else:
            script.append(word)
    return own, script


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m distopt.testing.layouts",
        usage="python -m distopt.testing.layouts script.py --replicas N [options] args ...",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--replicas", type=int, required=True, metavar="N", help="replicas in all")
    parser.add_argument("--layouts", type=_layouts, metavar="PxK,...", help="processes x replicas of each")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="S", help="seconds for each (600)")
    return parser


def _layouts(text: str) -> list[Layout]:
    layouts = []
    for word in text.split(","):
        processes, _, replicas = word.strip().partition("x")
        if not (processes.isdigit() and replicas.isdigit() and int(processes) and int(replicas)):
            raise argparse.ArgumentTypeError(f"{word!r} is not a layout such as 2x4")
        layouts.append(Layout(int(processes), int(replicas)))
    return layouts


def _run(layout: Layout, script: Sequence[str], folder: Path, seconds: float) -> Run:
    # Sums within a replica may depend on its number of threads.
    own = ["--threads-per-replica", "1", "--env", f"DISTOPT_RECORD={folder / str(layout)}"]
    command = [sys.executable, START, "distopt_launch.cli", *layout.options(), *own, *script]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as job:
        try:
            output, _ = job.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            job.terminate()  # the launcher ends the job
            try:
                output, _ = job.communicate(timeout=40)
            except subprocess.TimeoutExpired:
                job.kill()
                output, _ = job.communicate()
            return Run(layout, 124, f"{output}\nended after {seconds:g} seconds")
    return Run(layout, job.returncode, output)


def _first(runs: Sequence[Run]) -> Run:
    """The run that the others are compared with: the first that succeeded."""
    return next((run for run in runs if run.code == 0), runs[0])


def _compare(run: Run, runs: Sequence[Run], folder: Path) -> None:
    first = _first(runs)
    own, others = folder / str(run.layout), folder / str(first.layout)
    if not (own / FILE).exists():
        return
    run.steps, run.state = final_state(read(str(own)))
    if run is not first and run.code == 0 and (others / FILE).exists():
        run.divergence = first_divergence(read(str(others)), read(str(own)))


def _result(run: Run, first: Run) -> str:
    if run.code:
        return "failed"
    if not run.steps:
        return "made no step"
    if run is first:
        return "the others are compared with it"
    return "agrees" if run.divergence is None else f"diverges at step {run.divergence.step}"


def _show(runs: Sequence[Run]) -> None:
    first = _first(runs)
    rows = [(str(r.layout), str(r.code), str(r.steps), r.state[:16], _result(r, first)) for r in runs]
    if importlib.util.find_spec("rich") is not None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*_HEADS)
        for row in rows:
            table.add_row(*map(Text, row))
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(_HEADS, *rows, strict=True)]
    for row in (_HEADS, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _tail(output: str, lines: int = 20) -> str:
    return "\n".join(output.rstrip().splitlines()[-lines:])


if __name__ == "__main__":
    sys.exit(main())
