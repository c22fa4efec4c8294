"""Programs of JAX as jobs: the same bits under every layout, collective calls in jit, and how they fail."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("jax")
pytest.importorskip("optax")

import steps_of_jax
from replicated import on_replicas

sys.path.append(str(Path(__file__).parent.parent / "distribute"))
import jobs

pytestmark = [pytest.mark.jax, pytest.mark.launches]

PROGRAM = Path(steps_of_jax.__file__)
DISTOPTRUN = Path(sys.executable).parent / "distoptrun"


@pytest.mark.parametrize(
    ("processes", "variables"),
    [
        (2, {"DISTOPT_NODES": "2"}),
        pytest.param(4, {}, marks=pytest.mark.slow),
        pytest.param(2, {}, marks=pytest.mark.slow),
        pytest.param(4, {"DISTOPT_MEMORY": "private"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_one_hash_under_every_layout(processes, variables):
    first, *others = on_replicas(4, steps_of_jax.main)
    assert others == [first] * 3
    words = [PROGRAM] if processes == 4 else jobs.inprocess(4 // processes, PROGRAM)
    done = jobs.run(jobs.mpi(processes, *words), **variables)
    assert done.code == 0, done.err
    assert f"HASH {first} of 4" in done.out


def test_collective_calls_inside_of_compiled_functions():
    done = jobs.run(jobs.mpi(2, PROGRAM.with_name("collectives_in_jit.py")))
    assert done.code == 0, done.err
    assert done.out.count("RIGHT") == 2


def write(folder, text):
    program = folder / "train.py"
    program.write_text(f"import jax, jax.numpy as jnp\nimport distopt.jax as dj\nrank = dj.rank()\n{text}")
    return program


#: Programs that fail on replica 1, and what they say.
FAILING = {
    "raises between": ('if rank: raise LookupError("why")\noptimizer.apply(grads)', "LookupError: why"),
    "edits": (
        "if rank: optimizer.params = grads\noptimizer.apply(grads)",
        "All replicas must make the same calls",
    ),
    "differs in jit": ("jax.jit(dj.all_reduce)(jnp.ones(2 + rank))", "float32[3]"),
    "raises in jit": (
        'f = jax.jit(dj.all_reduce)\nf(jnp.ones(2))\nif rank: raise LookupError("why")\n'
        "f(jnp.ones(2)).block_until_ready()",
        "LookupError: why",
    ),
}


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("raises between", "in one process"),
        ("differs in jit", "mpi"),
        pytest.param("raises in jit", "mpi", marks=pytest.mark.slow),
        pytest.param("edits", "in one process", marks=pytest.mark.slow),
        pytest.param("edits", "mpi", marks=pytest.mark.slow),
    ],
)
def test_failing_programs(tmp_path, name, how):
    text, words = FAILING[name]
    setting = (
        "optimizer = dj.sgd(0.1)\nparams = optimizer.init({'w': jnp.ones(2)})\ngrads = {'w': jnp.zeros(2)}\n"
    )
    program = write(tmp_path, setting + text)
    done = jobs.run(
        [DISTOPTRUN, *(["--in-process", "2"] if how == "in one process" else ["-n", "2"]), program]
    )
    assert done.code not in (0, None)
    assert words in done.err


@pytest.mark.slow
def test_without_a_launcher_there_is_one_replica_and_no_mpi(tmp_path):
    program = write(
        tmp_path,
        "import sys\noptimizer = dj.adam(0.1)\noptimizer.init({'w': jnp.ones(2)})\n"
        "optimizer.apply({'w': jnp.ones(2)})\n"
        "also = [m for m in ('mpi4py', 'torch', 'optax') if m in sys.modules]\n"
        "print(float(jax.jit(dj.all_reduce)(2.0)), dj.size(), rank, also)\n",
    )
    done = jobs.run(jobs.python(program))
    assert (done.code, done.out.split()) == (0, ["2.0", "1", "0", "[]"]), done.err
