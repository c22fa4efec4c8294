"""The example plugin: installed as a package of its own, found by name, used under MPI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_aggregator"

pytestmark = pytest.mark.launches


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment in which the plugin is installed; the network is not asked."""
    place = tmp_path_factory.mktemp("plugin")
    source = place / "source"
    source.mkdir()
    for file in EXAMPLE.iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    target = place / "site"
    words = [*pip, "--disable-pip-version-check", "--target", str(target), str(source)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return {**os.environ, "PYTHONPATH": str(target)}


def run(words, environ, **arguments):
    return subprocess.run(
        [sys.executable, *words], env=environ, capture_output=True, text=True, timeout=120, **arguments
    )


def test_found_by_its_name(installed):
    text = """
from distopt import aggregators
made = aggregators.get({"class_name": "trimmed_mean", "config": {"trim": 2}})
print(aggregators.label(made), aggregators.serialize(made))
"""
    done = run(["-c", text], installed)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip()
        == "my_aggregator.TrimmedMean {'class_name': 'trimmed_mean', 'config': {'trim': 2}}"
    )


def test_unknown_without_the_package():
    done = run(["-c", "import distopt as tf; tf.optimizers.SGD(gradient_aggregator='trimmed_mean')"], None)
    assert done.returncode == 1
    assert "Unknown aggregator: trimmed_mean" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("words", [["-n", "2"], pytest.param(["--in-process", "4"], marks=pytest.mark.slow)])
def test_used_by_its_name_on_replicas(installed, words):
    done = run(["-m", "distopt_launch", *words, str(EXAMPLE / "train.py")], installed)
    assert done.returncode == 0, done.stderr
    assert f"slope 3.000, offset -1.000 on {words[1]} replica(s)" in done.stdout


def test_its_own_tests_pass(installed):
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(EXAMPLE), str(EXAMPLE)]
    done = run(words, installed)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
