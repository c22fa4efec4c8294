class LineBuffer:
    """Cuts a stream of bytes into whole lines.

    What has no line end yet is kept without limit: whoever reads from others looks at `size` and takes
    the open line out when it grows too long.
    """

    def __init__(self) -> None:
        self._open: list[bytes] = []
        #: Bytes of the line that has no end yet.
        self.size = 0

    @property
    def open(self) -> bytes:
        """What has no line end yet."""
        if len(self._open) > 1:
            self._open = [b"".join(self._open)]
        return self._open[0] if self._open else b""

    def add(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends."""
        first, *others = data.split(b"\n")
        self._open.append(first)
        self.size += len(first)
        if not others:
            return []
        whole = [self.take(), *others[:-1]]
        self._open, self.size = [others[-1]], len(others[-1])
        return whole

    def take(self) -> bytes:
        """The open line, which then begins anew."""
        text = self.open
        self._open, self.size = [], 0
        return text

    def rest(self) -> list[bytes]:
        """The unfinished line at the end of the stream, if there is one."""
        return [self.take()] if self.size else []
