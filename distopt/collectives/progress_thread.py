"""ProgressThread: looks after messages while the main thread computes; it sleeps between two looks."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["ProgressThread"]

#: Seconds between two looks. Messages of a network of 10 Gbit/s that come meanwhile fit a socket's buffer.
_NAP = 0.001


@dataclass
class _State:
    """What the thread sees of its owner, which may be gone."""

    active: threading.Event = field(default_factory=threading.Event)
    starts: int = 0
    #: Held while the two above are changed; and while somebody looks.
    changing: threading.Lock = field(default_factory=threading.Lock)
    looking: threading.Lock = field(default_factory=threading.Lock)
    error: BaseException | None = None
    ended: bool = False


class ProgressThread:
    """A thread that looks now and then, from :meth:`start` on: until nothing is left to be done, or a pause.

    It ends with this object, and with the program: MPI ends after it.

    Args:
        look: a method that is called in that thread; it does not wait, and tells whether nothing is left to
            be done before the next :meth:`start`. Its object is not kept alive.
    """

    def __init__(self, look: Callable[[], bool]) -> None:
        self._state = _State()
        self._look = weakref.WeakMethod(look)
        self._started = False

    def start(self) -> None:
        """There is something to be done: from now on it looks; the first time when it has slept."""
        if not self._started:
            self._started = True
            weakref.finalize(self, _end, self._state)
            words = (self._state, self._look)
            threading.Thread(target=_run, args=words, name="distopt-progress", daemon=True).start()
        with self._state.changing:
            self._state.starts += 1
            self._state.active.set()

    def pause(self) -> None:
        """It looks no more when this returns.

        Raises:
            BaseException: whatever a look has raised.
        """
        self._state.active.clear()
        with self._state.looking:  # a look that has begun ends
            error, self._state.error = self._state.error, None
        if error is not None:
            raise error


def _run(state: _State, method: weakref.WeakMethod[Callable[[], bool]]) -> None:
    while state.active.wait() and not state.ended:
        time.sleep(_NAP)  # whoever has started it has just looked
        with state.looking:
            look = method()
            if look is not None and state.active.is_set() and not state.ended:
                _look(state, look)
            del look


def _look(state: _State, look: Callable[[], bool]) -> None:
    before, idle = state.starts, True
    try:
        idle = look()
    except BaseException as error:
        state.error = error
    with state.changing:
        if idle and state.starts == before:  # nobody has started it since
            state.active.clear()


def _end(state: _State) -> None:
    state.ended = True
    with state.changing:
        state.starts += 1
        state.active.set()
    with state.looking:  # a look that has begun ends
        pass
