"""ProgressThread: looks after messages while the main thread computes; it sleeps between two looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["ProgressThread"]

#: Seconds between two looks. Messages of a network of 10 Gbit/s that come meanwhile fit a socket's buffer.
_NAP = 0.001


class ProgressThread:
    """A thread that looks now and then, between :meth:`start` and :meth:`pause`.

    Args:
        look: called in that thread; it does not wait.
    """

    def __init__(self, look: Callable[[], object]) -> None:
        self._look = look
        self._active = threading.Event()
        self._idle = threading.Lock()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """From now on it looks."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="distopt-progress", daemon=True)
            self._thread.start()
        self._active.set()

    def pause(self) -> None:
        """It looks no more when this returns.

        Raises:
            BaseException: whatever a look has raised.
        """
        self._active.clear()
        with self._idle:  # a look that has begun ends
            error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        while self._active.wait():
            with self._idle:
                if self._active.is_set():
                    try:
                        self._look()
                    except BaseException as error:
                        self._error = error
                        self._active.clear()
            time.sleep(_NAP)
