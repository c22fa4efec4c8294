"""The working directory is not trusted: what lies there under a module's name does not run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from distopt_launch.interpreter import START

pytest.importorskip("mpi4py")
pytestmark = pytest.mark.launches

PLANTED = sorted({*sys.stdlib_module_names, "numpy", "numba", "mpi4py", "rich", "distopt", "distopt_launch"})
PROGRAM = """
import sys
import distopt
assert distopt.distribute.get_replica_context() is not None
import json, sys
print("the program ran")
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder where every module's name is taken, and another with a program."""
    shared, own = tmp_path_factory.mktemp("shared"), tmp_path_factory.mktemp("own")
    for name in PLANTED:
        (shared / f"{name}.py").write_text(f"open({str(own / 'planted')!r}, 'a').write({name + ' '!r})\n")
    (shared / "mine.py").write_text("print('the program ran')\n")
    (own / "program.py").write_text(PROGRAM)
    return shared, own


def run(places, *command, code=0):
    shared, own = places
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=shared, env=environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == code, done.stdout + done.stderr
    assert not (own / "planted").exists(), (own / "planted").read_text()
    return done


FORMS = {
    "version": ["--version"],
    "help": ["--help"],
    "dry run": ["--dry-run", "-n", "2", "PROGRAM"],
    "check": ["--check", "-n", "2"],
    "one process": ["-n", "1", "PROGRAM"],
    "processes": ["-n", "2", "PROGRAM"],
    "in process": ["--in-process", "2", "PROGRAM"],
    "several in each process": ["-n", "2", "--replicas-per-process", "2", "PROGRAM"],
    "a script that is not there": ["-n", "2", "nowhere.py"],
}


FAST = ("version", "dry run", "processes", "in process")


@pytest.mark.parametrize(
    "form", [pytest.param(f, marks=[] if f in FAST else pytest.mark.slow) for f in FORMS]
)
def test_distoptrun(places, form):
    words = [word.replace("PROGRAM", str(places[1] / "program.py")) for word in FORMS[form]]
    distoptrun = str(Path(sys.executable).with_name("distoptrun"))
    done = run(places, distoptrun, *words, code=2 if "not there" in form else 0)
    assert ("the program ran" in done.stdout) == (
        words[-1] == str(places[1] / "program.py") and form != "dry run"
    )


@pytest.mark.slow
def test_layouts(places):
    words = ["distopt.testing.layouts", str(places[1] / "program.py"), "--replicas", "2", "--layouts", "2x1"]
    done = run(places, sys.executable, START, *words, code=2)
    assert "made no step" in done.stdout


@pytest.mark.parametrize("start", [["-n", "2"], pytest.param(["--in-process", "2"], marks=pytest.mark.slow)])
def test_a_users_own_module_is_found_there(places, start):
    distoptrun = str(Path(sys.executable).with_name("distoptrun"))
    assert run(places, distoptrun, *start, "-m", "mine").stdout.count("the program ran") == 2
