"""What ``distoptrun`` does before, and without, a start; and the recipes."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import distopt_launch
import pytest
from distopt_launch.cli import main
from distopt_launch.cores import cores, usable
from distopt_launch.errors import JobStartError
from distopt_launch.interpreter import START
from distopt_launch.options import parse
from distopt_launch.prepare import make_plan, program_of
from distopt_launch.program import Program
from distopt_launch.program_check import check

from distopt.settings import Settings, settings

pytest.importorskip("mpi4py")
RECIPES = Path(distopt_launch.__file__).with_name("recipes")


def test_missing_script(capsys):
    assert main(["-n", "2", "no_such_script.py"]) == 2
    assert capsys.readouterr().err == (
        "distoptrun: cannot open the script 'no_such_script.py': No such file or directory\n"
    )


def test_missing_module(capsys):
    assert main(["-n", "2", "-m", "no_such_module"]) == 1
    assert "no module named 'no_such_module'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-n", "2"], "no program given"),
        ([__file__], "how many processes?"),
        (["--hostfile", "/no/such/file", __file__], "cannot read the host file"),
        (["-n", "3", "-H", "a:1,b:1", __file__], "3 processes were asked for"),
        (["-n", "2", "--env", "NOT_SET_ANYWHERE", __file__], "is not set here"),
        (["--in-process", "2", "--env", "NOT_SET_ANYWHERE", __file__], "is not set here"),
        (["-n", "9999999", __file__], "9999999 processes were asked for, but"),
        (["--in-process", "9999999", __file__], "9999999 replicas in one process were asked for"),
        (["-n", "1", "--replicas-per-process", "9999999", __file__], "9999999 replicas in one process"),
        (["-n", "2", "python", "train.py"], "starts Python itself. Write: distoptrun -n N train.py\n"),
        (["-n", "2", "python3.12", "-u", "-m", "pkg", "-x"], "Write: distoptrun -n N -m pkg -x\n"),
        (["--in-process", "2", sys.executable, "-c", "1"], "Write: distoptrun -n N script.py args...\n"),
        (["-n", "2", "--mpi-args", "'", __file__], "No closing quotation"),
        (["-n", "2", "--ranks-filter", "0,2", __file__], "--ranks-filter 2: the processes are 0 to 1\n"),
        (["--in-process", "2", "--break", "2", __file__], "--break 2: the replicas are 0 to 1\n"),
    ],
)
def test_errors(capsys, words, text):
    assert main(words) == 2
    assert text in capsys.readouterr().err


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("distoptrun ")


def test_dry_run_prints_one_line_and_starts_nothing(capsys, tmp_path):
    script = str(tmp_path / "does not exist.py")
    assert main(["-n", "2", "--env", "A=b c", "--dry_run", script, "x y"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    words = shlex.split(line)
    assert words[0] == "A=b c"
    assert words[-1] == f"program={tmp_path}/does%20not%20exist.py x%20y"
    assert "family=" in line


@pytest.mark.parametrize("way", [["-n", "2"], ["-n", "1"], ["--in-process", "2"]])
def test_dry_run_does_not_show_what_is_passed_on(capsys, monkeypatch, way):
    monkeypatch.setenv("TOKEN", "secret")
    assert main([*way, "--env", "TOKEN", "--env", "A=1", "--dry-run", "a.py"]) == 0
    shown = capsys.readouterr().out
    assert "secret" not in shown
    assert 'TOKEN="$TOKEN" ' in shown
    assert "A=1 " in shown


def test_more_processes_than_cores_are_told_once(capsys):
    count = 64 * usable(len(cores()))
    assert main(["-n", str(count), "--dry-run", "a.py"]) == 0
    assert capsys.readouterr().err.count(f"distoptrun: {count} processes on ") == 1
    assert main(["-n", str(count), "--oversubscribe", "--dry-run", "a.py"]) == 0
    assert main(["-n", "1", "--dry-run", "a.py"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["/dev/stdin", "pipe"])
def test_a_program_that_only_one_process_could_read(tmp_path, capsys, name):
    os.mkfifo(tmp_path / "pipe")
    assert main(["-n", "2", str(tmp_path / name)]) == 2
    assert "is not a file that every replica can read" in capsys.readouterr().err


def test_a_script_may_be_called_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "python").write_text("print('hello')\n")
    check(Program("python"))
    check(Program("./python"))


def test_variables_of_the_recipes_are_no_typing_errors():
    for file in RECIPES.iterdir():
        names = set(re.findall(r"\bDISTOPT_\w+", file.read_text()))
        assert settings(dict.fromkeys(names, "/home/me/env")) == Settings(), file


def test_in_process_becomes_the_debugging_module(capsys):
    assert main(["--in-process", "4", "--break", "2", "--post-mortem", "--dry-run", __file__, "-n", "3"]) == 0
    words = shlex.split(capsys.readouterr().out)
    begin = words.index(START)
    expected = [
        "distopt.testing.inprocess",
        "--replicas",
        "4",
        "--break",
        "2",
        "--post-mortem",
        __file__,
        "-n",
        "3",
    ]
    assert words[begin + 1 :] == expected


def test_several_replicas_in_each_process(capsys):
    assert main(["-n", "2", "--replicas-per-process", "3", "--dry-run", "a.py", "x"]) == 0
    words = shlex.split(capsys.readouterr().out)
    assert words[-1] == f"program={START} distopt.testing.inprocess --replicas 3 a.py x"


def recorded(recipe_words, environ):
    options = parse(recipe_words)
    return make_plan(options, program_of(options), {**os.environ, **environ})


@pytest.fixture
def srun(tmp_path):
    """A PATH with an srun on it."""
    file = tmp_path / "bin" / "srun"
    file.parent.mkdir()
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return f"{file.parent}:{os.environ['PATH']}"


HYDRA = ("mpich", "intel")


def test_slurm_recipe(srun):
    text = (RECIPES / "slurm.sbatch").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("distoptrun")]
    words = shlex.split(line.rstrip("& "))[1:]
    words = [*words[: words.index("--") + 1], "train.py", "--epochs", "10"]
    environ = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "4(x2)"}
    plan = recorded(words, {**environ, "PATH": srun})
    assert plan.processes == 8
    assert [str(host) for host in plan.hosts] == ["n1:4", "n2:4"]
    assert plan.starter == ("slurm" if plan.family in HYDRA else "")
    assert plan.command[-1] == "program=train.py --epochs 10"
    assert "slurm job 1: n1:4, n2:4" in plan.notes


def test_pbs_recipe(tmp_path):
    nodes = tmp_path / "nodes"
    nodes.write_text("n1\n" * 4 + "n2\n" * 4)
    (line,) = [line for line in (RECIPES / "pbs.sh").read_text().splitlines() if "exec distoptrun" in line]
    words = [*shlex.split(line)[2:-1], "train.py"]
    plan = recorded(words, {"PBS_JOBID": "1.head", "PBS_NODEFILE": str(nodes)})
    assert plan.processes == 8
    assert [str(host) for host in plan.hosts] == ["n1:4", "n2:4"]
    assert plan.starter == ""


def test_hostfile_recipe():
    plan = recorded(["--hostfile", str(RECIPES / "hostfile"), "train.py"], {})
    assert [str(host) for host in plan.hosts] == ["node1:4", "node2:4", "node3:2"]
    assert plan.processes == 10


def test_single_machine_allocation_needs_no_hosts():
    here = os.uname().nodename
    environ = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": here, "SLURM_TASKS_PER_NODE": "3"}
    plan = recorded(["train.py"], environ)
    assert plan.processes == 3
    assert plan.hosts == ()
    assert plan.starter == ("fork" if plan.family in HYDRA else "")
    assert recorded(["train.py"], {**environ, "HYDRA_LAUNCHER": "ssh"}).starter == ""
    assert recorded(["--mpi-args", "-launcher ssh", "train.py"], environ).starter == ""


def test_other_nodes_of_a_slurm_job_need_srun(tmp_path):
    environ = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "PATH": str(tmp_path)}
    if recorded(["-n", "2", "train.py"], {}).family not in HYDRA:
        pytest.skip("only Hydra needs it")
    with pytest.raises(JobStartError, match="nodes of Slurm job 7 are reached by srun, which is not on PATH"):
        recorded(["train.py"], environ)


def test_kubernetes_recipe():
    text = (RECIPES / "kubernetes-mpijob.yaml").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert "\t" not in text
    for key in ("apiVersion: kubeflow.org/v2beta1", "kind: MPIJob", "metadata:", "spec:"):
        assert key in lines, key
    for key in ("  mpiImplementation: MPICH", "  mpiReplicaSpecs:", "    Launcher:", "    Worker:"):
        assert key in lines, key
    # Each line one level deeper than one above it, or back to a level that is open.
    open_levels = [0]
    for line in lines:
        level = len(line) - len(line.lstrip(" "))
        assert level % 2 == 0
        assert level <= open_levels[-1] + 4
        open_levels.append(level)
    (words,) = [json.loads(line.partition(": ")[2]) for line in lines if line.strip().startswith("args: ")]
    options = parse(words)
    assert options.hostfile == "/etc/mpi/hostfile"
    assert options.program == ("/app/train.py",)


@pytest.mark.parametrize("name", ["slurm.sbatch", "pbs.sh"])
def test_recipes_are_shell(name):
    done = subprocess.run(["bash", "-n", str(RECIPES / name)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.launches
def test_check(capfd):
    assert main(["--check", "-n", "2"]) == 0
    out = capfd.readouterr().out
    for word in (
        "distopt",
        "MPI that mpi4py loads",
        "its mpiexec",
        "2 of 2 in one world",
        "us a hop",
        "GB/s",
        "shared memory",
    ):
        assert word in out


def test_check_finds_a_foreign_mpiexec(capfd, monkeypatch):
    from distopt_launch import check
    from distopt_launch.errors import JobStartError

    def refuse(*_args):
        raise JobStartError("its mpiexec was not found")

    monkeypatch.setattr(check, "find_launcher", refuse)
    assert main(["--check"]) == 1
    assert "WRONG" in capfd.readouterr().out
