"""Which .pdbrc files pdb reads: they hold any code."""

import os

import pytest

from distopt.testing.debugger import debugger

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The home and the working directory."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home" / ".pdbrc", tmp_path / "work" / ".pdbrc"


def lines(capsys):
    found = debugger("(Pdb 1) ").rcLines
    return found, capsys.readouterr().err


def test_ones_own_are_read(places, capsys):
    assert lines(capsys) == ([], "")
    for file in places:
        file.write_text(f"p {file.parent.name!r}\n")
    assert lines(capsys) == (["p 'home'\n", "p 'work'\n"], "")


def test_the_same_file_is_read_once(places, capsys, monkeypatch):
    places[0].write_text("p 1\n")
    monkeypatch.chdir(places[0].parent)
    assert lines(capsys) == (["p 1\n"], "")


def open_to_all(file):
    file.write_text("p 'planted'\n")
    file.chmod(0o666)


def of_another_user(file):
    if os.geteuid() != 0:
        pytest.skip("takes the superuser, to make another user's file")
    file.write_text("p 'planted'\n")
    os.chown(file, 12345, 12345)


def link_to_another_users(file):
    of_another_user(file.with_name("planted"))
    file.symlink_to("planted")


@pytest.mark.parametrize("plant", [open_to_all, of_another_user, link_to_another_users, os.mkfifo])
def test_others_are_not(places, capsys, plant):
    places[0].write_text("p 'home'\n")
    plant(places[1])
    found, said = lines(capsys)
    assert found == ["p 'home'\n"]
    assert said.startswith(f"{places[1].parent}")
    assert " is not read: " in said
