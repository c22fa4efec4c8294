"""What a machine can hold is asked before a job is made."""

import resource
import subprocess
import sys

import pytest
from distopt_launch import limits
from distopt_launch.errors import JobStartError


def test_files_for_many_processes_are_allowed_where_the_system_lets():
    code = (
        "import resource\nfrom distopt_launch.limits import open_files_for\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (50, 600))\n"
        "open_files_for(200)\nprint(resource.getrlimit(resource.RLIMIT_NOFILE))\n"
        "open_files_for(2)\nprint(resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "(464, 600)\n(464, 600)\n", done.stderr


def test_more_files_than_the_system_lets(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (100, 1000))
    limits.check_processes(400, here=False)
    with pytest.raises(JobStartError, match=r"500 processes .* may open 1000 \(ulimit -Hn\)"):
        limits.check_processes(500, here=False)


def test_more_processes_than_memory_holds(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (-1, resource.RLIM_INFINITY))
    limits.check_processes(10_000_000, here=False)
    limits.check_processes(4, here=True)
    with pytest.raises(JobStartError, match=r"10000000 processes .* MiB of memory hold "):
        limits.check_processes(10_000_000, here=True)
