"""What an error of distopt must be, whatever was handed in."""

import dis
import os
import re
import sys
import traceback
import warnings
from contextlib import contextmanager

import distopt_launch
from hypothesis import HealthCheck, settings
from profiles import LONG, examples

import distopt
from distopt import Variable

_OWN = tuple(
    os.path.dirname(os.path.abspath(module.__file__)) + os.sep for module in (distopt, distopt_launch)
)
_SIGNATURE = re.compile(
    r"unexpected keyword argument|required (positional|keyword-only) argument|takes .* positional argument"
    r"|takes no arguments"
    r"|multiple values for"
)
_RAISE = dis.opmap["RAISE_VARARGS"]

#: What constructors and calls may raise: of the wrong kind, of the right kind with a wrong value.
MISUSE = (TypeError, ValueError)


def fuzz(number):
    """A test's settings: so many examples, the same ones each time; in the long form many more, at random."""
    return settings(
        max_examples=examples(number),
        derandomize=settings.default.max_examples < LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def attempt(call, *allowed):
    """Runs ``call``; returns its result, or the error, which must be one that distopt raised on purpose.

    Args:
        call: a function without arguments.
        allowed: the documented types of error.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except Exception as error:
            judge(error, allowed)
            return error


def judge(error, allowed):
    """Asserts that ``error`` is of a documented type, says something, and was raised on purpose."""
    shown = "".join(traceback.format_exception(error))
    assert isinstance(error, allowed), f"not a documented error:\n{shown}"
    assert type(error) in allowed or type(error).__module__.startswith(("distopt", "distopt_launch")), shown
    assert str(error).strip(), f"an error without words:\n{shown}"
    assert on_purpose(error), f"an error that distopt did not foresee:\n{shown}"


def on_purpose(error):
    """Whether it comes from a ``raise`` of distopt, or from arguments that a function does not have."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    code, at = trace.tb_frame.f_code, trace.tb_lasti
    if code.co_filename.startswith(_OWN) and code.co_code[at] == _RAISE:
        return True
    return type(error) is TypeError and _SIGNATURE.search(str(error)) is not None


def state(*things):
    """The bytes of all variables and hyperparameters of variables, optimizers and models."""
    return [_state(thing) for thing in things]


def _state(thing):
    if isinstance(thing, Variable):
        return thing.name, thing.numpy().tobytes()
    weights = [(w.name, w.numpy().tobytes()) for w in thing.weights]
    hyper = {
        name: value.numpy().tobytes() if isinstance(value, Variable) else repr(value)
        for name, value in getattr(thing, "_hyper", {}).items()
    }
    return weights, hyper


#: What data must never lead to, as the interpreter itself reports it.
_FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class")
_watching = {"on": False}
_seen = []


def _hook(event, args):
    if not _watching["on"]:
        return
    if event in _FORBIDDEN or (event == "import" and str(args[0]).startswith("canary")):
        _seen.append((event, str(args)))
    elif event == "open" and isinstance(args[0], (str, bytes)) and not _is_code(args[0]):
        _opened.append(os.path.realpath(os.fsdecode(args[0])))


def _is_code(path):
    """Python's own reading of modules, and of their lines for a traceback."""
    return os.fsdecode(path).endswith((".py", ".pyc", ".so"))


_opened = []
sys.addaudithook(_hook)


@contextmanager
def watched(folder=None):
    """Within, data runs no code and loads no pickle; with ``folder``, no file outside of it is opened."""
    _seen.clear()
    _opened.clear()
    _watching["on"] = True
    try:
        yield
    finally:
        _watching["on"] = False
    assert not _seen, f"data led to {_seen}"
    if folder is not None:
        inside = os.path.realpath(folder) + os.sep
        assert all(path.startswith(inside) for path in _opened), f"files outside of {folder}: {_opened}"
