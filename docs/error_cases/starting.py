"""What is wrong before the first step."""

from .case import Case

CASES = [
    Case(
        "no such program",
        "The script is not there.",
        "Look at the path and the working folder.",
        argv=("-n", "2", "missing.py"),
    ),
    Case(
        "python as the program",
        "Python itself was named as the program.",
        "`distoptrun -n 2 train.py`.",
        argv=("-n", "2", "python", "train.py"),
    ),
    Case(
        "no number of replicas",
        "Nothing says how many replicas to start.",
        "Give `-n`, or hosts with their slots.",
        argv=("train.py",),
    ),
    Case(
        "unknown option",
        "`distoptrun` has no such option; the program's own stand after the program.",
        "`distoptrun --help` lists them.",
        argv=("-n", "2", "--nodez", "3", "train.py"),
    ),
    Case(
        "syntax error",
        "The program cannot be compiled. `distoptrun` says so once, and starts nothing.",
        "Mend the line that is shown.",
        argv=("-n", "2", "broken.py"),
    ),
    Case(
        "unknown variable",
        "A variable `DISTOPT_...` that is not known: a typing error would otherwise be silent.",
        "Compare with the names in the message.",
        """\
step = tf.distribute.VirtualStrategy(2)  # here
""",
        environ={"DISTOPT_STAL_SECONDS": "5"},
    ),
    Case(
        "value of a variable",
        "A variable's value is no number, or not one of those that it can have.",
        "See the [table of variables](debugging.md#what-the-errors-say).",
        """\
step = tf.distribute.VirtualStrategy(2)  # here
""",
        environ={"DISTOPT_STALL_SECONDS": "5s"},
    ),
    Case(
        "a missing package",
        "A part of distopt needs a package that is not installed.",
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
        "The `mpiexec` of one MPI has started processes with the library of another.",
        "Start by `distoptrun`, which finds the right one; `distoptrun --check` shows what there is.",
        shown=(
            "LaunchError: ... says that it started ... processes (...), but ...: the launcher "
            "belongs to another MPI than the one that mpi4py loads ..."
        ),
    ),
]
