"""The command line and its TOML twin."""

import os

import pytest
from distopt_launch.errors import JobStartError
from distopt_launch.options import Options, parse
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples


@pytest.mark.parametrize("word", ["-n", "-np", "--nproc"])
def test_number_of_processes_has_three_spellings(word):
    options = parse([word, "4", "train.py"])
    assert options.nproc == 4
    assert options.program == ("train.py",)


def test_what_follows_the_script_is_its_own():
    options = parse(["-n", "2", "train.py", "-n", "7", "--max_restarts", "--", "x"])
    assert options.nproc == 2
    assert options.program == ("train.py", "-n", "7", "--max_restarts", "--", "x")


def test_double_dash_before_the_script_is_optional():
    assert parse(["-n", "2", "--", "-odd.py", "a"]).program == ("-odd.py", "a")
    assert parse(["-n2", "a.py"]) == parse(["--nproc=2", "--", "a.py"])


def test_module():
    options = parse(["-n", "2", "-m", "package.train", "-x"])
    assert options.module
    assert options.program == ("package.train", "-x")


def test_dashes_and_underscores():
    words = [
        "--max{0}restarts=3",
        "--log{0}dir",
        "d_x",
        "--threads{0}per{0}replica",
        "5",
        "--ranks{0}filter",
        "0,2",
    ]
    dashed, underscored = (parse([word.format(mark) for word in words] + ["a.py"]) for mark in "-_")
    assert dashed == underscored
    assert dashed.log_dir == "d_x"
    assert (dashed.max_restarts, dashed.threads_per_replica, dashed.ranks_filter) == (3, "5", (0, 2))


def test_a_value_may_begin_with_a_dash():
    assert parse(["-n", "2", "--mpi-args", "-verbose -ppn 1", "a.py"]).mpi_args == "-verbose -ppn 1"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-n", "0"], "'0' is not a whole number from 1 on"),
        (["-n", "two"], "'two' is not a whole number"),
        (["-n"], "expected one argument"),
        (["--nprc", "2"], r"unknown option --nprc\. Did you mean --nproc\?"),
        (["-n", "2", "--trace", "t.json", "a.py"], "unknown option --trace"),
        (["-n", "2", "--timeout", "-1"], "not a number of seconds"),
        (["-n", "2", "--timeout", "nan"], "not a number of seconds"),
        (["-n", "2", "--env", "1A=3"], "not NAME or NAME=VALUE"),
        (["-n", "2", "--bind", "core"], "invalid choice: 'core'"),
        (["--in-process", "2", "-n", "2", "a.py"], "without -n"),
        (["-n", "2", "--break", "1", "a.py"], "--in-process"),
        (["-n", "2", "--tee", "a.py"], "--log-dir"),
        (["-n", "2", "--timeline-steps", "3:9", "a.py"], "--timeline F.json"),
        (["-H", "a", "--hostfile", "b", "a.py"], "give one of them"),
    ],
)
def test_errors_say_what_is_wrong(words, text):
    with pytest.raises(JobStartError, match=text):
        parse(words)


def test_config_file(tmp_path):
    file = tmp_path / "job.toml"
    file.write_text(
        'nproc = 4\nhosts = ["a:2", "b:2"]\ntee = true\nlog_dir = "logs"\noversubscribe = false\n'
        'mpi-args = ["-x", "a b"]\n[env]\nA = "1 2"\nB = ""\n'
    )
    options = parse(["--config", str(file), "--nproc", "2", "--env", "C=3", "a.py"])
    assert options.nproc == 2, "the command line wins"
    assert options.hosts == "a:2,b:2"
    assert options.tee
    assert not options.oversubscribe
    assert options.mpi_args == "-x 'a b'"
    assert options.env == ("A=1 2", "B=", "C=3")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nprocs = 2", "unknown option 'nprocs'. Did you mean 'nproc'"),
        ("nproc = [", "is not TOML"),
        ("nproc = true", "nproc cannot be True"),
        ("tee = 1", "tee must be true or false"),
        ('nproc = "x"', "'x' is not a whole number"),
        ("env = 3", "env cannot be 3"),
        ('config = "other.toml"', "unknown option 'config'"),
    ],
)
def test_config_errors_name_the_key(tmp_path, text, message):
    file = tmp_path / "job.toml"
    file.write_text(text)
    with pytest.raises(JobStartError) as caught:
        parse(["--config", str(file), "a.py"])
    assert message in str(caught.value)


def test_config_that_is_not_there(tmp_path):
    with pytest.raises(JobStartError, match="cannot read the configuration"):
        parse(["--config", str(tmp_path / "no.toml"), "a.py"])


_WORDS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "-n",
            "-np",
            "2",
            "--",
            "-m",
            "a.py",
            "--env",
            "A=1",
            "--tee",
            "--log-dir",
            "-H",
            "a:2,b",
            "--in_process",
            "--mpi-args",
        ]
    ),
)


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(_WORDS, max_size=8))
def test_rubbish_is_understood_or_refused(words):
    if {"--help", "-h"} & set(words):
        return
    try:
        options = parse(words)
    except JobStartError:
        return
    assert isinstance(options, Options)
    assert list(options.program) == words[len(words) - len(options.program) :]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("option", ["--config", "--hostfile"])
def test_files_that_never_end_are_refused(tmp_path, capsys, option):
    from distopt_launch.cli import main

    (tmp_path / "train.py").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").touch()
    os.truncate(tmp_path / "long", 1 << 40)
    for name, words in (
        ("pipe", "not a regular file"),
        ("/dev/zero", "not a regular"),
        ("long", "more than"),
    ):
        assert main([option, str(tmp_path / name), "--dry-run", "-n", "2", str(tmp_path / "train.py")]) == 2
        assert words in capsys.readouterr().err
