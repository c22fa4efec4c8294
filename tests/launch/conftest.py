"""Starts ``distoptrun`` as people do, each time with a hard limit."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

LIMIT = 40.0


@dataclass
class Done:
    code: int
    out: str
    err: str
    seconds: float
    replicas: list[int]

    @property
    def lines(self):
        return self.out.splitlines()

    @property
    def last(self):
        return self.err.splitlines()[-1]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def launch(tmp_path):
    """``launch(program text, *words, ...)``: runs it, and checks that nothing is left of it."""

    def run(text, *words, args=(), env=None, send=None, name="program.py"):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(PROLOGUE + text)
        pids = tmp_path / "pids"
        pids.mkdir(exist_ok=True)
        temporary = tmp_path / "tmp"
        temporary.mkdir(exist_ok=True)
        environ = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        environ |= {"PIDS": str(pids), "TMPDIR": str(temporary), **(env or {})}
        command = [sys.executable, "-m", "distopt_launch", *words, str(program), *args]
        begin = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
        )
        try:
            if send is not None:
                number, count = send
                while len(list(pids.glob("*.ready"))) < count and time.monotonic() < begin + LIMIT:
                    time.sleep(0.02)
                begin = time.monotonic()
                process.send_signal(number)
            out, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            time.sleep(5)
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"distoptrun did not end within {LIMIT} s:\n{out}\n{err}")
        seconds = time.monotonic() - begin
        known = [int(file.name.partition(".")[0]) for file in pids.iterdir()]
        if process.returncode != -signal.SIGKILL:
            assert not [pid for pid in known if alive(pid)], "processes were left behind"
            assert not list(temporary.glob("distoptrun-*")), "pipes were left behind"
        return Done(process.returncode, out, err, seconds, known)

    return run


PROLOGUE = """
import os, pathlib, signal, subprocess, sys, time
from mpi4py import MPI
world = MPI.COMM_WORLD
rank, size = world.rank, world.size
pids = pathlib.Path(os.environ["PIDS"])
(pids / str(os.getpid())).touch()
def ready():
    (pids / f"{os.getpid()}.ready").touch()
"""
