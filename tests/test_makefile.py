"""The limit of ``make test``: for what runs under a launcher, and with a word."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def make(tmp_path):
    """Runs a target in an environment whose programs are shell scripts."""

    def script(name, text):
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def run(target, limit, **programs):
        for name, text in programs.items():
            script(name, text)
        (tmp_path / ".test").touch()
        # This test may itself run under make.
        environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
        }
        return subprocess.run(
            ["make", "-C", str(ROOT), target, f"VENV={tmp_path}", f"LIMIT={limit}"],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_a_launch_that_hangs_is_ended_with_a_word(make):
    done = make("test-2", 1, python="exit 0", mpiexec="exec sleep 50")
    assert done.returncode != 0
    assert "test-2: ended after 1 s, the limit of a run under mpiexec" in done.stderr
    assert "make test-2 LIMIT=" in done.stderr


def test_a_launch_that_fails_is_not_said_to_have_hung(make):
    done = make("test-4", 50, python="exit 0", mpiexec="exit 3")
    assert done.returncode != 0
    assert "Error 3" in done.stderr
    assert "limit" not in done.stderr


def test_what_runs_without_a_launcher_has_no_limit(make):
    done = make("test-1", 1, python="exec sleep 2", mpiexec="exit 1")
    assert done.returncode == 0, done.stderr


def test_help_names_what_people_type(make):
    shown = make("help", 1).stdout
    named = {word for line in shown.splitlines() for word in line[:23].split()}
    assert {"train", "test", "test-all", "test-torch", "check", "bench", "dist", "clean"} <= named


def commands(make, target):
    """The words that each program was called with, in order."""
    done = make(target, 50, python='echo "python: $*"', mpiexec='echo "mpiexec: $*"')
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith(("python: ", "mpiexec: "))]


def test_the_quick_run_leaves_out_what_is_slow(make):
    single, two, four = commands(make, "test")
    assert "-m not slow" in single
    assert "--hypothesis-profile=quick" in single
    assert "mpiexec: -n 2 " in two
    assert "mpiexec: -n 4 " in four


def test_the_whole_run_leaves_out_nothing(make):
    single, two, four = commands(make, "test-all")
    assert "slow" not in single
    assert "quick" not in single
    assert "mpiexec: -n 2 " in two
    assert "mpiexec: -n 4 " in four


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_what_a_framework_needs_is_chosen_by_its_marker(make, framework):
    *_, command = commands(make, f"test-{framework}")
    assert f"-m {framework} tests" in command


def test_no_test_of_a_framework_is_no_failure(make):
    chosen = 'case "$*" in *pytest*) exit {}; esac'
    assert make("test-jax", 50, python=chosen.format(5)).returncode == 0
    assert make("test-jax", 50, python=chosen.format(1)).returncode != 0
