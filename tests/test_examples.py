"""The examples run as people run them: alone, under an MPI launcher, and in one process."""

import os
import re
import subprocess
import sys

import pytest
from pages import ROOT

LIMIT = 120  # seconds for each job
WAYS = {
    "python": [sys.executable],
    "mpiexec": [os.path.join(os.path.dirname(sys.executable), "mpiexec"), "-n", "2", sys.executable],
    "distoptrun": [sys.executable, "-m", "distopt_launch", "-n", "2"],
    "in-process": [sys.executable, "-m", "distopt_launch", "--in-process", "2"],
}
ONE_AND_TWO = pytest.mark.parametrize("way", ["python", pytest.param("mpiexec", marks=pytest.mark.slow)])
pytestmark = [pytest.mark.launches, pytest.mark.timeout(LIMIT + 30)]


def run(way, name, folder):
    """Standard output of an example, which must end well."""
    done = subprocess.run(
        [*WAYS[way], str(ROOT / "examples" / name)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def last_line(pattern, out):
    """The groups of ``pattern`` in the line that only replica 0 writes."""
    found = re.findall(rf"^{pattern}", out, re.MULTILINE)
    assert len(found) == 1, out
    return found[0]


@pytest.mark.parametrize(
    "way",
    [
        "distoptrun",
        pytest.param("in-process", marks=pytest.mark.slow),
        pytest.param("python", marks=pytest.mark.slow),
        pytest.param("mpiexec", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_plain_numpy_finds_the_best_weights_of_all_rows(way, tmp_path):
    out = run(way, "plain_numpy.py", tmp_path)
    replicas, weights, off = last_line(r".*(\d) replica\(s\): w = \[(.*)\], error: (\S+)", out)
    assert int(replicas) == (1 if way == "python" else 2)
    assert [round(float(w)) for w in weights.split()] == [2, -1, 1]
    assert float(off) < 1e-12


@ONE_AND_TWO
def test_custom_loop_learns_digits(way, tmp_path):
    out = run(way, "custom_loop.py", tmp_path)
    accuracy, replicas = last_line(r"accuracy (\S+) on 360 images held back, (\d) replica", out)
    assert float(accuracy) > 0.94
    assert int(replicas) == (1 if way == "python" else 2)


@ONE_AND_TWO
def test_digits_learns_and_draws_its_pictures(way, tmp_path):
    out = run(way, "digits.py", tmp_path)
    accuracy, replicas = last_line(r"accuracy (\S+) .* held back; .* on (\d) replica", out)
    assert float(accuracy) >= 0.96
    assert int(replicas) == (1 if way == "python" else 2)
    for picture in ("curve.png", "confusions.png"):
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@ONE_AND_TWO
def test_text_tells_where_sentences_come_from(way, tmp_path):
    accuracy = last_line(r"accuracy (\S+) on \d+ sentences held back", run(way, "text.py", tmp_path))
    assert float(accuracy) >= 0.85


@pytest.mark.slow
@ONE_AND_TWO
def test_diabetes_explains_some_of_the_variance(way, tmp_path):
    explained = last_line(r"explains (\S+) of the variance", run(way, "diabetes.py", tmp_path))
    assert 0.3 <= float(explained) < 1


@pytest.mark.slow
def test_resume_goes_on_where_it_was_asked_to_end(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "resume.py"), "--stop-after", "40"]
    stopped = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, timeout=LIMIT, check=False)
    assert stopped.returncode == 143
    out = run("mpiexec", "resume.py", tmp_path)
    assert "continuing at epoch 2, example 704" in out
    accuracy, steps, replicas = last_line(r"accuracy (\S+) after (\d+) steps, (\d) replica", out)
    assert float(accuracy) > 0.95
    assert (steps, replicas) == ("290", "2")


def test_every_example_is_tested():
    here = (ROOT / "tests" / "test_examples.py").read_text()
    for path in (ROOT / "examples").glob("*.py"):
        assert f'"{path.name}"' in here, path.name
