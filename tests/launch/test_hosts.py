"""Hosts, host files and allocations of batch systems."""

import os

import pytest
from distopt_launch.allocation import SchedulerAllocation, expand_counts, expand_nodelist, find_allocation
from distopt_launch.errors import JobStartError
from distopt_launch.hosts import Host, is_here, parse_hostfile, parse_hosts
from hypothesis import given
from hypothesis import strategies as st

# As recorded in jobs, shortened to what matters.
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NODELIST": "cn[008-009,012]",
    "SLURM_JOB_NUM_NODES": "3",
    "SLURM_TASKS_PER_NODE": "4(x2),2",
    "SLURM_NTASKS": "10",
    "SLURM_CPUS_PER_TASK": "8",
    "SLURM_JOB_CPUS_PER_NODE": "32(x2),16",
    "SLURM_PROCID": "0",
}
PBS = {"PBS_JOBID": "88.head", "PBS_NODEFILE": "/var/spool/pbs/aux/88.head", "PBS_O_WORKDIR": "/home/u"}


def test_hosts():
    assert parse_hosts("a:4,b-1.x.org:2") == (Host("a", 4), Host("b-1.x.org", 2))
    assert parse_hosts("a,b,a") == (Host("a", 2), Host("b"))


@pytest.mark.parametrize(
    "text", ["", "a:0x", "a:0", "a b", "a,,b", "-oProxyCommand=x", "a;rm:1", "a:99999999"]
)
def test_malformed_hosts(text):
    with pytest.raises(JobStartError, match="-H"):
        parse_hosts(text)


def test_hostfile():
    text = "# cluster\n\nnode1 slots=4  # first\nnode2:2\nnode3\nnode4 slots=1 max_slots=8\n"
    hosts = parse_hostfile(text, "hosts")
    assert hosts == (Host("node1", 4), Host("node2", 2), Host("node3"), Host("node4", 1))


@pytest.mark.parametrize(("text", "line"), [("a\nb cpus=3", 2), ("\n\na slots=x", 3), ("a b", 1)])
def test_malformed_hostfile_names_the_line(text, line):
    with pytest.raises(JobStartError, match=f"hosts, line {line}:"):
        parse_hostfile(text, "hosts")


def test_empty_hostfile():
    with pytest.raises(JobStartError, match="names no host"):
        parse_hostfile("# nothing\n", "hosts")


@given(st.text())
def test_hostfile_rubbish(text):
    try:
        hosts = parse_hostfile(text, "hosts")
    except JobStartError:
        return
    assert hosts
    assert all(host.name and host.slots >= 0 for host in hosts)


def test_own_machine():
    assert is_here(parse_hosts("localhost:2"))
    assert is_here(())
    assert not is_here(parse_hosts("localhost:2,elsewhere:2"))


def test_slurm():
    allocation = find_allocation(SLURM)
    assert allocation == SchedulerAllocation(
        "slurm", "4711", (Host("cn008", 4), Host("cn009", 4), Host("cn012", 2))
    )
    assert allocation.size == 10


def test_slurm_with_fewer_tasks_than_places():
    allocation = find_allocation({**SLURM, "SLURM_NTASKS": "5"})
    assert allocation is not None
    assert allocation.hosts == (Host("cn008", 4), Host("cn009", 1))


def test_slurm_without_tasks_uses_the_cores():
    environ = {
        name: SLURM[name] for name in ("SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_JOB_CPUS_PER_NODE")
    }
    allocation = find_allocation(environ)
    assert allocation is not None
    assert [host.slots for host in allocation.hosts] == [32, 32, 16]


def test_slurm_with_nothing_to_say():
    assert find_allocation({**SLURM, "SLURM_JOB_NODELIST": "(null)"}) is None
    allocation = find_allocation({**SLURM, "SLURM_TASKS_PER_NODE": "(null)", "SLURM_NTASKS": "(null)"})
    assert allocation is not None
    assert [host.slots for host in allocation.hosts] == [32, 32, 16]


def test_hosts_of_a_batch_system_are_names():
    for text in ("-oProxyCommand=touch,n1", "n1,a b", "n1;reboot", "n[1-2]$x", "-n[1-2]"):
        with pytest.raises(JobStartError, match="is not a host name"):
            find_allocation({**SLURM, "SLURM_JOB_NODELIST": text})
    with pytest.raises(JobStartError, match="is not a host name"):
        find_allocation(PBS, lambda _path: "n1\n-oProxyCommand=touch\n")


def test_slurm_that_contradicts_itself():
    with pytest.raises(JobStartError, match="3 nodes, but gives task counts for 2"):
        find_allocation({**SLURM, "SLURM_TASKS_PER_NODE": "4,4"})


def test_pbs():
    read = {PBS["PBS_NODEFILE"]: "n1.x\nn1.x\nn2.x\nn3.x\nn3.x\n"}
    allocation = find_allocation(PBS, read.__getitem__)
    assert allocation == SchedulerAllocation(
        "pbs", "88.head", (Host("n1.x", 2), Host("n2.x", 1), Host("n3.x", 2))
    )


def test_pbs_without_its_file():
    with pytest.raises(JobStartError, match=r"PBS_NODEFILE=/var/spool/pbs/aux/88\.head cannot be read"):
        find_allocation(PBS)


@pytest.mark.timeout(20)
def test_pbs_file_that_is_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(JobStartError, match="cannot be read: not a regular file"):
            find_allocation({**PBS, "PBS_NODEFILE": str(file)})


def test_slurm_with_a_number_of_tasks_that_is_none():
    for text in ("\N{SUPERSCRIPT TWO}", "1" * 5000, "-1"):
        allocation = find_allocation({**SLURM, "SLURM_NTASKS": text})
        assert allocation is not None
        assert allocation.size == 10


def test_no_allocation():
    assert find_allocation({"HOME": "/", "SLURM_CONF": "/etc/slurm.conf"}) is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ["n1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[09-11],gpu1", ["n09", "n10", "n11", "gpu1"]),
        ("r[1-2]n[1,3]-ib", ["r1n1-ib", "r1n3-ib", "r2n1-ib", "r2n3-ib"]),
    ],
)
def test_nodelist(text, names):
    assert expand_nodelist(text) == names


@pytest.mark.parametrize("text", ["", "n[1-", "n[3-1]", "n[a]", "n1,,n2", "n]1", "n" + "[1]" * 5000])
def test_malformed_nodelist(text):
    with pytest.raises(JobStartError, match="cannot read Slurm's node list"):
        expand_nodelist(text)


def test_counts():
    assert expand_counts("2(x3),1") == [2, 2, 2, 1]
    with pytest.raises(JobStartError, match="cannot read Slurm's tasks per node"):
        expand_counts("2(x3")
