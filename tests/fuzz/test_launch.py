"""Command lines, configuration files, host files and batch systems' variables: JobStartError, or a plan."""

import tempfile
from pathlib import Path

import pytest
from distopt_launch.allocation import expand_counts, expand_nodelist, find_allocation
from distopt_launch.commands import shown
from distopt_launch.errors import JobStartError
from distopt_launch.hosts import parse_hostfile, parse_hosts
from distopt_launch.launch_plan import FAMILIES
from distopt_launch.options import _ACTIONS, Options, config_argv, parse
from distopt_launch.prepare import make_plan, program_of
from distopt_launch.program import Program
from distopt_launch.program_check import check
from distopt_launch.rank_info import rank_info
from hypothesis import given
from hypothesis import strategies as st
from refusals import attempt, fuzz, watched
from strategies import mutated, names, plain, words

#: As recorded in jobs.
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NODELIST": "cn[008-009,012]",
    "SLURM_TASKS_PER_NODE": "4(x2),2",
    "SLURM_NTASKS": "10",
    "SLURM_JOB_CPUS_PER_NODE": "32(x2),16",
    "SLURM_PROCID": "0",
    "SLURM_STEP_NUM_TASKS": "10",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2),2",
}
PBS = {
    "PBS_JOBID": "88.head",
    "PBS_NODEFILE": "nodes",
    "PMI_RANK": "0",
    "PMI_SIZE": "2",
    "MPI_LOCALRANKID": "1",
}

pieces = st.sampled_from(
    [
        *(
            "a",
            "n1",
            "[",
            "]",
            "[0-3]",
            "[1-3,7]",
            "[0-999999]",
            "[9-1]",
            "[-]",
            "[01-]",
            ":",
            ":4",
            ":0",
            ",",
            "-",
            ".",
        ),
        *(
            "(x2)",
            "(x999999)",
            "2",
            "999999",
            " slots=4",
            " max_slots=2",
            "#",
            "\n",
            " ",
            "é",
            "٣",
            "²",
            "=",
            "\0",
            "--",
        ),
    ]
)
listed = st.one_of(words, st.lists(pieces, max_size=8).map("".join))
options = st.sampled_from(sorted(set(_ACTIONS) - {"-h", "--help"}))
values = st.one_of(
    listed, st.sampled_from(["1", "2", "0", "-1", "nan", "inf", "1e400", "auto", "none", "A=1", "9" * 5000])
)


def written(folder, content):
    path = Path(folder) / "given"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


@fuzz(250)
@given(data=st.data())
def test_command_lines(data):
    pair = st.tuples(options, values).map(list)
    argv = data.draw(
        st.lists(st.one_of(pair, options.map(lambda o: [o]), values.map(lambda v: [v])), max_size=4)
    )
    argv = [word for part in argv for word in part if "config" not in word]
    found = attempt(lambda: parse([*argv, "--", "train.py"]), JobStartError)
    if isinstance(found, Options) and not found.check:
        plan = attempt(lambda: make_plan(found, program_of(found), {"PATH": ""}), JobStartError)
        if not isinstance(plan, Exception):
            attempt(lambda: shown(plan), JobStartError)


def toml(value):
    """A value as TOML, as far as it goes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(k))} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" if not c.isalnum() else c for c in value) + '"'
    return str(value).lower()


keys = st.one_of(
    options.map(lambda o: o.lstrip("-")), options.map(lambda o: o.lstrip("-").replace("-", "_")), names
)
tables = st.dictionaries(keys, st.one_of(plain, values), max_size=3)
documents = st.one_of(
    tables.map(lambda table: "\n".join(f"{toml(key)} = {toml(value)}" for key, value in table.items())),
    st.binary(max_size=30),
    st.sampled_from(
        ["[" * 50_000, "x = " + "[" * 5_000, "a." * 3_000 + "b = 1", "nproc = 1\nnproc = 2", "\ufeff"]
    ),
)


@fuzz(200)
@given(document=documents)
def test_configuration_files(document):
    with tempfile.TemporaryDirectory() as folder, watched():
        path = written(folder, document)
        found = attempt(lambda: config_argv(path), JobStartError)
        if isinstance(found, list):
            found = attempt(lambda: parse([f"--config={path}", "--", "train.py"]), JobStartError)
        if isinstance(found, Options) and not found.check:
            attempt(lambda: make_plan(found, program_of(found), {"PATH": ""}), JobStartError)


@fuzz(200)
@given(text=listed)
def test_lists_of_hosts(text):
    attempt(lambda: parse_hosts(text), JobStartError)
    attempt(lambda: parse_hostfile(text, "hosts"), JobStartError)
    attempt(lambda: expand_nodelist(text), JobStartError)
    attempt(lambda: expand_counts(text), JobStartError)


@fuzz(150)
@given(content=st.one_of(st.binary(max_size=30), listed.map(lambda text: text.encode())), name=st.booleans())
def test_host_files(content, name):
    with tempfile.TemporaryDirectory() as folder:
        file = str(written(folder, content)) if name else folder
        given = Options(nproc=1, hostfile=file, launcher="mpiexec", program=("train.py",))
        attempt(lambda: make_plan(given, program_of(given), {"PATH": ""}), JobStartError)
        attempt(lambda: find_allocation({**PBS, "PBS_NODEFILE": file}), JobStartError)


@pytest.mark.parametrize("recorded", [SLURM, PBS], ids=["slurm", "pbs"])
@fuzz(150)
@given(data=st.data())
def test_batch_systems(recorded, data):
    changed = data.draw(mutated(recorded))
    environ = {str(k): str(v) for k, v in changed.items()} if isinstance(changed, dict) else {}
    for name in data.draw(st.lists(st.sampled_from(sorted(recorded)), max_size=2)):
        environ[name] = data.draw(listed)
    nodes = data.draw(listed)
    attempt(lambda: find_allocation(environ, lambda _path: nodes), JobStartError)
    attempt(lambda: rank_info(data.draw(st.sampled_from(FAMILIES)), environ), JobStartError)


@fuzz(60)
@given(name=st.one_of(words, names), module=st.booleans(), source=st.one_of(st.binary(max_size=20), words))
def test_programs(name, module, source):
    attempt(lambda: check(Program(name, module=module)), JobStartError)
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, source)
        attempt(lambda: check(Program(str(path))), JobStartError)
