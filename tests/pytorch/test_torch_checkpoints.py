"""CheckpointManager in a PyTorch program: restarts with the same bits, and tensors in states."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from replicated import on_replicas, rank  # noqa: E402

from distopt.checkpoint import CheckpointManager  # noqa: E402
from distopt.checkpoint.encoding import decode  # noqa: E402
from distopt.checkpoint.holders import GlobalStreams  # noqa: E402
from tests.pytorch import saved_torch_training  # noqa: E402
from tests.pytorch.same_program import assert_close, kept, mlp  # noqa: E402
from tests.pytorch.saved_torch_training import parts, training  # noqa: E402

sys.path.append(str(Path(__file__).parent.parent / "distribute"))
import jobs  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]
PROGRAM = Path(saved_torch_training.__file__)
FIFTH = "checkpoint-00000005"


@pytest.mark.parametrize("save_at", [1, 14, 15, 16])
def test_a_restart_has_the_same_bits(tmp_path, save_at):
    """Within an epoch of 15 batches, before and at its last one, and in the next one."""
    whole = training(tmp_path / "whole", 20)
    first = training(tmp_path / "parts", 18, {save_at})
    assert first != whole
    assert training(tmp_path / "parts", 20) == whole


def digest(command, **variables):
    done = jobs.run(command, **variables)
    assert done.code == 0, done.err
    return done.out.split("digest ")[1].split()[0]


@pytest.mark.launches
@pytest.mark.slow
def test_a_killed_job_goes_on_in_other_processes_with_the_same_bits(tmp_path):
    """Two replicas with two workers each: processes under MPI, all killed at once, then threads of one."""
    whole = digest(jobs.mpi(2, PROGRAM, tmp_path / "whole", 20))
    job = jobs.start(jobs.mpi(2, PROGRAM, tmp_path / "parts", 20), SLEEP="0.2")
    end = time.monotonic() + 240
    while not (saved := sorted((tmp_path / "parts").glob("checkpoint-*[0-9]"))) or saved[-1].name < FIFTH:
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    assert digest(jobs.python(*jobs.inprocess(2, PROGRAM), tmp_path / "parts", 20)) == whole


def test_at_more_replicas_all_have_the_model_of_replica_0(tmp_path):
    """Each replica of before has its own buffers again; the training goes on from one model."""

    def train(steps):
        model, optimizer, schedule = parts()
        manager = CheckpointManager(
            tmp_path, model=model, optimizer=optimizer, scheduler=schedule, generators=[torch.Generator()]
        )
        went_on = manager.restore()
        found = kept(model, optimizer), schedule.state_dict()
        for _ in range(steps):
            optimizer.zero_grad()
            x = torch.randn(5, 6, generator=torch.Generator().manual_seed(rank()))
            model(x).square().mean().backward()
            optimizer.step()
            schedule.step()
        manager.save()
        return went_on, found, (kept(model, optimizer), schedule.state_dict())

    before = on_replicas(2, lambda: train(3))
    assert not before[0][0]
    for replica, (went_on, found, _) in enumerate(on_replicas(4, lambda: train(2))):
        values, schedule = before[replica if replica < 2 else 0][2]
        assert went_on
        assert schedule == found[1]
        assert_close(found[0], values, {torch.float32: 0})


def test_states_of_tensors(tmp_path):
    """Of every dtype, also those that NumPy lacks, in any layout; a plain program reads what it needs."""
    values = {
        "bfloat16": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T,
        "float8": torch.tensor([0.5, -2.0]).to(torch.float8_e4m3fn),
        "bool": torch.tensor([True, False]),
        "int64": torch.tensor(7),
        "complex": torch.tensor([1 + 2j]).conj(),
        "empty": torch.zeros(0, 3, dtype=torch.bfloat16),
        "scalar bfloat16": torch.tensor(1.5, dtype=torch.bfloat16),
        "in a list": [1, {"x": torch.ones(2, dtype=torch.float64)}],
    }
    mine = dict(values)
    generator = torch.Generator().manual_seed(3)
    CheckpointManager(tmp_path, mine=mine, generator=generator).save()
    drawn = torch.rand(3, generator=generator)
    mine.clear()
    assert CheckpointManager(tmp_path, mine=mine, generator=generator).restore()
    assert mine.keys() == values.keys()
    for name, value in values.items():
        expected, found = (value, mine[name]) if name != "in a list" else (value[1]["x"], mine[name][1]["x"])
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        as_it_is = (lambda x: x.float()) if name == "float8" else (lambda x: x)
        assert torch.equal(as_it_is(found), as_it_is(expected)), name
    assert torch.equal(torch.rand(3, generator=generator), drawn)
    with pytest.raises(TypeError, match=r"mine\['x'\] is a tensor on cpu, torch.sparse_coo"):
        CheckpointManager(tmp_path, mine={"x": torch.ones(2).to_sparse()}).save()


@pytest.mark.parametrize(
    ("of", "array"),
    [
        ("load", np.zeros(2, np.float32)),
        ("float64", np.zeros(2, np.float32)),
        ("bfloat16", np.zeros((2, 3), np.uint8)),
        ("bfloat16", np.zeros((), np.uint8)),
        ("float32", np.zeros(2, "S3")),
        ("float32", np.zeros(2, ">f4")),
    ],
)
def test_what_is_no_tensor_is_refused(of, array):
    tree = {"tensor": 0, "of": of, "dtype": "|u1", "shape": [2]}
    with pytest.raises(ValueError, match=r"dtype|read|byte order|numpy"):
        decode(tree, lambda *_: array)


def test_a_damaged_state_of_the_generator_is_refused():
    state = GlobalStreams().get_state()
    for wrong in (state["torch"][:-1], state["torch"] * 0 + 255, state["torch"].astype("f4"), 3):
        with pytest.raises((RuntimeError, TypeError)):
            GlobalStreams().check_state({**state, "torch": wrong})


def test_other_models_are_refused_and_nothing_is_changed(tmp_path):
    CheckpointManager(tmp_path, model=mlp(), mine={"step": 3}).save()
    other, mine = mlp(), {"step": 0}
    other[2] = torch.nn.Linear(5, 7)
    before = kept(other)
    with pytest.raises(ValueError, match=r"'2\.bias' is \[\d\] in the checkpoint, \[7\] here"):
        CheckpointManager(tmp_path, model=other, mine=mine).restore()
    assert_close(kept(other), before, {torch.float32: 0})
    assert mine == {"step": 0}


def test_without_torch_a_checkpoint_says_what_it_lacks(tmp_path):
    CheckpointManager(tmp_path, model=torch.nn.Linear(2, 1)).save()
    done = jobs.run(
        jobs.python(
            "-c",
            "import sys\n"
            "from distopt.checkpoint import CheckpointManager\n"
            f"CheckpointManager({str(tmp_path)!r}, model={{}}).restore()",
        )
    )
    assert done.code != 0
    assert "it holds tensors of PyTorch, which this program has not imported" in done.err
