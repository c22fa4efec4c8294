"""The command line of ``distoptrun``, and its TOML file."""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .errors import JobStartError
from .text_file import read_text

USAGE = "distoptrun [options] [--] script.py args...   or   distoptrun [options] -m module args..."


@dataclass(frozen=True)
class Options:
    """The values of the options. Each field is the long option of that name; `PARSER` describes them."""

    nproc: int | None = None
    hosts: str | None = None
    hostfile: str | None = None
    launcher: str = "auto"
    max_restarts: int = 0
    timeout: float | None = None
    grace: float = 30.0
    log_dir: str | None = None
    tee: bool = False
    ranks_filter: tuple[int, ...] | None = None
    timestamps: bool = False
    threads_per_replica: str = "auto"
    bind: str = "auto"
    oversubscribe: bool = False
    env: tuple[str, ...] = ()
    mpi_args: str = ""
    module: bool = False
    in_process: int | None = None
    replicas_per_process: int | None = None
    break_at: int | None = None
    post_mortem: bool = False
    dry_run: bool = False
    report: str | None = None
    timeline: str | None = None
    timeline_steps: tuple[int, int] = (1, 101)
    metrics: str | None = None
    live: bool = False
    check: bool = False
    version: bool = False
    config: str | None = None
    program: tuple[str, ...] = ()


_DOES = (
    "Starts N replicas of a program, with the mpiexec of the MPI that mpi4py uses or in one process "
    "(--in-process). Sets thread counts, labels each line of output, and ends all replicas if one fails."
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise JobStartError(f"{message}\nusage: {USAGE}\nAll options: distoptrun --help")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 8 and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(_number(word.strip()) for word in text.split(","))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _threads(text: str) -> str:
    return text if text == "auto" else str(_count(text))


def _steps(text: str) -> tuple[int, int]:
    first, colon, stop = text.partition(":")
    if not colon or not _number(first) < _number(stop):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not FIRST:STOP, two whole numbers, the smaller one first"
        )
    return _number(first), _number(stop)


def _variable(text: str) -> str:
    name = text.partition("=")[0]
    if not name.isidentifier() or not name.isascii() or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME or NAME=VALUE")
    return text


