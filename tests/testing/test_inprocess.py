"""Several replicas of a script in one process: output, errors, exit codes, pdb, random states."""

import re
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.launches

HEAD = """
import random, sys
import numpy as np
import distopt as tf
context = tf.distribute.get_replica_context()
replica = context.replica_id_in_sync_group
def meet():
    context.all_reduce("sum", np.ones(1))
"""


@pytest.fixture
def start(tmp_path):
    def run(text, *options, replicas=2, args=(), stdin="", code=0):
        (tmp_path / "program.py").write_text(HEAD + text)
        script = "program" if "-m" in options else "program.py"
        command = [sys.executable, "-m", "distopt.testing.inprocess", "--replicas", str(replicas)]
        done = subprocess.run(
            [*command, *options, script, *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            cwd=tmp_path,
        )
        assert done.returncode == code, done.stderr
        return done

    return run


def test_turns_and_prefixes(start):
    done = start("print('a', end='')\nmeet()\nprint('b')\nmeet()\nprint('c\\nd')", replicas=3)
    assert done.stdout.splitlines() == [
        *("[0] a", "[1] a", "[2] a"),  # a line that another replica breaks off is ended
        *("[0] b", "[1] b", "[2] b"),
        *("[0] c", "[0] d", "[1] c", "[1] d", "[2] c", "[2] d"),
    ]
    assert done.stderr == ""


def test_one_replica_has_no_prefix(start):
    assert start(
        "print(replica, __name__, sys.argv[1:])", replicas=1, args=("--x", "--", "--replicas")
    ).stdout == ("0 __main__ ['--x', '--', '--replicas']\n")


@pytest.mark.slow
def test_each_replica_has_its_own_main(start):
    text = """
import pickle
class Thing: pass
meet()
assert sys.modules["__main__"].replica == replica
assert type(pickle.loads(pickle.dumps(Thing()))) is Thing
print(__file__.endswith("program.py"), sys.path[0] != "")
"""
    assert start(text).stdout == "[0] True True\n[1] True True\n"


@pytest.mark.parametrize("options", [(), ("-m",)])
def test_scripts_and_modules(start, options):
    done = start("print(replica, __name__, sys.argv[0].endswith('program.py'))", *options)
    assert done.stdout == "[0] 0 __main__ True\n[1] 1 __main__ True\n"


def test_what_is_not_there(start):
    done = subprocess.run(
        [sys.executable, "-m", "distopt.testing.inprocess", "--replicas", "2", "nowhere.py"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 2
    assert "No such file" in done.stderr
    assert "Traceback" not in done.stderr


# -- the end
FAILS = """
def inner():
    raise ValueError("this is wrong")
meet()
if replica == 1:
    inner()
meet()
"""


def test_the_first_failing_replicas_traceback_is_last_and_whole(start):
    done = start(FAILS, replicas=4, code=1)
    lines = done.stderr.splitlines()
    assert all(line.startswith("[1] ") for line in lines)
    assert lines[0] == "[1] Traceback (most recent call last):"
    assert "program.py" in lines[1]
    assert sum("File" in line for line in lines) == 2
    assert lines[-1] == "[1] ValueError: this is wrong"


@pytest.mark.slow
def test_the_cause_wins_over_what_it_caused(start):
    """Replica 0 hears of the failure first, and turns it into an error of its own."""
    done = start(
        """
if replica == 1:
    raise ValueError("the cause")
try:
    meet()
except RuntimeError as error:
    raise KeyError("a consequence") from error
""",
        code=1,
    )
    assert done.stderr.splitlines()[-1] == "[1] ValueError: the cause"
    assert "a consequence" not in done.stderr


def test_a_wrong_argument_in_a_collective_call(start):
    done = start("context.all_reduce('sum', None if replica == 1 else np.ones(1))", code=1)
    assert done.stderr.splitlines()[-1].startswith("[1] ValueError: all_reduce('sum') got None")


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ("3", 3, "[0] ended with exit code 3\n"),
        ("'no data'", 1, "[0] no data\n"),
        pytest.param("None", 0, "", marks=pytest.mark.slow),
        pytest.param("0", 0, "", marks=pytest.mark.slow),
        pytest.param("", 0, "", marks=pytest.mark.slow),
    ],
)
def test_exit_codes(start, given, code, said):
    assert start(f"meet()\nsys.exit({given})", code=code).stderr == said


@pytest.mark.slow
def test_one_replica_leaves_with_a_code(start):
    done = start("if replica == 1: sys.exit(7)\nmeet()", replicas=3, code=7)
    assert done.stderr == "[1] ended with exit code 7\n"


def test_one_replica_ends_too_early(start):
    done = start("if replica == 0: meet()", code=1)
    assert "ReplicaMismatch" in done.stderr
    assert "end of its program" in done.stderr or "has ended its program" in done.stderr


def test_a_thread_that_goes_on_after_the_programs_end_is_told_so(start):
    text = """
import contextvars, threading
def train():
    for _ in range(10_000):
        meet()
threading.Thread(target=contextvars.copy_context().run, args=(train,)).start()
"""
    said = start(text).stderr
    assert said.count("begins a collective call, but this replica's program has ended") == 2
    assert said.count("wait at its end for such threads (thread.join())") == 2


def test_syntax_error(start):
    done = start("x = = 1", code=1)
    assert done.stderr.splitlines()[-1] == "SyntaxError: invalid syntax"


def test_ctrl_c_says_where_the_replicas_stand(tmp_path):
    asleep = "print('ready', flush=True); time.sleep(60)"  # one line, whichever call is under way
    (tmp_path / "program.py").write_text(HEAD + f"import time\nif replica == 1:\n    {asleep}\nmeet()\n")
    command = [sys.executable, "-m", "distopt.testing.inprocess", "--replicas", "2", "program.py"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        try:
            assert job.stdout.readline() == "[1] ready\n"
            begin = time.monotonic()
            job.send_signal(signal.SIGINT)
            _, err = job.communicate(timeout=30)
        finally:
            job.kill()
    assert time.monotonic() - begin < 15
    assert job.returncode == 130
    places = [line for line in err.splitlines() if "interrupted at" in line]
    assert [re.sub(r"/.*/", "", place) for place in places] == [
        "[0] interrupted at program.py:8",  # inside meet()
        "[1] interrupted at program.py:11",
    ]


def test_ctrl_c_that_does_not_wake_the_main_thread(start):
    text = """
import os, signal, time
if replica == 1:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # so another thread gets it
meet()
"""
    begin = time.monotonic()
    assert "[0] interrupted at" in start(text, code=130).stderr
    assert time.monotonic() - begin < 30


def test_meeting_in_an_import_is_an_error_and_no_hang(start, tmp_path):
    (tmp_path / "helper.py").write_text(HEAD + "meet()\n")
    done = start("import helper\n", code=1)
    assert done.stderr.splitlines()[-1].startswith(
        "[0] RuntimeError: a collective call while module 'helper' is being imported"
    )


# -- pdb
def test_break_stops_one_replica_at_its_first_line(start):
    text = "total = context.all_reduce('sum', np.float32(replica + 1))\nprint('total', float(total))\n"
    stdin = "p 'here'\nnext\nb 9\nc\np replica\np float(total) if 'total' in globals() else 'not yet'\nc\n"
    done = start(text, "--break", "1", stdin=stdin)
    assert "program.py(2)<module>()" in done.stdout
    assert "-> import random, sys" in done.stdout
    assert "'here'" in done.stdout
    assert "(Pdb 1) " in done.stdout
    assert "[0] total 3.0" in done.stdout
    assert "[1] total 3.0" in done.stdout


def test_break_at_a_replica_that_is_not_there(start):
    assert "--break 2: the replicas are 0 to 1" in start("", "--break", "2", code=2).stderr


@pytest.mark.slow
def test_commands_of_ones_own_are_run_first(start, tmp_path):
    (tmp_path / ".pdbrc").write_text("p 'from the file'\n")
    assert "from the file" in start("", "--break", "0", stdin="c\n", replicas=1).stdout
    (tmp_path / ".pdbrc").chmod(0o666)
    done = start("", "--break", "0", stdin="c\n", replicas=1)
    assert "from the file" not in done.stdout
    assert ".pdbrc is not read: another user could have written it" in done.stderr


@pytest.mark.slow
def test_stepping_over_a_collective_call(start):
    text = "total = context.all_reduce('sum', np.float32(replica + 1))\nmark = 1\nprint('end')\n"
    done = start(text, "--break", "0", stdin="b 10\nc\np ('total', float(total))\nc\n")
    assert "('total', 3.0)" in done.stdout
    assert done.stdout.count("end\n") == 2


@pytest.mark.slow
def test_quitting_ends_the_job(start):
    done = start("print('never')\nmeet()", "--break", "0", stdin="q\n", code=1)
    assert "[0] never" not in done.stdout
    assert "Traceback" not in done.stderr
    assert "ended from pdb" in done.stderr


def test_breakpoints_in_the_script(start):
    done = start("x = replica + 5\nif replica == 1: breakpoint()\nprint('x is', x)", stdin="p x\nx = 9\nc\n")
    assert "[0] x is 5" in done.stdout
    assert "x is 9" in done.stdout


def test_post_mortem_opens_where_a_replica_raised(start):
    text = "def inner(y):\n    return 1 / y\nmeet()\nif replica == 1: inner(0)\nmeet()\n"
    done = start(text, "--post-mortem", stdin="p ('y is', y)\nup\np ('in', replica)\nq\n", replicas=3, code=1)
    assert "('y is', 0)" in done.stdout
    assert "('in', 1)" in done.stdout
    assert done.stdout.count("(Pdb ") == 4  # once, on one replica
    assert done.stderr.splitlines()[-1] == "[1] ZeroDivisionError: division by zero"


# -- random numbers
DRAWS = """
np.random.seed(replica)
random.seed(replica)
draws = []
for _ in range(3):
    draws.append((float(np.random.randn()), random.random()))
    meet()
print(draws)
"""


@pytest.mark.slow
def test_seeded_random_numbers_are_those_of_processes(start, tmp_path):
    in_process = start(DRAWS, replicas=2).stdout
    job = [sys.executable, "-m", "distopt_launch", "-n", "2", "program.py"]
    done = subprocess.run(job, capture_output=True, text=True, timeout=100, cwd=tmp_path, check=True)
    drawn = [sorted(re.findall(r"\(-?[\d.e-]+, [\d.e-]+\)", text)) for text in (in_process, done.stdout)]
    assert len(drawn[0]) == 6
    assert drawn[0] == drawn[1]


@pytest.mark.slow
def test_unseeded_random_numbers_differ_between_replicas(start):
    lines = start("print(np.random.rand(), random.random())").stdout.splitlines()
    assert len({number for line in lines for number in line.split()[1:]}) == 4


LATE = """
import json
if replica == 1:
    import torch
    torch.manual_seed(5)
meet()
assert "torch" in sys.modules
meet()
import torch
if replica == 2:
    torch.manual_seed(6)
first = torch.nn.functional.dropout(torch.ones(20), 0.5).tolist()
meet()
print(json.dumps(first + torch.randn(2).tolist()))
"""


@pytest.mark.slow
@pytest.mark.torch
def test_pytorch_that_one_replica_imports_late_draws_for_each_alone(start, tmp_path):
    """Replicas without a seed have one of their own; the others draw as processes with their seeds."""
    pytest.importorskip("torch")
    lines = [line[4:] for line in start(LATE, replicas=4).stdout.splitlines()]
    for replica, seed in ((1, 5), (2, 6)):
        alone = f"import torch, json; torch.manual_seed({seed}); " + (
            "print(json.dumps(torch.nn.functional.dropout(torch.ones(20), 0.5).tolist()"
            " + torch.randn(2).tolist()))"
        )
        done = subprocess.run([sys.executable, "-c", alone], capture_output=True, text=True, timeout=100)
        assert done.stdout.strip() == lines[replica], done.stderr
    assert len(set(lines)) == 4
