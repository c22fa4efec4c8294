"""``--in-process`` with ``--report``, ``--timeline`` or ``--metrics``: runs and observes one process.

The process uses the terminal directly, so that pdb works. Its output is not read.
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

#: Seconds between checks whether the process has ended. Its children may keep the pipe open longer.
_PAUSE = 0.5


def run_observed(
    options: Options, words: Sequence[str], argv: Sequence[str], environ: Mapping[str, str]
) -> int:
    """Runs a process, and writes its report, timeline and metrics.

    Args:
        options: the options, which say which files to write.
        words: the command line of distoptrun.
        argv: the command line of the process.
        environ: the environment of the process.

    Returns:
        The exit code of the process; 128 + signal if it was killed.
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
    """Forwards signals to the process, except SIGINT, which the terminal sends to both."""

    def forward(number: int, _: FrameType | None) -> None:
        process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, forward)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)