def _parser() -> argparse.ArgumentParser:
    # No abbreviations, so that arguments of the script are never read as options of distoptrun.
    parser = _Parser(
        "distoptrun",
        usage=USAGE,
        description=_DOES,
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("-n", "-np", "--nproc", type=_count, metavar="N", help="number of processes; default: all slots")
    add("-H", "--hosts", metavar="a:4,b:4", help="hosts, each with its number of processes")
    add("--hostfile", metavar="F", help="read the hosts from a file, one per line")
    launchers = ("auto", "mpiexec", "srun")
    add("--launcher", choices=launchers, help="default auto: the mpiexec of mpi4py's MPI, or Slurm's srun")
    add("--max-restarts", type=_number, metavar="K", help="restart a failed job up to K times; default 0")
    add("--timeout", type=_seconds, metavar="S", help="end the job after S seconds, with exit code 124")
    add("--grace", type=_seconds, metavar="S", help="seconds between SIGTERM and SIGKILL; default 30")
    add("--log-dir", metavar="D", help="write output to one file per replica in D, not to the terminal")
    add("--tee", action="store_true", help="with --log-dir: write to the terminal too")
    add("--ranks-filter", type=_numbers, metavar="R,...", help="show only these replicas on the terminal")
    add("--timestamps", action="store_true", help="put the time before each line")
    add(
        "--threads-per-replica",
        type=_threads,
        metavar="auto|N",
        help="threads of each replica; default auto: OMP_NUM_THREADS, else the host's cores / replicas",
    )
    add("--bind", choices=("auto", "none"), help="default auto: bind, if there are several NUMA nodes")
    add("--oversubscribe", action="store_true", help="allow more processes than slots; no note about cores")
    add(
        "--env",
        type=_variable,
        action="append",
        metavar="NAME[=V]",
        help="set a variable for all replicas, or forward it",
    )
    add("--mpi-args", metavar='"..."', help="additional arguments for mpiexec")
    add("-m", dest="module", action="store_true", help="run a module, like python -m")
    add("--in-process", type=_count, metavar="N", help="run N replicas in one process, without MPI")
    add("--replicas-per-process", type=_count, metavar="K", help="run K replicas in each process")
    add(
        "--break", dest="break_at", type=_number, metavar="R", help="with --in-process: stop replica R in pdb"
    )
    add("--post-mortem", action="store_true", help="with --in-process: open pdb at an exception")
    add("--report", metavar="F.html", help="write a report: time, memory, slow replicas")
    add("--timeline", metavar="F.json", help="write a timeline of all replicas, for ui.perfetto.dev")
    add("--timeline-steps", type=_steps, metavar="A:B", help="record steps A to B - 1; default 1:101")
    add("--metrics", metavar="F.prom", help="write metrics for Prometheus to a file, every 5 s")
    add("--live", action="store_true", help="show a running job: distoptrun --live [PID]")
    add("--dry-run", action="store_true", help="print the command, but do not run it")
    add("--check", action="store_true", help="check this installation and the hosts")
    add("--config", metavar="F", help="read options from a TOML file; the command line takes precedence")
    add("--version", action="store_true", help="print the version")
    add("-h", "--help", action="help", help="print this help")
    return parser


PARSER = _parser()
_ACTIONS: Mapping[str, argparse.Action] = {
    word: action for action in PARSER._actions for word in action.option_strings
}


def parse(argv: Sequence[str]) -> Options:
    """Reads a command line.

    Raises:
        JobStartError: an unknown option, an invalid value, or an unusable configuration file.
    """
    own, program = split(argv)
    given = vars(PARSER.parse_args(own))
    if "config" in given:
        given = vars(PARSER.parse_args([*config_argv(Path(given["config"])), *own]))
    given["env"] = tuple(given.get("env", ()))
    options = Options(**given, program=tuple(program))
    _agree(options)
    return options


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits a command line into our own options, with dashes for underscores, and the program's part.

    Raises:
        JobStartError: an unknown long option.
    """
    own: list[str] = []
    at = 0
    while at < len(argv) and argv[at].startswith("-") and argv[at] not in ("-", "--"):
        name, equals, value = argv[at].partition("=")
        if name.startswith("--"):
            name = name.replace("_", "-")
        own.append(name + equals + value)
        at += 1
        action = _ACTIONS.get(name)
        if action is None and name.startswith("--"):
            begun = [option for option in _ACTIONS if option.startswith(name)]
            near = begun or difflib.get_close_matches(name, _ACTIONS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise JobStartError(f"unknown option {name}.{hint} All options: distoptrun --help")
        takes_value = action is not None and action.nargs is None
        if takes_value and not equals and at < len(argv):
            # Joined with "=", because the value may start with a dash, as in --mpi-args "-v".
            own[-1:] = [f"{name}={argv[at]}"] if name.startswith("--") else [name, argv[at]]
            at += 1
        if name == "-m":
            break
    if at < len(argv) and argv[at] == "--":
        at += 1
    return own, list(argv[at:])


def _agree(options: Options) -> None:
    """Checks that the options are compatible."""
    if options.in_process:
        clash = [
            word
            for word, value in (
                ("-n", options.nproc),
                ("--hosts", options.hosts),
                ("--hostfile", options.hostfile),
                ("--replicas-per-process", options.replicas_per_process),
                ("--log-dir", options.log_dir),
                ("--timeout", options.timeout),
                ("--max-restarts", options.max_restarts),
            )
            if value
        ]
        if clash:
            raise JobStartError(f"--in-process is one process on this terminal, without {', '.join(clash)}")
    if not options.in_process and (options.break_at is not None or options.post_mortem):
        raise JobStartError("--break and --post-mortem need a terminal for pdb: use them with --in-process N")
    if options.hosts and options.hostfile:
        raise JobStartError("-H and --hostfile both name the hosts: give one of them")
    if options.timeline_steps != Options.timeline_steps and not options.timeline:
        raise JobStartError("--timeline-steps needs --timeline F.json")
    if options.tee and not options.log_dir:
        raise JobStartError("--tee needs --log-dir")


def config_argv(file: Path) -> list[str]:
    """The command-line arguments for a TOML file, whose keys are the names of long options.

    Raises:
        JobStartError: it cannot be read, is not TOML, or has an unknown key or an invalid value.
    """
    table = _toml(file)
    argv: list[str] = []
    for key, value in table.items():
        option = "-m" if key in ("m", "module") else f"--{key.replace('_', '-')}"
        action = _ACTIONS.get(option)
        if action is None or option in ("--config", "--help", "--version"):
            known = sorted(word[2:] for word in _ACTIONS if word.startswith("--"))
            near = difflib.get_close_matches(option[2:], known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise JobStartError(f"{file}: unknown option {key!r}.{hint} Known: {', '.join(known)}")
        argv += _config_option(file, option, action, value)
    return argv


def _config_option(file: Path, option: str, action: argparse.Action, value: Any) -> list[str]:
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise JobStartError(f"{file}: {option[2:]} must be true or false. Received: {value!r}")
        return [option] if value else []
    if option == "--env":
        pairs = [f"{name}={text}" for name, text in value.items()] if isinstance(value, dict) else value
        if isinstance(pairs, list) and all(isinstance(pair, str) for pair in pairs):
            return [f"--env={pair}" for pair in pairs]
    elif isinstance(value, list) and all(isinstance(item, (str, int)) for item in value):
        joined = shlex.join(map(str, value)) if option == "--mpi-args" else ",".join(map(str, value))
        return [f"{option}={joined}"]
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return [f"{option}={value}"]
    raise JobStartError(f"{file}: {option[2:]} cannot be {value!r}")


def _toml(file: Path) -> Mapping[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError:
            raise JobStartError(
                "--config needs Python 3.11 or the package tomli: pip install tomli"
            ) from None
    try:
        return tomllib.loads(read_text(file))
    except OSError as error:
        raise JobStartError(f"cannot read the configuration {file}: {error.strerror}") from None
    except RecursionError:
        raise JobStartError(f"{file} is nested too deeply") from None
    except ValueError as error:  # also for text that is not UTF-8, and numbers with too many digits
        raise JobStartError(f"{file} is not TOML: {error}") from None
