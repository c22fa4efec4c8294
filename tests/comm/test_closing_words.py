"""What is said at the end of a job, whatever the program has done to its standard streams."""

import io
import sys

import pytest

from distopt.comm import flush, say
from distopt.comm.output import drain


class WithoutFlush:
    def write(self, text):
        raise OSError("nobody reads")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, WithoutFlush(), closed()], ids=["none", "odd", "closed"])
def test_streams_that_cannot_be_written_are_no_errors(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    flush()
    drain(limit=0.0)
    say("the end")


def test_what_is_said_is_one_line(capsys):
    say("")
    say("the end")
    assert capsys.readouterr().err == "the end\n"
