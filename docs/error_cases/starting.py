"""What is wrong before the first step."""

from .case import Case

CASES = [
    Case(
        "no such program",
        "The script does not exist.",
        "Check the path and the working directory.",
        argv=("-n", "2", "missing.py"),
    ),
    Case(
        "python as the program",
        "The program is Python itself instead of your script.",
        "Write `distoptrun -n 2 train.py`.",
        argv=("-n", "2", "python", "train.py"),
    ),
    Case(
        "no number of replicas",
        "Neither `-n` nor the hosts give a number of processes.",
        "Pass `-n`, or hosts with slots.",
        argv=("train.py",),
    ),
    Case(
        "unknown option",
        "`distoptrun` does not have this option. Options of your program come after the program.",
        "See `distoptrun --help`.",
        argv=("-n", "2", "--nodez", "3", "train.py"),
    ),
    Case(
        "syntax error",
        "The program has a syntax error. `distoptrun` reports it once and starts nothing.",
        "Correct the line in the message.",
        argv=("-n", "2", "broken.py"),
    ),
    Case(
        "unknown variable",
        "distopt does not know this `DISTOPT_` variable. Without the error, a typo would go unnoticed.",
        "Use one of the names in the message.",
        """\
step = tf.distribute.VirtualStrategy(2)  # here
""",
        environ={"DISTOPT_STAL_SECONDS": "5"},
    ),
    Case(
        "value of a variable",
        "The value of the variable is not a number, or not one of the allowed values.",
        "See the [table of variables](debugging.md#what-the-errors-say).",
        """\
step = tf.distribute.VirtualStrategy(2)  # here
""",
        environ={"DISTOPT_STALL_SECONDS": "5s"},
    ),
    Case(
        "a missing package",
        "This part of distopt needs a package that is not installed.",
        "Install it as the message says.",
        """\
import sys
sys.modules['safetensors'] = None
from distopt.checkpoint import CheckpointManager
CheckpointManager('checkpoints', step={})  # here
""",
    ),
    Case(
        "a launcher of another MPI",
        "The `mpiexec` of one MPI started processes that load the library of another MPI.",
        (
            "Start with `distoptrun`, which finds the right `mpiexec`. `distoptrun --check` shows what "
            "is installed."
        ),
        shown=(
            "LaunchError: ... says that it started ... processes (...), but ...: the launcher "
            "belongs to another MPI than the one that mpi4py loads ..."
        ),
    ),
]
