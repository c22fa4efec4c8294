"""The signal that asks for the end: it may come at any moment, and again."""

import signal
import subprocess
import sys

SIGNALS_EVERYWHERE = """
import os, signal, sys
from distopt.checkpoint import preemption

# A signal before each line of the module itself, as if all processes of a job got it, then its supervisor's.
preemption.listen([signal.SIGTERM])
def everywhere(frame, event, arg):
    if event == "line" and frame.f_code.co_name != "_note":
        os.kill(os.getpid(), signal.SIGTERM)
    return everywhere
def from_here(frame, event, arg):
    ours = frame.f_code.co_filename.endswith(("preemption.py", "threading.py"))
    return everywhere(frame, event, arg) if ours else None
sys.settrace(from_here)
preemption.forget()
preemption.asked()
sys.settrace(None)
preemption.forget()
before = preemption.asked()
os.kill(os.getpid(), signal.SIGTERM)
print(before, preemption.asked())
"""


def test_a_second_signal_in_the_first_ones_wake():
    done = subprocess.run(
        [sys.executable, "-c", SIGNALS_EVERYWHERE], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.split() == ["False", "True"], done.stderr
    assert done.returncode == 0


def test_signals_do_again_what_they_did_before():
    from distopt.checkpoint import preemption

    seen = []
    first = signal.signal(signal.SIGUSR1, lambda *_: seen.append("own"))
    try:
        before = preemption.listen([signal.SIGUSR1])
        signal.raise_signal(signal.SIGUSR1)
        assert preemption.asked()
        preemption.release(before)
        signal.raise_signal(signal.SIGUSR1)
        assert seen == ["own"]
        preemption.listen([signal.SIGUSR1])
        other = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        preemption.release(before)  # somebody else has taken it meanwhile: left to them
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
        assert other is not first
    finally:
        preemption.forget()
        signal.signal(signal.SIGUSR1, first)
