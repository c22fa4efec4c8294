"""Numba's cache holds code: nobody else may be able to write there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from distopt_launch import cache
from distopt_launch.cache import distrust, warning
from distopt_launch.cli import main
from distopt_launch.interpreter import START

STRANGER = 12345
root = pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can make folders of another user")


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    return folder


def test_a_folder_of_ones_own(own):
    assert distrust(own) == ""
    assert distrust(own / "to" / "be made") == ""


def test_a_folder_that_all_may_write_to(own):
    own.chmod(0o777)
    assert distrust(own) == f"all users may write to {own}"
    assert distrust(own / "later") == f"all users may write to {own}"
    # With the sticky bit they cannot replace what is there; what is still to be made they could make.
    own.chmod(0o1777)
    (own / "mine").mkdir(mode=0o700)
    assert distrust(own / "mine") == ""
    assert distrust(own / "mine" / "later") == ""
    assert distrust(own / "later") == f"all users may write to {own}"
    assert distrust(own) == f"all users may write to {own}"


def test_a_link_is_as_safe_as_what_it_leads_to(own, tmp_path):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    (own / "link").symlink_to(open_to_all)
    assert distrust(own / "link").startswith("all users may write to ")


@root
def test_a_folder_of_another_user(own):
    os.chown(own, STRANGER, STRANGER)
    assert distrust(own) == f"{own} belongs to user {STRANGER}"
    assert distrust(own / "engine_0123") == f"{own} belongs to user {STRANGER}"
    assert warning({"NUMBA_CACHE_DIR": str(own)}, own.parent).startswith(f"NUMBA_CACHE_DIR={own}: ")


@root
def test_a_folder_of_nobody(own, tmp_path, monkeypatch):
    os.chown(own, 65534, 65534)
    users = tmp_path / "uid_map"
    monkeypatch.setattr(cache, "_KNOWN", users)
    users.write_text("         0          0 4294967295\n")
    assert distrust(own).startswith(f"{own} belongs to ")
    users.write_text("         0     100000      65536\n")
    assert distrust(own).startswith(f"{own} belongs to ")
    # A container that knows one user shows so what is the superuser's outside.
    users.write_text("      1000       1000          1\n")
    assert distrust(own) == ""


def test_the_working_directorys_configuration_of_numba(own):
    file = own / ".numba_config.yaml"
    file.write_text("cache_dir: /somewhere\n")
    assert warning({}, own) == ""
    file.chmod(0o666)
    assert f"{file} is read by Numba, but all users may write to" in warning({}, own)


def test_nothing_is_said_without_a_reason(own):
    assert warning({}, own) == ""
    assert warning({"NUMBA_CACHE_DIR": ""}, own) == ""
    assert warning({"NUMBA_CACHE_DIR": "cache"}, own) == ""


@pytest.mark.parametrize("way", [["-n", "1"], ["--in-process", "2"]])
def test_distoptrun_warns(capsys, own, monkeypatch, way):
    own.chmod(0o777)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(own))
    assert main([*way, "--dry-run", "a.py"]) == 0
    assert f"distoptrun: warning: NUMBA_CACHE_DIR={own}: all users" in capsys.readouterr().err
    assert main([*way, "--env", f"NUMBA_CACHE_DIR={own / 'x' / '..' / '..'}", "--dry-run", "a.py"]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.launches
def test_check_refuses(own, tmp_path):
    environ = {**os.environ, "NUMBA_CACHE_DIR": str(own)}
    ask = [sys.executable, START, "distopt.engine.cache"]
    made = subprocess.run(ask, env=environ, capture_output=True, text=True, timeout=100, check=True)
    folder = Path(made.stdout.strip())  # its name is Numba's choice
    assert folder.parent == own
    folder.chmod(0o777)
    start = [str(Path(sys.executable).with_name("distoptrun")), "--check"]
    done = subprocess.run(start, env=environ, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "compile cache" in line]
    assert "WRONG" in line
    assert "all users may write to" in line
