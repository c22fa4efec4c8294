"""``faults``: faulty replicas, machines and command lines: checks exit code, message and time."""

from __future__ import annotations

import re
from pathlib import Path

from chaos.catalogue import Fault, faults
from chaos.jobs import CompletedJob, folder, start
from chaos.report import Report

__all__ = ["report"]

_WEIGHTS = "the sum of the weights is 90000.0"  # of 100,000 ones, after a step of 0.1 by Adam


def report(short: bool, seed: int) -> Report:  # noqa: ARG001 (nothing here is random)
    """Makes each fault once."""
    found = Report("faults", "faults of replicas, of the machine, of the command line; 2 replicas")
    with folder() as place:
        for fault in faults(place):
            if fault.short or not short:
                _make(found, place, fault, timed=not short)
    return found


def _make(found: Report, place: Path, fault: Fault, timed: bool) -> None:
    spot = place / re.sub(r"\W+", "-", fault.name)
    spot.mkdir()
    file = spot / "program.py"
    file.write_text(fault.text)
    job = start(fault.words(file), spot, fault.environ, fault.bound)
    try:
        done = job.finish(60)
    finally:
        job.end()
    message = re.search(fault.says, done.err) if fault.says else None
    found.add(
        _wrong(fault, done, timed),
        fault=fault.name,
        code=done.code,
        says=message[0] if message else "",
        s=done.seconds,
    )


def _wrong(fault: Fault, done: CompletedJob, timed: bool) -> list[str]:
    wrong = [f"left behind: {what}" for what in done.left]
    if done.code != fault.code:
        wrong.append(f"exit code {done.code}, not {fault.code}: {done.err[-3000:]}")
    times = len(re.findall(fault.says, done.err)) if fault.says else not done.err
    if not 1 <= times <= fault.most:
        wrong.append(f"said {times} times: {fault.says or 'nothing'}: {done.err[-3000:]}")
    if fault.goes_on != (_WEIGHTS in done.out):
        wrong.append(f"weights: {done.out[-500:]!r}")
    if timed and done.seconds > fault.seconds:
        wrong.append(f"{done.seconds:.1f} s, more than {fault.seconds:g}")
    return wrong
