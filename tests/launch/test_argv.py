"""A program's words reach it as they were written, whatever an MPI launcher makes of its command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from distopt_launch.argv import decode_argv, encode_argv
from distopt_launch.commands import command
from distopt_launch.launch_plan import FAMILIES, LaunchPlan
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi_family import skip_with_open_mpi
from profiles import examples

#: What launchers take apart, what shells would, and what is rare.
ODD = [
    ":",
    "-n",
    "9",
    "a : b",
    "",
    " ",
    "%",
    "%3A",
    "'\"$x`\\*",
    "x\ny\t",
    "é",
    "\udcff\udcfe",
    "--",
    "-x",
    "A=B",
]
LONG = [f"data/part-{number:06d}.npz" for number in range(8000)] + [":" * 120_000]


@settings(max_examples=examples(200), deadline=None)
@given(words=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_there_and_back(words):
    assert decode_argv(["family=mpich", *encode_argv(words)]) == words


@pytest.mark.parametrize("words", [ODD, LONG, [""]])
def test_there_and_back_with_odd_words(words):
    pieces = encode_argv(words)
    assert decode_argv(pieces) == words
    assert all(len(piece) < 131_072 and piece.isascii() and piece.isprintable() for piece in pieces)
    assert all(piece.startswith("program=") for piece in pieces)


def test_ordinary_words_can_be_read():
    assert encode_argv(["train.py", "--lr=1e-3", "-c", "a,b"]) == ("program=train.py --lr=1e-3 -c a,b",)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_word_stands_alone_on_a_launchers_command_line(family):
    words = command(
        LaunchPlan(family, "/opt/mpi/bin/mpiexec", 2, ("python", "start.py", *encode_argv(["a.py", *ODD])))
    )
    assert ":" not in words
    assert words[-1].startswith("program=a.py ")


@pytest.mark.launches
@pytest.mark.parametrize("words", [ODD, LONG], ids=["odd", "long"])
def test_whole_jobs(tmp_path, words):
    pytest.importorskip("mpi4py")
    if words is LONG:
        skip_with_open_mpi("keeps all arguments in one variable, so 128 KiB of them")
    program = tmp_path / ":"
    program.write_text(
        "import json, os, sys\nwith open(f'{os.getpid()}.seen', 'w') as file: json.dump(sys.argv[1:], file)\n"
    )
    start = [str(Path(sys.executable).with_name("distoptrun")), "-n", "2", ":", *words]
    done = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert [json.loads(file.read_text()) for file in tmp_path.glob("*.seen")] == [words, words]


@pytest.mark.launches
def test_what_dry_run_shows_runs_when_pasted(tmp_path):
    pytest.importorskip("mpi4py")
    (tmp_path / "a b.py").write_text("import sys; print(ascii(sys.argv[1:]))")
    start = [str(Path(sys.executable).with_name("distoptrun")), "--dry-run", "-n", "2", "a b.py", *ODD]
    shown = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True).stdout
    assert shown.count("\n") == 1
    done = subprocess.run(
        ["bash", "-c", shown], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.count(ascii(ODD)) == 2, done.stdout
