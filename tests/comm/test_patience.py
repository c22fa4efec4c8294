"""The watchdog: says who is waited for, and gives up."""

import time

import pytest

from distopt.comm.patience import Patience
from distopt.errors import ReplicaStalled


def after(seconds):
    start = time.monotonic()
    return lambda: time.monotonic() - start > seconds


def patience(stall, abort, codes):
    return Patience(stall, abort, lambda: "  replica 1: has not come", codes.append)


def test_quiet_while_all_is_well(capsys):
    codes = []
    patience(5, 10, codes).until(after(0.05))
    assert capsys.readouterr().err == ""
    assert codes == []


def test_says_once_who_is_waited_for(capsys):
    codes = []
    patience(0.02, 0, codes).until(after(0.3))
    text = capsys.readouterr().err
    assert text.count("distopt: waiting for") == 1
    assert "replica 1: has not come" in text
    assert codes == []


def test_ends_the_job(capsys):
    codes = []
    start = time.monotonic()
    with pytest.raises(ReplicaStalled, match="replica 1: has not come"):
        patience(0.02, 0.1, codes).until(lambda: False)
    assert 0.1 < time.monotonic() - start < 3
    assert codes == [1]
    assert "ending the job (abort limit 0.1 s)" in capsys.readouterr().err
