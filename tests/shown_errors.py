"""What the output of a program that fails must be like, however it was started."""

import re

from distopt.tracebacks import is_internal

#: As much as a terminal shows without scrolling, beside other things.
LAST = 15


def lines_of(output):
    """The lines, without the replica's number."""
    return [re.sub(r"^\[\d+\] ", "", line) for line in output.splitlines()]


def message_of(lines):
    """The first line of the error: what follows the last traceback, if there is one."""
    starts = [i for i, line in enumerate(lines) if line.startswith("Traceback (most recent call last):")]
    after = lines[starts[-1] + 1 if starts else 0 :]
    return next(line for line in after if not line.startswith((" ", "(", "distopt: ", "distoptrun: replica")))


def judge(case, output):
    """Asserts that the output is short, names the program's own line, and tells the cause once."""
    lines = lines_of(output)
    assert lines.count(message_of(lines)) == 1, output
    assert sum(line.startswith("Traceback") for line in lines) <= 1, output
    assert not [line for line in lines if is_internal(line.strip().removeprefix('File "'))], output
    assert "MPI_Abort" not in output
    marked = [number for number, line in enumerate(case.source.splitlines(), 1) if line.endswith("# here")]
    if (
        case.environ or "SystemExit" in case.source
    ):  # no line of the program's is to blame, or shown by Python
        return
    places = [text for number in marked for text in (f"train.py:{number}", f'train.py", line {number},')]
    assert any(place in line for line in lines[-LAST:] for place in places), output
