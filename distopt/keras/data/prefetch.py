"""An iterator read ahead in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextvars import copy_context
from functools import partial
from typing import Any

__all__ = ["prefetched"]

_END = object()


class _Failure:
    """What went wrong in the thread, to be raised where the elements are wanted."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def prefetched(items: Iterator[Any], size: int) -> Iterator[Any]:
    """The elements of ``items``, up to ``size`` of them made ahead of time in a thread of this replica.

    An exception in the thread is raised here, in its place among the elements. The thread ends when this
    iterator is exhausted or dropped.
    """
    ready: queue.Queue[Any] = queue.Queue(size)
    stop = threading.Event()
    work = partial(copy_context().run, _work, items, ready, stop)
    threading.Thread(target=work, name="distopt-prefetch", daemon=True).start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stop.set()


def _work(items: Iterator[Any], ready: queue.Queue[Any], stop: threading.Event) -> None:
    try:
        for item in items:
            if not _offer(item, ready, stop):
                return
    except BaseException as error:
        _offer(_Failure(error), ready, stop)
    else:
        _offer(_END, ready, stop)


def _offer(item: Any, ready: queue.Queue[Any], stop: threading.Event) -> bool:
    """Puts an element in line; False if nobody wants it any more."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False
