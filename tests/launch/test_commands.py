"""One plan, the command line of every launcher."""

import shlex

import pytest
from distopt_launch.commands import command, shown, variables
from distopt_launch.errors import JobStartError
from distopt_launch.hosts import parse_hosts
from distopt_launch.launch_plan import FAMILIES, LaunchPlan, fit, shares

HOSTS = parse_hosts("a:4,b:2")


def plan(family, **changes):
    values = {
        "launcher": "/opt/mpi/bin/mpiexec",
        "processes": 6,
        "command": ("python", "my script.py", "$x"),
        "hosts": HOSTS,
        "env": (("A", "1 2"),),
    }
    return LaunchPlan(family, **{**values, **changes})


def test_mpich():
    assert command(plan("mpich", starter="slurm", extra=("-verbose",))) == [
        *("/opt/mpi/bin/mpiexec", "-n", "6", "-bind-to", "none", "-hosts", "a:4,b:2"),
        *("-launcher", "slurm", "-verbose", "python", "my script.py", "$x"),
    ]


def test_on_this_machine_alone_within_a_slurm_job():
    words = command(plan("mpich", hosts=(), starter="fork"))
    assert words[5:7] == ["-launcher", "fork"]
    words = command(plan("intel", hosts=(), starter="fork"))
    assert words[4:6] == ["-bootstrap", "fork"]


def test_open_mpi():
    words = command(plan("openmpi", root=True, oversubscribe=True))
    assert words == [
        *("/opt/mpi/bin/mpiexec", "-np", "6", "--bind-to", "none", "--host", "a:4,b:2"),
        *("--map-by", "slot:OVERSUBSCRIBE", "--allow-run-as-root", "-x", "A"),
        *("-x", "DISTOPT_LAUNCH_RESTART", "-x", "DISTOPT_LAUNCH_JOB"),  # what all hosts are to know
        *("-x", "DISTOPT_LAUNCH_CHANNEL", "-x", "DISTOPT_LAUNCH_IGNORED"),
        *("-x", "DISTOPT_LAUNCH_WISHES"),
        *("python", "my script.py", "$x"),
    ]
    own = variables(plan("openmpi", root=True))
    assert own == {"A": "1 2", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    assert variables(plan("openmpi")) == {"A": "1 2"}


def test_intel_names_each_host_with_its_share():
    assert command(plan("intel", processes=5, command=("p",), starter="slurm")) == [
        *("/opt/mpi/bin/mpiexec", "-genv", "I_MPI_PIN", "off", "-bootstrap", "slurm"),
        *("-host", "a", "-n", "4", "p", ":", "-host", "b", "-n", "1", "p"),
    ]


def test_srun():
    assert command(plan("srun", pmi="pmi2", oversubscribe=True)) == [
        *("/opt/mpi/bin/mpiexec", "--ntasks", "6", "--kill-on-bad-exit=1", "--cpu-bind=none"),
        *("--export=ALL", "--mpi=pmi2", "--nodelist", "a,b", "--overcommit", "python", "my script.py", "$x"),
    ]


def test_one_process_alone():
    assert command(plan("single", processes=1, hosts=())) == ["python", "my script.py", "$x"]


@pytest.mark.parametrize("family", FAMILIES)
def test_shown_is_one_line_that_a_shell_reads_back(family):
    line = shown(plan(family))
    assert "\n" not in line
    assert shlex.split(line)[-3:] == ["python", "my script.py", "$x"]
    assert "A='1 2'" in line or "A=1 2" in shlex.split(line)


@pytest.mark.parametrize("family", FAMILIES)
def test_values_of_variables_stay_out_of_command_lines(family):
    """All users of a machine see the command lines of its processes."""
    given = plan(family, env=(("OPEN", "in the open"),), passed=("TOKEN",))
    assert not [word for word in command(given) if "in the open" in word or "$" in word.replace("$x", "")]
    assert variables(given)["OPEN"] == "in the open"
    line = shown(given)
    assert 'TOKEN="$TOKEN"' in line
    assert "OPEN='in the open'" in line


def test_open_mpi_is_told_the_names():
    words = command(plan("openmpi", env=(("A", "1"),), passed=("TOKEN",)))
    at = words.index("-x")
    assert words[at : at + 4] == ["-x", "A", "-x", "TOKEN"]


def test_shares():
    assert [count for _, count in shares(plan("mpich"))] == [4, 2]
    assert [count for _, count in shares(plan("mpich", processes=3))] == [3]
    assert [count for _, count in shares(plan("mpich", processes=9))] == [6, 3]
    assert [count for _, count in shares(plan("mpich", processes=5, hosts=parse_hosts("a,b")))] == [3, 2]


def test_too_few_places():
    with pytest.raises(
        JobStartError, match=r"7 processes were asked for, but a:4,b:2 have 6 places.*--oversubscribe"
    ):
        fit(7, HOSTS, oversubscribe=False)
    fit(7, HOSTS, oversubscribe=True)
    fit(6, HOSTS, oversubscribe=False)
    fit(99, (), oversubscribe=False)
    fit(99, parse_hosts("a,b:1"), oversubscribe=False)
