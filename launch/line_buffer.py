class LineBuffer:
    """Splits a stream of bytes into lines.

    The length of an unfinished line is not limited: callers check `size`, and `take` the line if it is too
    long.
    """

    def __init__(self) -> None:
        self._open: list[bytes] = []
        #: Length of the unfinished line, in bytes.
        self.size = 0

    @property
    def open(self) -> bytes:
        """The unfinished line."""
        if len(self._open) > 1:
            self._open = [b"".join(self._open)]
        return self._open[0] if self._open else b""

    def add(self, data: bytes) -> list[bytes]:
        """Adds bytes; returns the lines that they complete, without newlines."""
        first, *others = data.split(b"\n")
        self._open.append(first)
        self.size += len(first)
        if not others:
            return []
        whole = [self.take(), *others[:-1]]
        self._open, self.size = [others[-1]], len(others[-1])
        return whole

    def take(self) -> bytes:
        """Removes and returns the unfinished line."""
        text = self.open
        self._open, self.size = [], 0
        return text

    def rest(self) -> list[bytes]:
        """At the end of the stream: removes the unfinished line, and returns it in a list.

        [] if there is none.
        """
        return [self.take()] if self.size else []
