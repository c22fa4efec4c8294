"""Programs of PyTorch as jobs: the same bits under every layout, and how they fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import steps_of_torch
from replicated import on_replicas

sys.path.append(str(Path(__file__).parent.parent / "distribute"))
import jobs

pytestmark = [pytest.mark.torch, pytest.mark.launches]

PROGRAM = Path(steps_of_torch.__file__)
DISTOPTRUN = Path(sys.executable).parent / "distoptrun"


@pytest.fixture(scope="module")
def expected():
    """The hash of 4 replicas of this process."""
    first, *others = on_replicas(4, steps_of_torch.main)
    assert others == [first] * 3
    return first


@pytest.mark.parametrize(
    ("processes", "variables"),
    [
        (2, {"DISTOPT_NODES": "2"}),
        pytest.param(4, {}, marks=pytest.mark.slow),
        pytest.param(2, {}, marks=pytest.mark.slow),
        pytest.param(4, {"DISTOPT_MEMORY": "private"}, marks=pytest.mark.slow),
        pytest.param(4, {"DISTOPT_NODES": "2"}, marks=pytest.mark.slow),
        pytest.param(4, {"DISTOPT_NODES": "4"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_one_hash_under_every_layout(expected, processes, variables):
    words = [PROGRAM] if processes == 4 else jobs.inprocess(4 // processes, PROGRAM)
    done = jobs.run(jobs.mpi(processes, *words), **variables)
    assert done.code == 0, done.err
    assert f"HASH {expected} of 4" in done.out


def test_other_numbers_of_replicas_have_other_hashes(expected):
    assert expected not in on_replicas(2, steps_of_torch.main)


def write(folder, text):
    program = folder / "train.py"
    program.write_text(f"import torch\nimport distopt.torch as dt\nrank = dt.rank()\n{text}")
    return program


#: Programs that fail on replica 1; their last lines, and what they say besides.
FAILING = {
    "raises between": ('if rank: raise LookupError("why")\n{step}', "LookupError: why", "train.py"),
    "raises in its closure": (
        'def closure():\n    if rank: raise LookupError("why")\n    loss = model(x).sum()\n'
        "    loss.backward()\n    return loss\noptimizer.step(closure)",
        "LookupError: why",
        "in closure",
    ),
    "edits": (
        "if rank: model.weight.data.mul_(2)\n{step}",
        "All replicas must make the same calls",
        "weight assigned since the last step",
    ),
}


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("raises in its closure", "in one process"),
        pytest.param("raises in its closure", "mpi", marks=pytest.mark.slow),
        pytest.param("raises between", "in one process", marks=pytest.mark.slow),
        pytest.param("edits", "in one process", marks=pytest.mark.slow),
        pytest.param("edits", "mpi", marks=pytest.mark.slow),
    ],
)
def test_failing_programs(tmp_path, name, how):
    text, last, also = FAILING[name]
    step = "model(x).sum().backward()\noptimizer.step()"
    setting = "model, x = torch.nn.Linear(2, 1), torch.ones(3, 2)\noptimizer = dt.SGD(model, lr=0.1)\n"
    program = write(tmp_path, setting + text.format(step=step))
    command = [DISTOPTRUN, *(["--in-process", "2"] if how == "in one process" else ["-n", "2"]), program]
    done = jobs.run(command)
    assert done.code not in (0, None)
    assert last in done.err
    assert also in done.err
    assert done.err.count("Traceback") == 1
    shown = done.err[done.err.index("Traceback") :]
    places = [line for line in shown.splitlines() if '  File "' in line]
    assert "train.py" in places[-1]
    assert not [line for line in places if f"{os.sep}torch{os.sep}" in line]


@pytest.mark.slow
def test_the_debugger_stops_one_of_four_replicas(tmp_path):
    text = (
        "model = torch.nn.Linear(2, 1)\noptimizer = dt.SGD(model, lr=0.1)\n"
        "model(torch.ones(3, 2)).sum().backward()\noptimizer.step()\nprint('end of', rank, flush=True)\n"
    )
    command = [DISTOPTRUN, "--in-process", "4", "--break", "2", write(tmp_path, text)]
    done = subprocess.run(
        list(map(str, command)),
        input="n\nn\nn\np 'replica', rank\nc\n",
        capture_output=True,
        text=True,
        timeout=jobs.LIMIT,
        env=jobs.environment(),
    )
    assert done.returncode == 0, done.stderr
    assert "('replica', 2)" in done.stdout
    assert [f"end of {r}" in done.stdout for r in range(4)] == [True] * 4


@pytest.mark.slow
def test_without_a_launcher_there_is_one_replica_and_no_mpi(tmp_path):
    program = write(
        tmp_path,
        "import sys\nmodel = torch.nn.Linear(2, 1)\noptimizer = dt.Adam(model)\n"
        "model(torch.ones(3, 2)).sum().backward()\noptimizer.step()\n"
        "print(dt.size(), rank, 'mpi4py' in sys.modules)\n",
    )
    done = jobs.run(jobs.python(program))
    assert (done.code, done.out.split()) == (0, ["1", "0", "False"]), done.err


def test_distopt_does_not_load_torch():
    done = jobs.run(
        jobs.python(
            "-c", "import sys, distopt, distopt.optimizers, distopt.keras; print('torch' in sys.modules)"
        )
    )
    assert (done.code, done.out.strip()) == (0, "False"), done.err
