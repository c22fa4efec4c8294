"""``--in-process`` under ``--report``, ``--timeline`` or ``--metrics``: one process, and what looks on.

The process has the terminal to itself, so that pdb works there: nothing that it writes is read.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

from . import environment
from .feed import Feed
from .observer import Observer
from .options import Options
from .protocol import decode

#: Seconds between two looks at whether it has ended: a child of its own may keep the pipe open.
_PAUSE = 0.5


def run_observed(
    options: Options, words: Sequence[str], argv: Sequence[str], environ: Mapping[str, str]
) -> int:
    """Runs a process, and writes down what it tells.

    Args:
        options: which files to write.
        words: the launcher's own command line.
        argv: the process's.
        environ: its environment.

    Returns:
        its exit code; 128 + signal if it was killed.
    """
    observer = Observer(options, words, 1, lambda text: print(f"distoptrun: {text}", file=sys.stderr))
    observer.begin()
    reader, writer = os.pipe()
    telemetry = {environment.WISHES: str(observer.wishes), environment.TELEMETRY: f"{writer}:0"}
    with subprocess.Popen(argv, env={**environ, **telemetry}, pass_fds=[writer]) as process:
        os.close(writer)
        _leave_signals_to(process)
        feed = Feed(0, process.pid, environ.get("OMP_NUM_THREADS", ""), observer.take)
        rest = b""
        while True:
            feed.proceed()
            running = process.poll() is None
            readable, _, _ = select.select([reader], [], [], min(feed.wait, _PAUSE) if running else 0)
            data = os.read(reader, 1 << 16) if readable else b""
            *lines, rest = (rest + data).split(b"\n")
            for event in filter(None, map(decode, lines)):
                observer.take(event)
            if not data and (readable or not running):
                break
        code = process.wait()
        feed.end()
    os.close(reader)
    code = code if code >= 0 else 128 - code
    observer.end(code, "")
    observer.close()
    return code


def _leave_signals_to(process: subprocess.Popen[bytes]) -> None:
    """The terminal sends Ctrl-C to both; what this process alone gets it hands on."""

    def hand_on(number: int, _: FrameType | None) -> None:
        process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, hand_on)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)
