"""The examples of PyTorch learn, and end with the parameters that PyTorch alone finds on the same batches."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
from pages import ROOT

torch = pytest.importorskip("torch")

LIMIT = 240  # seconds for each job
WAYS = {
    1: [sys.executable],
    2: [os.path.join(os.path.dirname(sys.executable), "mpiexec"), "-n", "2", sys.executable],
}
FOLDER = ROOT / "examples" / "torch"
pytestmark = [pytest.mark.launches, pytest.mark.torch, pytest.mark.timeout(2 * LIMIT + 60)]
ON_ONE_AND_TWO = pytest.mark.parametrize("replicas", [pytest.param(1, marks=pytest.mark.slow), 2])


def printed(replicas, name, folder, *options):
    """What an example prints."""
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
    return done.stdout


def run(replicas, name, folder, *options):
    """The accuracy that an example prints, and the parameters that it saves."""
    saved = folder / "saved.pt"
    text = printed(replicas, name, folder, "--save", str(saved), *options)
    found = re.findall(r"^accuracy (\S+) on \d+ .*, (\d) replica\(s\)$", text, re.MULTILINE)
    assert [int(number) for _, number in found] == [replicas], text
    return float(found[0][0]), torch.load(saved)


def numbers(name, folder):
    """The numbers that an example prints on one replica, then on two, which are nearly the same."""
    found = []
    for replicas in (1, 2):
        (line,) = printed(replicas, name, folder).splitlines()
        *values, count = (float(number) for number in re.findall(r"\d+(?:\.\d+)?", line))
        assert count == replicas, line
        found.append(values)
    return found


def module(name):
    """An example, to take its functions from."""
    spec = importlib.util.spec_from_file_location(name[:-3], FOLDER / name)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def trained(model, optimizer, batches, x, y, limit=float("inf")):
    """The parameters after whole batches on one process, by PyTorch's own optimizer."""
    for batch in batches:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
        optimizer.step()
    return model.state_dict()


def assert_equal(found, expected, tolerance):
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.slow
@ON_ONE_AND_TWO
def test_mlp_tells_spirals_apart_and_ends_where_one_process_ends(replicas, tmp_path):
    accuracy, found = run(replicas, "mlp.py", tmp_path)
    assert accuracy > 0.97
    example = module("mlp.py")
    x, y = example.spirals(2000, seed=1)
    model = example.make_model()
    batches = [batch for epoch in range(10) for batch in example.batches(len(x), epoch)]
    expected = trained(model, torch.optim.AdamW(model.parameters(), lr=0.01), batches, x, y)
    # 320 steps of parameters up to 2, each of which adds some units in the last place (1e-7).
    assert_equal(found, expected, 2e-4)


@pytest.mark.slow
@ON_ONE_AND_TWO
def test_digits_resnet_learns_digits(replicas, tmp_path):
    accuracy, _ = run(replicas, "digits_resnet.py", tmp_path)
    assert accuracy > 0.96


@pytest.mark.slow
@ON_ONE_AND_TWO
def test_digits_resnet_ends_an_epoch_where_one_process_ends_it(replicas, tmp_path):
    # One epoch: maxima and ReLUs make differences of rounding large after more.
    _, found = run(replicas, "digits_resnet.py", tmp_path, "--epochs", "1")
    example = module("digits_resnet.py")
    x, y, *_ = example.load()
    model = example.make_model()
    batches = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).split(example.BATCH)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    expected = trained(model, optimizer, batches, x, y, limit=1.0)
    assert_equal(found, expected, 5e-6)


@pytest.mark.slow
def test_characters_are_predicted_better_than_by_counting_pairs(tmp_path):
    (alone, counted), (together, counted_again) = numbers("characters.py", tmp_path)
    assert counted == counted_again
    assert max(alone, together) < 0.95 * counted
    assert abs(alone - together) < 0.02


@pytest.mark.slow
def test_recommender_finds_tastes_up_to_what_nobody_can_predict(tmp_path):
    (alone, spread), (together, _) = numbers("recommender.py", tmp_path)
    noise = module("recommender.py").NOISE
    assert spread > 6 * noise
    for error in (alone, together):
        assert noise < error < 1.25 * noise
    assert abs(alone - together) < 0.001


@pytest.mark.slow
def test_physics_solves_its_equation(tmp_path):
    (alone, _, loss), (together, _, other_loss) = numbers("physics.py", tmp_path)
    assert max(alone, together) < 0.005
    assert max(loss, other_loss) < 0.1  # of 25 pi**4 / 4 = 609 where u = 0


def test_every_example_is_tested_and_short():
    here = (ROOT / "tests/pytorch/test_torch_examples.py").read_text()
    for path in FOLDER.glob("*.py"):
        assert f'"{path.name}"' in here, path.name
        assert len(path.read_text().splitlines()) < 100, path.name
