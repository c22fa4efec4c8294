"""Programs for JAX that stand on the page as changed lines, and the examples."""

import os
import re
import subprocess
import sys
import textwrap

import pytest
from pages import ROOT, blocks
from replicated import on_replicas

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import distopt.jax as dj  # noqa: E402

pytestmark = pytest.mark.jax
LIMIT = 240  # seconds for each job
WAYS = {
    1: [sys.executable],
    2: [os.path.join(os.path.dirname(sys.executable), "mpiexec"), "-n", "2", sys.executable],
}
FOLDER = ROOT / "examples" / "jax"


def changed(number):
    """A program of the page that stands there as changed lines: as it was, and as it is."""
    lines = blocks("docs/howto/jax.md", "diff")[number][1].splitlines()
    return [textwrap.dedent("\n".join(line[1:] for line in lines if line[:1] in f" {sign}")) for sign in "-+"]


@pytest.mark.slow
def test_the_changed_program_trains_as_the_old_one_does_on_all_examples():
    def trained(program):
        x = jax.random.normal(jax.random.key(0), (20, 8, 8))
        names = {"batches": [(part, part.sum(axis=1, keepdims=True)) for part in x]}
        exec(program, names)
        return names["params"]

    before, after = changed(0)
    expected = trained(before)
    for replicas in (1, 2):
        for found in on_replicas(replicas, lambda: trained(after)):
            for name, value in expected.items():
                assert abs(found[name] - value).max() < 1e-5


def test_the_page_names_all_that_there_is():
    page = (ROOT / "docs/howto/jax.md").read_text()
    named = set(re.findall(r"`(?:dj\.)?(\w+)[`(=]", page))
    assert set(dj.__all__) - {"ApplyOptions", "Optimizer"} <= named
    assert set(dj.ApplyOptions.__annotations__) <= named


def run(replicas, name, folder, *options):
    done = subprocess.run(
        [*WAYS[replicas], str(FOLDER / name), *options],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    assert f"{replicas} replica(s)" in done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.launches
@pytest.mark.timeout(LIMIT + 60)
@pytest.mark.parametrize("replicas", [1, 2])
def test_spin_chain_finds_its_ground_state(replicas, tmp_path):
    said = run(replicas, "spin_chain.py", tmp_path)
    energy, exact = map(float, re.search(r"energy (\S+), exact (\S+),", said).groups())
    assert exact == -12.7849
    assert abs(energy - exact) < 0.03


@pytest.mark.slow
@pytest.mark.launches
@pytest.mark.timeout(LIMIT + 60)
@pytest.mark.parametrize("replicas", [1, 2])
def test_text_tells_two_sources_apart(replicas, tmp_path):
    pytest.importorskip("flax")
    said = run(replicas, "text.py", tmp_path)
    assert float(re.search(r"accuracy (\S+) on", said).group(1)) > 0.77


def test_every_example_is_tested_and_short():
    here = (ROOT / "tests/jax_models/test_jax_pages.py").read_text()
    for path in FOLDER.glob("*.py"):
        assert f'"{path.name}"' in here, path.name
        assert len(path.read_text().splitlines()) < 100, path.name
